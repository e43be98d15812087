//! Runs in the database: claims of instants, signs of life, and what became of them.
//!
//! An instant belongs to whoever moves its schedule on from it: the change of `next_run_at` and the row of the run are one
//! transaction, and no two rows have the same schedule and instant.

use std::time::Duration;

use uuid::{NoContext, Timestamp, Uuid};

use crate::Error;
use crate::action::RunClaim;
use crate::lease_watch::ForeignRun;
use crate::live_claims::LiveClaims;
use crate::plan::{FirePlan, PlannedRun};
use crate::schedule::{RunCause, RunState, Schedule, ScheduleRun};
use crate::store::ScheduleStore;
use primitives::unix_time::UnixMillis;
use server_kit::on;

const MOVE_ON: &str = "UPDATE schedules SET next_run_at = $4, triggered_count = triggered_count + $5
    WHERE id = $1 AND revision = $2 AND next_run_at = $3 AND enabled = 1 RETURNING id";
const COUNT: &str = "UPDATE schedules SET triggered_count = triggered_count + 1 WHERE id = $1 RETURNING id";
const INSERT: &str = "INSERT INTO schedule_runs
        (id, schedule_id, fire_at, cause, state, node, attempt, beat, instants, claimed_at, finished_at)
    VALUES ($1, $2, $3, $4, $5, $6, 1, 0, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING id";
/// The same again where it was done before: its answer may have got lost.
const BEGIN: &str = "UPDATE schedule_runs SET state = 'running'
    WHERE id = $1 AND attempt = $2 AND state IN ('claimed', 'running') RETURNING id";
const BEAT: &str = "UPDATE schedule_runs SET beat = beat + 1
    WHERE id = $1 AND attempt = $2 AND state IN ('claimed', 'running') RETURNING id";
const RELEASE: &str = "UPDATE schedule_runs SET node = '', attempt = attempt + 1
    WHERE id = $1 AND attempt = $2 AND state = 'claimed' RETURNING id";
const FINISH: &str = "UPDATE schedule_runs SET state = $3, detail = $4, finished_at = $5
    WHERE id = $1 AND attempt = $2 AND state IN ('claimed', 'running') RETURNING id";
const TAKE_OVER: &str = "UPDATE schedule_runs SET node = $4, attempt = attempt + 1
    WHERE id = $1 AND attempt = $2 AND beat = $3 AND state = 'claimed'
    RETURNING attempt, schedule_id, fire_at";
const INTERRUPT: &str = "UPDATE schedule_runs SET state = 'interrupted', detail = $4, finished_at = $5
    WHERE id = $1 AND attempt = $2 AND beat = $3 AND state = 'running' RETURNING id";
const UNFINISHED: &str = "SELECT id, attempt, beat, state, node FROM schedule_runs
    WHERE state IN ('claimed', 'running') ORDER BY fire_at, id LIMIT $1";
/// By their ids, which grow with time and are indexed.
const PRUNE: &str = "DELETE FROM schedule_runs WHERE id IN
    (SELECT id FROM schedule_runs WHERE id < $1 AND finished_at < $2 ORDER BY id LIMIT $3)";
/// Those beyond the newest; a few at a time, whatever there was before.
const TRIM: &str = "DELETE FROM schedule_runs WHERE finished_at IS NOT NULL AND id IN
    (SELECT id FROM schedule_runs WHERE schedule_id = $1 ORDER BY fire_at DESC LIMIT 100 OFFSET $2)";
const LIST: &str = "SELECT id, fire_at, cause, state, attempt, instants, detail, claimed_at, finished_at
    FROM schedule_runs WHERE schedule_id = $1 AND fire_at < $2 ORDER BY fire_at DESC LIMIT $3";

/// Most runs that are kept of a schedule.
pub const MAX_KEPT_RUNS: u32 = 1000;

/// Row of [`LIST`].
type RunRow = (String, i64, String, String, i64, i64, Option<String>, i64, Option<i64>);

/// Outcome of moving a schedule on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FireOutcome {
    /// This node has the run.
    Claimed(RunClaim),
    /// Nothing is to be performed.
    MovedOn,
    /// Another node was first, or a user has changed the schedule.
    Taken,
}

/// Run that was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenRun {
    /// Right to perform it.
    pub claim: RunClaim,
    /// Its schedule, which may be gone.
    pub schedule: Option<Uuid>,
    /// Its instant.
    pub fire_at: UnixMillis,
}

