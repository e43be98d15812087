//! Sessions of this node by id: a limited number of live ones, and those that ended a short while ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rand::Rng;

use super::event::EndReason;
use super::id::{self, SessionId};
use super::incarnation::Incarnation;
use crate::refusal::Refusal;
use crate::session::incarnation::SessionStart;
use crate::session::{Session, SessionServices};
use primitives::unix_time::UnixMillis;

/// Time for which the end of a session can be seen.
const ENDED_LIFE: Duration = Duration::from_secs(300);
/// Time for which a host whose session gave way to another of its id is kept from sending to that.
const REPLACED_TIME: Duration = Duration::from_secs(10);
/// Tries to find a free id.
pub const MAX_ID_TRIES: usize = 100;

/// Sessions of this node.
pub struct LocalSessions {
    max_live: usize,
    timeout: Duration,
    services: Arc<SessionServices>,
    sessions: RwLock<HashMap<SessionId, Arc<Session>>>,
    /// Sessions that gave way to others of their ids, and the times of that.
    replaced: Mutex<HashMap<SessionId, UnixMillis>>,
}

impl LocalSessions {
    /// Creates a set for `most` live sessions, which end after `timeout` without their host.
    pub fn new(most: usize, timeout: Duration, services: Arc<SessionServices>) -> Self {
        Self { max_live: most, timeout, services, sessions: RwLock::default(), replaced: Mutex::default() }
    }

    /// Returns this id, or a free one. Fails where it is in use, and where there is no room for one more.
    pub fn pick_free_id(&self, id: Option<SessionId>) -> Result<SessionId, Refusal> {
        self.pick_free_id_in(&self.sessions.read(), id)
    }

    fn pick_free_id_in(
        &self,
        by: &HashMap<SessionId, Arc<Session>>,
        id: Option<SessionId>,
    ) -> Result<SessionId, Refusal> {
        let id = match id {
            Some(id) => id,
            None => {
                let drawn =
                    std::iter::repeat_with(|| SessionId::from_number(rand::rng().random_range(0..id::ID_COUNT)));
                drawn.take(MAX_ID_TRIES).find(|id| !by.contains_key(id)).ok_or(Refusal::TooManySessions)?
            }
        };
        if by.get(&id).is_some_and(|session| session.ended().is_none()) {
            return Err(Refusal::SessionIdInUse);
        }
        if by.values().filter(|session| session.is_home()).count() >= self.max_live {
            return Err(Refusal::TooManySessions);
        }
        Ok(id)
    }

    /// Starts a session of this id, or of a free one. Fails as [`Self::pick_free_id`] does.
    pub fn start(
        &self,
        id: Option<SessionId>,
        incarnation: Incarnation,
        now: UnixMillis,
    ) -> Result<Arc<Session>, Refusal> {
        let mut by = self.sessions.write();
        let id = self.pick_free_id_in(&by, id)?;
        let session = Session::new(id, incarnation, Arc::clone(&self.services), now);
        by.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Adds a copy of a session of another node, whose host was last heard at `last_heard`, and returns it. Where the
    /// same start of the session is here already, returns that one; any other session of this id is ended as replaced.
    pub fn add_copy(
        &self,
        id: SessionId,
        start: SessionStart,
        last_heard: UnixMillis,
        now: UnixMillis,
    ) -> Arc<Session> {
        let mut by = self.sessions.write();
        if let Some(session) = by.get(&id).filter(|session| session.incarnation() == start.incarnation) {
            return Arc::clone(session);
        }
        let session = Session::copy(id, Arc::clone(&self.services), start, last_heard, now);
        if let Some(other) = by.insert(id, Arc::clone(&session)) {
            // Nobody would find it any more. One that has ended already stays as it is.
            other.end_remotely(EndReason::Replaced, now);
        }
        session
    }

    /// Returns the session of this id, live or ended a short while ago.
    pub fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.read().get(&id).cloned()
    }

    /// Notes that the session of this id gave way to another.
    pub fn note_replaced(&self, id: SessionId, now: UnixMillis) {
        self.replaced.lock().insert(id, now);
    }

    /// Returns whether the session of this id that was here gave way to another a moment ago: a host without a socket
    /// does not know it yet.
    pub fn was_replaced(&self, id: SessionId, now: UnixMillis) -> bool {
        self.replaced.lock().get(&id).is_some_and(|at| now - *at < REPLACED_TIME)
    }

    /// Forgets a session.
    pub fn forget(&self, session: &Arc<Session>) {
        let mut by = self.sessions.write();
        // Another start of this id may be there by now.
        if by.get(&session.id()).is_some_and(|known| Arc::ptr_eq(known, session)) {
            by.remove(&session.id());
        }
    }

    /// Returns the number of live sessions for which this node answers.
    pub fn live_count(&self) -> usize {
        self.sessions.read().values().filter(|session| session.is_home()).count()
    }

    /// Returns all sessions.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.read().values().cloned().collect()
    }

    /// Does what time brings (see [`Session::tick`]), and forgets ended sessions and copies that nobody asks for, after
    /// a while.
    pub fn tick(&self, now: UnixMillis) {
        self.replaced.lock().retain(|_, at| now - *at < REPLACED_TIME);
        // A copy of the list: to forget one of them takes the lock.
        for session in self.all() {
            session.tick(now, self.timeout);
            let over = session.ended().is_some_and(|ended| now - ended.at >= ENDED_LIFE);
            if over || session.is_unused_copy(now) {
                self.forget(&session);
            }
        }
    }
}
