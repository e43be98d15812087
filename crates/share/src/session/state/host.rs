//! Presence of the host: when and where it was heard, which socket is its own, and whether it has lost that.

use std::time::Duration;

use crate::replication::message::MAX_SOCKET_NUMBER;
use primitives::unix_time::UnixMillis;

/// Time for which a host that was heard at this node is taken to send here.
const SENDS_HERE_TIME: Duration = Duration::from_secs(5);
/// Heartbeats in a row that must miss the socket: one alone may be a host on its way from one node to another.
const MISSED_HEARTBEATS: u8 = 2;

/// Presence of the host. A host sends requests, or frames over a socket; of its sockets the one with the highest number is
/// its own, at whichever node that is.
pub struct HostState {
    last_heard: UnixMillis,
    heard_here: Option<UnixMillis>,
    /// True while the host was last heard over a socket.
    over_socket: bool,
    socket_number: u64,
    /// Time at which the host's socket was opened, while it is at this node.
    connected_since: Option<UnixMillis>,
    /// True while a host that sends over a socket has none.
    away: bool,
    missed_heartbeats: u8,
}

impl HostState {
    /// Creates the state of a host that was last heard at `last_heard`; `home`: the session began at this node.
    pub fn new(last_heard: UnixMillis, home: bool) -> Self {
        Self {
            last_heard,
            heard_here: None,
            over_socket: false,
            socket_number: 0,
            connected_since: None,
            away: false,
            // A copy believes the first heartbeat that it gets.
            missed_heartbeats: u8::from(!home),
        }
    }

    /// Notes that the host was heard here; returns true where it has begun to send here.
    pub fn note_heard_here(&mut self, over_socket: bool, now: UnixMillis) -> bool {
        let before = self.sends_here(now);
        self.last_heard = now;
        (self.heard_here, self.over_socket) = (Some(now), over_socket);
        !before
    }

    /// Notes that the host was heard at another node `at` this time.
    pub fn note_heard_elsewhere(&mut self, at: UnixMillis) {
        self.last_heard = self.last_heard.max(at);
    }

    /// Returns true where the host was not heard for `timeout`.
    pub fn is_silent(&self, timeout: Duration, now: UnixMillis) -> bool {
        now - self.last_heard >= timeout
    }

    /// Returns true while the host sends to this node.
    pub fn sends_here(&self, now: UnixMillis) -> bool {
        self.is_connected() || self.heard_here.is_some_and(|heard| now - heard < SENDS_HERE_TIME)
    }

    /// Opens a socket in place of any other; returns its number.
    pub fn connect(&mut self, now: UnixMillis) -> u64 {
        self.socket_number = next_number(self.socket_number);
        (self.connected_since, self.over_socket) = (Some(now), true);
        self.socket_number
    }

    /// Gives way to the socket of this number at another node.
    pub fn replace(&mut self, number: u64) {
        self.socket_number = number.max(next_number(self.socket_number)).min(MAX_SOCKET_NUMBER);
        self.connected_since = None;
    }

    /// Closes the socket of this number; returns false where it is not the host's any more.
    pub fn disconnect(&mut self, number: u64) -> bool {
        let current = self.socket_number == number;
        if current {
            self.connected_since = None;
        }
        current
    }

    /// Takes in the highest number of a socket so far; returns true where the socket here gives way to one `elsewhere`.
    pub fn yields_to(&mut self, highest: u64, elsewhere: bool) -> bool {
        if !self.is_connected() {
            // So that the next one here has a higher number than any before.
            self.socket_number = self.socket_number.max(highest.min(MAX_SOCKET_NUMBER));
            return false;
        }
        // A socket that was opened here meanwhile has a higher number, and its heartbeat comes.
        elsewhere && highest >= self.socket_number
    }

    /// Takes in whether a heartbeat found the host's socket lost; returns what is to be believed, if anything new is.
    pub fn judge_loss(&mut self, lost: bool) -> Option<bool> {
        self.missed_heartbeats = if lost { self.missed_heartbeats.saturating_add(1) } else { 0 };
        (!lost || self.missed_heartbeats >= MISSED_HEARTBEATS).then_some(lost)
    }

