//! Claims that this process works at. A claim of this node in the database that is not among them was lost track of, such as by
//! a commit whose answer never came, and is dealt with like that of a node that has died.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

/// Runs that this process works at. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LiveClaims(Arc<Mutex<HashSet<Uuid>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct LiveClaim {
    run: Uuid,
    all: LiveClaims,
}

impl LiveClaims {
    /// Notes that this process works at a run, or is about to claim it; `None` where it does so already.
    pub fn hold(&self, run: Uuid) -> Option<LiveClaim> {
        self.0.lock().insert(run).then(|| LiveClaim { run, all: self.clone() })
    }

    /// Returns true where this process works at the run.
    pub fn contains(&self, run: Uuid) -> bool {
        self.0.lock().contains(&run)
    }

    /// Returns their number.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl LiveClaim {
    /// Returns the run.
    pub fn run(&self) -> Uuid {
        self.run
    }
}

impl Drop for LiveClaim {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_live_until_it_is_dropped_and_held_once() {
        let (claims, run) = (LiveClaims::default(), Uuid::from_u128(1));
        let held = claims.hold(run).expect("nobody has it");
        assert!(claims.contains(run) && claims.hold(run).is_none());
        drop(held);
        assert!(!claims.contains(run) && claims.hold(run).is_some());
        assert_eq!(claims.len(), 0);
    }
}
