//! Services of two nodes over one file, with clocks that the test moves.

use std::time::{Duration, Instant, SystemTime};

use prometheus::Registry;
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::action::{ActionKind, ActionMessage, ActionRun, ActionUser, ScheduledAction, action_channel};
use crate::engine::tick;
use crate::lease_watch::LeaseWatch;
use crate::rule::{RuleText, ScheduleTimes};
use crate::schedule::{RunState, Schedule, ScheduleContent, ScheduleRun};
use crate::service::{ScheduleService, ScheduleServiceParts};
use crate::settings::Settings;
use primitives::clock::{Clock, monotonic_now};
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::api::user::UserRole;
use server_kit::database::{self, Database};

/// Begin of each test: 2026-01-31T18:00:00Z.
const BEGIN: u64 = 1_769_882_400;
/// Longest wait for a message that must come.
const LIMIT: Duration = Duration::from_secs(60);

/// Node of a test: its service, and the runs that its performer has got.
struct Node {
    service: ScheduleService,
    tasks: BackgroundTasks,
    clock: Clock,
    watch: LeaseWatch,
    runs: mpsc::UnboundedReceiver<ActionRun>,
}

impl Node {
    fn start(database: &Database, clock: Clock) -> Self {
        let (actions, mut messages) = action_channel(&[ActionKind::Radio]);
        let (sender, runs) = mpsc::unbounded_channel();
        let tasks = BackgroundTasks::default();
        tasks.spawn(async move {
            while let Some(message) = messages.recv().await {
                match message {
                    ActionMessage::Check { reply, .. } => drop(reply.send(Ok(()))),
                    ActionMessage::Run(run) => drop(sender.send(run)),
                }
            }
        });
        let (settings, database) = (Settings::default(), database.clone());
        let parts = ScheduleServiceParts { settings, database, actions, tasks: tasks.clone(), clock: clock.clone() };
        let service = ScheduleService::idle(parts, &Registry::new()).expect("the names are free");
        Self { service, tasks, clock, watch: LeaseWatch::default(), runs }
    }

    /// Looks at the database until nothing more is to be done.
    async fn tick(&mut self, monotonic: Instant) {
        while tick(&self.service, &mut self.watch, monotonic).await.expect("the database answers").is_zero() {}
    }

    async fn next_run(&mut self) -> ActionRun {
        tokio::time::timeout(LIMIT, self.runs.recv()).await.expect("a run comes").expect("the performer lives")
    }

    async fn history(&self, schedule: &Schedule) -> Vec<ScheduleRun> {
        self.service.runs(schedule.id, UnixMillis::MAX, 100).await.expect("the database answers")
    }

