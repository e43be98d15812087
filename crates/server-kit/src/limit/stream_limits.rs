//! Bounds of streams that are open on this node: of all users, and of each.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use primitives::ids::UserId;

/// The bounds and what is open. Clones share it.
#[derive(Clone)]
pub struct StreamLimits(Arc<LimitState>);

struct LimitState {
    open: Mutex<OpenStreams>,
    max: usize,
    max_per_user: usize,
}

#[derive(Default)]
struct OpenStreams {
    by_user: HashMap<UserId, usize>,
    total: usize,
}

/// Place of a stream; dropping it makes room.
pub struct StreamPermit {
    limits: StreamLimits,
    user: UserId,
}

/// Reason for which there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefusal {
    /// The node has as many as there may be.
    #[error("as many streams as there may be are open already")]
    Full,
    /// The user has so many.
    #[error("at most {0} streams of a user may be open at once")]
    TooManyOfUser(usize),
}

impl StreamLimits {
    /// Creates the bounds: streams of all users, and of each.
    pub fn new(max: usize, max_per_user: usize) -> Self {
        Self(Arc::new(LimitState { open: Mutex::default(), max, max_per_user }))
    }

    /// Takes a place for a stream of `user`.
    pub fn admit(&self, user: &UserId) -> Result<StreamPermit, StreamRefusal> {
        let mut open = self.0.open.lock();
        if open.total >= self.0.max {
            return Err(StreamRefusal::Full);
        }
        if open.by_user.get(user).is_some_and(|count| *count >= self.0.max_per_user) {
            return Err(StreamRefusal::TooManyOfUser(self.0.max_per_user));
        }
        open.total += 1;
        *open.by_user.entry(user.clone()).or_default() += 1;
        Ok(StreamPermit { limits: self.clone(), user: user.clone() })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.limits.0.open.lock();
        open.total -= 1;
        if let Some(count) = open.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let (limits, user) = (StreamLimits::new(3, 2), |name| UserId::parse(name).expect("an id"));
        let (a, b) = (user("a"), user("b"));
        let places = [limits.admit(&a).ok(), limits.admit(&a).ok()];
        assert_eq!(limits.admit(&a).err(), Some(StreamRefusal::TooManyOfUser(2)));
        let other = limits.admit(&b).expect("there is room");
        assert_eq!(limits.admit(&user("c")).err(), Some(StreamRefusal::Full));
        drop((places, other));
        assert!(limits.admit(&a).is_ok());
        let open = limits.0.open.lock();
        assert_eq!((open.total, open.by_user.len()), (0, 0));
    }
}
