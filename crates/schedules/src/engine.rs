//! Waiting for instants, and performing runs: those of this node, and those that a node which has died has left.

use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{interval, sleep, timeout};
use uuid::Uuid;

use crate::Error;
use crate::action::{ActionError, ActionMessage, ActionRun, ActionUser, RunClaim};
use crate::lease_watch::{ForeignRun, LeaseWatch};
use crate::plan::plan;
use crate::run_store::FireOutcome;
use crate::schedule::{RunState, Schedule};
use crate::service::ScheduleService;
use primitives::clock::monotonic_now;
use primitives::unix_time::UnixMillis;

/// Longest time between two looks at the database, where other nodes make schedules too.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time that an action may take.
const ACTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Schedules that are looked at in one go.
const BATCH: u32 = 100;
/// Time between two deletions of old runs.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// Tries to note how a run has ended, and the time between two: the database may be away.
const MAX_FINISH_ATTEMPTS: u32 = 60;
/// Signs of life within one lease.
const BEATS_PER_LEASE: u32 = 3;

/// Waits for instants until the tasks stop.
pub async fn run(service: ScheduleService) {
    let (mut watch, mut pruned) = (LeaseWatch::default(), None::<Instant>);
    loop {
        let wait = tick(&service, &mut watch, monotonic_now()).await.unwrap_or(POLL_INTERVAL);
        let is_time = pruned.is_none_or(|pruned| monotonic_now().saturating_duration_since(pruned) >= PRUNE_INTERVAL);
        if is_time && service.0.store.prune(service.now() - service.0.settings.history_for).await.is_ok() {
            pruned = Some(monotonic_now());
        }
        tokio::select! {
            () = service.0.tasks.stopping() => return,
            () = service.0.changed.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

/// Claims and begins what is due, and takes over what was left; returns the time until something else may come.
pub async fn tick(service: &ScheduleService, watch: &mut LeaseWatch, monotonic: Instant) -> Result<Duration, Error> {
    let state = &service.0;
    let foreign = state.store.foreign_runs(state.node, BATCH).await?;
    for run in watch.observe(foreign, monotonic, state.settings.lease) {
        take_over(service, &run).await?;
    }
    let due = state.store.due(service.now(), BATCH).await?;
    let mut has_moved_on = false;
    for schedule in due {
        // What there is no room for is another node's, or waits.
        let Ok(room) = state.room.clone().try_acquire_owned() else { return Ok(POLL_INTERVAL) };
        has_moved_on |= fire(service, schedule, room).await?;
    }
    if has_moved_on {
        return Ok(Duration::ZERO);
    }
    let next = state.store.next_due().await?;
    Ok(next.map_or(POLL_INTERVAL, |next| (next - service.now()).clamp(Duration::from_millis(1), POLL_INTERVAL)))
}

/// Moves a schedule on from an instant that has come; returns false where another node has done so.
async fn fire(service: &ScheduleService, schedule: Schedule, room: OwnedSemaphorePermit) -> Result<bool, Error> {
    let (state, now) = (&service.0, service.now());
    let Some(due) = schedule.next_run_at else { return Ok(false) };
    let content = &schedule.content;
    let plan = plan(&content.times, due, now, content.misfire_grace, content.is_coalesced);
    let outcome = state.store.fire(&schedule, &plan, state.node, now).await?;
    if outcome == FireOutcome::Taken {
        return Ok(false);
    }
    if let Some(missed) = plan.missed {
        state.metrics.count_run(RunState::Missed);
        state.metrics.missed_instants.inc_by(u64::try_from(missed.instants).unwrap_or_default());
    }
    if let (FireOutcome::Claimed(claim), Some(run)) = (outcome, plan.run) {
        spawn(service, schedule, claim, run.fire_at, Some(room));
    }
    Ok(true)
}

/// Deals with a run whose node has died.
async fn take_over(service: &ScheduleService, run: &ForeignRun) -> Result<(), Error> {
    let (state, now) = (&service.0, service.now());
    if run.is_running {
        let detail = "its node died while it took effect";
        if state.store.interrupt(run, detail, now).await? {
            state.metrics.count_run(RunState::Interrupted);
        }
        return Ok(());
    }
    let Ok(room) = state.room.clone().try_acquire_owned() else { return Ok(()) };
    let Some((claim, schedule, fire_at)) = state.store.take_over(run, state.node).await? else { return Ok(()) };
    state.metrics.takeovers.inc();
    match schedule {
        None => end(service, claim, Err(ActionError::Refused("the schedule is gone".to_owned()))).await,
        Some(schedule) if now - fire_at > schedule.content.misfire_grace.max(state.settings.lease * 2) => {
            let detail = Some("its node died, and no other one was there in time");
            if state.store.finish(claim, RunState::Missed, detail, now).await? {
                state.metrics.count_run(RunState::Missed);
                state.metrics.missed_instants.inc();
            }
        }
        Some(schedule) => spawn(service, schedule, claim, fire_at, Some(room)),
    }
    Ok(())
}

/// Performs a run as a task of its own.
pub fn spawn(
    service: &ScheduleService,
    schedule: Schedule,
    claim: RunClaim,
    fire_at: UnixMillis,
    room: Option<OwnedSemaphorePermit>,
) {
    let this = service.clone();
    service.0.tasks.spawn(async move {
        this.0.metrics.running.inc();
        perform(&this, schedule, claim, fire_at).await;
        this.0.metrics.running.dec();
        drop(room);
    });
}

async fn perform(service: &ScheduleService, schedule: Schedule, claim: RunClaim, fire_at: UnixMillis) {
    let state = &service.0;
    let (reply, mut answer) = oneshot::channel();
    let run = ActionRun {
        user: ActionUser { id: schedule.user, role: schedule.role },
        channel: schedule.content.channel,
        action: schedule.content.action,
        schedule: schedule.id,
        schedule_name: schedule.content.name,
        fire_at,
        claim,
        store: state.store.clone(),
        reply,
    };
    if let Err(error) = state.actions.send(ActionMessage::Run(run)).await {
        return end(service, claim, Err(error)).await;
    }
    let answered = async {
        let mut beats = interval((state.settings.lease / BEATS_PER_LEASE).max(Duration::from_millis(10)));
        let mut is_stopping = false;
        loop {
            tokio::select! {
                answer = &mut answer => {
                    let dropped = || Err(ActionError::Unavailable("nobody performs it any more".to_owned()));
                    return Some(answer.unwrap_or_else(|_| dropped()));
                }
                _ = beats.tick() => {
                    // Another node has it: whatever comes of it is that node's.
                    if let Ok(false) = state.store.beat(claim).await {
                        return None;
                    }
                }
                () = state.tasks.stopping(), if !is_stopping => {
                    is_stopping = true;
                    if let Ok(true) = state.store.release(claim).await {
                        return None;
                    }
                }
            }
        }
    };
    let late = || Some(Err(ActionError::Unavailable("it took longer than it may".to_owned())));
    let answer = timeout(ACTION_TIMEOUT, answered).await.unwrap_or_else(|_| late());
    if let Some(answer) = answer {
        end(service, claim, answer).await;
    }
}

/// Notes how a run has ended.
async fn end(service: &ScheduleService, claim: RunClaim, answer: Result<(), ActionError>) {
    let state = &service.0;
    let (outcome, detail) = match answer {
        Ok(()) => (RunState::Done, None),
        Err(error) => (RunState::Failed, Some(error.to_string())),
    };
    for _ in 0..MAX_FINISH_ATTEMPTS {
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
