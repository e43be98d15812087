//! Watch over the node that has the bot, pure: one whose beat has stood still for a lease has died. Only this node's own clock counts.

use std::time::{Duration, Instant};

use uuid::Uuid;

/// Node that has the bot, and its signs of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotHolder {
    /// The node; empty where it was given back.
    pub node: String,
    /// Signs of life.
    pub beat: i64,
}

/// What was seen of the holder.
#[derive(Debug, Default)]
pub struct LeaseWatch(Option<(BotHolder, Instant)>);

impl LeaseWatch {
    /// Takes what there is now; returns true where `node` may take the bot over.
    pub fn is_free(&mut self, holder: &BotHolder, node: Uuid, now: Instant, lease: Duration) -> bool {
        let since = match &self.0 {
            Some((seen, since)) if seen == holder => *since,
            _ => self.0.insert((holder.clone(), now)).1,
        };
        holder.node.is_empty() || holder.node == node.to_string() || now.saturating_duration_since(since) >= lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    #[test]
    fn a_node_is_followed_when_its_beat_stands_still_for_a_lease() {
        let (mut watch, begin, lease) = (LeaseWatch::default(), monotonic_now(), Duration::from_secs(10));
        let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2).to_string());
        for (seconds, node, beat, expected) in [
            (0, other.as_str(), 1, false),
            (9, &other, 1, false),
            (10, &other, 2, false),
            (19, &other, 2, false),
            (20, &other, 2, true),
            (21, &ours.to_string(), 3, true),
            (22, &other, 4, false),
            (23, "", 4, true),
        ] {
            let holder = BotHolder { node: node.to_owned(), beat };
            assert_eq!(
                watch.is_free(&holder, ours, begin + Duration::from_secs(seconds), lease),
                expected,
                "{seconds}"
            );
        }
    }
}
