//! Audio of a session: in order from the host, into the ring for those who poll and the queues for those who are pushed
//! to, and through the transcoder while somebody needs the codec that the host does not send.

mod transcoding;

use std::sync::Arc;
use std::time::Duration;

use super::effect::{Effect, Effects};
use crate::audio::chunk::AudioChunk;
use crate::audio::chunk_ring::{ChunkRing, MAX_POLL_CHUNKS};
use crate::audio::frame::{Codec, FrameHeader};
use crate::audio::opus::OPUS_FORMAT;
use crate::audio::packet_queue::{self, AudioFormat, AudioFrame, AudioPacket, PacketQueue, StreamEpoch};
use crate::audio::reorder_buffer::{ChunkOutcome, Continuity, ReorderBuffer};
use crate::audio::transcode::{TRANSCODED_FORMAT, TranscodeInput};
use primitives::unix_time::UnixMillis;

/// Packets that may be missing before it is a new epoch: a second of packets of 20 ms.
const EPOCH_JUMP_PACKETS: u32 = 50;
/// Packets that play about as long as the chunks of one poll.
const BACKLOG_PACKETS: usize = MAX_POLL_CHUNKS * 5;
/// Cadences after which packets that have not filled a frame are sent all the same.
const LATE_CADENCES: u32 = 2;
/// Bytes of a host per second of the buffer, and beyond them: its byte limit and burst (see `HostLimits`).
const MEBIBYTE: usize = 1 << 20;

/// Audio of a session, and how many listen to each codec of it.
pub struct AudioState {
    /// Codec that the host sends.
    source: Codec,
    epoch: u32,
    cadence: Duration,
    reorder: ReorderBuffer,
    ring: ChunkRing,
    /// Chunks that came since the epoch began.
    epoch_chunks: usize,
    opus: PacketQueue,
    floats: PacketQueue,
    /// True from the wish for a transcoder to its stop or refusal.
    transcoding: bool,
    /// Number of the transcoder that was asked for last.
    transcoder: u64,
    /// Number of the next chunk that is made from Opus.
    next_made: i64,
    /// Number of the host's next packet; `None` before its first.
    next_packet: Option<u32>,
    /// Connected listeners by codec.
    listeners: [usize; 2],
}

impl AudioState {
    /// Creates the state of a session without audio, which keeps `buffer` of it.
    pub fn new(buffer: Duration) -> Self {
        Self {
            source: Codec::F32,
            epoch: 0,
            cadence: Duration::ZERO,
            reorder: ReorderBuffer::default(),
            ring: ChunkRing::new(buffer, max_ring_bytes(buffer)),
            epoch_chunks: 0,
            opus: PacketQueue::new(Codec::Opus, buffer),
            floats: PacketQueue::new(Codec::F32, buffer),
            transcoding: false,
            transcoder: 0,
            next_made: 0,
            next_packet: None,
            listeners: [0; 2],
        }
    }

    /// Sets how much audio a pushed frame holds from now on.
    pub fn set_cadence(&mut self, cadence: Duration) {
        self.cadence = cadence;
    }

    /// Returns how much audio a pushed frame holds.
    pub fn cadence(&self) -> Duration {
        self.cadence
    }

    /// Takes a chunk that came at `now`.
    pub fn receive_chunk(&mut self, chunk: Arc<AudioChunk>, now: UnixMillis, effects: &mut Effects) -> ChunkOutcome {
        self.change_source(Codec::F32, effects);
        let mut ready = Vec::new();
        let outcome = self.reorder.offer(chunk, now, &mut ready);
        self.accept_chunks(ready, effects);
        outcome
    }

    /// Takes the packets of a frame; returns the bytes of those that were new.
    pub fn receive_packets(
        &mut self,
        header: &FrameHeader,
        mut packets: Vec<AudioPacket>,
        effects: &mut Effects,
    ) -> u64 {
        self.change_source(Codec::Opus, effects);
        self.align_packets(header, &mut packets, effects);
        let length = packets.iter().map(|packet| packet.bytes.len() as u64).sum();
        if self.transcoding {
            effects.push(Effect::Transcode(TranscodeInput::Packets(packets.clone())));
        }
        self.push_packets(Codec::Opus, packets, effects);
        length
    }

    /// Gives out chunks that have waited too long for those before them, and frames that fill too slowly.
    pub fn tick(&mut self, now: UnixMillis, effects: &mut Effects) {
        let mut ready = Vec::new();
        self.reorder.release(now, &mut ready);
        self.accept_chunks(ready, effects);
        let late = now.to_micros() - self.cadence.saturating_mul(LATE_CADENCES);
        for codec in [Codec::Opus, Codec::F32] {
            let queue = self.queue(codec);
            if queue.waiting_since().is_some_and(|since| since < late) {
                effects.notify_frame(queue.flush(false));
            }
        }
    }

