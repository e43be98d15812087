//! Queues of pushed audio, one for each codec of a session: packets gather in frames, each frame is made once for all
//! listeners, and enough of the past is kept for one who joins or has fallen behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::chunk::{self, AudioChunk};
use super::frame::{self, Codec, FrameHeader, MAX_PACKET_BYTES};
use primitives::unix_time::UnixMicros;

/// Packets of one frame at most.
const MAX_FRAME_PACKETS: usize = 512;

/// Format of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// Sample rate in hertz.
    pub sample_rate: u32,
    /// Channels: 1 or 2.
    pub channels: u16,
}

/// Packet of audio.
#[derive(Clone, Debug)]
pub struct AudioPacket {
    /// Payload: a packet of Opus, or floats.
    pub bytes: Bytes,
    /// Sample frames (samples per channel) that it plays.
    pub frames: u32,
    /// Server time of the packet.
    pub server_time: UnixMicros,
}

/// Frame of packets as it is sent to listeners.
#[derive(Debug)]
pub struct AudioFrame {
    /// Codec of the packets.
    pub codec: Codec,
    /// Epoch that the frame belongs to.
    pub epoch: StreamEpoch,
    /// Sequence number of the first packet.
    pub first_sequence: u32,
    /// Sequence number after the last packet.
    pub end_sequence: u32,
    /// Bytes of the frame, with its header.
    pub bytes: Bytes,
}

/// Epoch: audio without a break, in one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEpoch {
    /// Number of the epoch; 0 until there was audio.
    pub number: u32,
    /// Format of its audio; `None` until there was audio.
    pub format: Option<AudioFormat>,
}

/// Packets of one codec: some wait for their frame, those before them are kept for listeners that begin.
pub struct PacketQueue {
    codec: Codec,
    epoch: StreamEpoch,
    window: Duration,
    /// Time that all packets play.
    held: Duration,
    /// Packets, oldest first; the last `pending` of them are in no frame yet.
    packets: VecDeque<AudioPacket>,
    pending: usize,
    next_sequence: u32,
    /// Sample time of the next packet.
    next_sample_time: u32,
    discontinuity: bool,
}

impl PacketQueue {
    /// Creates an empty queue that keeps `window` of audio.
    pub fn new(codec: Codec, window: Duration) -> Self {
        let epoch = StreamEpoch { number: 0, format: None };
        Self {
            codec,
            epoch,
            window,
            held: Duration::ZERO,
            packets: VecDeque::new(),
            pending: 0,
            next_sequence: 0,
            next_sample_time: 0,
            discontinuity: false,
        }
    }

    /// Returns the epoch.
    pub fn epoch(&self) -> StreamEpoch {
        self.epoch
    }

    /// Begins an epoch; returns the last frame of the one before, if packets of that were left.
    pub fn begin_epoch(&mut self, number: u32, format: AudioFormat) -> Option<Arc<AudioFrame>> {
        let last = self.flush(true);
        self.epoch = StreamEpoch { number, format: Some(format) };
        self.packets.clear();
        self.held = Duration::ZERO;
        // Sample times count from the epoch's beginning; packet numbers go on over all epochs.
        (self.next_sample_time, self.discontinuity) = (0, true);
        last
    }

    /// Returns the sequence number of the first packet of the next frame.
    pub fn next_frame_sequence(&self) -> u32 {
        self.next_sequence.wrapping_sub(u32::try_from(self.pending).unwrap_or(0))
    }

    /// Leaves out the numbers of `count` packets that are missing, of so many sample frames each. Returns a frame of the
    /// packets before them: the numbers in a frame have no holes.
    pub fn skip_missing(&mut self, count: u32, frames: u32) -> Option<Arc<AudioFrame>> {
        let before = self.flush(false);
        self.next_sequence = self.next_sequence.wrapping_add(count);
        self.next_sample_time = self.next_sample_time.wrapping_add(count.wrapping_mul(frames));
        before
    }

