//! Schedules in the database; their runs are in [`run_store`](crate::run_store).

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Error;
use crate::action::{ActionKind, ScheduledAction};
use crate::rule::{RuleText, ScheduleTimes};
use crate::schedule::{Schedule, ScheduleContent, StoredSchedule, UnreadableSchedule};
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::UserId;
use primitives::unix_time::{UnixMillis, whole_millis};
use server_kit::api::user::UserRole;
use server_kit::database::Database;
use server_kit::on;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

const COLUMNS: &str =
    "id, user_id, role, name, action, target, channel_id, timezone, rule, misfire_grace_ms, is_coalesced,
    enabled, next_run_at, triggered_count, revision, created_at, updated_at";
/// The count is taken with the insertion; requests at the same moment may exceed it by their number.
const INSERT: &str = "INSERT INTO schedules (id, user_id, name, action, target, channel_id, timezone, rule,
        misfire_grace_ms, is_coalesced, enabled, next_run_at, triggered_count, revision, created_at, updated_at, role)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 1, $13, $13, $15
    WHERE (SELECT COUNT(*) FROM schedules WHERE user_id = $2) < $14
    RETURNING id";
const REPLACE: &str =
    "UPDATE schedules SET name = $3, action = $4, target = $5, channel_id = $6, timezone = $7, rule = $8,
        misfire_grace_ms = $9, is_coalesced = $10, enabled = $11, next_run_at = $12, updated_at = $13,
        role = $14, revision = revision + 1
    WHERE id = $1 AND revision = $2 RETURNING revision";
const ENABLE: &str = "UPDATE schedules SET enabled = $3, next_run_at = $4, updated_at = $5, revision = revision + 1
    WHERE id = $1 AND revision = $2 RETURNING revision";
const DELETE: &str = "DELETE FROM schedules WHERE id = $1 AND revision = $2 RETURNING id";
const DELETE_RUNS: &str = "DELETE FROM schedule_runs WHERE schedule_id = $1";
const NEXT_AFTER: &str = "SELECT MIN(next_run_at) FROM schedules WHERE enabled = 1 AND next_run_at > $1";

/// Row of the table, in the order of [`COLUMNS`].
#[derive(sqlx::FromRow)]
struct ScheduleRow {
    id: String,
    user_id: String,
    role: String,
    name: String,
    action: String,
    target: String,
    channel_id: String,
    timezone: String,
    rule: String,
    misfire_grace_ms: i64,
    is_coalesced: i64,
    enabled: i64,
    next_run_at: Option<i64>,
    triggered_count: i64,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

/// What a schedule is replaced with.
#[derive(Clone, Copy)]
pub struct SavedSchedule<'a> {
    /// What its owner has set.
    pub content: &'a ScheduleContent,
    /// Role of who saves it.
    pub role: UserRole,
    /// Next instant.
    pub next_run_at: Option<UnixMillis>,
}

/// Store over the tables `schedules` and `schedule_runs`.
pub struct ScheduleStore {
    pub(crate) database: Database,
    failures: FailureLog,
    unreadable: FailureLog,
}

/// Place in the order in which schedules are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuePlace {
    instant: i64,
    id: String,
}

/// Some schedules whose instant has come.
#[derive(Debug, Default)]
pub struct DuePage {
    /// Those that can be read, the earliest first.
    pub schedules: Vec<Schedule>,
    /// Place after which there may be more.
    pub next: Option<DuePlace>,
}

