//! What is known of a bucket from the questions put to its store; whether its servers can be reached is known to their cluster.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;

/// Whether a bucket can be used; true at first.
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
    /// Whether requests for it that reach the store can succeed.
    pub fn is_good(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// What a question's outcome says of the bucket: only faults of the configuration count, and an object ends them.
    pub(super) fn learn(&self, failure: Option<&Failure>) {
        let fault = matches!(
            failure,
            Some(Failure::NoSuchBucket | Failure::Unsignable(_) | Failure::Credentials | Failure::Signature)
        );
        if fault || (failure.is_none() && !self.usable.load(Ordering::Relaxed)) {
            self.usable.store(!fault, Ordering::Relaxed);
        }
    }
}
