//! A response body in one buffer: the bytes that are available of it, and where it ends (RFC 9112 §6–7).

use std::io;

use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use super::buffer_pool::{BufferPool, has_fitting_capacity};
use super::connection::{ExchangeError, UpstreamStream};
use super::splice::{self, SpliceOutcome, SplicePipes};
use http_semantics::chunked;

/// Framing of a body: the rule that determines its end (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// Ends after this many more bytes.
    Length(u64),
    /// Ends with the last chunk and its trailer section.
    Chunked(ChunkState),
    /// Ends with the connection.
    UntilClose,
}

/// Position of the reader in the chunked coding (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// Before the line with a chunk's size.
    Size,
    /// Inside a chunk, with this many bytes to come.
    Data(u64),
    /// Before the line end that follows a chunk.
    End,
    /// Inside the trailer section.
    Trailer,
    /// After the last byte.
    Done,
}

impl BodyFraming {
    /// Returns the framing of a chunked body at its beginning.
    pub fn chunked() -> Self {
        Self::Chunked(ChunkState::Size)
    }
}

/// Reader of one body, with the buffer between the connection and the user of the body.
pub struct BodyReader {
    buffer: Vec<u8>,
    /// Beginning and end of the available bytes in `buffer`; bytes after `end` are unread.
    start: usize,
    end: usize,
    framing: BodyFraming,
    content_length: Option<u64>,
    /// False once splicing turned out to be impossible on this connection.
    can_splice: bool,
    /// True if the connection broke while bytes were spliced.
    broken: bool,
}

impl BodyReader {
    /// Creates a reader for a body whose first bytes may stand in `buffer` after `head_length` bytes.
    pub fn new(buffer: Vec<u8>, head_length: usize, framing: BodyFraming) -> Self {
        let announced = if let BodyFraming::Length(length) = framing { Some(length) } else { None };
        Self {
            buffer,
            start: head_length,
            end: head_length,
            framing,
            content_length: announced,
            can_splice: true,
            broken: false,
        }
    }

    /// Returns the announced length in bytes; `None` where the framing is another.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Returns the bytes made available last.
    pub fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns true if bytes came after the end of the body; the connection must then not be used again.
    pub fn has_surplus(&self) -> bool {
        self.end < self.buffer.len()
    }

    /// Drops the available bytes and makes those available that are already in the buffer. Returns true if there are
    /// any. Fails with `Malformed` on a bad chunk.
    pub fn next_buffered(&mut self) -> Result<bool, ExchangeError> {
        self.start = self.end;
        self.step()?;
        Ok(self.start < self.end)
    }