impl ScheduleStore {
    /// Moves a schedule on as planned, and claims its run, whose id is `run_id`, for `node`. Where it fails, that may have
    /// been done nevertheless.
    pub async fn fire(
        &self,
        schedule: &Schedule,
        plan: &FirePlan,
        (node, run_id): (Uuid, Uuid),
        now: UnixMillis,
    ) -> Result<FireOutcome, Error> {
        let (id, runs) = (schedule.id.to_string(), i64::from(plan.run.is_some()));
        let missed_id = new_run_id(now);
        let (at, missed, planned) = (now.as_millis(), plan.missed, plan.run);
        let fired = async {
            on!(&self.database, pool => {
                let mut transaction = pool.begin().await?;
                let query = sqlx::query_scalar::<_, String>(MOVE_ON).bind(&id).bind(schedule.revision);
                let query = query.bind(schedule.next_run_at.map(UnixMillis::as_millis));
                let query = query.bind(plan.next.map(UnixMillis::as_millis)).bind(runs);
                if query.fetch_optional(&mut *transaction).await?.is_none() {
                    return Ok(FireOutcome::Taken);
                }
                let mut outcome = FireOutcome::MovedOn;
                for (run_id, run, state, ended) in
                    [(missed_id, missed, RunState::Missed, Some(at)), (run_id, planned, RunState::Claimed, None)]
                {
                    let Some(PlannedRun { fire_at, instants }) = run else { continue };
                    let query = sqlx::query_scalar::<_, String>(INSERT).bind(run_id.to_string()).bind(&id);
                    let query = query.bind(fire_at.as_millis()).bind(RunCause::Schedule.name()).bind(state.name());
                    let query = query.bind(node.to_string()).bind(instants).bind(at).bind(ended);
                    let is_new = query.fetch_optional(&mut *transaction).await?.is_some();
                    if is_new && state == RunState::Claimed {
                        outcome = FireOutcome::Claimed(RunClaim { run: run_id, attempt: 1 });
                    }
                }
                transaction.commit().await?;
                Ok(outcome)
            })
        };
        self.run(fired).await
    }

    /// Makes a run by hand, whose id is `run`; `None` where there is one at that time already, or no such schedule.
    pub async fn fire_by_hand(
        &self,
        schedule: Uuid,
        fire_at: UnixMillis,
        (node, run): (Uuid, Uuid),
        now: UnixMillis,
    ) -> Result<Option<RunClaim>, Error> {
        let id = schedule.to_string();
        let fired = async {
            on!(&self.database, pool => {
                let mut transaction = pool.begin().await?;
                let query = sqlx::query_scalar::<_, String>(COUNT).bind(&id);
                if query.fetch_optional(&mut *transaction).await?.is_none() {
                    return Ok(false);
                }
                let query = sqlx::query_scalar::<_, String>(INSERT).bind(run.to_string()).bind(&id);
                let query = query.bind(fire_at.as_millis()).bind(RunCause::Manual.name());
                let query = query.bind(RunState::Claimed.name()).bind(node.to_string()).bind(1_i64);
                let query = query.bind(now.as_millis()).bind(None::<i64>);
                let is_new = query.fetch_optional(&mut *transaction).await?.is_some();
                if is_new {
                    transaction.commit().await?;
                }
                Ok(is_new)
            })
        };
        Ok(self.run(fired).await?.then_some(RunClaim { run, attempt: 1 }))
    }

    /// Notes that a run takes effect; returns false where this node does not have it any more.
    pub async fn begin(&self, claim: RunClaim) -> Result<bool, Error> {
        self.change(BEGIN, claim).await
    }

    /// Gives a sign of life; returns false where this node does not have the run any more.
    pub async fn beat(&self, claim: RunClaim) -> Result<bool, Error> {
        self.change(BEAT, claim).await
    }

    /// Gives back a run that has not taken effect, so that another node takes it at once; returns false for another one.
    pub async fn release(&self, claim: RunClaim) -> Result<bool, Error> {
        self.change(RELEASE, claim).await
    }

