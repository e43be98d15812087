//! The sessions of this node by id: at most so many live ones, and those that ended a short while ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rand::Rng;

use super::event::Reason;
use super::id::{self, SessionId};
use super::incarnation::Incarnation;
use super::nodes::book::Start;
use super::refused::Refused;
use super::session::{Session, Shared};

/// How long the end of a session can be seen, in milliseconds.
const ENDED_LIFE: i64 = 300_000;
/// How long who sent to a session that gave way to another of its id is kept from sending to that, in milliseconds.
const REPLACED: i64 = 10_000;
/// Tries to find an id that is free.
pub const TRIES: usize = 100;

/// The sessions.
pub struct Registry {
    most: usize,
    timeout: i64,
    shared: Arc<Shared>,
    by: RwLock<HashMap<SessionId, Arc<Session>>>,
    /// Sessions that gave way to others of their ids, and when.
    replaced: Mutex<HashMap<SessionId, i64>>,
}

impl Registry {
    /// For `most` live sessions that end after `timeout` without their host.
    pub fn new(most: usize, timeout: Duration, shared: Arc<Shared>) -> Self {
        let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        Self { most, timeout, shared, by: RwLock::default(), replaced: Mutex::default() }
    }

    /// This id, or one that is free, where there is room for one more.
    pub fn free(&self, id: Option<SessionId>) -> Result<SessionId, Refused> {
        self.free_in(&self.by.read(), id)
    }

    fn free_in(&self, by: &HashMap<SessionId, Arc<Session>>, id: Option<SessionId>) -> Result<SessionId, Refused> {
        let id = match id {
            Some(id) => id,
            None => {
                let drawn = std::iter::repeat_with(|| SessionId::from_number(rand::rng().random_range(0..id::ALL)));
                drawn.take(TRIES).find(|id| !by.contains_key(id)).ok_or(Refused::Full)?
            }
        };
        if by.get(&id).is_some_and(|session| session.ended().is_none()) {
            return Err(Refused::Taken);
        }
        if by.values().filter(|session| session.is_home()).count() >= self.most {
            return Err(Refused::Full);
        }
        Ok(id)
    }

    /// Starts the session of this id, or of one that is free.
    pub fn start(&self, id: Option<SessionId>, incarnation: Incarnation, now: i64) -> Result<Arc<Session>, Refused> {
        let mut by = self.by.write();
        let id = self.free_in(&by, id)?;
        let session = Session::new(id, incarnation, Arc::clone(&self.shared), now);
        by.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// A copy of a session that another node has, whose host was last heard at `heard`; where it is here by now, that one.
    pub fn copy(&self, id: SessionId, start: Start, heard: i64, now: i64) -> Arc<Session> {
        let mut by = self.by.write();
        if let Some(session) = by.get(&id).filter(|session| session.incarnation() == start.incarnation) {
            return Arc::clone(session);
        }
        let session = Session::copy(id, Arc::clone(&self.shared), start, heard, now);
        if let Some(other) = by.insert(id, Arc::clone(&session)) {
            // Nobody would find it any more. One that has ended already stays as it is.
            other.end_elsewhere(Reason::Replaced, now);
        }
        session
    }

    /// The session of this id, live or ended a short while ago.
    pub fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.by.read().get(&id).cloned()
    }

    /// Notes that the session of this id gave way to another.
    pub fn replaced(&self, id: SessionId, now: i64) {
        self.replaced.lock().insert(id, now);
    }

    /// Whether the session of this id that was here gave way to another a moment ago: a host without a socket does not know
    /// it yet.
    pub fn was_replaced(&self, id: SessionId, now: i64) -> bool {
        self.replaced.lock().get(&id).is_some_and(|at| now - at < REPLACED)
    }

    /// Forgets this session.
    pub fn forget(&self, session: &Arc<Session>) {
        let mut by = self.by.write();
        if by.get(&session.id()).is_some_and(|known| Arc::ptr_eq(known, session)) {
            by.remove(&session.id());
        }
    }

    /// Live sessions for which this node answers.
    pub fn active(&self) -> usize {
        self.by.read().values().filter(|session| session.is_home()).count()
    }

    /// All sessions.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.by.read().values().cloned().collect()
    }

    /// What time brings: see [`Session::tick`]; the ended, and copies that nobody asks for, are forgotten after a while.
    pub fn tick(&self, now: i64) {
        self.replaced.lock().retain(|_, at| now - *at < REPLACED);
        for session in self.all() {
            session.tick(now, self.timeout);
            let over = session.ended().is_some_and(|ended| now - ended.at >= ENDED_LIFE);
            if over || session.is_unused(now) {
                self.forget(&session);
            }
        }
    }
}
