//! Sessions of one user among each other: which a report or a stop is about, and which give way when there are too many.

use super::{
    FilmSessions, FilmView, MAX_TRIES, SessionEnd, SessionId, SessionStore, SessionVerdict, SessionsUnavailable,
};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

impl FilmSessions {
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

    /// Returns the verdict over a session of `user` for `movie`, which is not extended by it; `None` if there is none.
    pub async fn state(
        &self,
        id: SessionId,
        user: &UserId,
        movie: &TrackId,
    ) -> Result<Option<SessionVerdict>, SessionsUnavailable> {
        let Some(mut record) = self.read(id).await?.filter(|record| record.is_of(user, movie)) else { return Ok(None) };
        let generation = record.generation;
        // What is extended here is a copy, which nobody stores.
        let verdict = record.judge(self.clock.unix_millis(), (self.settings.grant.ttl, self.settings.grant.max_ttl));
        Ok(Some(match verdict {
            Err(reason) => SessionVerdict::Ended(reason),
            Ok(()) if self.is_revoked(user.as_str(), generation).await => SessionVerdict::Ended(SessionEnd::Revoked),
            Ok(()) => SessionVerdict::Live(user.clone()),
        }))
    }

    /// Returns the session that a report or a stop is about, and whether it has a view: the one that it names, if that is one of
    /// `user` for `movie`; of one that names none, the newest that lives, else the last one.
    pub(super) async fn find(
        &self,
        user: &UserId,
        movie: &TrackId,
        named: Option<SessionId>,
        now: UnixMillis,
    ) -> Result<Option<(SessionId, bool)>, SessionsUnavailable> {
        if let Some(id) = named {
            let record = self.read(id).await?;
            return Ok(record.filter(|record| record.is_of(user, movie)).map(|record| (id, record.view().is_some())));
        }
        let latest = in_store!(&self.store, sessions => sessions.latest(user.as_str(), movie.as_str()))?;
        if let Some(id) = latest
            && let Some(record) = self.read(id).await?.filter(|record| record.is_live(now))
        {
            return Ok(Some((id, record.view().is_some())));
        }
        let mut newest = None;
        for id in in_store!(&self.store, sessions => sessions.linked(user.as_str()))? {
            if let Some(record) = self.read(id).await?.filter(|record| record.is_live(now) && record.is_of(user, movie))
            {
                newest = newest.max(Some((record.opened_at(), id, record.view().is_some())));
            }
        }
        // The last one does not live, and so begins no view.
        Ok(newest.map(|(_, id, has_view)| (id, has_view)).or(latest.map(|id| (id, true))))
    }

    /// Ends those sessions of `user` that are too many, the ones that were idle for longest; returns the views that ended
    /// with them.
    ///
    /// Starts at the same time each do this over all sessions, their own among them, in the same order. A session is ended
    /// only in the state in which it was ranked: so the last ones in that order stay, whatever else happens meanwhile.
    pub(super) async fn displace(&self, user: &UserId, now: UnixMillis) -> Result<Vec<FilmView>, SessionsUnavailable> {
        let mut displaced = Vec::new();
        let Some(most) = self.settings.max_streams_per_user else { return Ok(displaced) };
        for _ in 0..MAX_TRIES {
            let mut live = Vec::new();
            for id in in_store!(&self.store, sessions => sessions.linked(user.as_str()))? {
                match self.read(id).await?.filter(|record| record.is_live(now)) {
                    Some(record) => live.push((record.last_use(), id)),
                    None => in_store!(&self.store, sessions => sessions.unlink(user.as_str(), id))?,
                }
            }
            live.sort();
            let over = live.len().saturating_sub(most as usize);
            let mut were_used = false;
            for (last_use, id) in live.into_iter().take(over) {
                match self.close_unused(id, last_use).await? {
                    Some(ended) => displaced.extend(ended),
                    None => were_used = true,
                }
            }
            if !were_used {
                break;
            }
        }
        Ok(displaced)
    }

    /// Ends a session unless it was used after `last_use`; `None` if it was.
    async fn close_unused(
        &self,
        id: SessionId,
        last_use: UnixMillis,
    ) -> Result<Option<Option<FilmView>>, SessionsUnavailable> {
        let is_unused = |record: &super::SessionRecord| record.last_use() == last_use;
        self.close_if(id, SessionEnd::Displaced, is_unused).await
    }
}
