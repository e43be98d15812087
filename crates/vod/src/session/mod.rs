//! Sessions of viewers: opened when a film is started, extended while it plays, ended by the viewer, by an operator, by
//! time, or by a newer session of the same user.
//!
//! A session is what a grant names, and lives as long as the film can be fetched. Within it are views, one after the
//! other: a view begins with the start or with the first report after a silence, and ends with a stop or when reports
//! are missing. Views are what is recorded and published: one that has ended stays until that is done, so that another
//! node does it where this one ends meanwhile.
//!
//! Every change is made by pure functions of `record` and stored by compare and set, so that memory and Redis behave
//! alike.

/// Runs the same method of whichever store it is.
macro_rules! in_store {
    ($store:expr, $sessions:ident => $call:expr) => {
        match $store {
            SessionStore::Memory($sessions) => $call,
            SessionStore::Redis($sessions) => $call.await,
        }
    };
}

mod active;
mod film_session;
mod memory;
mod record;
mod redis;
#[cfg(test)]
mod tests;
mod user_sessions;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::settings::{MISSED_REPORTS, Settings, VERDICT_TTL};
use active::ActiveSessions;
pub use film_session::{
    DueSession, FilmSession, FilmView, GrantPolicy, ManifestType, OpenedSession, ReportOutcome, ReportedPosition,
    SessionEnd, SessionId, SessionOpenError, SessionVerdict, SessionsUnavailable, StopOutcome, ViewerDevice,
};
use memory::MemorySessions;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use record::{LookTimes, SessionRecord};
use redis::RedisSessions;
use server_kit::auth::revocation::TokenRevocations;

/// Tries of a change that others make at the same time.
const MAX_TRIES: usize = 8;
/// Time for which a session that has ended is remembered, so that a player is told the reason.
const END_MEMORY: Duration = Duration::from_secs(3600);
/// The same for one with views that wait for the database.
const UNFINISHED_MEMORY: Duration = Duration::from_secs(86_400);
/// Sessions that one round of [`FilmSessions::take_due`] takes.
const DUE_BATCH: usize = 500;
/// Time for which sessions that one node has taken are not taken by another.
const DUE_LEASE: Duration = Duration::from_secs(10);
/// The same for one with a view whose end is only to be recorded, which waits for the database at the node that has it.
const RECORD_LEASE: Duration = Duration::from_secs(120);

/// Sessions of all viewers, in Redis where there is one, else in this process. Clones share them.
#[derive(Clone)]
pub struct FilmSessions {
    store: SessionStore,
    active: Arc<ActiveSessions>,
    settings: Arc<Settings>,
    revocations: Option<Arc<TokenRevocations>>,
    clock: Clock,
}

/// Place where sessions are stored.
#[derive(Clone)]
enum SessionStore {
    Memory(Arc<MemorySessions>),
    Redis(RedisSessions),
}

impl FilmSessions {
    /// Creates the sessions over `redis`, or over memory. `revocations` knows the users' token generations.
    pub fn new(
        settings: Arc<Settings>,
        redis: Option<server_kit::redis::Redis>,
        revocations: Option<Arc<TokenRevocations>>,
        clock: Clock,
    ) -> Self {
        let store = match redis {
            Some(redis) => SessionStore::Redis(RedisSessions::new(redis)),
            None => SessionStore::Memory(Arc::default()),
        };
        Self { store, active: Arc::default(), settings, revocations, clock }
    }

    /// Opens a session of `user` for `movie`. Of a user who then has more than the most, the ones that were idle for
    /// longest end.
    pub async fn open(
        &self,
        user: &UserId,
        movie: &TrackId,
        manifest_type: ManifestType,
        device: &ViewerDevice,
        now: UnixMillis,
    ) -> Result<OpenedSession, SessionOpenError> {
        let generation = match &self.revocations {
            Some(revocations) => {
                revocations.last_known(user.as_str()).await.ok_or(SessionOpenError::LogoutsUnavailable)?
            }
            None => 0,
        };
        let id = SessionId::random();
        let grant = &self.settings.grant;
        let record = SessionRecord::new(
            (id, user.as_str(), movie.as_str()),
            (generation, manifest_type),
            device,
            now,
            (grant.ttl, grant.max_ttl),
        );
        let view = record.view().ok_or(SessionsUnavailable)?;
        self.replace(id, None, &record, now).await?.then_some(()).ok_or(SessionsUnavailable)?;
        let until = now + grant.max_ttl + END_MEMORY;
        in_store!(&self.store, sessions => sessions.link(user.as_str(), movie.as_str(), id, until))?;
        if let Some(next) = record.next_look(now, self.look_times()) {
            self.schedule(id, next).await?;
        }
        let displaced = self.displace(user, now).await?;
        self.active.note(id, now);
        let session = FilmSession {
            id,
            user: user.clone(),
            generation,
            movie: movie.clone(),
            prefix: format!("{}{}/", self.settings.prefix, movie.as_str()).into(),
            manifest_type,
            policy: GrantPolicy::default(),
            opened_at: now,
            expires_at: record.expires_at(),
        };
        Ok(OpenedSession { session, view, displaced })
    }