impl ScheduleStore {
    /// Creates the store over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: FailureLog::default(), unreadable: FailureLog::default() }
    }

    /// Adds a schedule; returns false where its owner has `most` already.
    pub async fn add(&self, new: &Schedule, most: u32) -> Result<bool, Error> {
        let (content, rule) = (&new.content, rule_json(&new.content));
        let added = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(INSERT).bind(new.id.to_string()).bind(new.user.as_str());
                let query = query.bind(&content.name).bind(content.action.kind.name()).bind(&content.action.target);
                let query = query.bind(&content.channel).bind(content.times.zone_name()).bind(&rule);
                let query = query.bind(whole_millis(content.misfire_grace)).bind(i64::from(content.is_coalesced));
                let query = query.bind(i64::from(content.enabled)).bind(new.next_run_at.map(UnixMillis::as_millis));
                let query = query.bind(new.created_at.as_millis()).bind(i64::from(most)).bind(new.role.name());
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(added).await?.is_some())
    }

    /// Replaces the schedule that has this revision; returns the new one, `None` where it was changed meanwhile.
    pub async fn replace(
        &self,
        id: Uuid,
        revision: i64,
        SavedSchedule { content, role, next_run_at: next }: SavedSchedule<'_>,
        now: UnixMillis,
    ) -> Result<Option<i64>, Error> {
        let rule = rule_json(content);
        let replaced = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, i64>(REPLACE).bind(id.to_string()).bind(revision);
                let query = query.bind(&content.name).bind(content.action.kind.name()).bind(&content.action.target);
                let query = query.bind(&content.channel).bind(content.times.zone_name()).bind(&rule);
                let query = query.bind(whole_millis(content.misfire_grace)).bind(i64::from(content.is_coalesced));
                let query = query.bind(i64::from(content.enabled)).bind(next.map(UnixMillis::as_millis));
                query.bind(now.as_millis()).bind(role.name()).fetch_optional(pool).await
            })
        };
        self.run(replaced).await
    }

    /// Pauses the schedule that has this revision, or goes on with it at `next`; returns the new revision, `None` where it was
    /// changed meanwhile.
    pub async fn set_enabled(
        &self,
        id: Uuid,
        revision: i64,
        enabled: bool,
        next: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<Option<i64>, Error> {
        let changed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, i64>(ENABLE).bind(id.to_string()).bind(revision);
                let query = query.bind(i64::from(enabled)).bind(next.map(UnixMillis::as_millis));
                query.bind(now.as_millis()).fetch_optional(pool).await
            })
        };
        self.run(changed).await
    }

    /// Deletes the schedule that has this revision, and its runs; returns false where it was changed meanwhile.
    pub async fn delete(&self, id: Uuid, revision: i64) -> Result<bool, Error> {
        let deleted = async {
            on!(&self.database, pool => {
                let mut transaction = pool.begin().await?;
                let query = sqlx::query_scalar::<_, String>(DELETE).bind(id.to_string()).bind(revision);
                let is_deleted = query.fetch_optional(&mut *transaction).await?.is_some();
                if is_deleted {
                    sqlx::query(DELETE_RUNS).bind(id.to_string()).execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
                Ok(is_deleted)
            })
        };
        self.run(deleted).await
    }

    /// Returns a schedule, whether it can be read or not.
    pub async fn find(&self, id: Uuid) -> Result<Option<StoredSchedule>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM schedules WHERE id = $1");
        let found = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, ScheduleRow>(AssertSqlSafe(sql)).bind(id.to_string());
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(found).await?.and_then(stored))
    }

    /// Lists at most `limit` schedules whose ids come after `after`, of one user or of all; those that cannot be read too.
    pub async fn list(
        &self,
        user: Option<&UserId>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM schedules WHERE id > $1 AND ($2 IS NULL OR user_id = $2) ORDER BY id LIMIT $3"
        );
        let listed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, ScheduleRow>(AssertSqlSafe(sql));
                let query = query.bind(after.map(|id| id.to_string()).unwrap_or_default());
                query.bind(user.map(UserId::as_str)).bind(i64::from(limit)).fetch_all(pool).await
            })
        };
        Ok(self.run(listed).await?.into_iter().filter_map(stored).collect())
    }

    /// Returns at most `limit` schedules whose instant has come by `now`, the earliest first, behind `after`. What cannot be read
    /// is passed over, and stands in nobody's way.
    pub async fn due(&self, now: UnixMillis, after: Option<&DuePlace>, limit: u32) -> Result<DuePage, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM schedules
            WHERE enabled = 1 AND next_run_at <= $1 AND (next_run_at > $2 OR (next_run_at = $2 AND id > $3))
            ORDER BY next_run_at, id LIMIT $4"
        );
        let (instant, id) = after.map_or((i64::MIN, ""), |after| (after.instant, after.id.as_str()));
        let due = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, ScheduleRow>(AssertSqlSafe(sql)).bind(now.as_millis());
                query.bind(instant).bind(id).bind(i64::from(limit)).fetch_all(pool).await
            })
        };
        let rows = self.run(due).await?;
        let is_whole = rows.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        let last = rows.last().map(|row| DuePlace { instant: row.next_run_at.unwrap_or(i64::MAX), id: row.id.clone() });
        let count = rows.len();
        let schedules: Vec<Schedule> = rows.into_iter().filter_map(schedule).collect();
        self.log_unreadable(count - schedules.len());
        Ok(DuePage { schedules, next: last.filter(|_| !is_whole) })
    }

    fn log_unreadable(&self, count: usize) {
        let words = "this version of the server cannot read some schedules, which do not run";
        if count > 0 && self.unreadable.is_news(words, monotonic_now()) {
            tracing::warn!(schedules = count, "{words}");
        }
    }

    /// Returns the earliest instant of all schedules after `now`.
    pub async fn next_after(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
        let next = async {
            on!(&self.database, pool => {
                sqlx::query_scalar::<_, Option<i64>>(NEXT_AFTER).bind(now.as_millis()).fetch_one(pool).await
            })
        };
        Ok(self.run(next).await?.map(UnixMillis::new))
    }

    /// Changes the tables as the test wants it.
    #[cfg(test)]
    pub(crate) async fn execute(&self, sql: &'static str) -> Result<(), Error> {
        self.run(async { on!(&self.database, pool => sqlx::query(sql).execute(pool).await.map(drop)) }).await
    }

    /// Runs a query within its timeout; a failure is logged.
    pub(crate) async fn run<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("schedules can be kept and read again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            tracing::warn!(error = reason, "schedules cannot be kept or read: the database does not answer");
        }
        Err(Error::Unavailable)
    }
}

