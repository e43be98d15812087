//! Bounds of listeners on this node: of all, and of each user.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Error;
use super::settings::Settings;
use primitives::ids::UserId;

/// The bounds and what is open. Clones share it.
#[derive(Clone)]
pub struct ListenerLimits(Arc<LimitState>);

struct LimitState {
    open: Mutex<OpenListeners>,
    max: usize,
    max_per_user: usize,
}

#[derive(Default)]
struct OpenListeners {
    by_user: HashMap<UserId, usize>,
    total: usize,
}

/// Place of a listener; dropping it makes room.
pub struct ListenerPermit {
    limits: ListenerLimits,
    user: UserId,
}

impl ListenerLimits {
    /// Creates the bounds that the settings give.
    pub fn new(settings: &Settings) -> Self {
        let (max, max_per_user) = (settings.max_listeners, settings.max_listeners_per_user);
        Self(Arc::new(LimitState { open: Mutex::default(), max, max_per_user }))
    }

    /// Takes a place for a listener of `user`.
    pub fn admit(&self, user: &UserId) -> Result<ListenerPermit, Error> {
        let mut open = self.0.open.lock();
        if open.total >= self.0.max {
            return Err(Error::Busy);
        }
        if open.by_user.get(user).is_some_and(|count| *count >= self.0.max_per_user) {
            return Err(Error::TooManyListeners(self.0.max_per_user));
        }
        open.total += 1;
        *open.by_user.entry(user.clone()).or_default() += 1;
        Ok(ListenerPermit { limits: self.clone(), user: user.clone() })
    }
}

impl Drop for ListenerPermit {
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
        let settings = Settings { max_listeners: 3, max_listeners_per_user: 2, ..Settings::default() };
        let (limits, user) = (ListenerLimits::new(&settings), |name| UserId::parse(name).expect("an id"));
        let (a, b) = (user("a"), user("b"));
        let places = [limits.admit(&a).ok(), limits.admit(&a).ok()];
        assert_eq!(limits.admit(&a).err(), Some(Error::TooManyListeners(2)));
        let other = limits.admit(&b).expect("there is room");
        assert_eq!(limits.admit(&user("c")).err(), Some(Error::Busy));
        drop((places, other));
        assert!(limits.admit(&a).is_ok());
        let open = limits.0.open.lock();
        assert_eq!((open.total, open.by_user.len()), (0, 0));
    }
}
