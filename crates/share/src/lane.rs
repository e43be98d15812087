//! What is pushed in one codec: packets on their way into frames, each frame made once for all listeners, and enough of
//! the past for one who joins or has fallen behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::chunk;
use super::frame::{self, Codec, Head};

/// Packets of one frame at most.
const FRAME: usize = 512;

/// Rate and channels of a lane's audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame.
    pub channels: u16,
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// What it holds.
    pub bytes: Bytes,
    /// Frames (samples per channel) that it plays.
    pub frames: u32,
    /// The server's time of it, in microseconds.
    pub time: i64,
}

/// A frame as it is sent, and what its readers need to know of it.
#[derive(Debug)]
pub struct Frame {
    /// What its packets hold.
    pub codec: Codec,
    /// The epoch that it belongs to.
    pub epoch: Epoch,
    /// The number of its first packet.
    pub first: u32,
    /// The number after its last packet.
    pub end: u32,
    /// The frame.
    pub bytes: Bytes,
}

/// What is known of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number; 0 until there was audio.
    pub number: u32,
    /// Its audio's format; `None` until there was audio.
    pub format: Option<Format>,
}

/// The packets of one codec.
pub struct Lane {
    codec: Codec,
    epoch: Epoch,
    window: i64,
    /// Oldest first; the last `pending` of them are in no frame yet.
    packets: VecDeque<Packet>,
    pending: usize,
    next: u32,
    /// Sample time of the next packet.
    sample: u32,
    broken: bool,
}

impl Lane {
    /// An empty lane that keeps `window` of audio.
    pub fn new(codec: Codec, window: Duration) -> Self {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let epoch = Epoch { number: 0, format: None };
        Self { codec, epoch, window, packets: VecDeque::new(), pending: 0, next: 0, sample: 0, broken: false }
    }

    /// The epoch now.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of the next packet.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Begins an epoch; what is left of the one before goes out as its last frame.
    pub fn begin(&mut self, number: u32, format: Format) -> Option<Arc<Frame>> {
        let last = self.flush(true);
        self.epoch = Epoch { number, format: Some(format) };
        self.packets.clear();
        (self.sample, self.broken) = (0, true);
        last
    }

    /// `count` packets of so many frames are missing here.
    pub fn skip(&mut self, count: u32, frames: u32) {
        self.next = self.next.wrapping_add(count);
        self.sample = self.sample.wrapping_add(count.wrapping_mul(frames));
    }

    /// Adds a packet; a frame comes out whenever `cadence` of audio has gathered.
    pub fn push(&mut self, packet: Packet, cadence: Duration) -> Option<Arc<Frame>> {
        self.next = self.next.wrapping_add(1);
        self.sample = self.sample.wrapping_add(packet.frames);
        let own = self.micros(packet.frames);
        self.packets.push_back(packet);
        self.pending += 1;
        self.trim();
        // Nearest to the cadence: half a packet early rather than half a packet late.
        let full = self.pending_micros() + own / 2 >= i64::try_from(cadence.as_micros()).unwrap_or(i64::MAX);
        (full || self.pending >= FRAME).then(|| self.flush(false)).flatten()
    }

    /// A frame of what has gathered.
    pub fn flush(&mut self, last: bool) -> Option<Arc<Frame>> {
        if self.pending == 0 {
            return None;
        }
        let from = self.packets.len() - self.pending;
        let frame = self.frame(from, self.packets.len(), last, self.broken);
        (self.pending, self.broken) = (0, false);
        Some(frame)
    }

    /// When the oldest packet that is in no frame yet came, in microseconds.
    pub fn waiting_since(&self) -> Option<i64> {
        self.packets.get(self.packets.len() - self.pending).map(|packet| packet.time)
    }

    /// A frame of the last `target` of what was sent, for one who begins here.
    pub fn snapshot(&self, target: Duration) -> Option<Arc<Frame>> {
        let end = self.packets.len() - self.pending;
        let target = i64::try_from(target.as_micros()).unwrap_or(i64::MAX);
        let mut length = 0;
        let mut from = end;
        while from > 0 && length < target && end - from < FRAME {
            from -= 1;
            length += self.micros(self.packets[from].frames);
        }
        (from < end).then(|| self.frame(from, end, false, true))
    }

    /// The last packets, `count` at most, oldest first.
    pub fn newest(&self, count: usize) -> Vec<Packet> {
        self.packets.range(self.packets.len().saturating_sub(count)..).cloned().collect()
    }

    /// Forgets everything but the numbers; what comes next does not follow.
    pub fn clear(&mut self) {
        self.packets = VecDeque::new();
        (self.pending, self.broken) = (0, true);
    }

