//! Share of each user in what is done at once: whoever asks for much waits for the own questions alone.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use primitives::ids::UserId;

/// Number of users from which those without a question are swept out.
const SWEEP_THRESHOLD: usize = 1024;

/// Shares of all users.
pub struct UserShares {
    most: usize,
    shares: Mutex<HashMap<UserId, Weak<Semaphore>>>,
}

impl UserShares {
    /// Creates shares of `most` questions at once each.
    pub fn new(most: usize) -> Self {
        Self { most, shares: Mutex::default() }
    }

    /// Waits until the user has room in the share; dropping the permit makes room.
    pub async fn acquire(&self, user: &UserId) -> Option<OwnedSemaphorePermit> {
        let share = self.share(user);
        // It is never closed.
        share.acquire_owned().await.ok()
    }

    fn share(&self, user: &UserId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock();
        if let Some(share) = shares.get(user).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() >= SWEEP_THRESHOLD {
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.most));
        shares.insert(user.clone(), Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_waits_for_the_own_questions_and_for_no_others() {
        let shares = UserShares::new(2);
        let user = |name: &str| UserId::parse(name).expect("an id");
        let taken = [shares.acquire(&user("a")).await, shares.acquire(&user("a")).await];
        assert!(taken.iter().all(Option::is_some));
        let at_once = async |name: &str| timeout(Duration::from_secs(1), shares.acquire(&user(name))).await;
        assert!(at_once("a").await.is_err() && at_once("b").await.is_ok());
        drop(taken);
        assert!(at_once("a").await.is_ok());
        for number in 0..3 * SWEEP_THRESHOLD {
            shares.acquire(&user(&number.to_string())).await;
        }
        assert!(shares.shares.lock().len() <= SWEEP_THRESHOLD);
    }
}