    /// Adds a packet; returns a frame whenever `cadence` of audio has gathered.
    pub fn push(&mut self, packet: AudioPacket, cadence: Duration) -> Option<Arc<AudioFrame>> {
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.next_sample_time = self.next_sample_time.wrapping_add(packet.frames);
        let own = self.play_duration(packet.frames);
        self.packets.push_back(packet);
        self.held += own;
        self.pending += 1;
        self.trim();
        // Nearest to the cadence: half a packet early rather than half a packet late.
        let full = self.pending_duration() + own / 2 >= cadence;
        (full || self.pending >= MAX_FRAME_PACKETS).then(|| self.flush(false)).flatten()
    }

    /// Returns a frame of the packets that wait, if there are any; `last`: the epoch ends with it.
    pub fn flush(&mut self, last: bool) -> Option<Arc<AudioFrame>> {
        if self.pending == 0 {
            return None;
        }
        let from = self.packets.len() - self.pending;
        let frame = self.build_frame(from, self.packets.len(), last, self.discontinuity);
        (self.pending, self.discontinuity) = (0, false);
        Some(frame)
    }

    /// Returns the server time of the oldest packet that is in no frame yet.
    pub fn waiting_since(&self) -> Option<UnixMicros> {
        self.packets.get(self.packets.len() - self.pending).map(|packet| packet.server_time)
    }

    /// Returns a frame of the last `target` of what was sent, for a listener that begins here.
    pub fn snapshot(&self, target: Duration) -> Option<Arc<AudioFrame>> {
        let end = self.packets.len() - self.pending;
        let mut length = Duration::ZERO;
        let mut from = end;
        while from > 0 && length < target && end - from < MAX_FRAME_PACKETS {
            from -= 1;
            length += self.play_duration(self.packets[from].frames);
        }
        (from < end).then(|| self.build_frame(from, end, false, true))
    }

    /// Returns the last `count` packets at most, oldest first.
    pub fn newest_packets(&self, count: usize) -> Vec<AudioPacket> {
        self.packets.range(self.packets.len().saturating_sub(count)..).cloned().collect()
    }

    /// Drops all packets; numbers go on, and the next packet does not follow those before.
    pub fn clear(&mut self) {
        // Not `clear`: sessions that nobody listens to should not hold memory.
        self.packets = VecDeque::new();
        (self.pending, self.held, self.discontinuity) = (0, Duration::ZERO, true);
    }

    fn build_frame(&self, from: usize, to: usize, last: bool, discontinuity: bool) -> Arc<AudioFrame> {
        let packets = self.packets.range(from..to);
        let after = self.packets.range(from..);
        // Both wrap; at most MAX_FRAME_PACKETS lie between.
        let first = self.next_sequence.wrapping_sub(u32::try_from(after.len()).unwrap_or(0));
        let frames = after.fold(0_u32, |sum, packet| sum.wrapping_add(packet.frames));
        let head = FrameHeader {
            codec: self.codec,
            discontinuity,
            ends_epoch: last,
            sequence: first,
            server_time: self.packets.get(from).map_or(UnixMicros::EPOCH, |packet| packet.server_time),
            sample_time: self.next_sample_time.wrapping_sub(frames),
        };
        let end = first.wrapping_add(u32::try_from(to - from).unwrap_or(0));
        let bytes = frame::encode(&head, packets.map(|packet| &packet.bytes));
        Arc::new(AudioFrame { codec: self.codec, epoch: self.epoch, first_sequence: first, end_sequence: end, bytes })
    }

    fn trim(&mut self) {
        while self.held > self.window && self.packets.len() > self.pending.max(1) {
            let old = self.packets.pop_front().map_or(0, |old| old.frames);
            self.held = self.held.saturating_sub(self.play_duration(old));
        }
    }

    fn pending_duration(&self) -> Duration {
        self.packets.iter().rev().take(self.pending).map(|packet| self.play_duration(packet.frames)).sum()
    }

    fn play_duration(&self, frames: u32) -> Duration {
        chunk::play_duration(frames as usize, self.epoch.format.map_or(48_000, |format| format.sample_rate))
    }
}

