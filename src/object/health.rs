//! What is known of a store from the questions put to it; whether its servers can be reached is known to their cluster.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;

/// Whether a store can be used; true at first.
#[derive(Debug)]
pub struct Health {
    usable: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { usable: AtomicBool::new(true) }
    }
}

impl Health {
    /// Whether requests that reach the store can succeed.
    pub fn is_good(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// What a question's outcome says of the store: only faults of the configuration count, and an object ends them.
    pub(super) fn learn(&self, failure: Option<&Failure>) {
        let fault = matches!(failure, Some(Failure::NoSuchBucket | Failure::Credentials | Failure::Signature));
        if fault || (failure.is_none() && !self.usable.load(Ordering::Relaxed)) {
            self.usable.store(!fault, Ordering::Relaxed);
        }
    }
}
