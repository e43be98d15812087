//! Sessions in this process: for one node, and they end with it. Bounded in bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use parking_lot::Mutex;

use super::{SessionId, SessionsUnavailable};
use primitives::unix_time::UnixMillis;

/// Bytes of all sessions at most; further ones are refused until others have expired.
const MAX_BYTES: usize = 128 << 20;
/// Sessions of one user at most, those that have ended among them: further ones take the place of the oldest that has
/// ended, else of the oldest, so that no user takes the room of others.
const MAX_PER_USER: usize = 64;
/// Approximate bytes of a session besides its text: its places in the maps.
const OVERHEAD: usize = 512;

/// Sessions in memory.
pub struct MemorySessions {
    max_bytes: usize,
    state: Mutex<MemoryState>,
}

impl Default for MemorySessions {
    fn default() -> Self {
        Self { max_bytes: MAX_BYTES, state: Mutex::default() }
    }
}

#[derive(Default)]
struct MemoryState {
    records: HashMap<SessionId, (String, UnixMillis)>,
    expiries: BTreeSet<(UnixMillis, SessionId)>,
    users: HashMap<Box<str>, BTreeSet<SessionId>>,
    /// All sessions of a user that are remembered, in order of their opening.
    remembered: HashMap<Box<str>, VecDeque<SessionId>>,
    latest: BTreeMap<(Box<str>, Box<str>), SessionId>,
    schedule: BTreeSet<(UnixMillis, SessionId)>,
    scheduled: HashMap<SessionId, UnixMillis>,
    links: HashMap<SessionId, (Box<str>, Box<str>)>,
    bytes: usize,
}

impl MemorySessions {
    /// Returns the text of a session.
    pub fn get(&self, id: SessionId) -> Result<Option<String>, SessionsUnavailable> {
        Ok(self.state.lock().records.get(&id).map(|(text, _)| text.clone()))
    }

    /// Replaces the text `old` of a session by `new`; false if it has another one.
    pub fn replace(
        &self,
        id: SessionId,
        old: Option<&str>,
        new: String,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<bool, SessionsUnavailable> {
        let mut state = self.state.lock();
        state.remove_expired(now);
        if state.records.get(&id).map(|(text, _)| text.as_str()) != old {
            return Ok(false);
        }
        if old.is_none() && state.bytes + new.len() + OVERHEAD > self.max_bytes {
            return Err(SessionsUnavailable);
        }
        state.remove_record(id);
        state.bytes += new.len() + OVERHEAD;
        state.expiries.insert((until, id));
        state.records.insert(id, (new, until));
        Ok(true)
    }

    /// Adds a session to those of its user, and makes it the latest of user and film.
    pub fn link(&self, user: &str, movie: &str, id: SessionId, _: UnixMillis) -> Result<(), SessionsUnavailable> {
        let mut state = self.state.lock();
        state.users.entry(user.into()).or_default().insert(id);
        state.latest.insert((user.into(), movie.into()), id);
        state.links.insert(id, (user.into(), movie.into()));
        state.remembered.entry(user.into()).or_default().push_back(id);
        state.make_room(user);
        Ok(())
    }

    /// Removes a session from those of its user.
    pub fn unlink(&self, user: &str, id: SessionId) -> Result<(), SessionsUnavailable> {
        self.state.lock().unlink(user, id);
        Ok(())
    }

    /// Returns the sessions of a user.
    pub fn linked(&self, user: &str) -> Result<Vec<SessionId>, SessionsUnavailable> {
        Ok(self.state.lock().users.get(user).into_iter().flatten().copied().collect())
    }

    /// Returns the latest session of user and film.
    pub fn latest(&self, user: &str, movie: &str) -> Result<Option<SessionId>, SessionsUnavailable> {
        Ok(self.state.lock().latest.get(&(user.into(), movie.into())).copied())
    }

    /// Has a session looked at at a time.
    pub fn schedule(&self, id: SessionId, at: UnixMillis) -> Result<(), SessionsUnavailable> {
        let mut state = self.state.lock();
        state.unschedule(id);
        state.schedule.insert((at, id));
        state.scheduled.insert(id, at);
        Ok(())
    }

    /// Has a session not looked at any more, if it is scheduled for `at`.
    pub fn unschedule(&self, id: SessionId, at: UnixMillis) -> Result<(), SessionsUnavailable> {
        let mut state = self.state.lock();
        if state.scheduled.get(&id) == Some(&at) {
            state.unschedule(id);
        }
        Ok(())
    }

    /// Takes sessions whose time has come; they come again at `lease` unless they are scheduled anew.
    pub fn take_due(
        &self,
        now: UnixMillis,
        lease: UnixMillis,
        most: usize,
    ) -> Result<Vec<SessionId>, SessionsUnavailable> {
        let mut state = self.state.lock();
        let due: Vec<SessionId> =
            state.schedule.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, id)| *id).collect();
        for id in &due {
            state.unschedule(*id);
            state.schedule.insert((lease, *id));
            state.scheduled.insert(*id, lease);
        }
        Ok(due)
    }
}