    /// Forgets chunks that came before `time`.
    pub fn forget_before(&mut self, time: UnixMillis) {
        self.ring.forget_before(time.to_micros());
    }

    /// Returns the chunks after number `since`, and whether the last of them is the newest.
    pub fn chunks_after(&self, since: i64) -> Vec<Arc<AudioChunk>> {
        self.ring.after(since).cloned().collect()
    }

    /// Returns the number of the newest chunk.
    pub fn newest_chunk(&self) -> Option<i64> {
        self.ring.newest_sequence()
    }

    /// Adds a listener of `codec`.
    pub fn add_listener(&mut self, codec: Codec) {
        // Opus is always queued, floats are not.
        if codec == Codec::F32 && self.listeners[codec as usize] == 0 {
            self.refill_floats();
        }
        self.listeners[codec as usize] += 1;
    }

    /// Removes a listener of `codec`.
    pub fn remove_listener(&mut self, codec: Codec) {
        self.listeners[codec as usize] -= 1;
    }

    /// Returns the number of connected listeners, of all codecs.
    pub fn listeners(&self) -> usize {
        self.listeners.iter().sum()
    }

    /// Returns the epoch and the next packet's number of `codec`, and a frame of the last `target` of what was sent.
    pub fn snapshot(&mut self, codec: Codec, target: Duration) -> (StreamEpoch, u32, Option<Arc<AudioFrame>>) {
        let queue = self.queue(codec);
        let snapshot = queue.snapshot(target);
        let sequence = snapshot.as_ref().map_or(queue.next_frame_sequence(), |frame| frame.first_sequence);
        (queue.epoch(), sequence, snapshot)
    }

    /// Returns the codec that the host sends.
    pub fn source(&self) -> Codec {
        self.source
    }

    /// Returns the chunks of the ring, newest first.
    pub fn newest_chunks(&self) -> impl Iterator<Item = &Arc<AudioChunk>> {
        self.ring.iter().rev()
    }

    /// Returns the chunks that wait for those before them, by their numbers.
    pub fn waiting_chunks(&self) -> impl Iterator<Item = &Arc<AudioChunk>> {
        self.reorder.waiting()
    }

    /// Returns the host's last packets, oldest first, and the number of the first; `None` before its first packet.
    pub fn newest_packets(&self) -> Option<(u32, Vec<AudioPacket>)> {
        let packets = self.opus.newest_packets(BACKLOG_PACKETS);
        let count = u32::try_from(packets.len()).ok().filter(|count| *count > 0)?;
        Some((self.next_packet?.wrapping_sub(count), packets))
    }

    /// Returns the epoch, the number of the host's next packet, and the packets that are held.
    #[cfg(test)]
    pub fn queued_opus(&self) -> (u32, Option<u32>, Vec<bytes::Bytes>) {
        let packets = self.opus.newest_packets(usize::MAX).into_iter().map(|packet| packet.bytes);
        (self.epoch, self.next_packet, packets.collect())
    }

    /// Sends what is left in the queues as the last frames.
    pub fn finish(&mut self, effects: &mut Effects) {
        for codec in [Codec::Opus, Codec::F32] {
            effects.notify_frame(self.queue(codec).flush(true));
        }
    }

    /// Forgets all audio; numbers go on.
    pub fn clear(&mut self, effects: &mut Effects) {
        self.stop_transcoder(effects);
        // Whatever comes next begins an epoch.
        (self.reorder, self.next_packet) = (ReorderBuffer::default(), None);
        self.ring.clear();
        self.opus.clear();
        self.floats.clear();
    }

    /// A host may change its codec while it is live; audio that was on its way in the other one is dropped.
    fn change_source(&mut self, codec: Codec, effects: &mut Effects) {
        if self.source != codec {
            self.stop_transcoder(effects);
            (self.source, self.next_packet, self.reorder) = (codec, None, ReorderBuffer::default());
        }
    }

    fn accept_chunks(&mut self, chunks: Vec<(Continuity, Arc<AudioChunk>)>, effects: &mut Effects) {
        for (continuity, chunk) in chunks {
            let format = AudioFormat { sample_rate: chunk.header.sample_rate, channels: chunk.header.channels };
            let before = self.newest_chunks().next().map(|last| (last.header.sample_rate, last.header.channels));
            let changed = before.is_some_and(|before| before != (format.sample_rate, format.channels));
            // Numbers in the ring rise, so that a poll finds its place: those from before cannot stay beside lower ones.
            if continuity == Continuity::Restart || self.ring.newest_sequence() >= Some(chunk.header.sequence) {
                self.ring.clear();
            }
            if changed || matches!(continuity, Continuity::JumpAhead | Continuity::Restart) {
                self.begin_epoch(format, effects);
            }
            if self.transcoding {
                effects.push(Effect::Transcode(TranscodeInput::Chunk(Arc::clone(&chunk))));
            }
            self.push_floats(&chunk, effects);
            self.keep_chunk(chunk);
        }
    }

