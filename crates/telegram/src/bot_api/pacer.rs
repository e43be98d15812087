//! When messages may be sent, pure: to one chat one a second after a few, to all chats together 30 a second, and none while the
//! Bot API asks to wait (<https://core.telegram.org/bots/faq>, "My bot is hitting limits").

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Time between two messages to one chat.
const CHAT_INTERVAL: Duration = Duration::from_secs(1);
/// Messages that a chat may have at once after a pause.
const CHAT_BURST: u32 = 3;
/// Time between two messages to whatever chats: 30 a second, less a few for answers to buttons.
const INTERVAL: Duration = Duration::from_millis(40);
/// Chats that are kept before those that may send at once are forgotten.
const MANY_CHATS: usize = 1024;

/// Times of messages.
#[derive(Debug, Default)]
pub struct MessagePacer {
    /// By chat, when its last messages would have been sent at an even pace.
    chats: HashMap<i64, Instant>,
    next: Option<Instant>,
    held_until: Option<Instant>,
}

impl MessagePacer {
    /// Reserves the place of a message to `chat`; returns when it may be sent.
    pub fn reserve(&mut self, chat: i64, now: Instant) -> Instant {
        if self.chats.len() >= MANY_CHATS {
            self.chats.retain(|_, even| *even > now);
        }
        let even = self.chats.get(&chat).copied().unwrap_or(now).max(now) + CHAT_INTERVAL;
        self.chats.insert(chat, even);
        let of_chat = even.checked_sub(CHAT_INTERVAL * CHAT_BURST).unwrap_or(now);
        let at = of_chat.max(self.next.unwrap_or(now)).max(self.held_until.unwrap_or(now)).max(now);
        self.next = Some(self.next.unwrap_or(now).max(now) + INTERVAL);
        at
    }

    /// Sends nothing before `until`.
    pub fn hold(&mut self, until: Instant) {
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }

    /// Returns the time before which nothing is sent, where that is still to come.
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|held| *held > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    #[test]
    fn a_chat_has_a_few_messages_at_once_and_then_one_a_second() {
        let (mut pacer, begin) = (MessagePacer::default(), monotonic_now());
        let mut waits = || pacer.reserve(7, begin) - begin;
        let at: Vec<u128> = (0..6).map(|_| waits().as_millis()).collect();
        assert_eq!(at, [0, 40, 80, 1000, 2000, 3000]);
        let later = begin + Duration::from_secs(60);
        assert_eq!(pacer.reserve(7, later), later, "after a pause it is at once again");
    }

    #[test]
    fn all_chats_together_have_a_pace_and_a_hold_stops_them() {
        let (mut pacer, begin) = (MessagePacer::default(), monotonic_now());
        let last = (0..100).map(|chat| pacer.reserve(chat, begin)).max().unwrap();
        assert_eq!(last - begin, INTERVAL * 99);
        let until = begin + Duration::from_secs(30);
        pacer.hold(until);
        pacer.hold(begin);
        assert_eq!(pacer.reserve(1000, begin), until, "a shorter hold ends no longer one");
        assert_eq!(pacer.held_until(until), None);
    }

    #[test]
    fn chats_are_forgotten() {
        let (mut pacer, mut now) = (MessagePacer::default(), monotonic_now());
        for chat in 0..10_000 {
            pacer.reserve(chat, now);
            now += Duration::from_millis(50);
        }
        assert!(pacer.chats.len() <= MANY_CHATS);
    }
}
