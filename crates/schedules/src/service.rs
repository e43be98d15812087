//! Service of schedules: who may have which, what may be scheduled, and changes of two editors.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::action::{ActionSender, ActionUser};
use crate::engine::RunWork;
use crate::live_claims::LiveClaims;
use crate::metrics::ScheduleMetrics;
use crate::rule::ScheduleTimes;
use crate::run_room::{NoRoom, RunRoom};
use crate::run_store::new_run_id;
use crate::schedule::{RunCause, RunState, Schedule, ScheduleContent, ScheduleRun, StoredSchedule};
use crate::settings::Settings;
use crate::store::{SavedSchedule, ScheduleStore};
use crate::{Error, engine, prune};
use http_semantics::etag::ETagCondition;
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::api::revision::is_revision;
use server_kit::api::user::User;
use server_kit::database::Database;

/// Tries to change a schedule that others change at the same time.
const MAX_ATTEMPTS: usize = 16;

/// What the service is made of.
pub struct ScheduleServiceParts {
    /// Its settings.
    pub settings: Settings,
    /// Database of the schedules.
    pub database: Database,
    /// The way to what performs actions.
    pub actions: ActionSender,
    /// Tasks among which instants are waited for.
    pub tasks: BackgroundTasks,
    /// Clock.
    pub clock: Clock,
}

/// Service of schedules. Clones share it.
#[derive(Clone)]
pub struct ScheduleService(pub(crate) Arc<ServiceState>);

/// State of the service.
pub(crate) struct ServiceState {
    pub settings: Settings,
    pub store: Arc<ScheduleStore>,
    pub actions: ActionSender,
    pub tasks: BackgroundTasks,
    pub metrics: ScheduleMetrics,
    pub clock: Clock,
    /// Id of this process among the nodes.
    pub node: Uuid,
    /// Room for runs.
    pub room: RunRoom,
    /// Runs that this process works at.
    pub live: LiveClaims,
    /// Told when an instant may be nearer than was known.
    pub changed: Notify,
}

impl ScheduleService {
    /// Creates the service, and begins to wait for instants.
    pub fn start(parts: ScheduleServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let this = Self::idle(parts, registry)?;
        this.0.tasks.spawn(engine::run(this.clone()));
        this.0.tasks.spawn(prune::run(this.clone()));
        Ok(this)
    }

    /// Creates the service; nobody waits for instants.
    pub(crate) fn idle(parts: ScheduleServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let ScheduleServiceParts { settings, database, actions, tasks, clock } = parts;
        Ok(Self(Arc::new(ServiceState {
            settings,
            store: Arc::new(ScheduleStore::new(database)),
            actions,
            tasks,
            metrics: ScheduleMetrics::register(registry)?,
            clock,
            node: Uuid::new_v4(),
            room: RunRoom::default(),
            live: LiveClaims::default(),
            changed: Notify::new(),
        })))
    }

    /// Returns the time for which missed instants are made good where nothing else is said.
    pub(crate) fn misfire_grace(&self) -> Duration {
        self.0.settings.misfire_grace
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.0.clock.unix_millis()
    }