    /// Waits until the newest run has this state.
    async fn ends_as(&self, schedule: &Schedule, state: RunState) -> ScheduleRun {
        let found = async {
            loop {
                match self.history(schedule).await.into_iter().next() {
                    Some(run) if run.state == state => return run,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("the run ends")
    }
}

async fn file() -> (TempDir, Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = database::settings::Settings::Sqlite(folder.path().join("schedules.db"));
    let database = Database::open(&settings).await.expect("the file can be used");
    database.migrate().await.expect("the tables are made");
    (folder, database)
}

fn clock() -> Clock {
    Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN))
}

fn content(cron: &str) -> ScheduleContent {
    let rule = RuleText { cron: Some(cron.to_owned()), ..RuleText::default() };
    ScheduleContent {
        name: "News".to_owned(),
        action: ScheduledAction { kind: ActionKind::Radio, target: Uuid::nil().to_string() },
        channel: "main".to_owned(),
        times: ScheduleTimes::parse("UTC", &rule).expect("a rule"),
        misfire_grace: Duration::from_secs(300),
        is_coalesced: true,
        enabled: true,
    }
}

async fn make(node: &Node, content: ScheduleContent) -> Schedule {
    let user = ActionUser { id: UserId::parse("alice").expect("an id"), role: UserRole::User };
    node.service.create(user, content).await.expect("it is made")
}

fn at(seconds: u64) -> UnixMillis {
    UnixMillis::EPOCH + Duration::from_secs(BEGIN + seconds)
}

#[tokio::test]
async fn each_instant_is_one_nodes_alone() {
    let (_folder, database) = file().await;
    let clock = clock();
    let (mut one, mut two) = (Node::start(&database, clock.clone()), Node::start(&database, clock.clone()));
    let schedule = make(&one, content("* * * * *")).await;
    for minute in 1..=5 {
        clock.advance(Duration::from_secs(60));
        tokio::join!(one.tick(monotonic_now()), two.tick(monotonic_now()));
        let run = tokio::select! {
            run = one.next_run() => run,
            run = two.next_run() => run,
        };
        assert_eq!(run.fire_at, at(60 * minute));
        assert!(run.begin().await && !run.begin().await, "it begins once");
        run.finish(Ok(()));
        one.ends_as(&schedule, RunState::Done).await;
    }
    assert!(one.runs.try_recv().is_err() && two.runs.try_recv().is_err(), "no instant came twice");
    assert_eq!(one.history(&schedule).await.len(), 5);
    let kept = one.service.0.store.get(schedule.id).await.expect("it is read").expect("it is there");
    assert_eq!((kept.triggered_count, kept.next_run_at), (5, Some(at(360))));
}

#[tokio::test]
async fn nodes_whose_clocks_differ_perform_each_instant_once() {
    let (_folder, database) = file().await;
    let (right, ahead) = (clock(), clock());
    ahead.advance(Duration::from_secs(600));
    let (mut one, mut two) = (Node::start(&database, right), Node::start(&database, ahead));
    let schedule = make(&one, content("*/5 * * * *")).await;
    two.tick(monotonic_now()).await;
    let run = two.next_run().await;
    assert_eq!(run.fire_at, at(600), "what is behind its clock has become one");
    one.clock.advance(Duration::from_secs(600));
    one.tick(monotonic_now()).await;
    assert!(one.runs.try_recv().is_err(), "the other node has done it");
    assert_eq!(one.history(&schedule).await.len(), 1);
}

#[tokio::test]
async fn after_a_downtime_late_instants_become_one_run_and_older_ones_are_missed() {
    let (_folder, database) = file().await;
    let clock = clock();
    let mut before = Node::start(&database, clock.clone());
    let coalesced = make(&before, content("* * * * *")).await;
    let each = make(&before, ScheduleContent { is_coalesced: false, ..content("*/2 * * * *") }).await;
    let strict = make(&before, ScheduleContent { misfire_grace: Duration::ZERO, ..content("* * * * *") }).await;
    before.tick(monotonic_now()).await;
    drop(before);
    clock.advance(Duration::from_secs(2 * 3600 + 30));
    let mut after = Node::start(&database, clock);
    after.tick(monotonic_now()).await;
    let mut begun = Vec::new();
    // Their tasks start in any order.
    for _ in 0..4 {
        let run = after.next_run().await;
        begun.push((run.schedule, run.fire_at));
    }
    begun.sort_by_key(|(schedule, fire_at)| (*schedule != coalesced.id, *fire_at));
    let expected = [(coalesced.id, at(7200)), (each.id, at(6960)), (each.id, at(7080)), (each.id, at(7200))];
    assert_eq!(begun, expected);
    let history = after.history(&coalesced).await;
    let missed = history.last().expect("a row");
    assert_eq!((missed.state, missed.fire_at, missed.instants), (RunState::Missed, at(60), 115));
    assert_eq!(history.first().map(|run| (run.fire_at, run.instants)), Some((at(7200), 5)));
    let history = after.history(&strict).await;
    assert_eq!(history.iter().map(|run| (run.state, run.instants)).collect::<Vec<_>>(), [(RunState::Missed, 120)]);
}

#[tokio::test]
async fn a_node_that_has_died_between_claim_and_run_is_taken_over_and_begins_nothing_any_more() {
    let (_folder, database) = file().await;
    let clock = clock();
    let (mut one, mut two) = (Node::start(&database, clock.clone()), Node::start(&database, clock.clone()));
    let schedule = make(&one, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    one.tick(monotonic_now()).await;
    let first = one.next_run().await;
    let seen = monotonic_now();
    two.tick(seen).await;
    let lease = Settings::default().lease;
    two.tick(seen + lease / 2).await;
    let attempt = two.history(&schedule).await.first().map(|run| run.attempt);
    assert_eq!(attempt, Some(1), "not before the lease is over");
    let mut later = seen;
    let second = loop {
        later += 2 * lease;
        two.tick(later).await;
        match two.runs.try_recv() {
            Ok(run) => break run,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!((second.fire_at, second.schedule), (first.fire_at, schedule.id));
    assert!(!first.begin().await, "the node that wakes up late begins nothing");
    assert!(second.begin().await);
    second.finish(Ok(()));
    let run = two.ends_as(&schedule, RunState::Done).await;
    assert_eq!((run.attempt, two.service.0.metrics.takeovers.get()), (2, 1));
    first.finish(Ok(()));
    one.tick(monotonic_now()).await;
    assert_eq!(one.history(&schedule).await, [run], "nothing is written twice");
}

#[tokio::test]
async fn what_had_taken_effect_when_its_node_died_is_interrupted_and_not_repeated() {
    let (_folder, database) = file().await;
    let clock = clock();
    let (mut one, mut two) = (Node::start(&database, clock.clone()), Node::start(&database, clock.clone()));
    let schedule = make(&one, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    one.tick(monotonic_now()).await;
    let run = one.next_run().await;
    assert!(run.begin().await);
    let mut seen = monotonic_now();
    let ended = loop {
        two.tick(seen).await;
        match two.history(&schedule).await.into_iter().next() {
            Some(run) if run.state == RunState::Interrupted => break run,
            _ => seen += 2 * Settings::default().lease,
        }
    };
    assert!(ended.detail.is_some() && two.runs.try_recv().is_err());
    assert_eq!(one.history(&schedule).await.len(), 1);
}

#[tokio::test]
async fn a_node_that_stops_gives_back_what_has_not_taken_effect() {
    let (_folder, database) = file().await;
    let clock = clock();
    let (mut one, mut two) = (Node::start(&database, clock.clone()), Node::start(&database, clock.clone()));
    let schedule = make(&one, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    one.tick(monotonic_now()).await;
    let first = one.next_run().await;
    one.tasks.begin_stop();
    let released = async {
        while two.history(&schedule).await.first().is_none_or(|run| run.attempt < 2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, released).await.expect("it is given back");
    // At once, without a lease.
    two.tick(monotonic_now()).await;
    let second = two.next_run().await;
    assert!(!first.begin().await && second.begin().await);
    second.finish(Ok(()));
    assert_eq!(two.ends_as(&schedule, RunState::Done).await.attempt, 3);
}