    fn frame(&self, from: usize, to: usize, last: bool, discontinuity: bool) -> Arc<Frame> {
        let packets = self.packets.range(from..to);
        let after = self.packets.range(from..);
        // Both wrap; at most FRAME packets lie between.
        let first = self.next.wrapping_sub(u32::try_from(after.len()).unwrap_or(0));
        let frames = after.fold(0_u32, |sum, packet| sum.wrapping_add(packet.frames));
        let head = Head {
            codec: self.codec,
            discontinuity,
            last,
            sequence: first,
            time: self.packets.get(from).map_or(0, |packet| packet.time),
            sample: self.sample.wrapping_sub(frames),
        };
        let end = first.wrapping_add(u32::try_from(to - from).unwrap_or(0));
        let bytes = frame::write(&head, packets.map(|packet| &packet.bytes));
        Arc::new(Frame { codec: self.codec, epoch: self.epoch, first, end, bytes })
    }

    fn trim(&mut self) {
        let mut length: i64 = self.packets.iter().map(|packet| self.micros(packet.frames)).sum();
        while length > self.window && self.packets.len() > self.pending.max(1) {
            let old = self.packets.pop_front().map_or(0, |old| old.frames);
            length -= self.micros(old);
        }
    }

    fn pending_micros(&self) -> i64 {
        self.packets.iter().rev().take(self.pending).map(|packet| self.micros(packet.frames)).sum()
    }

    fn micros(&self, frames: u32) -> i64 {
        chunk::micros(frames as usize, self.epoch.format.map_or(48_000, |format| format.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { rate: 48_000, channels: 2 };

    fn lane() -> Lane {
        let mut lane = Lane::new(Codec::Opus, Duration::from_secs(5));
        assert!(lane.begin(1, FORMAT).is_none());
        lane
    }

    fn push(lane: &mut Lane, count: u32) -> Vec<Arc<Frame>> {
        let packet = |number: u32| Packet {
            bytes: Bytes::copy_from_slice(&number.to_be_bytes()),
            frames: 960,
            time: i64::from(number) * 20_000,
        };
        (0..count).filter_map(|_| lane.push(packet(lane.next()), Duration::from_millis(100))).collect()
    }

    fn numbers(frame: &Frame) -> Vec<u32> {
        let (head, packets) = frame::read(frame.bytes.clone()).expect("a frame");
        let numbers: Vec<u32> =
            packets.iter().map(|packet| u32::from_be_bytes(packet[..].try_into().expect("four bytes"))).collect();
        assert_eq!((head.sequence, frame.first), (numbers[0], numbers[0]));
        assert_eq!((head.sample, head.time), (numbers[0] * 960, i64::from(numbers[0]) * 20_000));
        assert_eq!(frame.end - frame.first, u32::try_from(numbers.len()).expect("few"));
        numbers
    }

    #[test]
    fn a_frame_holds_the_cadence() {
        let frames = push(&mut lane(), 12);
        assert_eq!(frames.iter().map(|frame| numbers(frame)).collect::<Vec<_>>(), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]);
        let heads: Vec<Head> =
            frames.iter().map(|frame| frame::read(frame.bytes.clone()).expect("a frame").0).collect();
        assert_eq!(heads.iter().map(|head| head.discontinuity).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_snapshot_is_the_last_of_what_was_sent_and_nothing_twice() {
        let mut lane = lane();
        push(&mut lane, 12);
        let snapshot = lane.snapshot(Duration::from_millis(60)).expect("there is audio");
        assert_eq!(numbers(&snapshot), [7, 8, 9]);
        assert_eq!(numbers(&push(&mut lane, 3)[0]), [10, 11, 12, 13, 14]);
        assert!(Lane::new(Codec::Opus, Duration::from_secs(1)).snapshot(Duration::from_secs(1)).is_none());
    }

    #[test]
    fn an_epoch_ends_with_its_last_frame_and_its_numbers_go_on() {
        let mut lane = lane();
        push(&mut lane, 7);
        let last = lane.begin(2, FORMAT).expect("two packets were left");
        let (head, packets) = frame::read(last.bytes.clone()).expect("a frame");
        assert!(head.last && packets.len() == 2 && last.epoch.number == 1);
        assert!(lane.snapshot(Duration::from_secs(1)).is_none(), "nothing of the epoch before");
        let first = &push(&mut lane, 5)[0];
        assert_eq!((first.epoch.number, first.first), (2, 7));
    }

    #[test]
    fn it_keeps_its_window() {
        let mut lane = lane();
        push(&mut lane, 1000);
        assert_eq!(lane.packets.len(), 250);
        lane.skip(3, 960);
        assert_eq!(lane.next(), 1003);
    }
}
