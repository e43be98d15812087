//! Waiting for instants, and performing runs: those of this node, and those that a node which has died has left.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{interval, sleep, timeout};
use uuid::Uuid;

use crate::Error;
use crate::action::{ActionError, ActionMessage, ActionRun, ActionUser, BeginState, RunClaim};
use crate::lease_watch::{ForeignRun, LeaseWatch};
use crate::live_claims::LiveClaim;
use crate::plan::plan;
use crate::run_room::{NoRoom, RunPermit};
use crate::run_store::{FireOutcome, MAX_KEPT_RUNS, new_run_id};
use crate::schedule::{RunState, Schedule, StoredSchedule};
use crate::service::ScheduleService;
use primitives::clock::monotonic_now;
use primitives::unix_time::UnixMillis;

/// Longest time between two looks at the database, where other nodes make schedules too.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time that an action may take.
const ACTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Schedules that are looked at in one go.
const BATCH: u32 = 100;
/// Unfinished runs of other nodes that are looked at.
const MAX_WATCHED: u32 = 1000;
/// Signs of life within one lease.
const BEATS_PER_LEASE: u32 = 3;

/// Run that this process works at.
pub struct RunWork {
    /// Right to perform it.
    pub claim: RunClaim,
    /// Its instant.
    pub fire_at: UnixMillis,
    /// Says to the watch over lost claims that it is not lost.
    pub live: LiveClaim,
    /// Its place at this node.
    pub permit: RunPermit,
}

/// What becomes of a run that this process works at.
enum RunEnd {
    /// It is over.
    Over(Result<(), ActionError>),
    /// It goes back to the nodes: nobody performs it here any more.
    GivenBack,
    /// Another node has it.
    Lost,
}