    async fn change(&self, sql: &'static str, claim: RunClaim) -> Result<bool, Error> {
        let changed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(sql).bind(claim.run.to_string()).bind(claim.attempt);
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(changed).await?.is_some())
    }

    /// Ends a run; returns false where this node does not have it any more.
    pub async fn finish(
        &self,
        claim: RunClaim,
        state: RunState,
        detail: Option<&str>,
        now: UnixMillis,
    ) -> Result<bool, Error> {
        let finished = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(FINISH).bind(claim.run.to_string()).bind(claim.attempt);
                query.bind(state.name()).bind(detail).bind(now.as_millis()).fetch_optional(pool).await
            })
        };
        Ok(self.run(finished).await?.is_some())
    }

    /// Returns at most `limit` unfinished runs besides those that this process works at.
    pub async fn foreign_runs(&self, live: &LiveClaims, limit: u32) -> Result<Vec<ForeignRun>, Error> {
        type Row = (String, i64, i64, String, String);
        let limit = i64::from(limit).saturating_add(i64::try_from(live.len()).unwrap_or(i64::MAX));
        let found = async {
            on!(&self.database, pool => sqlx::query_as::<_, Row>(UNFINISHED).bind(limit).fetch_all(pool).await)
        };
        let run = |(id, attempt, beat, state, node): Row| {
            let (id, is_running) = (Uuid::parse_str(&id).ok()?, state == RunState::Running.name());
            Some(ForeignRun { id, attempt, beat, is_running, is_released: node.is_empty() })
        };
        let found = self.run(found).await?.into_iter().filter_map(run);
        Ok(found.filter(|run| !live.contains(run.id)).collect())
    }

    /// Takes over a run that has not taken effect; returns the id of its schedule, and its instant. `None` where it is another's
    /// by now.
    pub async fn take_over(&self, run: &ForeignRun, node: Uuid) -> Result<Option<TakenRun>, Error> {
        let taken = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, (i64, String, i64)>(TAKE_OVER).bind(run.id.to_string());
                let query = query.bind(run.attempt).bind(run.beat).bind(node.to_string());
                query.fetch_optional(pool).await
            })
        };
        Ok(self.run(taken).await?.map(|(attempt, schedule, fire_at)| TakenRun {
            claim: RunClaim { run: run.id, attempt },
            schedule: Uuid::parse_str(&schedule).ok(),
            fire_at: UnixMillis::new(fire_at),
        }))
    }

    /// Ends a run whose node has died while it took effect; returns false where it was ended meanwhile.
    pub async fn interrupt(&self, run: &ForeignRun, detail: &str, now: UnixMillis) -> Result<bool, Error> {
        let interrupted = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(INTERRUPT).bind(run.id.to_string()).bind(run.attempt);
                query.bind(run.beat).bind(detail).bind(now.as_millis()).fetch_optional(pool).await
            })
        };
        Ok(self.run(interrupted).await?.is_some())
    }

    /// Deletes at most `most` runs that ended before `end`; returns their number.
    pub async fn prune(&self, end: UnixMillis, most: u32) -> Result<u64, Error> {
        // The least id of that time.
        let first_id = Uuid::from_u128(u128::from(millis(end)) << 80).to_string();
        let pruned = async {
            on!(&self.database, pool => {
                let query = sqlx::query(PRUNE).bind(&first_id).bind(end.as_millis()).bind(i64::from(most));
                query.execute(pool).await.map(|done| done.rows_affected())
            })
        };
        self.run(pruned).await
    }

    /// Deletes runs of a schedule beyond the newest `kept`.
    pub async fn trim(&self, schedule: Uuid, kept: u32) -> Result<(), Error> {
        let trimmed = async {
            on!(&self.database, pool => {
                let query = sqlx::query(TRIM).bind(schedule.to_string()).bind(i64::from(kept));
                query.execute(pool).await.map(drop)
            })
        };
        self.run(trimmed).await
    }

    /// Lists at most `limit` runs of a schedule before `before`, the newest first.
    pub async fn runs(&self, schedule: Uuid, before: UnixMillis, limit: u32) -> Result<Vec<ScheduleRun>, Error> {
        let listed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, RunRow>(LIST).bind(schedule.to_string()).bind(before.as_millis());
                query.bind(i64::from(limit)).fetch_all(pool).await
            })
        };
        Ok(self.run(listed).await?.into_iter().filter_map(schedule_run).collect())
    }
}

/// Returns an id for a run that is made at this time; those of later runs are larger.
pub fn new_run_id(now: UnixMillis) -> Uuid {
    let since = Duration::from_millis(millis(now));
    Uuid::new_v7(Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos()))
}

fn millis(time: UnixMillis) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or_default()
}

/// Returns the run of a row; `None` for one that another version wrote and this one cannot read.
fn schedule_run(row: RunRow) -> Option<ScheduleRun> {
    let (id, fire_at, cause, state, attempt, instants, detail, claimed_at, finished_at) = row;
    Some(ScheduleRun {
        id: Uuid::parse_str(&id).ok()?,
        fire_at: UnixMillis::new(fire_at),
        cause: RunCause::from_name(&cause)?,
        state: RunState::from_name(&state)?,
        attempt,
        instants,
        detail,
        claimed_at: UnixMillis::new(claimed_at),
        finished_at: finished_at.map(UnixMillis::new),
    })
}
