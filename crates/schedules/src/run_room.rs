//! Room for runs at a node: so many at once, and of them so many of one user, so that no user's backlog keeps others waiting.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use primitives::ids::UserId;

/// Most runs that a node performs at once.
const MAX_RUNNING: usize = 32;
/// Most of them that are of one user.
const MAX_RUNNING_PER_USER: usize = 8;

/// Room for runs. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RunRoom(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    all: usize,
    of_user: HashMap<UserId, usize>,
}

/// Place of one run, until it is dropped.
#[derive(Debug)]
pub struct RunPermit {
    user: UserId,
    room: RunRoom,
}

/// Reason for which there is no place for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The user has as many runs as one may have at once.
    User,
    /// The node has.
    Node,
}

impl RunRoom {
    /// Takes a place for a run of a user.
    pub fn enter(&self, user: &UserId) -> Result<RunPermit, NoRoom> {
        let mut running = self.0.lock();
        let of_user = running.of_user.get(user).copied().unwrap_or_default();
        if running.all >= MAX_RUNNING {
            return Err(NoRoom::Node);
        }
        if of_user >= MAX_RUNNING_PER_USER {
            return Err(NoRoom::User);
        }
        running.all += 1;
        running.of_user.insert(user.clone(), of_user + 1);
        Ok(RunPermit { user: user.clone(), room: self.clone() })
    }

    /// Returns true where no user has a place.
    pub fn is_full(&self) -> bool {
        self.0.lock().all >= MAX_RUNNING
    }
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        let mut running = self.room.0.lock();
        running.all -= 1;
        let of_user = running.of_user.get(&self.user).copied().unwrap_or_default();
        if of_user <= 1 {
            running.of_user.remove(&self.user);
        } else {
            running.of_user.insert(self.user.clone(), of_user - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_share_of_the_room_and_places_come_back() {
        let room = RunRoom::default();
        let user = |number: usize| UserId::parse(format!("user-{number}")).expect("an id");
        let mut permits: Vec<RunPermit> =
            (0..MAX_RUNNING_PER_USER).map(|_| room.enter(&user(0)).expect("there is room")).collect();
        assert_eq!(room.enter(&user(0)).err(), Some(NoRoom::User));
        permits.extend((MAX_RUNNING_PER_USER..MAX_RUNNING).map(|number| room.enter(&user(number)).expect("room")));
        assert!(room.is_full());
        assert_eq!(room.enter(&user(1)).err(), Some(NoRoom::Node));
        permits.clear();
        assert!(room.0.lock().of_user.is_empty() && room.enter(&user(0)).is_ok());
    }
}