    /// Compares a frame's number with the expected one: repeated packets go, a small hole is left open, and all else begins
    /// an epoch.
    fn align_packets(&mut self, header: &FrameHeader, packets: &mut Vec<AudioPacket>, effects: &mut Effects) {
        let count = u32::try_from(packets.len()).unwrap_or(u32::MAX);
        let ahead = self.next_packet.map(|expected| header.sequence.wrapping_sub(expected));
        match ahead {
            Some(0) if !header.discontinuity => {}
            Some(ahead @ 1..=EPOCH_JUMP_PACKETS) if !header.discontinuity => {
                let frames = packets.first().map_or(960, |packet| packet.frames);
                effects.notify_frame(self.opus.skip_missing(ahead, frames));
            }
            Some(behind) if !header.discontinuity && behind.wrapping_neg() <= EPOCH_JUMP_PACKETS => {
                let known = behind.wrapping_neg().min(count);
                packets.drain(..known as usize);
                if packets.is_empty() {
                    return;
                }
            }
            _ => self.begin_epoch(OPUS_FORMAT, effects),
        }
        // Not for packets that were all known: a frame that comes again must not take the number back.
        self.next_packet = Some(header.sequence.wrapping_add(count));
    }

    /// Begins an epoch: audio from here on does not follow what was sent before.
    fn begin_epoch(&mut self, format: AudioFormat, effects: &mut Effects) {
        self.epoch = self.epoch.wrapping_add(1);
        self.epoch_chunks = 0;
        // Whoever needs one gets a new one, which knows nothing of the audio before.
        self.stop_transcoder(effects);
        let floats = if self.source == Codec::F32 { format } else { TRANSCODED_FORMAT };
        effects.notify_frame(self.opus.begin_epoch(self.epoch, OPUS_FORMAT));
        effects.notify_frame(self.floats.begin_epoch(self.epoch, floats));
        if self.listeners[self.other_codec() as usize] > 0 {
            // Over the limit its listeners hear nothing until there is room: see `update_transcoder`.
            self.start_transcoder(effects);
        }
    }

    /// Floats become packets only while somebody listens to them.
    fn push_floats(&mut self, chunk: &AudioChunk, effects: &mut Effects) {
        if self.listeners[Codec::F32 as usize] > 0 {
            self.push_packets(Codec::F32, packet_queue::packets_of(chunk), effects);
        }
    }

    fn push_packets(&mut self, codec: Codec, packets: Vec<AudioPacket>, effects: &mut Effects) {
        let cadence = self.cadence;
        for packet in packets {
            effects.notify_frame(self.queue(codec).push(packet, cadence));
        }
    }

    /// Fills the queue of floats with the last of what came: nobody has listened to it for a while.
    fn refill_floats(&mut self) {
        let newest = self.newest_of_epoch();
        let Some(first) = newest.first() else { return };
        let format = AudioFormat { sample_rate: first.header.sample_rate, channels: first.header.channels };
        // Nobody was there to miss what was left in it.
        let _ = self.floats.begin_epoch(self.epoch, format);
        for packet in newest.iter().flat_map(|chunk| packet_queue::packets_of(chunk)) {
            let _ = self.floats.push(packet, Duration::MAX);
        }
        let _ = self.floats.flush(false);
    }

    fn keep_chunk(&mut self, chunk: Arc<AudioChunk>) {
        self.ring.push(chunk);
        self.epoch_chunks = self.epoch_chunks.saturating_add(1);
    }

    /// Returns the last chunks of the epoch, oldest first: those before it have been heard, and may have another format.
    fn newest_of_epoch(&self) -> Vec<Arc<AudioChunk>> {
        let mut newest: Vec<_> = self.newest_chunks().take(self.epoch_chunks.min(MAX_POLL_CHUNKS)).cloned().collect();
        newest.reverse();
        newest
    }

    fn queue(&mut self, codec: Codec) -> &mut PacketQueue {
        match codec {
            Codec::Opus => &mut self.opus,
            Codec::F32 => &mut self.floats,
        }
    }
}

/// Returns the bytes of audio that a host sends in `buffer` at most.
fn max_ring_bytes(buffer: Duration) -> usize {
    usize::try_from(buffer.as_secs()).unwrap_or(usize::MAX).saturating_add(5).saturating_mul(MEBIBYTE)
}

#[cfg(test)]
mod tests;
