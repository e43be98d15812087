//! Sessions of viewers: opened when a film is started, extended while it plays, ended by the viewer, by an operator, by
//! time, or by a newer session of the same user.
//!
//! A session is what a grant names, and lives as long as the film can be fetched. Within it are views, one after the
//! other: a view begins with the start or with the first report after a silence, and ends with a stop or when reports
//! are missing. Views are what is recorded and published: one that has ended stays until that is done, so that another
//! node does it where this one ends meanwhile.
//!
//! Every change is made by pure functions of [`record`] and stored by compare and set, so that memory and Redis behave
//! alike.

mod film_session;
mod memory;
mod record;
mod redis;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::settings::{MISSED_REPORTS, Settings};
pub use film_session::{
    DueSession, FilmSession, FilmView, GrantPolicy, ManifestType, OpenedSession, SessionEnd, SessionId, SessionVerdict,
    SessionsUnavailable, StopOutcome,
};
use memory::MemorySessions;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use record::SessionRecord;
use redis::RedisSessions;
use server_kit::auth::revocation::TokenRevocations;

/// Tries of a change that others make at the same time.
const MAX_TRIES: usize = 8;
/// Time for which a session that has ended is remembered, so that a player is told the reason.
const END_MEMORY: Duration = Duration::from_secs(3600);
/// Sessions that one round of [`FilmSessions::take_due`] takes.
const DUE_BATCH: usize = 500;
/// Time for which sessions that one node has taken are not taken by another.
const DUE_LEASE: Duration = Duration::from_secs(10);

/// Sessions of all viewers, in Redis where there is one, else in this process. Clones share them.
#[derive(Clone)]
pub struct FilmSessions {
    store: SessionStore,
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

/// Runs the same method of whichever store it is.
macro_rules! in_store {
    ($store:expr, $sessions:ident => $call:expr) => {
        match $store {
            SessionStore::Memory($sessions) => $call,
            SessionStore::Redis($sessions) => $call.await,
        }
    };
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
        Self { store, settings, revocations, clock }
    }

    /// Opens a session of `user` for `movie`. Of a user who then has more than the most, the ones that were idle for
    /// longest end.
    pub async fn open(
        &self,
        user: &UserId,
        movie: &TrackId,
        manifest_type: ManifestType,
        now: UnixMillis,
    ) -> Result<OpenedSession, SessionsUnavailable> {
        let generation = match &self.revocations {
            Some(revocations) => match revocations.current(user.as_str()).await {
                Some(generation) => generation,
                None => revocations.recent(user.as_str()).await.ok_or(SessionsUnavailable)?,
            },
            None => 0,
        };
        let id = SessionId::random();
        let grant = &self.settings.grant;
        let record = SessionRecord::new(
            (id, user.as_str(), movie.as_str()),
            (generation, manifest_type),
            now,
            (grant.ttl, grant.max_ttl),
        );
        let view = record.view().ok_or(SessionsUnavailable)?;
        self.replace(id, None, &record, now).await?.then_some(()).ok_or(SessionsUnavailable)?;
        let until = now + grant.max_ttl + END_MEMORY;
        in_store!(&self.store, sessions => sessions.link(user.as_str(), movie.as_str(), id, until))?;
        self.schedule(id, now + self.silence()).await?;
        let displaced = self.displace(user, id, now).await?;
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
        Ok(match verdict {
            Err(reason) => SessionVerdict::Ended(reason),
            Ok(()) if self.is_revoked(&user, generation).await => SessionVerdict::Ended(SessionEnd::Revoked),
            Ok(()) => UserId::parse(user).map_or(SessionVerdict::Ended(SessionEnd::Expired), SessionVerdict::Live),
        })
    }

