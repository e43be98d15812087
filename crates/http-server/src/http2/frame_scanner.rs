//! Heads of HTTP/2 frames in a byte stream (RFC 9113 §4.1), without I/O and without looking at payloads.

/// Bytes of a frame's head.
const HEAD: usize = 9;

/// Type DATA (RFC 9113 §6.1).
pub const DATA: u8 = 0;
/// Type HEADERS (§6.2).
pub const HEADERS: u8 = 1;
/// Type RST_STREAM (§6.4).
pub const RST_STREAM: u8 = 3;
/// Flag END_STREAM of DATA and HEADERS.
pub const END_STREAM: u8 = 1;

/// Head of a frame, as far as it matters for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of its payload.
    pub length: usize,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
}

/// Finds the heads of frames in bytes that come in pieces of any size.
pub struct FrameScanner {
    /// Bytes to pass over: the rest of a payload, or of what precedes the first frame.
    skip: usize,
    head: [u8; HEAD],
    /// Bytes of `head` that have come.
    known: usize,
}

impl FrameScanner {
    /// Makes the scanner of a stream whose first frame begins after `offset` bytes.
    pub fn new(offset: usize) -> Self {
        Self { skip: offset, head: [0; HEAD], known: 0 }
    }

    /// Gives each head that is complete with `bytes`, the next ones of the stream, to `found`.
    pub fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(FrameHead)) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            let taken = (HEAD - self.known).min(bytes.len() - passed);
            bytes = &bytes[passed..];
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known < HEAD {
                return;
            }
            let [a, b, c, kind, flags, ..] = self.head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            (self.skip, self.known) = (length, 0);
            found(FrameHead { length, kind, flags });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_the_stream_is_cut() {
        let stream = b"PRI..\0\0\x03\x06\x01\0\0\0\0abc\0\0\0\x04\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01".to_vec();
        let stream = [stream, vec![0; 256], b"\0\0\x01\x08".to_vec()].concat();
        let head = |length, kind, flags| FrameHead { length, kind, flags };
        for step in 1..=stream.len() {
            let (mut scanner, mut heads) = (FrameScanner::new(5), Vec::new());
            for piece in stream.chunks(step) {
                scanner.scan(piece, |head| heads.push(head));
            }
            assert_eq!(heads, [head(3, 6, 1), head(0, 4, 0), head(256, 0, 0)], "by {step}");
        }
    }
}
