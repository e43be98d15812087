//! Services of two nodes over one file, with clocks that the test moves.

use std::time::{Duration, Instant, SystemTime};

use prometheus::Registry;
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::Error;
use crate::action::{ActionKind, ActionMessage, ActionRun, ActionUser, ScheduledAction, action_channel};
use crate::engine::tick;
use crate::lease_watch::LeaseWatch;
use crate::plan::plan;
use crate::rule::{RuleText, ScheduleTimes};
use crate::run_store::{FireOutcome, new_run_id};
use crate::schedule::{RunState, Schedule, ScheduleContent, ScheduleRun, StoredSchedule};
use crate::service::{ScheduleService, ScheduleServiceParts};
use crate::settings::Settings;
use crate::store::ScheduleStore;
use primitives::clock::{Clock, monotonic_now};
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::api::user::{User, UserRole};
use server_kit::auth::Claims;
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
        Self::start_with(Settings::default(), database, clock)
    }

    fn start_with(settings: Settings, database: &Database, clock: Clock) -> Self {
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
        let database = database.clone();
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
    let kept = one.service.0.store.find(schedule.id).await.expect("it is read").expect("it is there");
    let kept = kept.readable().expect("it can be read");
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

async fn change(database: &Database, sql: &'static str) {
    ScheduleStore::new(database.clone()).execute(sql).await.expect("it is changed");
}

fn alice() -> User {
    let subject = UserId::parse("alice").expect("an id");
    let map = [("sub".to_owned(), "alice".into())].into_iter().collect();
    User { claims: std::sync::Arc::new(Claims { subject, map }) }
}

#[tokio::test]
async fn what_nobody_can_tell_begins_nothing_and_is_no_success() {
    let (_folder, database) = file().await;
    let clock = clock();
    let settings = Settings { lease: Duration::from_millis(50), ..Settings::default() };
    let mut node = Node::start_with(settings, &database, clock.clone());
    let schedule = make(&node, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    node.tick(monotonic_now()).await;
    let run = node.next_run().await;
    change(&database, "ALTER TABLE schedule_runs RENAME TO away").await;
    assert!(!run.begin().await, "nobody says that it may");
    run.finish(Ok(()));
    change(&database, "ALTER TABLE away RENAME TO schedule_runs").await;
    let run = node.ends_as(&schedule, RunState::Failed).await;
    assert!(run.detail.is_some());
}

#[tokio::test]
async fn a_database_that_is_away_for_a_moment_is_asked_again() {
    let (_folder, database) = file().await;
    let clock = clock();
    let mut node = Node::start(&database, clock.clone());
    let schedule = make(&node, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    node.tick(monotonic_now()).await;
    let run = node.next_run().await;
    change(&database, "ALTER TABLE schedule_runs RENAME TO away").await;
    let (is_begun, ()) = tokio::join!(run.begin(), async {
        tokio::task::yield_now().await;
        change(&database, "ALTER TABLE away RENAME TO schedule_runs").await;
    });
    assert!(is_begun && !run.begin().await, "once");
    run.finish(Ok(()));
    node.ends_as(&schedule, RunState::Done).await;
}

#[tokio::test]
async fn a_claim_that_its_own_node_has_lost_track_of_is_taken_over_by_it() {
    let (_folder, database) = file().await;
    let clock = clock();
    let mut node = Node::start(&database, clock.clone());
    let schedule = make(&node, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    // It is committed, and the answer does not come.
    let state = &node.service.0;
    let plan = plan(&schedule.content.times, at(3600), at(3600), Duration::from_secs(300), true);
    let outcome = state.store.fire(&schedule, &plan, (state.node, new_run_id(at(3600))), at(3600)).await;
    assert!(matches!(outcome, Ok(FireOutcome::Claimed(_))));
    let seen = monotonic_now();
    node.tick(seen).await;
    assert!(node.runs.try_recv().is_err(), "not before its lease is over");
    node.tick(seen + 2 * Settings::default().lease).await;
    let run = node.next_run().await;
    assert!(run.begin().await);
    // What this node works at is left alone, however long it takes.
    node.tick(seen + 4 * Settings::default().lease).await;
    node.tick(seen + 8 * Settings::default().lease).await;
    run.finish(Ok(()));
    assert_eq!(node.ends_as(&schedule, RunState::Done).await.attempt, 2);
}

#[tokio::test]
async fn a_schedule_that_cannot_be_read_hides_none_and_can_be_deleted() {
    let (_folder, database) = file().await;
    let clock = clock();
    let mut node = Node::start(&database, clock.clone());
    let strange = make(&node, content("0 * * * *")).await;
    change(&database, "UPDATE schedules SET timezone = 'Mars/Base'").await;
    let good = make(&node, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    let page = node.service.0.store.due(at(3600), None, 1).await.expect("it is read");
    assert!(page.schedules.is_empty() && page.next.is_some(), "there is more behind it");
    let wait = tick(&node.service, &mut node.watch, monotonic_now()).await.expect("the database answers");
    assert!(wait.is_zero(), "something has moved on");
    let run = node.next_run().await;
    assert_eq!(run.schedule, good.id);
    let wait = tick(&node.service, &mut node.watch, monotonic_now()).await.expect("the database answers");
    assert_eq!(wait, Duration::from_secs(1), "nobody spins");
    let listed = node.service.list(None, None, 10).await.expect("it is listed");
    let is_readable = |stored: &StoredSchedule| matches!(stored, StoredSchedule::Readable(_));
    assert_eq!(listed.iter().map(is_readable).collect::<Vec<_>>(), [false, true]);
    assert_eq!(node.service.set_enabled(&alice(), strange.id, false).await.err(), Some(Error::Unreadable));
    node.service.delete(&alice(), strange.id, None).await.expect("it is deleted");
    assert_eq!(node.service.find(&alice(), strange.id).await.err(), Some(Error::NoSuchSchedule));
}

#[tokio::test]
async fn only_the_newest_runs_are_kept_and_old_ones_go_a_few_at_a_time() {
    let (_folder, database) = file().await;
    let node = Node::start(&database, clock());
    let schedule = make(&node, content("0 * * * *")).await;
    for number in 0..10 {
        let state = &node.service.0;
        let claim =
            state.store.fire_by_hand(schedule.id, at(number), (state.node, new_run_id(at(number))), at(number)).await;
        let claim = claim.expect("the database answers").expect("it is made");
        state.store.finish(claim, RunState::Done, None, at(number)).await.expect("the database answers");
    }
    let store = &node.service.0.store;
    store.trim(schedule.id, 8).await.expect("the database answers");
    let kept = node.history(&schedule).await;
    assert_eq!((kept.len(), kept.last().map(|run| run.fire_at)), (8, Some(at(2))));
    assert_eq!(store.prune(at(7), 3).await, Ok(3));
    assert_eq!(store.prune(at(7), 3).await, Ok(2));
    assert_eq!(node.history(&schedule).await.len(), 3);
}

#[tokio::test]
async fn a_user_has_so_many_runs_at_once_and_others_have_theirs() {
    let (_folder, database) = file().await;
    let clock = clock();
    let mut node = Node::start(&database, clock.clone());
    let schedule = make(&node, content("0 * * * *")).await;
    let mut runs = Vec::new();
    let refused = loop {
        match node.service.run_now(&alice(), schedule.id).await {
            Ok(run) => assert_eq!(run.state, RunState::Claimed),
            Err(error) => break error,
        }
        runs.push(node.next_run().await);
    };
    assert_eq!((refused, runs.len()), (Error::TooManyRuns, 8));
    let bob = UserId::parse("bob").expect("an id");
    let other = node
        .service
        .create(ActionUser { id: bob, role: UserRole::User }, content("0 * * * *"))
        .await
        .expect("it is made");
    clock.advance(Duration::from_secs(3600));
    node.tick(monotonic_now()).await;
    let others = node.next_run().await;
    assert_eq!(others.schedule, other.id, "the backlog of one is nobody else's");
    runs.remove(0).finish(Ok(()));
    let next = async {
        loop {
            node.tick(monotonic_now()).await;
            match node.runs.try_recv() {
                Ok(run) => return run,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let next = tokio::time::timeout(LIMIT, next).await.expect("there is room again");
    assert_eq!((next.schedule, next.fire_at), (schedule.id, at(3600)));
    others.finish(Ok(()));
}

#[tokio::test]
async fn what_is_dropped_without_an_answer_is_given_back_and_a_node_that_stops_claims_nothing() {
    let (_folder, database) = file().await;
    let clock = clock();
    let mut node = Node::start(&database, clock.clone());
    let schedule = make(&node, content("0 * * * *")).await;
    clock.advance(Duration::from_secs(3600));
    node.tick(monotonic_now()).await;
    drop(node.next_run().await);
    let released = async {
        while node.history(&schedule).await.first().is_none_or(|run| run.attempt < 2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, released).await.expect("it is given back");
    assert_eq!(node.history(&schedule).await.first().map(|run| run.state), Some(RunState::Claimed));
    node.tasks.begin_stop();
    clock.advance(Duration::from_secs(3600));
    node.tick(monotonic_now()).await;
    let history = node.history(&schedule).await;
    assert_eq!((history.len(), history.first().map(|run| run.attempt)), (1, Some(2)), "nothing is claimed");
}