    /// Judges a session, for which something was fetched just now: while it lives it is extended.
    pub async fn judge(&self, id: SessionId) -> Result<SessionVerdict, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let grant = (self.settings.grant.ttl, self.settings.grant.max_ttl);
        let judge = |record: &mut SessionRecord| (record.judge(now, grant), record.user(), record.generation);
        let Some((verdict, user, generation)) = self.change(id, now, judge).await? else {
            return Ok(SessionVerdict::Ended(SessionEnd::Expired));
        };
        let verdict = match verdict {
            Err(reason) => SessionVerdict::Ended(reason),
            Ok(()) if self.is_revoked(&user, generation).await => SessionVerdict::Ended(SessionEnd::Revoked),
            Ok(()) => UserId::parse(user).map_or(SessionVerdict::Ended(SessionEnd::Expired), SessionVerdict::Live),
        };
        match &verdict {
            SessionVerdict::Live(_) => self.active.note(id, now),
            SessionVerdict::Ended(_) => self.active.remove(id),
        }
        Ok(verdict)
    }

    /// Returns the number of sessions that play at this node: it has served them, or had a report, within the time of three
    /// reports.
    pub fn active_count(&self) -> usize {
        self.active.count(self.clock.unix_millis(), self.look_times().unreported_silence)
    }

    /// Ends a session; returns the view that ended with it.
    pub async fn close(&self, id: SessionId, reason: SessionEnd) -> Result<Option<FilmView>, SessionsUnavailable> {
        self.close_if(id, reason, |_| true).await.map(Option::flatten)
    }

    /// Ends a session if `condition` holds when it is ended; `None` if it does not, or there is none.
    async fn close_if(
        &self,
        id: SessionId,
        reason: SessionEnd,
        condition: impl Fn(&SessionRecord) -> bool,
    ) -> Result<Option<Option<FilmView>>, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let close = |record: &mut SessionRecord| condition(record).then(|| (record.close(reason), record.user()));
        let Some((view, user)) = self.change(id, now, close).await?.flatten() else { return Ok(None) };
        self.active.remove(id);
        in_store!(&self.store, sessions => sessions.unlink(&user, id))?;
        self.await_finish(view.as_ref(), now).await?;
        Ok(Some(view))
    }

    /// Notes that the end of a view is published: what is left is to record it, by this node unless it ends before.
    pub async fn note_published(&self, session: SessionId, view: Uuid) -> Result<(), SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let times = self.look_times();
        let note = |record: &mut SessionRecord| {
            record.note_published(view);
            record.next_look(now, times)
        };
        let next = self.change(session, now, note).await?.flatten();
        self.await_record(session, next, now).await
    }

    /// Finishes a view that has ended, once its end is published and recorded.
    pub async fn finish_view(&self, session: SessionId, view: Uuid) -> Result<(), SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let times = self.look_times();
        let finish = |record: &mut SessionRecord| {
            record.finish_view(view);
            (record.has_unfinished_views(), record.next_look(now, times))
        };
        let (is_unfinished, next) = self.change(session, now, finish).await?.unwrap_or((false, None));
        // One that needs no look is not unscheduled here, since a view may have begun meanwhile: the look does that.
        if is_unfinished { Ok(()) } else { self.schedule(session, next.unwrap_or(now)).await }
    }

    /// Has a view that has ended looked at again, unless it is finished before.
    async fn await_finish(&self, view: Option<&FilmView>, now: UnixMillis) -> Result<(), SessionsUnavailable> {
        match view {
            Some(view) => self.schedule(view.session, now + DUE_LEASE).await,
            None => Ok(()),
        }
    }

    /// Has a session whose views only wait to be recorded looked at when that should be done, or `next` if that is before.
    async fn await_record(
        &self,
        id: SessionId,
        next: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<(), SessionsUnavailable> {
        let lease = now + RECORD_LEASE;
        self.schedule(id, next.map_or(lease, |next| next.min(lease))).await
    }

    /// Notes a report of `user` on `movie`, which extends the session, the one `named` or the newest. Without a session nothing is
    /// noted.
    pub async fn report(
        &self,
        user: &UserId,
        movie: &TrackId,
        named: Option<SessionId>,
        reported: ReportedPosition,
        device: &ViewerDevice,
    ) -> Result<ReportOutcome, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let Some((id, has_view)) = self.find(user, movie, named, now).await? else {
            return Ok(ReportOutcome::default());
        };
        if !has_view {
            // Before it begins: a view that nobody looks at would never end.
            self.schedule(id, now + self.look_times().silence).await?;
        }
        let (grant, new) = ((self.settings.grant.ttl, self.settings.grant.max_ttl), Uuid::new_v4());
        let report =
            |record: &mut SessionRecord| (record.report(reported, now, grant, (new, device)), record.is_live(now));
        let Some((outcome, is_live)) = self.change(id, now, report).await? else {
            return Ok(ReportOutcome::default());
        };
        if is_live {
            self.active.note(id, now);
        }
        Ok(outcome)
    }

    /// Ends the session of `user` for `movie` with a last report: the one `named`, or the newest.
    pub async fn stop(
        &self,
        user: &UserId,
        movie: &TrackId,
        named: Option<SessionId>,
        reported: ReportedPosition,
    ) -> Result<StopOutcome, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let Some((id, _)) = self.find(user, movie, named, now).await? else { return Ok(StopOutcome::Unknown) };
        let Some(view) = self.change(id, now, |record| record.stop(reported, now)).await? else {
            return Ok(StopOutcome::Unknown);
        };
        self.active.remove(id);
        in_store!(&self.store, sessions => sessions.unlink(user.as_str(), id))?;
        self.await_finish(view.as_ref(), now).await?;
        Ok(view.map_or(StopOutcome::HadEnded, StopOutcome::Ended))
    }

    /// Takes sessions whose time to be looked at has come: views without reports end. Returns what was found; empty
    /// where none is due.
    pub async fn take_due(&self) -> Result<Vec<DueSession>, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let lease = now + DUE_LEASE;
        let due = in_store!(&self.store, sessions => sessions.take_due(now, lease, DUE_BATCH))?;
        let times = self.look_times();
        let mut found = Vec::with_capacity(due.len());
        for id in due {
            let look = |record: &mut SessionRecord| {
                let ended = record.end_silent_view(now, times);
                let is_recheck_due = record.take_recheck(now, times);
                let user = UserId::parse(record.user());
                (ended, is_recheck_due, record.is_ending(), record.next_look(now, times), user)
            };
            let Some((ended, is_recheck_due, is_ending, next, Some(user))) = self.change(id, now, look).await? else {
                self.unschedule(id, lease).await?;
                continue;
            };
            match next {
                // One whose view has ended comes again when the lease is over, unless that is finished before.
                _ if ended.iter().any(|view| !view.is_published) => {}
                next if !ended.is_empty() => self.await_record(id, next, now).await?,
                Some(next) => self.schedule(id, next).await?,
                None => self.unschedule(id, lease).await?,
            }
            found.push(DueSession { id, user, ended, is_recheck_due, is_ending });
        }
        Ok(found)
    }

    /// Says whether a session is not extended beyond the time that it has, as that of a user who has no subscription any more.
    pub async fn set_ending(&self, id: SessionId, is_ending: bool) -> Result<(), SessionsUnavailable> {
        let set = |record: &mut SessionRecord| record.set_ending(is_ending);
        self.change(id, self.clock.unix_millis(), set).await.map(drop)
    }

    fn look_times(&self) -> LookTimes {
        let silence = self.settings.report_interval * MISSED_REPORTS;
        let recheck = self.settings.subscription.as_ref().map(|subscription| subscription.recheck_interval);
        // What is fetched is noticed when the verdict is asked for anew.
        LookTimes { silence, unreported_silence: silence.max(2 * VERDICT_TTL), recheck }
    }

    /// Has a session not looked at any more, unless it was scheduled anew since it was taken until `lease`.
    async fn unschedule(&self, id: SessionId, lease: UnixMillis) -> Result<(), SessionsUnavailable> {
        in_store!(&self.store, sessions => sessions.unschedule(id, lease))
    }

    async fn schedule(&self, id: SessionId, at: UnixMillis) -> Result<(), SessionsUnavailable> {
        in_store!(&self.store, sessions => sessions.schedule(id, at))
    }

    async fn is_revoked(&self, user: &str, generation: u32) -> bool {
        match &self.revocations {
            Some(revocations) => revocations.is_revoked(user, generation).await,
            None => false,
        }
    }

    async fn read(&self, id: SessionId) -> Result<Option<SessionRecord>, SessionsUnavailable> {
        let text = in_store!(&self.store, sessions => sessions.get(id))?;
        Ok(text.and_then(|text| SessionRecord::parse(id, &text)))
    }

    /// Changes a record by `change`, again where another one came in between; `None` if there is none.
    async fn change<T>(
        &self,
        id: SessionId,
        now: UnixMillis,
        change: impl Fn(&mut SessionRecord) -> T,
    ) -> Result<Option<T>, SessionsUnavailable> {
        for _ in 0..MAX_TRIES {
            let Some(old) = in_store!(&self.store, sessions => sessions.get(id))? else { return Ok(None) };
            let Some(mut record) = SessionRecord::parse(id, &old) else { return Ok(None) };
            let outcome = change(&mut record);
            if record.to_text() == old || self.replace(id, Some(&old), &record, now).await? {
                return Ok(Some(outcome));
            }
        }
        Err(SessionsUnavailable)
    }

    async fn replace(
        &self,
        id: SessionId,
        old: Option<&str>,
        record: &SessionRecord,
        now: UnixMillis,
    ) -> Result<bool, SessionsUnavailable> {
        let memory = if record.has_unfinished_views() { UNFINISHED_MEMORY } else { END_MEMORY };
        let until = record.expires_at().max(now) + memory;
        in_store!(&self.store, sessions => sessions.replace(id, old, record.to_text(), now, until))
    }
}
