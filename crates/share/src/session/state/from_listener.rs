//! Inputs of listeners at this node: polls, connections, greetings.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::backlog::BacklogWait;
use super::effect::{Effect, Effects};
use super::{AUDIO_LIFE, SessionState};
use crate::audio::chunk::AudioChunk;
use crate::audio::frame::Codec;
use crate::audio::packet_queue::{AudioFrame, StreamEpoch};
use crate::refusal::Refusal;
use crate::session::chat::ChatSnapshot;
use crate::session::metadata::SongMetadata;
use crate::session::pollers::PollAnswer;
use crate::session::statistics::{ListenerTransport, StatisticsReport};
use primitives::unix_time::UnixMillis;

/// Audio that a listener should keep ahead beyond one frame: for the network's jitter.
const JITTER_RESERVE: Duration = Duration::from_millis(300);

/// Greeting of a listener at its beginning, and whenever an epoch begins.
#[derive(Clone, Debug)]
pub struct StreamGreeting {
    /// Epoch and its format.
    pub epoch: StreamEpoch,
    /// Number of the next packet.
    pub sequence: u32,
    /// Audio that a listener should keep ahead.
    pub target: Duration,
    /// Audio of one frame.
    pub cadence: Duration,
    /// Listeners at all nodes.
    pub listeners: usize,
    /// False while a host that sends over a socket has lost it.
    pub host: bool,
    /// Metadata of the song, while it is fresh.
    pub metadata: Option<Arc<SongMetadata>>,
    /// Chat as it is.
    pub chat: ChatSnapshot,
    /// True while the session is recorded; `None` where it cannot be.
    pub recording: Option<bool>,
}

impl SessionState {
    /// Prepares a poll: asks the other nodes for audio, and for a transcoder where floats have to be made. The poll itself
    /// is [`Self::poll_chunks`], once the shell has performed the effects.
    pub fn prepare_poll(&mut self, now: UnixMillis, effects: &mut Effects) -> Result<(), Refusal> {
        self.check_live()?;
        self.need_audio(now, effects);
        self.listeners.note_poll(now);
        self.audio.require(Codec::F32, effects);
        Ok(())
    }

    /// Returns the chunks after number `since`. Fails where floats cannot be made, and where the listener polls too often.
    pub fn poll_chunks(
        &mut self,
        address: IpAddr,
        since: i64,
        now: UnixMillis,
    ) -> Result<Vec<Arc<AudioChunk>>, Refusal> {
        self.audio.check_available(Codec::F32)?;
        self.audio.forget_before(now - AUDIO_LIFE);
        let audio = &self.audio;
        self.listeners.pollers.poll(address, since, now, || {
            // Only here: a listener over its limit is refused before anything is read for it.
            let chunks = audio.chunks_after(since);
            let newest = chunks.last().map_or(since, |chunk| chunk.header.sequence);
            PollAnswer { newest, is_newest: audio.newest_chunk() == Some(newest), value: chunks }
        })
    }

    /// Counts a request for metadata or status. Fails where there are too many.
    pub fn count_look(&mut self, address: IpAddr, now: UnixMillis) -> Result<(), Refusal> {
        self.listeners.count_look(address, now)
    }

    /// Prepares for a listener of `codec`: asks the other nodes for audio, and for a transcoder where it has to be made.
    /// The listener itself is [`Self::connect_listener`], once the shell has performed the effects.
    pub fn require(&mut self, codec: Codec, now: UnixMillis, effects: &mut Effects) -> Result<(), Refusal> {
        self.check_live()?;
        self.need_audio(now, effects);
        self.audio.require(codec, effects);
        Ok(())
    }

    /// Adds a connected listener. Fails where its codec cannot be made.
    pub fn connect_listener(&mut self, codec: Codec, transport: ListenerTransport) -> Result<(), Refusal> {
        self.audio.check_available(codec)?;
        self.audio.add_listener(codec);
        self.listeners.join(Some(transport));
        Ok(())
    }

    /// Adds a recorder: a listener of Opus that is in no number.
    pub(super) fn connect_recorder(&mut self) -> Result<(), Refusal> {
        self.audio.check_available(Codec::Opus)?;
        self.audio.add_listener(Codec::Opus);
        self.listeners.join(None);
        Ok(())
    }

    /// Removes a connected listener; `counted` is false for a recorder.
    pub fn disconnect_listener(&mut self, codec: Codec, counted: bool) {
        self.audio.remove_listener(codec);
        if !counted {
            self.listeners.leave_uncounted();
        }
    }

    /// Counts one who is told events without audio.
    pub fn join_events(&mut self) -> Result<(), Refusal> {
        self.check_live()?;
        self.listeners.join(Some(ListenerTransport::Events));
        Ok(())
    }

    /// Returns the greeting of a listener of `codec` who begins now, and the last of the audio that was sent.
    pub fn greet(&mut self, codec: Codec, now: UnixMillis) -> (StreamGreeting, Option<Arc<AudioFrame>>) {
        let target = self.audio.cadence() + JITTER_RESERVE;
        let (epoch, sequence, snapshot) = self.audio.snapshot(codec, target);
        (self.greet_epoch(epoch, sequence, now), snapshot)
    }

    /// Returns the greeting before the packet of this number, the first of its epoch.
    pub fn greet_epoch(&self, epoch: StreamEpoch, sequence: u32, now: UnixMillis) -> StreamGreeting {
        let cadence = self.audio.cadence();
        StreamGreeting {
            epoch,
            sequence,
            target: cadence + JITTER_RESERVE,
            cadence,
            listeners: self.listener_count(now),
            host: self.has_host(),
            metadata: self.fresh_metadata(now),
            chat: self.chat_snapshot(),
            recording: self.is_recorded(),
        }
    }

    /// Notes that `address` was let in.
    pub fn note_guest(&mut self, address: IpAddr, now: UnixMillis) {
        self.listeners.note_guest(address, now);
    }

    /// Returns whether `address` was let in before.
    pub fn is_guest(&mut self, address: IpAddr, now: UnixMillis) -> bool {
        self.listeners.is_guest(address, now)
    }

    /// Returns the statistics of a session that began at `started`, also once it has ended.
    pub fn statistics(&self, started: UnixMillis, now: UnixMillis) -> StatisticsReport {
        // Connections may outlast the session for a moment.
        let count = if self.ended.is_some() { 0 } else { self.listener_count(now) };
        self.listeners.report(started, count)
    }

    /// Asks the other nodes for audio where nobody here has needed it so far.
    fn need_audio(&mut self, now: UnixMillis, effects: &mut Effects) {
        if self.config.is_replicated && !self.needs_audio(now) {
            // Audio that is on its way already must not come before the backlog.
            self.replica.backlog_wait = Some(BacklogWait::new(now));
            // Somebody may have needed it a moment ago: the backlog would bring the last of that once more.
            self.audio.clear(effects);
            effects.push(Effect::RequestHeartbeat);
        }
    }
}