/// Waits for instants until the tasks stop.
pub async fn run(service: ScheduleService) {
    let mut watch = LeaseWatch::default();
    while !service.0.tasks.is_stopping() {
        let wait = tick(&service, &mut watch, monotonic_now()).await.unwrap_or(POLL_INTERVAL);
        tokio::select! {
            () = service.0.tasks.stopping() => return,
            () = service.0.changed.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

/// Claims and begins what is due, and takes over what was left; returns the time until something else may come. Claims nothing
/// once the tasks stop.
pub async fn tick(service: &ScheduleService, watch: &mut LeaseWatch, monotonic: Instant) -> Result<Duration, Error> {
    let state = &service.0;
    let foreign = state.store.foreign_runs(&state.live, MAX_WATCHED).await?;
    for run in watch.observe(foreign, monotonic, state.settings.lease) {
        if state.tasks.is_stopping() {
            return Ok(POLL_INTERVAL);
        }
        take_over(service, &run).await?;
    }
    let (now, mut has_moved_on, mut after) = (service.now(), false, None);
    loop {
        let page = state.store.due(now, after.as_ref(), BATCH).await?;
        for schedule in page.schedules {
            if state.tasks.is_stopping() {
                return Ok(POLL_INTERVAL);
            }
            // What there is no room for is another node's, or waits; the backlog of one user keeps nobody else waiting.
            match state.room.enter(&schedule.user) {
                Ok(permit) => has_moved_on |= fire(service, schedule, permit).await?,
                Err(NoRoom::User) => {}
                Err(NoRoom::Node) => return Ok(POLL_INTERVAL),
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if has_moved_on {
        return Ok(Duration::ZERO);
    }
    let next = state.store.next_after(now).await?;
    Ok(next.map_or(POLL_INTERVAL, |next| (next - service.now()).clamp(Duration::from_millis(1), POLL_INTERVAL)))
}

/// Moves a schedule on from an instant that has come; returns false where another node has done so.
async fn fire(service: &ScheduleService, schedule: Schedule, permit: RunPermit) -> Result<bool, Error> {
    let (state, now) = (&service.0, service.now());
    let Some(due) = schedule.next_run_at else { return Ok(false) };
    let content = &schedule.content;
    let plan = plan(&content.times, due, now, content.misfire_grace, content.is_coalesced);
    // Where it fails and was committed nevertheless, it is lost with this, and taken over after a lease.
    let Some(live) = state.live.hold(new_run_id(now)) else { return Ok(false) };
    let outcome = state.store.fire(&schedule, &plan, (state.node, live.run()), now).await?;
    if outcome == FireOutcome::Taken {
        return Ok(false);
    }
    if let Some(missed) = plan.missed {
        state.metrics.count_run(RunState::Missed);
        state.metrics.missed_instants.inc_by(u64::try_from(missed.instants).unwrap_or_default());
    }
    if let (FireOutcome::Claimed(claim), Some(run)) = (outcome, plan.run) {
        spawn(service, schedule, RunWork { claim, fire_at: run.fire_at, live, permit });
    }
    Ok(true)
}

/// Deals with a run whose node has died, or has lost track of it.
async fn take_over(service: &ScheduleService, run: &ForeignRun) -> Result<(), Error> {
    let (state, now) = (&service.0, service.now());
    if run.is_running {
        let detail = "its node died while it took effect";
        if state.store.interrupt(run, detail, now).await? {
            state.metrics.count_run(RunState::Interrupted);
        }
        return Ok(());
    }
    if state.room.is_full() {
        return Ok(());
    }
    let Some(live) = state.live.hold(run.id) else { return Ok(()) };
    let Some(taken) = state.store.take_over(run, state.node).await? else { return Ok(()) };
    state.metrics.takeovers.inc();
    let schedule = match taken.schedule {
        Some(id) => state.store.find(id).await,
        None => Ok(None),
    };
    let is_late =
        |schedule: &Schedule| now - taken.fire_at > schedule.content.misfire_grace.max(state.settings.lease * 2);
    match schedule.map(|found| found.map(StoredSchedule::readable)) {
        Ok(None) => end(service, taken.claim, Err(ActionError::Refused("the schedule is gone".to_owned()))).await,
        Ok(Some(Some(schedule))) if is_late(&schedule) => {
            let detail = Some("its node died, and no other one was there in time");
            if state.store.finish(taken.claim, RunState::Missed, detail, now).await? {
                state.metrics.count_run(RunState::Missed);
                state.metrics.missed_instants.inc();
            }
        }
        Ok(Some(Some(schedule))) => match state.room.enter(&schedule.user) {
            Ok(permit) => {
                let work = RunWork { claim: taken.claim, fire_at: taken.fire_at, live, permit };
                spawn(service, schedule, work);
            }
            Err(_) => give_back(service, taken.claim).await,
        },
        Ok(Some(None)) if now - taken.fire_at > state.settings.lease * 2 => {
            let error = ActionError::Refused("no node that was there could read the schedule".to_owned());
            end(service, taken.claim, Err(error)).await;
        }
        // A node that can read it may have it.
        Ok(Some(None)) | Err(_) => give_back(service, taken.claim).await,
    }
    Ok(())
}

/// Performs a run as a task of its own.
pub fn spawn(service: &ScheduleService, schedule: Schedule, work: RunWork) {
    let this = service.clone();
    service.0.tasks.spawn(async move {
        let RunWork { claim, fire_at, live, permit } = work;
        let id = schedule.id;
        this.0.metrics.running.inc();
        match perform(&this, schedule, claim, fire_at).await {
            RunEnd::Over(answer) => end(&this, claim, answer).await,
            RunEnd::GivenBack => give_back(&this, claim).await,
            RunEnd::Lost => {}
        }
        this.0.metrics.running.dec();
        drop((live, permit));
        // If it fails, there are some more until the next run.
        let _ = this.0.store.trim(id, MAX_KEPT_RUNS).await;
    });
}

/// Gives a run back, so that any node takes it. If that fails, its claim is lost, and taken over after a lease.
async fn give_back(service: &ScheduleService, claim: RunClaim) {
    let _ = service.0.store.release(claim).await;
}

async fn perform(service: &ScheduleService, schedule: Schedule, claim: RunClaim, fire_at: UnixMillis) -> RunEnd {
    let state = &service.0;
    let (reply, answer) = oneshot::channel();
    let run = ActionRun {
        user: ActionUser { id: schedule.user, role: schedule.role },
        channel: schedule.content.channel,
        action: schedule.content.action,
        schedule: schedule.id,
        schedule_name: schedule.content.name,
        fire_at,
        claim,
        store: state.store.clone(),
        lease: state.settings.lease,
        begun: BeginState::default(),
        reply,
    };
    if state.actions.send(ActionMessage::Run(run)).await.is_err() {
        return RunEnd::GivenBack;
    }
    let late = || RunEnd::Over(Err(ActionError::Unavailable("it took longer than it may".to_owned())));
    timeout(ACTION_TIMEOUT, wait_for(service, claim, answer)).await.unwrap_or_else(|_| late())
}

/// Waits until a run is over, and says all the time that this node lives.
async fn wait_for(
    service: &ScheduleService,
    claim: RunClaim,
    mut answer: oneshot::Receiver<Result<(), ActionError>>,
) -> RunEnd {
    let state = &service.0;
    let mut beats = interval((state.settings.lease / BEATS_PER_LEASE).max(Duration::from_millis(10)));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // Whoever had it has gone: what had taken effect is interrupted after a lease, other nodes have the rest.
            answer = &mut answer => return answer.map_or(RunEnd::GivenBack, RunEnd::Over),
            _ = beats.tick() => {
                // Another node has it: whatever comes of it is that node's.
                if let Ok(false) = state.store.beat(claim).await {
                    return RunEnd::Lost;
                }
            }
            () = state.tasks.stopping(), if !is_stopping => {
                is_stopping = true;
                if let Ok(true) = state.store.release(claim).await {
                    return RunEnd::Lost;
                }
            }
        }
    }
}

/// Notes how a run has ended, until that is noted or the tasks stop.
async fn end(service: &ScheduleService, claim: RunClaim, answer: Result<(), ActionError>) {
    let state = &service.0;
    let (outcome, detail) = match answer {
        Ok(()) => (RunState::Done, None),
        Err(error) => (RunState::Failed, Some(error.to_string())),
    };
    loop {
        match state.store.finish(claim, outcome, detail.as_deref(), service.now()).await {
            Ok(is_ours) => {
                if is_ours {
                    state.metrics.count_run(outcome);
                    log_failure(claim.run, detail.as_deref());
                }
                return;
            }
            Err(_) if state.tasks.is_stopping() => return,
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

fn log_failure(run: Uuid, detail: Option<&str>) {
    if let Some(detail) = detail {
        tracing::warn!(schedule.run = %run, reason = detail, "a run of a schedule has failed");
    }
}
