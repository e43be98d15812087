//! The sessions of this node by id: at most so many live ones, and those that ended a short while ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rand::Rng;

use super::id::{self, SessionId};
use super::refused::Refused;
use super::session::{Session, Shared};

/// How long the end of a session can be seen, in milliseconds.
const ENDED_LIFE: i64 = 300_000;
/// Tries to find an id that is free.
const TRIES: usize = 100;

/// The sessions.
pub struct Registry {
    most: usize,
    timeout: i64,
    shared: Arc<Shared>,
    by: RwLock<HashMap<SessionId, Arc<Session>>>,
}

impl Registry {
    /// For `most` live sessions that end after `timeout` without their host.
    pub fn new(most: usize, timeout: Duration, shared: Arc<Shared>) -> Self {
        let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        Self { most, timeout, shared, by: RwLock::default() }
    }

    /// Starts the session of this id, or of one that is free.
    pub fn start(&self, id: Option<SessionId>, now: i64) -> Result<Arc<Session>, Refused> {
        let mut by = self.by.write();
        let is_live = |session: &Arc<Session>| session.ended().is_none();
        let id = match id {
            Some(id) => id,
            None => {
                let drawn = std::iter::repeat_with(|| SessionId::from_number(rand::rng().random_range(0..id::ALL)));
                drawn.take(TRIES).find(|id| !by.contains_key(id)).ok_or(Refused::Full)?
            }
        };
        if by.get(&id).is_some_and(is_live) {
            return Err(Refused::Taken);
        }
        if by.values().filter(|session| is_live(session)).count() >= self.most {
            return Err(Refused::Full);
        }
        let session = Session::new(id, Arc::clone(&self.shared), now);
        by.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// The session of this id, live or ended a short while ago.
    pub fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.by.read().get(&id).cloned()
    }

    /// Live sessions.
    pub fn active(&self) -> usize {
        self.by.read().values().filter(|session| session.ended().is_none()).count()
    }

    /// All sessions.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.by.read().values().cloned().collect()
    }

    /// What time brings: see [`Session::tick`]; the ended are forgotten after a while.
    pub fn tick(&self, now: i64) {
        let mut over = false;
        for session in self.all() {
            session.tick(now, self.timeout);
            over |= session.ended().is_some_and(|ended| now - ended.at >= ENDED_LIFE);
        }
        if over {
            let stays = |session: &Arc<Session>| session.ended().is_none_or(|ended| now - ended.at < ENDED_LIFE);
            self.by.write().retain(|_, session| stays(session));
        }
    }
}
