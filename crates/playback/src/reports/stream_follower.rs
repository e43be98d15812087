//! Start and Complete, derived from the streams of players that do not report by themselves.
//!
//! A playback is everything that one user fetches of one track without a pause of `IDLE_TIMEOUT`; it has one Start,
//! however many ranges it consists of. It has one Complete, when a stream delivers the last byte and at least half of
//! the track was delivered: a player that first reads the end has not played it. Bytes do not tell the time, so the
//! position is 0.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::{PlaybackAction, PlaybackReport, PlaybackReporter};
use primitives::lifecycle::BackgroundTasks;

/// Time without a stream after which the next one is another playback.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time after which a stream whose end was never notified counts as ended.
const MAX_STREAM_AGE: Duration = Duration::from_secs(86_400);
/// Stream events that wait in the queue.
const QUEUE_CAPACITY: usize = 4096;
/// Most playbacks that are followed at once.
const MAX_PLAYBACKS: usize = 100_000;

/// Event of a stream.
#[derive(Clone, Debug)]
pub struct StreamEvent {
    /// User who listens.
    pub user: Box<str>,
    /// Track that is streamed.
    pub track: Box<str>,
    /// Kind of the event.
    pub kind: StreamEventKind,
}

/// Kind of a stream event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEventKind {
    /// The stream begins.
    Started,
    /// The stream ended.
    Ended {
        /// Bytes that were sent.
        sent: u64,
        /// The track's size, where it is known.
        size: Option<u64>,
        /// True if the track's last byte was among them.
        last: bool,
    },
}

/// Follower of the streams. Clones notify the same follower.
#[derive(Clone)]
pub struct StreamFollower {
    queue: mpsc::Sender<StreamEvent>,
    playback: PlaybackReporter,
}

impl StreamFollower {
    /// Starts a follower that reports to `playback`.
    pub fn start(playback: PlaybackReporter, tasks: &BackgroundTasks) -> Self {
        let (queue, heard) = mpsc::channel(QUEUE_CAPACITY);
        tasks.spawn(follow(heard, playback.clone(), tasks.clone()));
        Self { queue, playback }
    }

    /// Queues a stream event; never waits. An event is counted as lost if the queue is full.
    pub fn notify(&self, heard: StreamEvent) {
        if self.queue.try_send(heard).is_err() {
            self.playback.events.record_lost(1);
        }
    }
}

async fn follow(mut heard: mpsc::Receiver<StreamEvent>, playback: PlaybackReporter, tasks: BackgroundTasks) {
    let mut playing = ActivePlaybacks::default();
    let mut sweep = tokio::time::interval(IDLE_TIMEOUT);
    // One sweep is enough after a delay: it removes everything that is idle by then.
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // In this order: events before the sweep, so that a playback with news is not removed, and the channel is
            // closed last.
            biased;
            told = heard.recv() => {
                let Some(told) = told else { return };
                match playing.apply(&told, Instant::now()) {
                    Ok(Some(action)) => playback.publish_derived(&told.user, &told.track, action).await,
                    Ok(None) => {}
                    Err(TooManyPlaybacks) => playback.events.record_lost(1),
                }
            }
            now = sweep.tick() => playing.sweep(now),
            // Closed and not dropped: the queued events are still taken, and `recv` then ends the loop.
            () = tasks.stopping() => heard.close(),
        }
    }
}

impl PlaybackReporter {
    async fn publish_derived(&self, user: &str, track: &str, action: PlaybackAction) {
        let report = PlaybackReport { action, position_ms: 0, timestamp: None, id: None };
        if let Some(event) = self.event(user, track, &report, self.clock.now()) {
            self.events.publish_or_drop(event).await;
        }
    }
}

/// Error: more playbacks than are followed.
#[derive(Debug, PartialEq, Eq)]
struct TooManyPlaybacks;

/// Playbacks under way, by user and track.
#[derive(Default)]
struct ActivePlaybacks(HashMap<(Box<str>, Box<str>), PlaybackState>);

