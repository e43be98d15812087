//! Schedules and their runs as values.

use std::time::Duration;

use uuid::Uuid;

use crate::action::{ActionKind, ScheduledAction};
use crate::rule::ScheduleTimes;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::api::user::UserRole;

/// Schedule of a user.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its id, of which later ones are larger.
    pub id: Uuid,
    /// Its owner.
    pub user: UserId,
    /// Role of who saved it last.
    pub role: UserRole,
    /// What its owner has set.
    pub content: ScheduleContent,
    /// Next instant; `None` where nothing comes any more, or while it is paused.
    pub next_run_at: Option<UnixMillis>,
    /// Number of its runs, those by hand too.
    pub triggered_count: i64,
    /// Number that grows with each change by a user.
    pub revision: i64,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was changed.
    pub updated_at: UnixMillis,
}

/// Schedule as the database has it.
#[derive(Clone, Debug)]
pub enum StoredSchedule {
    /// One that can be read.
    Readable(Box<Schedule>),
    /// One that another version has written, or whose zone is not known any more.
    Unreadable(UnreadableSchedule),
}

/// Schedule whose rule, zone or action cannot be read: it is shown, replaced and deleted, and does not run.
#[derive(Clone, Debug)]
pub struct UnreadableSchedule {
    /// Its id.
    pub id: Uuid,
    /// Its owner.
    pub user: UserId,
    /// Its name.
    pub name: String,
    /// Channel that it is for.
    pub channel: String,
    /// Its zone, as it is written.
    pub timezone: String,
    /// False while it is paused.
    pub enabled: bool,
    /// Number of its runs.
    pub triggered_count: i64,
    /// Number that grows with each change by a user.
    pub revision: i64,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was changed.
    pub updated_at: UnixMillis,
}

impl StoredSchedule {
    /// Returns its id.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Readable(schedule) => schedule.id,
            Self::Unreadable(schedule) => schedule.id,
        }
    }

    /// Returns its owner.
    pub fn user(&self) -> &UserId {
        match self {
            Self::Readable(schedule) => &schedule.user,
            Self::Unreadable(schedule) => &schedule.user,
        }
    }

    /// Returns its revision.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Readable(schedule) => schedule.revision,
            Self::Unreadable(schedule) => schedule.revision,
        }
    }

    /// Returns the schedule, where it can be read.
    pub fn readable(self) -> Option<Schedule> {
        match self {
            Self::Readable(schedule) => Some(*schedule),
            Self::Unreadable(_) => None,
        }
    }

    /// Returns the number of its runs, and when it was made.
    pub fn past(&self) -> (i64, UnixMillis) {
        match self {
            Self::Readable(schedule) => (schedule.triggered_count, schedule.created_at),
            Self::Unreadable(schedule) => (schedule.triggered_count, schedule.created_at),
        }
    }
}

/// What a schedule is made or replaced with.
#[derive(Clone, Debug)]
pub struct ScheduleContent {
    /// Its name.
    pub name: String,
    /// What it begins.
    pub action: ScheduledAction,
    /// The channel.
    pub channel: String,
    /// When it does.
    pub times: ScheduleTimes,
    /// Time for which an instant that was missed is made good.
    pub misfire_grace: Duration,
    /// True where several such instants become one run.
    pub is_coalesced: bool,
    /// False while it is paused.
    pub enabled: bool,
}

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// A node has it, and nothing has taken effect.
    Claimed,
    /// It takes effect.
    Running,
    /// It is done.
    Done,
    /// It cannot be done.
    Failed,
    /// No node was there in time.
    Missed,
    /// Its node has died while it took effect.
    Interrupted,
}

/// Cause of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunCause {
    /// Its instant has come.
    Schedule,
    /// A user wants it now.
    Manual,
}

/// Run of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRun {
    /// Its id.
    pub id: Uuid,
    /// The instant.
    pub fire_at: UnixMillis,
    /// Its cause.
    pub cause: RunCause,
    /// Its state.
    pub state: RunState,
    /// Number of nodes that have had it.
    pub attempt: i64,
    /// Instants that it stands for: more than one where several were missed, or became one.
    pub instants: i64,
    /// Reason for a failure.
    pub detail: Option<String>,
    /// When a node first had it.
    pub claimed_at: UnixMillis,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

impl RunState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Claimed, Self::Running, Self::Done, Self::Failed, Self::Missed, Self::Interrupted];

    /// Returns the name as the database and the API have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Missed => "missed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns the state of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl RunCause {
    /// Returns the name as the database and the API have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
        }
    }

    /// Returns the cause of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Schedule, Self::Manual].into_iter().find(|cause| cause.name() == name)
    }
}

impl ScheduleContent {
    /// Returns the id of what begins, where it is of this kind.
    pub fn target_of(&self, kind: ActionKind) -> Option<String> {
        (self.action.kind == kind).then(|| self.action.target.clone())
    }
}