    /// Reads until bytes are available, about `room` at most, and returns true; false at the clean end. With `passing`
    /// it may also return true when bytes are there to be spliced and none are available. Fails with `Truncated`,
    /// `Reset` or `Malformed`.
    pub async fn fill(
        &mut self,
        io: &mut UpstreamStream,
        room: usize,
        passing: bool,
        buffers: &BufferPool,
    ) -> Result<bool, ExchangeError> {
        loop {
            if self.start < self.end {
                return Ok(true);
            }
            if self.is_done() {
                return Ok(false);
            }
            // A body that waits for the store holds no buffer.
            if self.end == self.buffer.len() && !io.has_more() {
                buffers.keep(self.take_buffer());
            }
            // The system reported the error to splice(2) and would not report it to a read again.
            if self.broken {
                return Err(ExchangeError::Reset(io::ErrorKind::ConnectionReset.into()));
            }
            io.readable().await.map_err(ExchangeError::Reset)?;
            if passing && self.can_splice(io, room) {
                // As a read does by itself: a body whose bytes are always there lets other tasks of the thread run in
                // between.
                consume_budget().await;
                return Ok(true);
            }
            self.make_room(room, buffers);
            match io.read(&mut self.buffer).await {
                // The only framing for which the end of the connection is the end of the body (RFC 9112 §6.3).
                Ok(0) if self.framing == BodyFraming::UntilClose => return Ok(false),
                Ok(0) => return Err(ExchangeError::Truncated),
                // TLS without close_notify: the body may be cut off (RFC 9112 §9.8).
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ExchangeError::Truncated),
                Err(error) => return Err(ExchangeError::Reset(error)),
                Ok(_) => self.step()?,
            }
        }
    }

    /// Returns true if about `room` bytes of `io` are better spliced than read.
    fn can_splice(&self, io: &UpstreamStream, room: usize) -> bool {
        let worth = |length: u64| length >= splice::MIN_SPLICE_BYTES as u64;
        // Chunk lines must be read, so only a body of known length can be spliced.
        let large = worth(room as u64) && matches!(self.framing, BodyFraming::Length(left) if worth(left));
        large && self.can_splice && matches!(io, UpstreamStream::Plain(_))
    }

    /// Moves up to `room` bytes of the body that are there from `from` to `to`, and returns how many. Bytes that `to`
    /// does not accept are made available. An error is one of `to`.
    pub fn splice_to(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        room: usize,
        pipes: &SplicePipes,
    ) -> io::Result<usize> {
        let BodyFraming::Length(left) = self.framing else { return Ok(0) };
        let room = usize::try_from(left).map_or(room, |left| room.min(left));
        let mut rest = Vec::new();
        match pipes.splice(from, to, room, &mut rest)? {
            SpliceOutcome::Bytes(passed) => {
                // Bytes in `rest` have left the socket too. This cannot underflow: `room` is at most `left`.
                self.framing = BodyFraming::Length(left - (passed + rest.len()) as u64);
                if !rest.is_empty() {
                    (self.start, self.end) = (0, rest.len());
                    self.buffer = rest;
                }
                Ok(passed)
            }
            SpliceOutcome::NothingAvailable => Ok(0),
            SpliceOutcome::Unsupported => {
                // Not an error: the next `fill` reads instead.
                self.can_splice = false;
                Ok(0)
            }
            SpliceOutcome::SourceBroken(passed) => {
                self.framing = BodyFraming::Length(left - passed as u64);
                self.broken = true;
                Ok(passed)
            }
        }
    }

    /// Takes the buffer out, with the bytes that are available.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        (self.start, self.end) = (0, 0);
        std::mem::take(&mut self.buffer)
    }

    /// Returns true if the last byte of the body has been taken from the connection. Never true for a body that ends with
    /// the connection.
    pub fn is_done(&self) -> bool {
        matches!(self.framing, BodyFraming::Length(0) | BodyFraming::Chunked(ChunkState::Done))
    }

    /// Prepares the buffer for a read of `room` bytes, without being much larger. Needs that nothing is available.
    /// Keeps unread bytes, which are part of a chunk line at most.
    fn make_room(&mut self, room: usize, buffers: &BufferPool) {
        let capacity = self.capacity_for(room);
        if has_fitting_capacity(&self.buffer, capacity) {
            self.buffer.drain(..self.end);
        } else {
            let unread = &self.buffer[self.end..];
            // At least one free byte, or the read would have to grow the buffer.
            let mut buffer = buffers.take(capacity.max(unread.len() + 1));
            buffer.extend_from_slice(unread);
            buffers.keep(std::mem::replace(&mut self.buffer, buffer));
        }
        (self.start, self.end) = (0, 0);
    }

    /// Returns how much of `room` the body can still need, plus one byte: a read that does not fill the buffer says
    /// that there is no more.
    fn capacity_for(&self, room: usize) -> usize {
        let BodyFraming::Length(left) = self.framing else { return room };
        usize::try_from(left).map_or(room, |left| room.min(left.saturating_add(self.available().len() + 1)))
    }

    /// Makes those unread bytes available that belong to the body, and consumes chunk framing before them.
    fn step(&mut self) -> Result<(), ExchangeError> {
        loop {
            let unread = self.buffer.len() - self.end;
            match self.framing {
                BodyFraming::UntilClose => {
                    self.end = self.buffer.len();
                    return Ok(());
                }
                BodyFraming::Length(left) => {
                    let taken = usize::try_from(left).map_or(unread, |left| left.min(unread));
                    self.end += taken;
                    self.framing = BodyFraming::Length(left - taken as u64);
                    return Ok(());
                }
                // One chunk at a time: the available bytes must be contiguous, and framing follows.
                BodyFraming::Chunked(ChunkState::Data(left)) if unread > 0 => {
                    let taken = usize::try_from(left).map_or(unread, |left| left.min(unread));
                    self.end += taken;
                    let left = left - taken as u64;
                    self.framing =
                        BodyFraming::Chunked(if left == 0 { ChunkState::End } else { ChunkState::Data(left) });
                    return Ok(());
                }
                BodyFraming::Chunked(ChunkState::Data(_) | ChunkState::Done) => return Ok(()),
                BodyFraming::Chunked(state) => match self.framing_line(state)? {
                    Some((length, next)) => {
                        self.end += length;
                        self.start = self.end;
                        self.framing = BodyFraming::Chunked(next);
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    /// Parses the framing at the unread bytes; returns its length and the state after it, or `None` while it is
    /// incomplete.
    fn framing_line(&self, state: ChunkState) -> Result<Option<(usize, ChunkState)>, ExchangeError> {
        let unread = &self.buffer[self.end..];
        let next = match state {
            ChunkState::Size => chunked::size_line(unread).map(|line| {
                line.map(|(length, size)| {
                    (length, if size == 0 { ChunkState::Trailer } else { ChunkState::Data(size) })
                })
            }),
            ChunkState::End => chunked::data_end(unread).map(|line| line.map(|length| (length, ChunkState::Size))),
            // Trailers of a store are of no use here: only their length matters.
            ChunkState::Trailer => {
                chunked::trailer_section(unread).map(|all| all.map(|(length, _)| (length, ChunkState::Done)))
            }
            ChunkState::Data(_) | ChunkState::Done => Ok(None),
        };
        next.map_err(|_| ExchangeError::Malformed("its chunks are malformed"))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Feeds `wire` in pieces of `step` bytes; returns the body, and true if it was at its end.
    fn gather(wire: &[u8], framing: BodyFraming, step: usize) -> Result<(Vec<u8>, bool), ExchangeError> {
        let mut reader = BodyReader::new(Vec::new(), 0, framing);
        let mut body = Vec::new();
        for piece in wire.chunks(step) {
            reader.make_room(64, &BufferPool::default());
            reader.buffer.extend_from_slice(piece);
            reader.step()?;
            while reader.start < reader.end {
                body.extend_from_slice(reader.available());
                reader.next_buffered()?;
            }
        }
        Ok((body, reader.is_done()))
    }

    #[test]
    fn chunked_bodies_come_out_whole_however_they_are_cut() {
        let wire = b"4\r\nWiki\r\n6;ext=1\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..wire.len() {
            let (body, done) = gather(wire, BodyFraming::chunked(), step).expect("well formed");
            assert_eq!(body, b"Wikipedia in \r\n\r\nchunks.", "in pieces of {step}");
            assert!(done);
        }
    }

    #[tokio::test]
    async fn a_body_that_is_always_there_to_be_passed_leaves_the_thread_to_others() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mut store, from) = (TcpStream::connect(address).await.expect("a connection"), listener.accept().await);
        tokio::io::AsyncWriteExt::write_all(&mut store, b"always").await.expect("taken");
        let mut io = UpstreamStream::Plain(from.expect("a connection").0);
        io.readable().await.expect("open");
        let mut reader = BodyReader::new(Vec::new(), 0, BodyFraming::Length(u64::MAX));
        let buffers = BufferPool::default();
        let mut ready = || reader.fill(&mut io, splice::MIN_SPLICE_BYTES, true, &buffers).now_or_never().is_some();
        assert!((0..10_000).any(|_| !ready()), "nobody else had a turn");
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for wire in [&b"x\r\n"[..], b"4\r\nWikiX\r\n", b"4\nWiki\r\n", b"ffffffffffffffffff\r\n"] {
            assert!(gather(wire, BodyFraming::chunked(), 3).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn a_length_ends_the_body_and_shows_surplus() {
        let mut reader = BodyReader::new(b"HEADbodyMORE".to_vec(), 4, BodyFraming::Length(4));
        assert!(reader.next_buffered().expect("fine"));
        assert_eq!(reader.available(), b"body");
        assert!(!reader.next_buffered().expect("fine"));
        assert!(reader.is_done() && reader.has_surplus());
    }
}
