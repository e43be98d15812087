//! Frames that a client may send without asking for anything (RFC 9113 §10.5): each costs work, and none carries a
//! request or a body. The h2 library bounds the rest by itself: CONTINUATION frames of a head, small DATA frames, and
//! resets that it makes because of a client's mistakes.

use std::time::{Duration, Instant};

use super::frame_scanner::{DATA, END_STREAM, FrameHead, HEADERS, RST_STREAM};

/// Control frames that may come at once. A browser sends about ten when it connects.
const CONTROL_BURST: u64 = 1000;
/// Control frames that may come each second without answers.
const CONTROL_PER_SECOND: u64 = 50;
/// Control frames that the head of an answer allows: a client may open both windows and measure the time by a PING.
const CONTROL_PER_ANSWER: u64 = 3;
/// Bytes of a body that allow one control frame. Bytes, not frames: a client that opens its windows by a few bytes at a
/// time (CVE-2019-9511) would else pay for that by its answers, and one that opens them by each frame gets smaller
/// frames with time.
const BYTES_PER_CONTROL: usize = 256;
/// Streams that may be reset at once (CVE-2023-44487): twice as many as a browser has under way when it leaves a page.
const RESET_BURST: u64 = 200;
/// Streams that may be reset each second: somebody who drags a slider makes about ten.
const RESETS_PER_SECOND: u64 = 20;

/// Frames of which a client sent too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA, and frames that nobody knows.
    ControlFrames,
    /// RST_STREAM.
    Resets,
}

impl FloodKind {
    /// Returns the label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlFrames => "control_frames",
            Self::Resets => "resets",
        }
    }
}

/// Frames that one connection may still send.
pub struct FrameBudget {
    control: Allowance,
    resets: Allowance,
    /// Bytes of bodies that have allowed nothing yet.
    sent: usize,
}

impl FrameBudget {
    /// Makes the budget of a connection that begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            control: Allowance { left: CONTROL_BURST, most: CONTROL_BURST, per_second: CONTROL_PER_SECOND, since: now },
            resets: Allowance { left: RESET_BURST, most: RESET_BURST, per_second: RESETS_PER_SECOND, since: now },
            sent: 0,
        }
    }

    /// Counts a frame from the client; `Some` where it is one too many.
    pub fn receive(&mut self, frame: FrameHead, now: impl Fn() -> Instant) -> Option<FloodKind> {
        let (allowance, kind) = match frame.kind {
            HEADERS => return None,
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => return None,
            RST_STREAM => (&mut self.resets, FloodKind::Resets),
            _ => (&mut self.control, FloodKind::ControlFrames),
        };
        (!allowance.take(now)).then_some(kind)
    }

    /// Counts a frame to the client.
    pub fn send(&mut self, frame: FrameHead) {
        let allowed = match frame.kind {
            HEADERS => CONTROL_PER_ANSWER,
            DATA => {
                self.sent += frame.length;
                let allowed = self.sent / BYTES_PER_CONTROL;
                self.sent %= BYTES_PER_CONTROL;
                allowed as u64
            }
            _ => 0,
        };
        self.control.left = (self.control.left + allowed).min(self.control.most);
    }
}

/// A number that grows with time up to its most.
struct Allowance {
    left: u64,
    most: u64,
    per_second: u64,
    /// Time up to which it has grown.
    since: Instant,
}

impl Allowance {
    /// Takes one; false where none is left.
    fn take(&mut self, now: impl Fn() -> Instant) -> bool {
        if self.left == 0 {
            // Only here, so that most frames do not ask for the time.
            let now = now();
            let passed = now.saturating_duration_since(self.since);
            let grown = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).saturating_mul(self.per_second) / 1000;
            if grown > 0 {
                self.left = grown.min(self.most);
                // What is less than a whole one is kept.
                self.since = if grown < self.most { self.since + whole(grown, self.per_second) } else { now };
            }
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// Returns the time in which `count` grow.
fn whole(count: u64, per_second: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000).div_ceil(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::clock::monotonic_now;

    fn frame(kind: u8, length: usize, flags: u8) -> FrameHead {
        FrameHead { length, kind, flags }
    }

    /// Counts the frames that are taken at one moment, up to 5000.
    fn taken(budget: &mut FrameBudget, frame: FrameHead, now: Instant) -> usize {
        (0..5000).take_while(|_| budget.receive(frame, || now).is_none()).count()
    }

    #[test]
    fn each_kind_of_frame_has_its_bound() {
        let now = monotonic_now();
        for (kind, length, flags, expected) in [
            (DATA, 0, 0, 1000),
            (DATA, 0, END_STREAM, 5000),
            (DATA, 1, 0, 5000),
            (HEADERS, 9, 0, 5000),
            (2, 5, 0, 1000),
            (RST_STREAM, 4, 0, 200),
            (4, 0, 0, 1000),
            (6, 8, 0, 1000),
            (6, 8, 1, 1000),
            (8, 4, 0, 1000),
            (9, 0, 0, 1000),
            (99, 0, 0, 1000),
        ] {
            let mut budget = FrameBudget::new(now);
            assert_eq!(taken(&mut budget, frame(kind, length, flags), now), expected, "{kind} {length} {flags}");
        }
    }

    #[test]
    fn a_budget_grows_with_time_and_with_answers() {
        let (ping, start) = (frame(6, 8, 0), monotonic_now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut budget = FrameBudget::new(start);
        assert_eq!(taken(&mut budget, ping, start), 1000);
        assert_eq!(taken(&mut budget, ping, at(2)), 100);
        assert_eq!(taken(&mut budget, ping, at(2)), 0);
        assert_eq!(taken(&mut budget, ping, at(3600)), 1000, "no more than at the beginning");
        for (sent, expected) in [(frame(DATA, 16_384, 0), 64), (frame(DATA, 10, 0), 0), (frame(HEADERS, 10, 0), 3)] {
            budget.send(sent);
            assert_eq!(taken(&mut budget, ping, at(3600)), expected, "{sent:?}");
        }
        let reset = frame(RST_STREAM, 4, 0);
        assert_eq!(taken(&mut budget, reset, at(3600)), 200 + 200);
        assert_eq!(taken(&mut budget, reset, at(3601)), 20);
    }

    #[test]
    fn a_player_that_seeks_for_an_hour_and_opens_its_windows_for_each_frame_is_within_its_budget() {
        let start = monotonic_now();
        let mut budget = FrameBudget::new(start);
        for tenth in 0..36_000 {
            let now = || start + Duration::from_millis(tenth * 100);
            assert_eq!(budget.receive(frame(RST_STREAM, 4, 0), now), None);
            for _ in 0..64 {
                budget.send(frame(DATA, 16_384, 0));
                assert_eq!(budget.receive(frame(8, 4, 0), now), None);
                assert_eq!(budget.receive(frame(8, 4, 0), now), None);
                assert_eq!(budget.receive(frame(6, 8, 0), now), None);
            }
        }
    }
}
