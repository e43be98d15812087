//! Listeners of a session beside its audio: who polls, who was let in, how many there are and were.

use std::net::IpAddr;
use std::time::Duration;

use crate::recent_addresses::RecentAddresses;
use crate::refusal::Refusal;
use crate::session::pollers::PollingListeners;
use crate::session::statistics::{ListenerStatistics, ListenerTransport, StatisticsReport};
use primitives::unix_time::UnixMillis;

/// Time for which floats are made from Opus after the last poll.
const POLL_DEMAND_TIME: Duration = Duration::from_secs(10);
/// Time for which an address is known that was let in.
const GUEST_TIME: Duration = Duration::from_secs(15 * 60);
/// Such addresses of a session at most.
const MAX_GUESTS: usize = 1_024;
/// Time after which the number of listeners is told again although it is the same: dead connections show by it.
const COUNT_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// Listeners of a session.
pub struct ListenerState {
    /// Listeners that poll.
    pub pollers: PollingListeners,
    guests: RecentAddresses,
    /// Connected listeners that nobody counts: recorders.
    uncounted: usize,
    /// Time of the last poll; `None` until somebody polls, whatever the clock says.
    last_poll: Option<UnixMillis>,
    statistics: ListenerStatistics,
    told_count: usize,
    told_at: UnixMillis,
}

impl ListenerState {
    /// Creates the state of a session that nobody listens to yet.
    pub fn new(now: UnixMillis) -> Self {
        Self {
            pollers: PollingListeners::default(),
            guests: RecentAddresses::new(GUEST_TIME, MAX_GUESTS),
            uncounted: 0,
            last_poll: None,
            statistics: ListenerStatistics::new(now),
            told_count: 0,
            told_at: now,
        }
    }

    /// Notes that `address` knows the session's id, and may.
    pub fn note_guest(&mut self, address: IpAddr, now: UnixMillis) {
        self.guests.note(address, now);
    }

    /// Returns whether `address` was let in before.
    pub fn is_guest(&mut self, address: IpAddr, now: UnixMillis) -> bool {
        self.guests.contains(&address, now)
    }

    /// Counts a request for metadata or status.
    pub fn count_look(&mut self, address: IpAddr, now: UnixMillis) -> Result<(), Refusal> {
        self.pollers.count_look(address, now)
    }

    /// Notes that somebody polls audio, or may read it where it is stored.
    pub fn note_poll(&mut self, now: UnixMillis) {
        self.last_poll = Some(now);
    }

    /// Returns true where somebody polled audio within [`POLL_DEMAND_TIME`]: floats are kept for them.
    pub fn has_polled(&self, now: UnixMillis) -> bool {
        self.last_poll.is_some_and(|polled| now - polled < POLL_DEMAND_TIME)
    }

    /// Counts one who connects by `transport`; `None`: a recorder, which is in no number.
    pub fn join(&mut self, transport: Option<ListenerTransport>) {
        match transport {
            Some(transport) => self.statistics.count_join(transport),
            None => self.uncounted += 1,
        }
    }

    /// Removes a connected listener that is in no number.
    pub fn leave_uncounted(&mut self) {
        self.uncounted -= 1;
    }

    /// Returns how many listen at this node, `connected` listeners among them.
    pub fn count(&self, connected: usize, now: UnixMillis) -> usize {
        self.pollers.count(now) + connected - self.uncounted
    }

    /// Forgets those who are gone.
    pub fn sweep(&mut self, now: UnixMillis) {
        self.pollers.sweep(now);
    }

    /// Adds `count` listeners at `now` to the statistics.
    pub fn sample(&mut self, count: usize, now: UnixMillis) {
        self.statistics.sample(count, now);
    }

    /// Returns whether those who are connected are to be told `count`.
    pub fn is_count_due(&mut self, count: usize, now: UnixMillis) -> bool {
        let due = self.told_count != count || now - self.told_at >= COUNT_AGAIN_AFTER;
        if due {
            (self.told_count, self.told_at) = (count, now);
        }
        due
    }

    /// Returns the most listeners that there were at once.
    pub fn peak(&self) -> usize {
        self.statistics.peak()
    }

    /// Returns the statistics of a session that began at `started` and has `count` listeners now.
    pub fn report(&self, started: UnixMillis, count: usize) -> StatisticsReport {
        self.statistics.report(started, count, self.pollers.joined())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn a_count_is_told_when_it_changes_and_from_time_to_time() {
        let mut listeners = ListenerState::new(at(0));
        let told: Vec<bool> = [(0, 0), (2, 100), (2, 200), (2, 15_099), (2, 15_100), (3, 15_101), (3, 15_102)]
            .map(|(count, now)| listeners.is_count_due(count, at(now)))
            .to_vec();
        assert_eq!(told, [false, true, false, false, true, true, false]);
    }

    #[test]
    fn a_recorder_is_in_no_number() {
        let mut listeners = ListenerState::new(at(0));
        listeners.join(Some(ListenerTransport::WebSocket));
        listeners.join(None);
        assert_eq!(listeners.count(2, at(0)), 1);
        listeners.leave_uncounted();
        assert_eq!(listeners.count(1, at(0)), 1);
    }

    #[test]
    fn a_poll_is_remembered_for_ten_seconds() {
        let mut listeners = ListenerState::new(at(50_000));
        assert_eq!(
            [49_000, 50_000].map(|now| listeners.has_polled(at(now))),
            [false; 2],
            "nobody has, also of a clock set back"
        );
        listeners.note_poll(at(50_000));
        assert_eq!([59_999, 60_000].map(|now| listeners.has_polled(at(now))), [true, false]);
    }
}