    /// Sets whether the host has lost its socket; returns true where that is news.
    pub fn set_away(&mut self, away: bool) -> bool {
        std::mem::replace(&mut self.away, away) != away
    }

    /// Returns true while a host that sends over a socket has none.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Returns true while the host's socket is at this node.
    pub fn is_connected(&self) -> bool {
        self.connected_since.is_some()
    }

    /// Returns the time at which the socket at this node was opened.
    pub fn connected_since(&self) -> Option<UnixMillis> {
        self.connected_since
    }

    /// Returns the number of the host's socket.
    pub fn socket_number(&self) -> u64 {
        self.socket_number
    }

    /// Returns true where the host was last heard over a socket.
    pub fn is_over_socket(&self) -> bool {
        self.over_socket
    }

    /// Returns when the host was last heard at this node.
    pub fn heard_here(&self) -> Option<UnixMillis> {
        self.heard_here
    }

    /// Returns when the host was last heard at any node.
    pub fn last_heard(&self) -> UnixMillis {
        self.last_heard
    }
}

/// Returns the number after this one. At the end of their range numbers stay the same: a made-up one must not end a process.
fn next_number(number: u64) -> u64 {
    number.saturating_add(1).min(MAX_SOCKET_NUMBER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn a_host_sends_here_while_it_is_connected_and_a_few_seconds_after_it_was_heard() {
        let mut host = HostState::new(at(0), true);
        assert!(!host.sends_here(at(0)));
        assert!(host.note_heard_here(false, at(1_000)), "it begins");
        assert!(!host.note_heard_here(false, at(5_999)), "it goes on");
        assert_eq!([5_999, 10_998, 10_999].map(|now| host.sends_here(at(now))), [true, true, false]);
        assert!(host.note_heard_here(false, at(20_000)), "it begins again");
        let number = host.connect(at(21_000));
        assert!(host.sends_here(UnixMillis::MAX));
        assert!(!host.disconnect(number - 1), "that one was not the host's");
        assert!(host.disconnect(number) && !host.sends_here(UnixMillis::MAX));
        assert_eq!([25_999, 26_000].map(|now| host.is_silent(Duration::from_secs(6), at(now))), [false, true]);
    }

    #[test]
    fn a_socket_gives_way_to_one_at_another_node_with_no_lower_number() {
        for (highest, elsewhere, expected) in [(0, true, false), (1, true, true), (7, true, true), (7, false, false)] {
            let mut host = HostState::new(at(0), true);
            assert_eq!(host.connect(at(0)), 1);
            assert_eq!(host.yields_to(highest, elsewhere), expected, "{highest} {elsewhere}");
        }
        let mut host = HostState::new(at(0), true);
        assert!(!host.yields_to(7, true), "there is none here");
        assert_eq!(host.connect(at(0)), 8, "higher than any before");
        host.replace(8);
        assert_eq!((host.socket_number(), host.is_connected()), (9, false));
    }

    #[test]
    fn a_number_at_the_end_of_the_range_is_no_end() {
        let mut host = HostState::new(at(0), true);
        host.replace(u64::MAX);
        host.connect(at(0));
        host.replace(u64::MAX);
        assert!(!host.yields_to(u64::MAX, true));
        assert_eq!(host.connect(at(0)), MAX_SOCKET_NUMBER);
    }

    #[test]
    fn a_lost_socket_is_believed_at_the_second_heartbeat_and_by_a_copy_at_once() {
        for (home, expected) in
            [(true, [None, Some(true), Some(false)]), (false, [Some(true), Some(true), Some(false)])]
        {
            let mut host = HostState::new(at(0), home);
            assert_eq!([true, true, false].map(|lost| host.judge_loss(lost)), expected);
        }
        let mut host = HostState::new(at(0), true);
        assert_eq!([true, true, false].map(|away| host.set_away(away)), [true, false, true]);
    }
}