impl MemoryState {
    fn remove_expired(&mut self, now: UnixMillis) {
        while let Some((_, id)) = self.expiries.first().copied().filter(|(until, _)| *until <= now) {
            self.forget(id);
        }
    }

    /// Removes sessions of a user who has more than [`MAX_PER_USER`].
    fn make_room(&mut self, user: &str) {
        let Some(remembered) = self.remembered.get(user).filter(|ids| ids.len() > MAX_PER_USER) else { return };
        let live = self.users.get(user);
        let has_ended = |id: &&SessionId| live.is_none_or(|live| !live.contains(id));
        let oldest = remembered.iter().find(has_ended).or_else(|| remembered.front()).copied();
        if let Some(id) = oldest {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: SessionId) {
        self.remove_record(id);
        self.unschedule(id);
        let Some((user, movie)) = self.links.remove(&id) else { return };
        self.unlink(&user, id);
        if let Some(remembered) = self.remembered.get_mut(&user) {
            remembered.retain(|other| *other != id);
            if remembered.is_empty() {
                self.remembered.remove(&user);
            }
        }
        let key = (user, movie);
        if self.latest.get(&key) == Some(&id) {
            self.latest.remove(&key);
        }
    }

    fn remove_record(&mut self, id: SessionId) {
        if let Some((text, until)) = self.records.remove(&id) {
            self.bytes -= text.len() + OVERHEAD;
            self.expiries.remove(&(until, id));
        }
    }

    fn unlink(&mut self, user: &str, id: SessionId) {
        if let Some(sessions) = self.users.get_mut(user) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.users.remove(user);
            }
        }
    }

    fn unschedule(&mut self, id: SessionId) {
        if let Some(at) = self.scheduled.remove(&id) {
            self.schedule.remove(&(at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_bounded_in_bytes_and_expired_ones_make_room() {
        let sessions = MemorySessions { max_bytes: 100 * (OVERHEAD + 100), state: Mutex::default() };
        let (now, later) = (UnixMillis::new(0), UnixMillis::new(1000));
        let add = |number: u8, now| sessions.replace(SessionId([number; 16]), None, "x".repeat(100), now, later);
        for number in 0..100 {
            assert_eq!(add(number, now), Ok(true));
            let user = if number < 50 { "u" } else { "v" };
            assert_eq!(sessions.link(user, "m", SessionId([number; 16]), later), Ok(()));
        }
        assert_eq!(add(100, now), Err(SessionsUnavailable));
        assert_eq!(add(100, later), Ok(true), "the others have expired");
        assert_eq!(sessions.linked("u"), Ok(Vec::new()));
        assert_eq!(sessions.latest("u", "m"), Ok(None));
    }

    #[test]
    fn a_session_that_was_scheduled_anew_stays_scheduled() {
        let sessions = MemorySessions::default();
        let (id, lease, new) = (SessionId([1; 16]), UnixMillis::new(10), UnixMillis::new(30));
        assert_eq!(sessions.schedule(id, UnixMillis::new(0)), Ok(()));
        assert_eq!(sessions.take_due(UnixMillis::new(0), lease, 9), Ok(vec![id]));
        // Its view begins while the one who has taken it looks.
        assert_eq!(sessions.schedule(id, new), Ok(()));
        assert_eq!(sessions.unschedule(id, lease), Ok(()));
        assert_eq!(sessions.take_due(new, UnixMillis::new(40), 9), Ok(vec![id]));
        assert_eq!(sessions.unschedule(id, UnixMillis::new(40)), Ok(()));
        assert_eq!(sessions.take_due(UnixMillis::new(99), lease, 9), Ok(Vec::new()));
    }

    #[test]
    fn a_user_takes_the_room_of_own_sessions_only_and_of_ended_ones_first() {
        let sessions = MemorySessions::default();
        let (now, later) = (UnixMillis::new(0), UnixMillis::new(1000));
        let id = |number: u16| SessionId([number.to_be_bytes(); 8].concat().try_into().expect("16 bytes"));
        for number in 0..1000 {
            assert_eq!(sessions.replace(id(number), None, "x".repeat(100), now, later), Ok(true));
            assert_eq!(sessions.link("u", "m", id(number), later), Ok(()));
            if number > 0 {
                assert_eq!(sessions.unlink("u", id(number)), Ok(()));
            }
        }
        assert_eq!(sessions.state.lock().records.len(), MAX_PER_USER);
        assert!(sessions.get(id(0)).is_ok_and(|text| text.is_some()), "the one that lives");
        assert!(sessions.get(id(999)).is_ok_and(|text| text.is_some()));
        assert!(sessions.get(id(900)).is_ok_and(|text| text.is_none()));
        assert_eq!(sessions.state.lock().bytes, MAX_PER_USER * (OVERHEAD + 100));
    }
}
