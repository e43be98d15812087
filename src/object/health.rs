//! What is known of a store from the questions put to it and from a probe in the background.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;

/// Whether a store can be used; both begin true.
#[derive(Debug)]
pub struct Health {
    reachable: AtomicBool,
    usable: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { reachable: AtomicBool::new(true), usable: AtomicBool::new(true) }
    }
}

impl Health {
    /// Whether requests to the store can succeed.
    pub fn is_good(&self) -> bool {
        self.reachable.load(Ordering::Relaxed) && self.usable.load(Ordering::Relaxed)
    }

    /// A connection was made, or could not be.
    pub fn reached(&self, success: bool) {
        self.reachable.store(success, Ordering::Relaxed);
    }

    /// What a question's outcome says of the store: only faults of the configuration count, and an object ends them.
    pub(super) fn learn(&self, failure: Option<&Failure>) {
        let fault = matches!(failure, Some(Failure::NoSuchBucket | Failure::Credentials | Failure::Signature));
        if fault || (failure.is_none() && !self.usable.load(Ordering::Relaxed)) {
            self.usable.store(!fault, Ordering::Relaxed);
        }
    }
}