    /// Ends a session; returns the view that ended with it.
    pub async fn close(&self, id: SessionId, reason: SessionEnd) -> Result<Option<FilmView>, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let Some((view, user)) = self.change(id, now, |record| (record.close(reason), record.user())).await? else {
            return Ok(None);
        };
        in_store!(&self.store, sessions => sessions.unlink(&user, id))?;
        self.await_finish(view.as_ref(), now).await?;
        Ok(view)
    }

    /// Finishes a view that has ended, once its end is recorded and published.
    pub async fn finish_view(&self, view: &FilmView) -> Result<(), SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let is_last = self.change(view.session, now, |record| record.finish_view(view.id)).await?;
        if is_last != Some(false) {
            in_store!(&self.store, sessions => sessions.unschedule(view.session))?;
        }
        Ok(())
    }

    /// Has a view that has ended looked at again, unless it is finished before.
    async fn await_finish(&self, view: Option<&FilmView>, now: UnixMillis) -> Result<(), SessionsUnavailable> {
        match view {
            Some(view) => self.schedule(view.session, now + DUE_LEASE).await,
            None => Ok(()),
        }
    }

    /// Returns the live sessions of a user, each with its film.
    pub async fn of_user(&self, user: &UserId) -> Result<Vec<(SessionId, TrackId)>, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let mut live = Vec::new();
        for id in in_store!(&self.store, sessions => sessions.linked(user.as_str()))? {
            if let Some(record) = self.read(id).await?.filter(|record| record.is_live(now)) {
                live.extend(record.movie().map(|movie| (id, movie)));
            }
        }
        Ok(live)
    }

    /// Notes a report of `user` on `movie`, which extends the session. Returns the view that begins with it, where the
    /// one before has ended. Without a session nothing is noted.
    pub async fn report(
        &self,
        user: &UserId,
        movie: &TrackId,
        position: i64,
    ) -> Result<Option<FilmView>, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let Some(id) = in_store!(&self.store, sessions => sessions.latest(user.as_str(), movie.as_str()))? else {
            return Ok(None);
        };
        let (grant, new) = ((self.settings.grant.ttl, self.settings.grant.max_ttl), Uuid::new_v4());
        let begun = self.change(id, now, |record| record.report(position, now, grant, new)).await?.flatten();
        if begun.is_some() {
            self.schedule(id, now + self.silence()).await?;
        }
        Ok(begun)
    }

    /// Ends the latest session of `user` for `movie` at `position`.
    pub async fn stop(
        &self,
        user: &UserId,
        movie: &TrackId,
        position: i64,
    ) -> Result<StopOutcome, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let Some(id) = in_store!(&self.store, sessions => sessions.latest(user.as_str(), movie.as_str()))? else {
            return Ok(StopOutcome::Unknown);
        };
        let Some(view) = self.change(id, now, |record| record.stop(position, now)).await? else {
            return Ok(StopOutcome::Unknown);
        };
        in_store!(&self.store, sessions => sessions.unlink(user.as_str(), id))?;
        self.await_finish(view.as_ref(), now).await?;
        Ok(view.map_or(StopOutcome::HadEnded, StopOutcome::Ended))
    }

    /// Takes sessions whose time to be looked at has come: views without reports end. Returns what was found; empty
    /// where none is due.
    pub async fn take_due(&self) -> Result<Vec<DueSession>, SessionsUnavailable> {
        let now = self.clock.unix_millis();
        let due = in_store!(&self.store, sessions => sessions.take_due(now, now + DUE_LEASE, DUE_BATCH))?;
        let recheck = self.settings.subscription.as_ref().map(|subscription| subscription.recheck_interval);
        let mut found = Vec::with_capacity(due.len());
        for id in due {
            let silence = self.silence();
            let look = |record: &mut SessionRecord| {
                let ended = record.end_silent_view(now, silence);
                let is_recheck_due = recheck.is_some_and(|interval| record.take_recheck(now, interval));
                (ended, is_recheck_due, record.next_look(now, silence), UserId::parse(record.user()))
            };
            let Some((ended, is_recheck_due, next, Some(user))) = self.change(id, now, look).await? else {
                in_store!(&self.store, sessions => sessions.unschedule(id))?;
                continue;
            };
            match next {
                // It comes again when the lease is over, unless it is finished before.
                _ if ended.is_some() => {}
                Some(next) => self.schedule(id, next).await?,
                None => in_store!(&self.store, sessions => sessions.unschedule(id))?,
            }
            found.push(DueSession { id, user, ended, is_recheck_due });
        }
        Ok(found)
    }

    /// Marks a session whose user has no subscription any more: it is not extended beyond the time that it has.
    pub async fn end_extension(&self, id: SessionId) -> Result<(), SessionsUnavailable> {
        self.change(id, self.clock.unix_millis(), SessionRecord::end_extension).await.map(drop)
    }

    /// Returns the time without reports after which a view has ended.
    fn silence(&self) -> Duration {
        self.settings.report_interval * MISSED_REPORTS
    }

    async fn schedule(&self, id: SessionId, at: UnixMillis) -> Result<(), SessionsUnavailable> {
        in_store!(&self.store, sessions => sessions.schedule(id, at))
    }

    /// Ends those sessions of `user`, `newest` not among them, that are too many; returns the views that ended with them.
    async fn displace(
        &self,
        user: &UserId,
        newest: SessionId,
        now: UnixMillis,
    ) -> Result<Vec<FilmView>, SessionsUnavailable> {
        let Some(most) = self.settings.max_streams_per_user else { return Ok(Vec::new()) };
        let linked = in_store!(&self.store, sessions => sessions.linked(user.as_str()))?;
        let mut live = Vec::new();
        for id in linked.into_iter().filter(|id| *id != newest) {
            match self.read(id).await?.filter(|record| record.is_live(now)) {
                Some(record) => live.push((record.seen_at, id)),
                None => in_store!(&self.store, sessions => sessions.unlink(user.as_str(), id))?,
            }
        }
        live.sort();
        let over = (live.len() + 1).saturating_sub(most as usize);
        let mut displaced = Vec::new();
        for (_, id) in live.into_iter().take(over) {
            displaced.extend(self.close(id, SessionEnd::Displaced).await?);
        }
        Ok(displaced)
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
        let until = record.expires_at().max(now) + END_MEMORY;
        in_store!(&self.store, sessions => sessions.replace(id, old, record.to_text(), now, until))
    }
}