/// Cuts the samples of a chunk into packets, which share its memory.
pub fn packets_of(chunk: &AudioChunk) -> Vec<AudioPacket> {
    let (samples, frame) = (chunk.samples(), 4 * usize::from(chunk.header.channels));
    let most = MAX_PACKET_BYTES / frame * frame;
    let parts = samples.chunks(most).enumerate().map(|(number, part)| AudioPacket {
        bytes: samples.slice_ref(part),
        frames: u32::try_from(part.len() / frame).unwrap_or(u32::MAX),
        server_time: chunk.arrived_at + chunk::play_duration(number * most / frame, chunk.header.sample_rate),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: AudioFormat = AudioFormat { sample_rate: 48_000, channels: 2 };

    fn queue() -> PacketQueue {
        let mut queue = PacketQueue::new(Codec::Opus, Duration::from_secs(5));
        assert!(queue.begin_epoch(1, FORMAT).is_none());
        queue
    }

    fn push(queue: &mut PacketQueue, count: u32) -> Vec<Arc<AudioFrame>> {
        let packet = |number: u32| AudioPacket {
            bytes: Bytes::copy_from_slice(&number.to_be_bytes()),
            frames: 960,
            server_time: UnixMicros::new(i64::from(number) * 20_000),
        };
        (0..count).filter_map(|_| queue.push(packet(queue.next_sequence), Duration::from_millis(100))).collect()
    }

    fn numbers(frame: &AudioFrame) -> Vec<u32> {
        let (head, packets) = frame::decode(frame.bytes.clone()).expect("a frame");
        let numbers: Vec<u32> =
            packets.iter().map(|packet| u32::from_be_bytes(packet[..].try_into().expect("four bytes"))).collect();
        assert_eq!((head.sequence, frame.first_sequence), (numbers[0], numbers[0]));
        assert_eq!(
            (head.sample_time, head.server_time),
            (numbers[0] * 960, UnixMicros::new(i64::from(numbers[0]) * 20_000))
        );
        assert_eq!(frame.end_sequence - frame.first_sequence, u32::try_from(numbers.len()).expect("few"));
        numbers
    }

    #[test]
    fn a_frame_holds_the_cadence() {
        let frames = push(&mut queue(), 12);
        assert_eq!(frames.iter().map(|frame| numbers(frame)).collect::<Vec<_>>(), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]);
        let heads: Vec<FrameHeader> =
            frames.iter().map(|frame| frame::decode(frame.bytes.clone()).expect("a frame").0).collect();
        assert_eq!(heads.iter().map(|head| head.discontinuity).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_snapshot_is_the_last_of_what_was_sent_and_nothing_twice() {
        let mut queue = queue();
        push(&mut queue, 12);
        let snapshot = queue.snapshot(Duration::from_millis(60)).expect("there is audio");
        assert_eq!(numbers(&snapshot), [7, 8, 9]);
        assert_eq!(numbers(&push(&mut queue, 3)[0]), [10, 11, 12, 13, 14]);
        assert!(PacketQueue::new(Codec::Opus, Duration::from_secs(1)).snapshot(Duration::from_secs(1)).is_none());
    }

    #[test]
    fn an_epoch_ends_with_its_last_frame_and_its_numbers_go_on() {
        let mut queue = queue();
        push(&mut queue, 7);
        let last = queue.begin_epoch(2, FORMAT).expect("two packets were left");
        let (head, packets) = frame::decode(last.bytes.clone()).expect("a frame");
        assert!(head.ends_epoch && packets.len() == 2 && last.epoch.number == 1);
        assert!(queue.snapshot(Duration::from_secs(1)).is_none(), "nothing of the epoch before");
        let first = &push(&mut queue, 5)[0];
        assert_eq!((first.epoch.number, first.first_sequence), (2, 7));
    }

    #[test]
    fn packets_before_a_hole_keep_their_numbers() {
        let mut queue = queue();
        push(&mut queue, 2);
        assert_eq!((queue.next_frame_sequence(), queue.next_sequence), (0, 2), "two wait for their frame");
        assert_eq!(numbers(&queue.skip_missing(3, 960).expect("two packets waited")), [0, 1]);
        assert_eq!(queue.next_frame_sequence(), 5);
        assert_eq!(numbers(&push(&mut queue, 5)[0]), [5, 6, 7, 8, 9]);
    }

    #[test]
    fn it_keeps_its_window() {
        let mut queue = queue();
        push(&mut queue, 1000);
        assert_eq!(queue.packets.len(), 250);
        assert!(queue.skip_missing(3, 960).is_none(), "all are in frames");
        assert_eq!(queue.next_sequence, 1003);
    }
}