struct PlaybackState {
    streams: u32,
    latest: Instant,
    delivered: u64,
    complete: bool,
}

impl PlaybackState {
    fn is_active(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.latest);
        idle < if self.streams > 0 { MAX_STREAM_AGE } else { IDLE_TIMEOUT }
    }
}

impl ActivePlaybacks {
    /// Applies a stream event; returns the action to report, if any.
    fn apply(&mut self, heard: &StreamEvent, now: Instant) -> Result<Option<PlaybackAction>, TooManyPlaybacks> {
        let key = (heard.user.clone(), heard.track.clone());
        match heard.kind {
            StreamEventKind::Started => {
                if let Some(state) = self.0.get_mut(&key).filter(|state| state.is_active(now)) {
                    state.streams += 1;
                    state.latest = now;
                    return Ok(None);
                }
                if self.0.len() >= MAX_PLAYBACKS {
                    return Err(TooManyPlaybacks);
                }
                self.0.insert(key, PlaybackState { streams: 1, latest: now, delivered: 0, complete: false });
                Ok(Some(PlaybackAction::Start))
            }
            StreamEventKind::Ended { sent, size, last } => {
                let Some(state) = self.0.get_mut(&key) else { return Ok(None) };
                state.streams = state.streams.saturating_sub(1);
                state.latest = now;
                state.delivered = state.delivered.saturating_add(sent);
                // Without a size there is nothing to compare with, so the last byte decides.
                let half = size.is_none_or(|size| state.delivered >= size / 2);
                let complete = last && half && !state.complete;
                state.complete |= complete;
                Ok(complete.then_some(PlaybackAction::Complete))
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, state| state.is_active(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: StreamEventKind = StreamEventKind::Started;

    fn ended(sent: u64, last: bool) -> StreamEventKind {
        StreamEventKind::Ended { sent, size: Some(1000), last }
    }

    /// Reports that follow from `told`, each event so many seconds after the one before.
    fn reported(told: &[(u64, StreamEventKind)]) -> Vec<PlaybackAction> {
        let (mut playing, mut now) = (ActivePlaybacks::default(), Instant::now());
        let hear = |&(after, what): &(u64, StreamEventKind)| {
            now += Duration::from_secs(after);
            playing.sweep(now);
            playing.apply(&StreamEvent { user: "u".into(), track: "t".into(), kind: what }, now).expect("few playbacks")
        };
        told.iter().filter_map(hear).collect()
    }

    #[test]
    fn a_playback_starts_once_and_completes_once() {
        use PlaybackAction::{Complete, Start};
        type Case<'a> = (&'a str, &'a [(u64, StreamEventKind)], &'a [PlaybackAction]);
        let cases: [Case<'_>; 9] = [
            ("one stream", &[(0, BEGAN), (200, ended(1000, true))], &[Start, Complete]),
            (
                "ranges one after the other",
                &[(0, BEGAN), (5, ended(500, false)), (50, BEGAN), (5, ended(500, true))],
                &[Start, Complete],
            ),
            (
                "ranges at once",
                &[(0, BEGAN), (0, BEGAN), (9, ended(600, false)), (9, ended(400, true))],
                &[Start, Complete],
            ),
            ("a look at the end", &[(0, BEGAN), (0, ended(10, true)), (0, BEGAN), (9, ended(100, false))], &[Start]),
            ("a stream that breaks off", &[(0, BEGAN), (9, ended(900, false))], &[Start]),
            (
                "the end twice",
                &[(0, BEGAN), (9, ended(1000, true)), (1, BEGAN), (1, ended(10, true))],
                &[Start, Complete],
            ),
            ("again after a pause", &[(0, BEGAN), (9, ended(10, false)), (61, BEGAN)], &[Start, Start]),
            ("a long stream", &[(0, BEGAN), (9000, ended(1000, true))], &[Start, Complete]),
            ("an end without a beginning", &[(0, ended(1000, true))], &[]),
        ];
        for (what, told, expected) in cases {
            assert_eq!(reported(told), expected, "{what}");
        }
    }
}
