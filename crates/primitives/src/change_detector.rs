//! Changes of something that is looked at from time to time, such as a file that others write, against what is in use.

use std::time::{Duration, Instant};

/// Time after which content that was refused is tried again, the first time.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// Longest such time. It doubles with each refusal.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Detector of content that is to be put in use: it differs from what is, and has stayed the same for a time, so that a
/// file that is being written, or one of two that belong together, is not taken half. It keeps no idea of its own of
/// what is in use. Content that was refused is tried again, since the reason may be gone without a change of it.
#[derive(Debug)]
pub struct ChangeDetector<T> {
    settling: Duration,
    /// Content of the last look, and the time of the first look that has found it.
    seen: Option<(T, Instant)>,
    refused: Option<RefusedContent<T>>,
}

#[derive(Debug)]
struct RefusedContent<T> {
    content: T,
    retry_at: Instant,
    pause: Duration,
}

impl<T: Clone + PartialEq> ChangeDetector<T> {
    /// Creates a detector of content that has stayed the same for `settling`.
    pub fn new(settling: Duration) -> Self {
        Self { settling, seen: None, refused: None }
    }

    /// Takes in the content that a look at `now` has found; returns true where it is to be put in place of `in_use`.
    pub fn look(&mut self, found: &T, in_use: &T, now: Instant) -> bool {
        let since = match &self.seen {
            Some((seen, since)) if seen == found => *since,
            _ => {
                self.seen = Some((found.clone(), now));
                now
            }
        };
        if found == in_use {
            self.refused = None;
            return false;
        }
        let is_waiting =
            self.refused.as_ref().is_some_and(|refused| refused.content == *found && now < refused.retry_at);
        now.saturating_duration_since(since) >= self.settling && !is_waiting
    }

    /// Notes that `content` was refused at `now`: it is tried again, each time after a longer pause.
    pub fn refuse(&mut self, content: T, now: Instant) {
        let before = self.refused.take().filter(|refused| refused.content == content);
        let pause = before.map_or(FIRST_RETRY, |refused| (2 * refused.pause).min(LAST_RETRY));
        self.refused = Some(RefusedContent { content, retry_at: now + pause, pause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_now;

    #[test]
    fn content_counts_once_it_has_stayed_the_same_and_as_long_as_it_is_not_in_use() {
        let (mut detector, start) = (ChangeDetector::new(Duration::from_secs(2)), monotonic_now());
        let mut look = |found, in_use, second| detector.look(&found, &in_use, start + Duration::from_secs(second));
        assert!(!look("a", "a", 0) && !look("a", "a", 9), "in use");
        assert!(!look("b", "a", 10) && !look("b", "a", 11) && look("b", "a", 12) && look("b", "a", 13));
        assert!(!look("c", "a", 14) && !look("b", "a", 15), "it was written meanwhile");
        // Put in use by somebody else, and the file written back before a look.
        assert!(!look("a", "a", 20) && look("a", "b", 22), "in use is what it is compared with");
    }

    #[test]
    fn refused_content_is_tried_again_after_longer_and_longer_pauses() {
        let (mut detector, start) = (ChangeDetector::new(Duration::ZERO), monotonic_now());
        let mut tried = Vec::new();
        for second in 0..=200 {
            let now = start + Duration::from_secs(second);
            if detector.look(&"b", &"a", now) {
                tried.push(second);
                detector.refuse("b", now);
            }
        }
        assert_eq!(tried, [0, 10, 30, 70, 130, 190]);
        assert!(detector.look(&"c", &"a", start + Duration::from_secs(201)), "other content waits for nothing");
    }
}
