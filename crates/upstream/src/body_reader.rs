//! A response body in one buffer: what is available of it, and how it ends (RFC 9112 §6–7).

use std::io;

use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use super::buffer_pool::{BufferPool, has_fitting_capacity};
use super::connection::{ExchangeError, UpstreamStream};
use super::splice::{self, SpliceOutcome, SplicePipes};
use http_semantics::chunked;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// After so many more bytes.
    Length(u64),
    /// By chunks.
    Chunked(ChunkState),
    /// With the connection.
    UntilClose,
}

/// Where in the chunked coding the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// Before a size line.
    Size,
    /// In a chunk with so many bytes to come.
    Data(u64),
    /// Before the line end after a chunk.
    End,
    /// In the trailer section.
    Trailer,
    /// After the last byte.
    Done,
}

impl BodyFraming {
    /// A chunked body at its beginning.
    pub fn chunked() -> Self {
        Self::Chunked(ChunkState::Size)
    }
}

/// The buffer between the connection and whoever uses the body.
pub struct BodyReader {
    buffer: Vec<u8>,
    /// Where the available bytes begin and end.
    start: usize,
    end: usize,
    framing: BodyFraming,
    content_length: Option<u64>,
    /// Whether its bytes can be passed on without being read.
    can_splice: bool,
    /// The connection broke when its bytes were passed on.
    broken: bool,
}

impl BodyReader {
    /// A body whose first bytes may stand in `buffer` behind `head_length`.
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

    /// The announced length.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The bytes made available last.
    pub fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether bytes came behind the body's end: the connection cannot be used again.
    pub fn has_surplus(&self) -> bool {
        self.end < self.buffer.len()
    }

    /// Drops the available bytes and makes those available that are already in the buffer; true when there are any, or
    /// when the body is at its end and no read is needed to know it.
    pub fn next_buffered(&mut self) -> Result<bool, ExchangeError> {
        self.start = self.end;
        self.step()?;
        Ok(self.start < self.end)
    }

    /// Reads until bytes are available, about `room` at most, or with `passing` until there are some to be passed; false at
    /// the clean end.
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
            if self.end == self.buffer.len() && !io.has_more() {
                buffers.keep(self.take_buffer());
            }
            if self.broken {
                return Err(ExchangeError::Reset(io::ErrorKind::ConnectionReset.into()));
            }
            io.readable().await.map_err(ExchangeError::Reset)?;
            if passing && self.can_splice(io, room) {
                // As reading does by itself: a body that is always there leaves the thread to others in between.
                consume_budget().await;
                return Ok(true);
            }
            self.make_room(room, buffers);
            match io.read(&mut self.buffer).await {
                Ok(0) if self.framing == BodyFraming::UntilClose => return Ok(false),
                Ok(0) => return Err(ExchangeError::Truncated),
                // TLS says so where the end came without its own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ExchangeError::Truncated),
                Err(error) => return Err(ExchangeError::Reset(error)),
                Ok(_) => self.step()?,
            }
        }
    }

    /// Whether about `room` bytes of `io` are better passed than read.
    fn can_splice(&self, io: &UpstreamStream, room: usize) -> bool {
        let worth = |length: u64| length >= splice::MIN_SPLICE_BYTES as u64;
        let large = worth(room as u64) && matches!(self.framing, BodyFraming::Length(left) if worth(left));
        large && self.can_splice && matches!(io, UpstreamStream::Plain(_))
    }

    /// Passes about `room` bytes that are there from `from` to `to`, and says how many; those that `to` does not take now
    /// are available then. An error is that of `to`.
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
                self.framing = BodyFraming::Length(left - (passed + rest.len()) as u64);
                if !rest.is_empty() {
                    (self.start, self.end) = (0, rest.len());
                    self.buffer = rest;
                }
                Ok(passed)
            }
            SpliceOutcome::NothingAvailable => Ok(0),
            SpliceOutcome::Unsupported => {
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

    /// Gives its buffer up, with what is available.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        (self.start, self.end) = (0, 0);
        std::mem::take(&mut self.buffer)
    }

    /// Whether the body's last byte has been taken.
    pub fn is_done(&self) -> bool {
        matches!(self.framing, BodyFraming::Length(0) | BodyFraming::Chunked(ChunkState::Done))
    }

    /// Nothing is available: moves unread bytes (part of a chunk line at most) to the front of a buffer with `room` and not
    /// much more.
    fn make_room(&mut self, room: usize, buffers: &BufferPool) {
        let capacity = self.capacity_for(room);
        if has_fitting_capacity(&self.buffer, capacity) {
            self.buffer.drain(..self.end);
        } else {
            let unread = &self.buffer[self.end..];
            let mut buffer = buffers.take(capacity.max(unread.len() + 1));
            buffer.extend_from_slice(unread);
            buffers.keep(std::mem::replace(&mut self.buffer, buffer));
        }
        (self.start, self.end) = (0, 0);
    }

    /// Of `room`, what the body can still need, and a byte more: a read that is not filled says that there is no more.
    fn capacity_for(&self, room: usize) -> usize {
        let BodyFraming::Length(left) = self.framing else { return room };
        usize::try_from(left).map_or(room, |left| room.min(left.saturating_add(self.available().len() + 1)))
    }

    /// Makes available what of the unread bytes belongs to the body.
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

    /// The length of the framing at the unread bytes and the state behind it; `None` while it is not whole.
    fn framing_line(&self, state: ChunkState) -> Result<Option<(usize, ChunkState)>, ExchangeError> {
        let unread = &self.buffer[self.end..];
        let next = match state {
            ChunkState::Size => chunked::size_line(unread).map(|line| {
                line.map(|(length, size)| {
                    (length, if size == 0 { ChunkState::Trailer } else { ChunkState::Data(size) })
                })
            }),
            ChunkState::End => chunked::data_end(unread).map(|line| line.map(|length| (length, ChunkState::Size))),
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

    /// Feeds `wire` in pieces of `step` bytes and gathers the body; `None` while it is not at its end.
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
