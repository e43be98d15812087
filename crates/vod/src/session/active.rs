//! Sessions that play at this node: those that it has served, or heard of by a report, a moment ago.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::SessionId;
use primitives::unix_time::UnixMillis;

/// Sessions that are counted at most: some 10 MB. A node has no room for as many players.
const MAX_SESSIONS: usize = 200_000;

/// Times at which sessions were last in use here.
#[derive(Default)]
pub struct ActiveSessions(Mutex<HashMap<SessionId, UnixMillis>>);

impl ActiveSessions {
    /// Notes that a session is in use.
    pub fn note(&self, id: SessionId, now: UnixMillis) {
        let mut seen = self.0.lock();
        if seen.len() < MAX_SESSIONS || seen.contains_key(&id) {
            seen.insert(id, now);
        }
    }

    /// Notes that a session has ended.
    pub fn remove(&self, id: SessionId) {
        self.0.lock().remove(&id);
    }

    /// Returns the number of sessions that were in use within `silence`, and forgets the others.
    pub fn count(&self, now: UnixMillis, silence: Duration) -> usize {
        let mut seen = self.0.lock();
        seen.retain(|_, at| *at + silence > now);
        seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_while_it_is_in_use() {
        let sessions = ActiveSessions::default();
        let (one, other, silence) = (SessionId([1; 16]), SessionId([2; 16]), Duration::from_millis(100));
        sessions.note(one, UnixMillis::new(0));
        sessions.note(other, UnixMillis::new(50));
        sessions.note(one, UnixMillis::new(60));
        assert_eq!(sessions.count(UnixMillis::new(70), silence), 2);
        assert_eq!(sessions.count(UnixMillis::new(155), silence), 1);
        sessions.remove(one);
        assert_eq!(sessions.count(UnixMillis::new(156), silence), 0);
    }
}
