//! Relay of one station: its last sound, and how many hold on to it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::chunk_ring::{ChunkRing, SoundChunk};
use super::station_board::{RelayState, StationBoard};
use crate::metrics::StreamEnd;
use crate::settings::Settings;
use crate::source::audio_format::AudioCodec;
use crate::station::Station;
use primitives::clock::monotonic_now;

/// Failures in a row after which a listener is not let in any more to wait.
const FAILURES_OF_SILENCE: u32 = 2;
/// Failures in a row within which a fallback station may still stand in.
const FAILURES_OF_FALLBACK: u32 = 3;

/// The relay.
pub struct StationRelay {
    /// The station.
    pub station: Station,
    /// Its board.
    pub board: Arc<StationBoard>,
    pub(super) sound: Mutex<RelaySound>,
    progress: watch::Sender<()>,
    attached: watch::Sender<usize>,
}

/// Sound of a relay.
pub(super) struct RelaySound {
    pub ring: ChunkRing,
    /// Codec of what is in the ring; `None` until there is sound.
    pub codec: Option<AudioCodec>,
    /// Attempts to connect that failed since there was sound.
    failures: u32,
    pub ended: Option<StreamEnd>,
    last_sound: Instant,
    /// Time at which its last holder let go.
    released_at: Instant,
}

/// Hold on a relay: while there is one, it goes on.
pub struct RelayHandle(Arc<StationRelay>);

impl StationRelay {
    /// Creates the relay of a station that nothing is known of.
    pub fn new(station: Station, board: Arc<StationBoard>, settings: &Settings) -> Arc<Self> {
        let sound = RelaySound {
            ring: ChunkRing::new(settings.queue_bytes),
            codec: None,
            failures: 0,
            ended: None,
            last_sound: Instant::from_std(monotonic_now()),
            released_at: Instant::from_std(monotonic_now()),
        };
        let (progress, attached) = (watch::Sender::new(()), watch::Sender::new(0));
        Arc::new(Self { station, board, sound: Mutex::new(sound), progress, attached })
    }

    /// Takes hold of it.
    pub fn attach(self: &Arc<Self>) -> RelayHandle {
        self.attached.send_modify(|count| *count += 1);
        RelayHandle(Arc::clone(self))
    }

    /// Returns true where nobody holds it.
    pub fn is_idle(&self) -> bool {
        *self.attached.borrow() == 0
    }

    /// Returns the time since which nobody holds it.
    pub fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then(|| self.sound.lock().released_at)
    }

    /// Returns the codec of its sound; `None` until there is some.
    pub fn codec(&self) -> Option<AudioCodec> {
        self.sound.lock().codec
    }

    /// Returns true where its listeners were told that it is over.
    pub fn has_ended(&self) -> bool {
        self.sound.lock().ended.is_some()
    }

    /// Resolves when its listeners were told that it is over.
    pub(super) async fn wait_until_ended(&self) {
        let mut progress = self.subscribe();
        // The sender is `self`.
        let _ = progress.wait_for(|_| self.has_ended()).await;
    }

    /// Resolves when nobody has held it for `linger`.
    pub(super) async fn wait_until_idle(&self, linger: Duration) {
        let mut attached = self.attached.subscribe();
        loop {
            // The sender is `self`.
            let _ = attached.wait_for(|count| *count == 0).await;
            tokio::select! {
                () = sleep(linger) => return,
                _ = attached.wait_for(|count| *count > 0) => {}
            }
        }
    }

    /// Begins the sound of a codec: listeners of another one cannot go on.
    pub(super) fn begin(&self, codec: AudioCodec) {
        let mut sound = self.sound.lock();
        if sound.codec.replace(codec).is_some_and(|before| before != codec) {
            sound.ring.clear();
        }
        sound.failures = 0;
        drop(sound);
        self.progress.send_replace(());
    }

    /// Adds a chunk.
    pub(super) fn push(&self, chunk: SoundChunk) {
        let mut sound = self.sound.lock();
        sound.ring.push(chunk);
        sound.last_sound = Instant::from_std(monotonic_now());
        drop(sound);
        self.progress.send_replace(());
    }

    /// Notes that an attempt to connect failed.
    pub(super) fn note_failure(&self) {
        self.sound.lock().failures += 1;
        self.progress.send_replace(());
    }

    /// Returns the time since the last sound.
    pub(super) fn silence(&self) -> Duration {
        Instant::from_std(monotonic_now()).duration_since(self.sound.lock().last_sound)
    }

    /// Ends it for all its listeners.
    pub fn end(&self, end: StreamEnd) {
        let mut sound = self.sound.lock();
        sound.ended.get_or_insert(end);
        sound.ring.clear();
        drop(sound);
        self.board.set_relay_state(RelayState::Idle);
        self.progress.send_replace(());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Resolves when there is sound, with its codec; `None` where there will be none for now.
    pub async fn ready(&self) -> Option<AudioCodec> {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            {
                let state = self.board.relay_state();
                let sound = self.sound.lock();
                let is_empty = sound.ring.burst_begin(1) == sound.ring.end();
                let is_silent = state == RelayState::Reconnecting && sound.failures >= FAILURES_OF_SILENCE;
                match sound.codec {
                    _ if sound.ended.is_some() => return None,
                    Some(codec) if !is_empty && !is_silent => return Some(codec),
                    _ if sound.failures > self.failures_with_hope() => return None,
                    _ => {}
                }
            }
            progress.changed().await.ok()?;
        }
    }

    fn failures_with_hope(&self) -> u32 {
        if self.station.fallback.is_some() { FAILURES_OF_FALLBACK } else { 0 }
    }
}

impl RelayHandle {
    /// Returns the relay.
    pub fn relay(&self) -> &Arc<StationRelay> {
        &self.0
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.0.sound.lock().released_at = Instant::from_std(monotonic_now());
        self.0.attached.send_modify(|count| *count -= 1);
    }
}
