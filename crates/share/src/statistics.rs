//! How a session is listened to: who came and by which way, how long all of them listened, and how many there were, minute
//! by minute. Bounded, whatever comes; times are milliseconds since the Unix epoch.

use std::collections::VecDeque;

use serde::Serialize;
use utoipa::ToSchema;

/// Minutes that are kept: four hours.
const MINUTES: usize = 240;
const MINUTE: i64 = 60_000;

/// How somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// Server-sent events, which have no sound.
    Events,
    /// `stream.ogg`.
    Ogg,
    /// `stream.wav`.
    Wav,
}

impl Transport {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "events",
            Self::Ogg => "ogg",
            Self::Wav => "wav",
        }
    }
}

/// How many came, by how they listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ByTransport {
    websocket: u64,
    /// Beside another way: events have no sound, and are in no other number.
    events: u64,
    ogg: u64,
    wav: u64,
    /// As far as they can be told apart.
    poll: u64,
}

/// The listeners of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Minute {
    /// Its beginning.
    at: i64,
    /// The most that there were in it.
    listeners: usize,
}

/// What is counted.
pub struct Statistics {
    at: i64,
    most: usize,
    /// Milliseconds, of all listeners together.
    listened: i64,
    by: ByTransport,
    minutes: VecDeque<Minute>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ShareStatistics, example = json!({"startTime": 1_234_567_890_123_i64, "listeners": 5, "most": 9,
    "joined": 14, "listenedSeconds": 3_600, "byTransport": {"websocket": 11, "events": 1, "ogg": 1, "wav": 0, "poll": 2},
    "minutes": [{"at": 1_234_567_890_123_i64, "listeners": 5}]}))]
pub struct Report {
    /// Milliseconds since the Unix epoch.
    start_time: i64,
    /// Now.
    listeners: usize,
    /// At once.
    most: usize,
    /// All that came; who comes twice counts twice.
    joined: u64,
    /// Of all listeners together.
    listened_seconds: i64,
    by_transport: ByTransport,
    /// Each minute's most listeners, oldest first: the last four hours.
    minutes: Vec<Minute>,
}

impl Statistics {
    /// Of a session that begins now.
    pub fn new(now: i64) -> Self {
        let minutes = VecDeque::from([Minute { at: now, listeners: 0 }]);
        Self { at: now, most: 0, listened: 0, by: ByTransport::default(), minutes }
    }

    /// Somebody came.
    pub fn joined(&mut self, transport: Transport) {
        let count = match transport {
            Transport::WebSocket => &mut self.by.websocket,
            Transport::Events => &mut self.by.events,
            Transport::Ogg => &mut self.by.ogg,
            Transport::Wav => &mut self.by.wav,
        };
        *count += 1;
    }

    /// So many were there since the last time, and are there now.
    pub fn tick(&mut self, listeners: usize, now: i64) {
        // A clock that was set back counts nothing.
        let passed = (now - self.at).max(0);
        self.at = now;
        self.listened += i64::try_from(listeners).unwrap_or(i64::MAX).saturating_mul(passed);
        self.most = self.most.max(listeners);
        match self.minutes.back_mut() {
            Some(minute) if now - minute.at < MINUTE => minute.listeners = minute.listeners.max(listeners),
            _ => self.minutes.push_back(Minute { at: now, listeners }),
        }
        if self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
    }

    /// The most that there were at once.
    pub fn most(&self) -> usize {
        self.most
    }

    /// All of it, with what others count: when the session began, who listens now, how many came to poll.
    pub fn report(&self, start_time: i64, listeners: usize, poll: u64) -> Report {
        let by = ByTransport { poll, ..self.by };
        Report {
            start_time,
            listeners,
            most: self.most.max(listeners),
            joined: by.websocket + by.ogg + by.wav + by.poll,
            listened_seconds: self.listened / 1000,
            by_transport: by,
            minutes: self.minutes.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_added_up() {
        let mut statistics = Statistics::new(0);
        [Transport::WebSocket, Transport::Ogg, Transport::Events]
            .iter()
            .for_each(|transport| statistics.joined(*transport));
        for second in 1..=90 {
            statistics.tick(if second <= 60 { 2 } else { 1 }, second * 1000);
        }
        let report = statistics.report(0, 1, 3);
        assert_eq!((report.joined, report.most, report.listened_seconds), (5, 2, 150));
        assert_eq!(report.by_transport, ByTransport { websocket: 1, events: 1, ogg: 1, wav: 0, poll: 3 });
        assert_eq!(report.minutes, [Minute { at: 0, listeners: 2 }, Minute { at: 60_000, listeners: 2 }]);
    }

    #[test]
    fn four_hours_are_kept_and_a_clock_set_back_counts_nothing() {
        let mut statistics = Statistics::new(0);
        for second in 0..36_000 {
            statistics.tick(1, second * 1000);
        }
        let before = statistics.report(0, 1, 0);
        assert_eq!((before.minutes.len(), before.listened_seconds), (240, 35_999));
        assert_eq!(before.minutes.last().map(|minute| minute.at), Some(599 * 60_000));
        statistics.tick(1, 0);
        assert_eq!(statistics.report(0, 1, 0).listened_seconds, 35_999);
    }
}