fn rule_json(content: &ScheduleContent) -> String {
    serde_json::to_string(content.times.text()).expect("texts have a JSON form")
}

/// Returns what a row has; `None` only for one without an id or an owner.
fn stored(row: ScheduleRow) -> Option<StoredSchedule> {
    let unreadable = UnreadableSchedule {
        id: Uuid::parse_str(&row.id).ok()?,
        user: UserId::parse(row.user_id.as_str())?,
        name: row.name.clone(),
        channel: row.channel_id.clone(),
        timezone: row.timezone.clone(),
        enabled: row.enabled != 0,
        triggered_count: row.triggered_count,
        revision: row.revision,
        created_at: UnixMillis::new(row.created_at),
        updated_at: UnixMillis::new(row.updated_at),
    };
    let readable = schedule(row).map(|schedule| StoredSchedule::Readable(Box::new(schedule)));
    Some(readable.unwrap_or(StoredSchedule::Unreadable(unreadable)))
}

/// Returns the schedule of a row; `None` for one that another version wrote and this one cannot read.
fn schedule(row: ScheduleRow) -> Option<Schedule> {
    let text: RuleText = serde_json::from_str(&row.rule).ok()?;
    let content = ScheduleContent {
        name: row.name,
        action: ScheduledAction { kind: ActionKind::from_name(&row.action)?, target: row.target },
        channel: row.channel_id,
        times: ScheduleTimes::parse(&row.timezone, &text).ok()?,
        misfire_grace: Duration::from_millis(u64::try_from(row.misfire_grace_ms).ok()?),
        is_coalesced: row.is_coalesced != 0,
        enabled: row.enabled != 0,
    };
    Some(Schedule {
        id: Uuid::parse_str(&row.id).ok()?,
        user: UserId::parse(row.user_id)?,
        role: UserRole::from_name(&row.role)?,
        content,
        next_run_at: row.next_run_at.map(UnixMillis::new),
        triggered_count: row.triggered_count,
        revision: row.revision,
        created_at: UnixMillis::new(row.created_at),
        updated_at: UnixMillis::new(row.updated_at),
    })
}
