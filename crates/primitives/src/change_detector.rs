//! Changes of a value that is looked at from time to time, such as a file that others write.

/// Detector of changes. One counts once two looks in a row have found it: a file that is being written, or one of two that
/// belong together, is not taken half.
#[derive(Debug)]
pub struct ChangeDetector<T> {
    accepted: T,
    seen: T,
}

impl<T: Clone + PartialEq> ChangeDetector<T> {
    /// Creates a detector of changes of `current`.
    pub fn new(current: T) -> Self {
        Self { seen: current.clone(), accepted: current }
    }

    /// Takes in the value that a look has found; returns true where it has changed since it was accepted last, and not since
    /// the look before. It is then accepted.
    pub fn look(&mut self, now: T) -> bool {
        let is_settled = self.seen == now;
        let has_changed = is_settled && self.accepted != now;
        if has_changed {
            self.accepted = now;
        } else if !is_settled {
            self.seen = now;
        }
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_two_looks_have_found_it() {
        let mut detector = ChangeDetector::new("a");
        let looks = ["a", "b", "c", "c", "c", "a", "c", "a", "a"];
        let changes = looks.map(|now| detector.look(now));
        assert_eq!(changes, [false, false, false, true, false, false, false, false, true]);
    }
}