    /// Makes a schedule of a user.
    pub(crate) async fn create(&self, user: ActionUser, content: ScheduleContent) -> Result<Schedule, Error> {
        let now = self.now();
        let next = self.judge(&user, &content, now).await?;
        let schedule = Schedule {
            id: Uuid::now_v7(),
            user: user.id,
            role: user.role,
            content,
            next_run_at: next,
            triggered_count: 0,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let most = self.0.settings.max_schedules_per_user;
        if !self.0.store.add(&schedule, most).await? {
            return Err(Error::TooManySchedules(most));
        }
        self.0.changed.notify_one();
        Ok(schedule)
    }

    /// Refuses what cannot be performed, comes too often or never; returns the next instant, `None` for a paused one.
    async fn judge(
        &self,
        user: &ActionUser,
        content: &ScheduleContent,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Error> {
        let next = self.judge_times(&content.times, now)?;
        if !self.0.actions.supports(content.action.kind) {
            return Err(Error::Unsupported(content.action.kind));
        }
        self.0.actions.check(user, &content.channel, &content.action).await?;
        Ok(Some(next).filter(|_| content.enabled))
    }

    /// Refuses instants that come too often or never; returns the next one.
    pub(crate) fn judge_times(&self, times: &ScheduleTimes, now: UnixMillis) -> Result<UnixMillis, Error> {
        let least = self.0.settings.min_interval;
        if let Some(interval) = times.least_interval(now).filter(|interval| *interval < least) {
            return Err(Error::TooOften(interval, least));
        }
        times.next_after(now).ok_or(Error::NothingComes)
    }

    /// Returns a schedule of the caller, or any for an administrator. That of somebody else does not exist.
    pub(crate) async fn find(&self, user: &User, id: Uuid) -> Result<StoredSchedule, Error> {
        let schedule = self.0.store.find(id).await?;
        schedule.filter(|schedule| schedule.user() == user.id() || user.is_admin()).ok_or(Error::NoSuchSchedule)
    }

    /// Returns such a schedule that can be read.
    async fn get(&self, user: &User, id: Uuid) -> Result<Schedule, Error> {
        self.find(user, id).await?.readable().ok_or(Error::Unreadable)
    }

    /// Lists at most `limit` schedules of `of_user`, or of all, whose ids come after `after`.
    pub(crate) async fn list(
        &self,
        of_user: Option<&UserId>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, Error> {
        self.0.store.list(of_user, after, limit).await
    }

    /// Replaces a schedule that is as `condition` wants it, if there is one. It goes on from now.
    pub(crate) async fn replace(
        &self,
        user: &User,
        id: Uuid,
        condition: Option<&ETagCondition>,
        content: ScheduleContent,
    ) -> Result<Schedule, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.unchanged(user, id, condition).await?;
            let now = self.now();
            let owner = ActionUser { id: before.user().clone(), role: user.role() };
            let next_run_at = self.judge(&owner, &content, now).await?;
            let saved = SavedSchedule { content: &content, role: owner.role, next_run_at };
            if let Some(revision) = self.0.store.replace(id, before.revision(), saved, now).await? {
                self.0.changed.notify_one();
                let (triggered_count, created_at) = before.past();
                return Ok(Schedule {
                    id,
                    user: owner.id,
                    role: owner.role,
                    content,
                    next_run_at,
                    triggered_count,
                    revision,
                    created_at,
                    updated_at: now,
                });
            }
        }
        Err(Error::Unavailable)
    }

    /// Deletes a schedule and its history.
    pub(crate) async fn delete(&self, user: &User, id: Uuid, condition: Option<&ETagCondition>) -> Result<(), Error> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.unchanged(user, id, condition).await?;
            if self.0.store.delete(id, before.revision()).await? {
                return Ok(());
            }
        }
        Err(Error::Unavailable)
    }

    /// Pauses a schedule, or goes on with it from now; what would have come meanwhile is not made good.
    pub(crate) async fn set_enabled(&self, user: &User, id: Uuid, enabled: bool) -> Result<Schedule, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.get(user, id).await?;
            if before.content.enabled == enabled {
                return Ok(before);
            }
            let now = self.now();
            let next = match enabled {
                true => Some(before.content.times.next_after(now).ok_or(Error::NothingComes)?),
                false => None,
            };
            if let Some(revision) = self.0.store.set_enabled(id, before.revision, enabled, next, now).await? {
                self.0.changed.notify_one();
                let content = ScheduleContent { enabled, ..before.content };
                return Ok(Schedule { content, next_run_at: next, revision, updated_at: now, ..before });
            }
        }
        Err(Error::Unavailable)
    }

    /// Begins what is scheduled now, besides its instants; returns the run.
    pub(crate) async fn run_now(&self, user: &User, id: Uuid) -> Result<ScheduleRun, Error> {
        let schedule = self.get(user, id).await?;
        let permit = self.0.room.enter(&schedule.user).map_err(|full| match full {
            NoRoom::User => Error::TooManyRuns,
            NoRoom::Node => Error::NoRoom,
        })?;
        let now = self.now();
        // Instants of rules are whole seconds: a run by hand stands in the way of none.
        let first = if now.as_millis() % 1000 == 0 { now + Duration::from_millis(1) } else { now };
        for fire_at in std::iter::successors(Some(first), |at| Some(*at + Duration::from_millis(2))).take(MAX_ATTEMPTS)
        {
            let live = self.0.live.hold(new_run_id(now)).ok_or(Error::Unavailable)?;
            let ids = (self.0.node, live.run());
            if let Some(claim) = self.0.store.fire_by_hand(id, fire_at, ids, now).await? {
                engine::spawn(self, schedule, RunWork { claim, fire_at, live, permit });
                return Ok(ScheduleRun {
                    id: claim.run,
                    fire_at,
                    cause: RunCause::Manual,
                    state: RunState::Claimed,
                    attempt: claim.attempt,
                    instants: 1,
                    detail: None,
                    claimed_at: now,
                    finished_at: None,
                });
            }
            self.get(user, id).await?;
        }
        Err(Error::Unavailable)
    }

    /// Lists at most `limit` runs of a schedule before `before`, the newest first.
    pub(crate) async fn runs(&self, id: Uuid, before: UnixMillis, limit: u32) -> Result<Vec<ScheduleRun>, Error> {
        self.0.store.runs(id, before, limit).await
    }

    async fn unchanged(
        &self,
        user: &User,
        id: Uuid,
        condition: Option<&ETagCondition>,
    ) -> Result<StoredSchedule, Error> {
        let schedule = self.find(user, id).await?;
        if is_revision(condition, schedule.revision()) { Ok(schedule) } else { Err(Error::Changed) }
    }
}
