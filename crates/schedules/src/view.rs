//! Views of answers.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::action::ActionKind;
use crate::rule::ScheduleTimes;
use crate::schedule::{Schedule, ScheduleRun, UnreadableSchedule};
use crate::sentence::{SentenceLanguage, describe};
use primitives::unix_time::UnixMillis;
use server_kit::api::timestamps::to_rfc3339;

/// Instants that are shown ahead.
const PREVIEWED: usize = 5;

/// Schedule.
#[derive(Serialize, ToSchema)]
pub struct ScheduleView {
    #[schema(value_type = String)]
    id: Uuid,
    /// Its owner.
    user_id: String,
    name: String,
    playlist_id: Option<String>,
    stream_id: Option<String>,
    track_id: Option<String>,
    channel_id: String,
    timezone: String,
    cron: Option<String>,
    /// A single time, in UTC.
    run_at: Option<String>,
    recurrence: Option<String>,
    time: Option<String>,
    days: Option<Vec<String>>,
    /// False while it is paused.
    enabled: bool,
    /// False for one that this version of the server cannot read: it does not run, and can be replaced or deleted.
    readable: bool,
    misfire_grace_seconds: u64,
    coalesce: bool,
    /// When it runs, in words.
    sentence: String,
    /// Next instant, in UTC; null where none comes, or while it is paused.
    next_run_at: Option<String>,
    /// The next five instants, as the zone's clocks show them.
    next_runs: Vec<String>,
    /// Number of its runs.
    triggered_count: i64,
    /// The newest run.
    last_run: Option<RunView>,
    /// Grows with each change; the `ETag`.
    revision: i64,
    created_at: String,
    updated_at: String,
}

/// Run of a schedule.
#[derive(Serialize, ToSchema)]
pub struct RunView {
    #[schema(value_type = String)]
    id: Uuid,
    /// The instant.
    fire_at: String,
    /// `schedule`, or `manual`: a user wanted it.
    cause: &'static str,
    /// `claimed`, `running`, `done`, `failed`, `missed` or `interrupted`.
    state: &'static str,
    /// Number of nodes that have had it.
    attempt: i64,
    /// Instants that it stands for: more than one where several were missed, or became one.
    instants: i64,
    /// Reason for a failure.
    detail: Option<String>,
    /// When a node first had it.
    claimed_at: String,
    finished_at: Option<String>,
}

/// Rule that is tried out.
#[derive(Serialize, ToSchema)]
pub struct PreviewView {
    timezone: String,
    /// When it runs, in words.
    sentence: String,
    /// The next five instants, as the zone's clocks show them.
    next_runs: Vec<String>,
}

impl ScheduleView {
    /// Shows a schedule at `now`.
    pub fn new(schedule: Schedule, last_run: Option<ScheduleRun>, language: SentenceLanguage, now: UnixMillis) -> Self {
        let content = schedule.content;
        let rule = content.times.text().clone();
        let ahead = if content.enabled { preview(&content.times, now) } else { Vec::new() };
        Self {
            id: schedule.id,
            user_id: schedule.user.as_str().to_owned(),
            playlist_id: content.target_of(ActionKind::Playlist),
            stream_id: content.target_of(ActionKind::Radio),
            track_id: content.target_of(ActionKind::Track),
            name: content.name,
            channel_id: content.channel,
            timezone: content.times.zone_name().to_owned(),
            cron: rule.cron,
            run_at: rule.run_at,
            recurrence: rule.recurrence,
            time: rule.time,
            days: rule.days,
            enabled: content.enabled,
            readable: true,
            misfire_grace_seconds: content.misfire_grace.as_secs(),
            coalesce: content.is_coalesced,
            sentence: describe(&content.times, language),
            next_run_at: schedule.next_run_at.map(to_rfc3339),
            next_runs: ahead,
            triggered_count: schedule.triggered_count,
            last_run: last_run.map(RunView::new),
            revision: schedule.revision,
            created_at: to_rfc3339(schedule.created_at),
            updated_at: to_rfc3339(schedule.updated_at),
        }
    }
}

impl ScheduleView {
    /// Shows a schedule that cannot be read, as far as that goes.
    pub fn unreadable(schedule: UnreadableSchedule) -> Self {
        Self {
            id: schedule.id,
            user_id: schedule.user.as_str().to_owned(),
            playlist_id: None,
            stream_id: None,
            track_id: None,
            name: schedule.name,
            channel_id: schedule.channel,
            timezone: schedule.timezone,
            cron: None,
            run_at: None,
            recurrence: None,
            time: None,
            days: None,
            enabled: schedule.enabled,
            readable: false,
            misfire_grace_seconds: 0,
            coalesce: false,
            sentence: String::new(),
            next_run_at: None,
            next_runs: Vec::new(),
            triggered_count: schedule.triggered_count,
            last_run: None,
            revision: schedule.revision,
            created_at: to_rfc3339(schedule.created_at),
            updated_at: to_rfc3339(schedule.updated_at),
        }
    }
}

impl RunView {
    /// Shows a run.
    pub fn new(run: ScheduleRun) -> Self {
        Self {
            id: run.id,
            fire_at: to_rfc3339(run.fire_at),
            cause: run.cause.name(),
            state: run.state.name(),
            attempt: run.attempt,
            instants: run.instants,
            detail: run.detail,
            claimed_at: to_rfc3339(run.claimed_at),
            finished_at: run.finished_at.map(to_rfc3339),
        }
    }
}

impl PreviewView {
    /// Shows a rule at `now`.
    pub fn new(times: &ScheduleTimes, language: SentenceLanguage, now: UnixMillis) -> Self {
        Self {
            timezone: times.zone_name().to_owned(),
            sentence: describe(times, language),
            next_runs: preview(times, now),
        }
    }
}

/// Returns the next instants as the zone's clocks show them, with their offsets.
fn preview(times: &ScheduleTimes, now: UnixMillis) -> Vec<String> {
    let instants = times.preview(now, PREVIEWED).into_iter();
    let local = instants.filter_map(|at| times.local(at));
    local.map(|local| local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()).collect()
}
