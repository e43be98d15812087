//! Statistics of a session's listeners: by which way they came, how long all of them listened, and how many there were,
//! minute by minute. Bounded, whatever comes.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use primitives::unix_time::UnixMillis;

/// Minutes that are kept: four hours.
const KEPT_MINUTES: usize = 240;
const MINUTE: Duration = Duration::from_secs(60);

/// Way in which a listener is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTransport {
    /// A WebSocket.
    WebSocket,
    /// Server-sent events, which have no sound.
    Events,
    /// `stream.ogg`.
    Ogg,
    /// `stream.wav`.
    Wav,
}

impl ListenerTransport {
    /// Returns the name of the way.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "events",
            Self::Ogg => "ogg",
            Self::Wav => "wav",
        }
    }
}

/// Listeners that came, by the way in which they listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ByTransport)]
pub struct JoinsByTransport {
    websocket: u64,
    /// Beside another way: events have no sound, and are in no other number.
    events: u64,
    ogg: u64,
    wav: u64,
    /// As far as they can be told apart.
    poll: u64,
}

/// Listeners of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Minute)]
pub struct MinuteListeners {
    /// Beginning of the minute.
    #[schema(value_type = i64)]
    at: UnixMillis,
    /// Most listeners in it.
    listeners: usize,
}

/// Statistics as they are counted.
pub struct ListenerStatistics {
    sampled_at: UnixMillis,
    peak: usize,
    /// Time of all listeners together.
    listened: Duration,
    joins: JoinsByTransport,
    minutes: VecDeque<MinuteListeners>,
}

/// Statistics as they are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ShareStatistics, example = json!({"startTime": 1_234_567_890_123_i64, "listeners": 5, "most": 9,
    "joined": 14, "listenedSeconds": 3_600, "byTransport": {"websocket": 11, "events": 1, "ogg": 1, "wav": 0, "poll": 2},
    "minutes": [{"at": 1_234_567_890_123_i64, "listeners": 5}]}))]
pub struct StatisticsReport {
    /// Milliseconds since the Unix epoch.
    #[schema(value_type = i64)]
    start_time: UnixMillis,
    /// Listeners now.
    listeners: usize,
    /// Most listeners at once.
    most: usize,
    /// All that came; who comes twice counts twice.
    joined: u64,
    /// Seconds of all listeners together.
    listened_seconds: i64,
    by_transport: JoinsByTransport,
    /// Each minute's most listeners, oldest first: the last four hours.
    minutes: Vec<MinuteListeners>,
}

impl ListenerStatistics {
    /// Creates the statistics of a session that begins now.
    pub fn new(now: UnixMillis) -> Self {
        let minutes = VecDeque::from([MinuteListeners { at: now, listeners: 0 }]);
        Self { sampled_at: now, peak: 0, listened: Duration::ZERO, joins: JoinsByTransport::default(), minutes }
    }

    /// Counts a listener that comes.
    pub fn count_join(&mut self, transport: ListenerTransport) {
        let count = match transport {
            ListenerTransport::WebSocket => &mut self.joins.websocket,
            ListenerTransport::Events => &mut self.joins.events,
            ListenerTransport::Ogg => &mut self.joins.ogg,
            ListenerTransport::Wav => &mut self.joins.wav,
        };
        *count += 1;
    }

    /// Adds that so many listened since the last time.
    pub fn sample(&mut self, listeners: usize, now: UnixMillis) {
        // A clock that was set back counts nothing.
        let passed = now - self.sampled_at;
        self.sampled_at = now;
        let listened = passed.saturating_mul(u32::try_from(listeners).unwrap_or(u32::MAX));
        self.listened = self.listened.saturating_add(listened);
        self.peak = self.peak.max(listeners);
        match self.minutes.back_mut() {
            Some(minute) if now - minute.at < MINUTE => minute.listeners = minute.listeners.max(listeners),
            _ => self.minutes.push_back(MinuteListeners { at: now, listeners }),
        }
        if self.minutes.len() > KEPT_MINUTES {
            self.minutes.pop_front();
        }
    }

    /// Returns the most listeners at once.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Returns the statistics, with what others count: when the session began, who listens now, how many came to poll.
    pub fn report(&self, start_time: UnixMillis, listeners: usize, poll: u64) -> StatisticsReport {
        let by = JoinsByTransport { poll, ..self.joins };
        StatisticsReport {
            start_time,
            listeners,
            // Somebody may have come since the last sample.
            most: self.peak.max(listeners),
            joined: by.websocket + by.ogg + by.wav + by.poll,
            listened_seconds: i64::try_from(self.listened.as_secs()).unwrap_or(i64::MAX),
            by_transport: by,
            minutes: self.minutes.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn listeners_are_added_up() {
        let mut statistics = ListenerStatistics::new(at(0));
        [ListenerTransport::WebSocket, ListenerTransport::Ogg, ListenerTransport::Events]
            .iter()
            .for_each(|transport| statistics.count_join(*transport));
        for second in 1..=90 {
            statistics.sample(if second <= 60 { 2 } else { 1 }, at(second * 1000));
        }
        let report = statistics.report(at(0), 1, 3);
        assert_eq!((report.joined, report.most, report.listened_seconds), (5, 2, 150));
        assert_eq!(report.by_transport, JoinsByTransport { websocket: 1, events: 1, ogg: 1, wav: 0, poll: 3 });
        assert_eq!(
            report.minutes,
            [MinuteListeners { at: at(0), listeners: 2 }, MinuteListeners { at: at(60_000), listeners: 2 }]
        );
    }

    #[test]
    fn four_hours_are_kept_and_a_clock_set_back_counts_nothing() {
        let mut statistics = ListenerStatistics::new(at(0));
        for second in 0..36_000 {
            statistics.sample(1, at(second * 1000));
        }
        let before = statistics.report(at(0), 1, 0);
        assert_eq!((before.minutes.len(), before.listened_seconds), (240, 35_999));
        assert_eq!(before.minutes.last().map(|minute| minute.at), Some(at(599 * 60_000)));
        statistics.sample(1, at(0));
        assert_eq!(statistics.report(at(0), 1, 0).listened_seconds, 35_999);
    }
}
