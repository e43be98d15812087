//! The body of an HTTP/1.1 request, read piece by piece from its connection (RFC 9112 §6, §7.1). The head has been
//! checked before: it gives one length or one encoding, or neither.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header};
use memchr::memmem;
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::DRAIN;
use super::failure::Failure;

/// How long a client may send nothing of a body.
const IDLE: Duration = Duration::from_secs(30);
/// Read at once at most.
const READ: usize = 64 * 1024;
/// Room in a buffer for which it is read into once more.
const LEAST: usize = 4 * 1024;
/// Longest line that begins a chunk, and most bytes of the fields behind the last one.
const MAX_LINES: usize = 8 * 1024;

/// What is left of a body, and whether it is sent only on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    left: Left,
    /// `Expect: 100-continue` (RFC 9110 §10.1.1).
    waits: bool,
}

/// What comes next of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// So many bytes, and nothing behind them.
    Bytes(u64),
    /// The line that begins a chunk.
    Line,
    /// So many bytes of a chunk, and the end of its line.
    Chunk(u64),
    /// Fields behind the last chunk, of which so many bytes were passed over.
    Fields(usize),
}

impl Unread {
    /// The body that `headers` announce; `None` where there is none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let expects = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        let waits = headers.get(header::EXPECT).is_some_and(expects);
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Some(Self { left: Left::Line, waits });
        }
        // What is no number is refused with the head.
        let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        (length > 0).then_some(Self { left: Left::Bytes(length), waits })
    }

    /// Whether the client sends only when it is told to.
    pub fn waits(self) -> bool {
        self.waits
    }

    /// The client has been told.
    pub fn awaited(&mut self) {
        self.waits = false;
    }

    /// Whether nothing more will come.
    pub fn is_over(self) -> bool {
        self.left == Left::Bytes(0)
    }
}

/// The next piece of the body, `None` at its end; `ahead` holds what came of it already, and then what came behind it.
pub async fn piece(
    stream: &mut (impl AsyncRead + Unpin),
    ahead: &mut BytesMut,
    unread: &mut Unread,
) -> Result<Option<Bytes>, Failure> {
    let malformed = || Failure::BadRequest("a chunk of the body is malformed".into());
    loop {
        match &mut unread.left {
            Left::Bytes(0) => return Ok(None),
            Left::Bytes(left) | Left::Chunk(left @ 1..) => {
                if ahead.is_empty() {
                    // Pieces share their buffer: one of its own for each would let a body of many small ones cost more
                    // than its length.
                    if ahead.capacity() < LEAST {
                        ahead.reserve(usize::try_from(*left).unwrap_or(READ).min(READ));
                    }
                    more(stream, ahead).await?;
                }
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(ahead.len());
                *left -= length as u64;
                return Ok(Some(ahead.split_to(length).freeze()));
            }
            Left::Chunk(0) => match ahead.get(..2) {
                Some(b"\r\n") => {
                    ahead.advance(2);
                    unread.left = Left::Line;
                }
                Some(_) => return Err(malformed()),
                None => more(stream, ahead).await?,
            },
            Left::Line => match httparse::parse_chunk_size(ahead) {
                Ok(httparse::Status::Complete((line, size))) => {
                    ahead.advance(line);
                    unread.left = if size == 0 { Left::Fields(0) } else { Left::Chunk(size) };
                }
                Ok(httparse::Status::Partial) if ahead.len() < MAX_LINES => more(stream, ahead).await?,
                _ => return Err(malformed()),
            },
            // They are passed over, through the empty line that ends them.
            Left::Fields(passed) => match memmem::find(ahead, b"\r\n") {
                Some(end) => {
                    ahead.advance(end + 2);
                    *passed += end + 2;
                    if end == 0 {
                        unread.left = Left::Bytes(0);
                    }
                }
                None if *passed + ahead.len() < MAX_LINES => more(stream, ahead).await?,
                None => return Err(Failure::BadRequest("too many fields behind the body".into())),
            },
        }
    }
}

/// Reads what is left of the body and drops it, for a while.
pub async fn drain(stream: &mut (impl AsyncRead + Unpin), ahead: &mut BytesMut, unread: &mut Unread) {
    let rest = async { while let Ok(Some(_)) = piece(stream, ahead, unread).await {} };
    // Whoever takes longer loses the answer with the connection.
    let _ = timeout(DRAIN, rest).await;
}

async fn more(stream: &mut (impl AsyncRead + Unpin), ahead: &mut BytesMut) -> Result<(), Failure> {
    match timeout(IDLE, stream.read_buf(ahead)).await {
        Ok(Ok(read)) if read > 0 => Ok(()),
        Ok(_) => Err(Failure::ClientLeft),
        Err(_) => Err(Failure::ClientStalled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `sent` over a connection that ends behind it, and what is left for the next request.
    async fn read_all(left: Left, sent: &[u8]) -> (Result<Bytes, Failure>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(64);
        let sent = sent.to_vec();
        let sending = async move {
            // A refused body is not read to its end.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, &sent).await;
        };
        let reading = async {
            let (mut stream, mut ahead) = (server, BytesMut::new());
            let (mut unread, mut body) = (Unread { left, waits: false }, BytesMut::new());
            let result = loop {
                match piece(&mut stream, &mut ahead, &mut unread).await {
                    Ok(Some(piece)) => body.extend_from_slice(&piece),
                    Ok(None) => break Ok(body.freeze()),
                    Err(failure) => break Err(failure),
                }
            };
            (result, ahead.to_vec())
        };
        let (result, ()) = tokio::join!(reading, sending);
        result
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end_and_no_further() {
        let malformed = || Failure::BadRequest("a chunk of the body is malformed".into());
        type Case<'a> = (Left, &'a [u8], Result<&'a [u8], Failure>, &'a [u8]);
        let table: [Case<'_>; 10] = [
            (Left::Bytes(4), b"bodynext", Ok(b"body"), b"next"),
            (Left::Bytes(4), b"bod", Err(Failure::ClientLeft), b""),
            (Left::Line, b"0\r\n\r\nnext", Ok(b""), b"next"),
            (Left::Line, b"2\r\nbo\r\n2;a=b\r\ndy\r\n0\r\nX: y\r\n\r\nnext", Ok(b"body"), b"next"),
            (Left::Line, b"ffffffffffffffff\r\nbo", Err(Failure::ClientLeft), b""),
            (Left::Line, b"10000000000000000\r\n", Err(malformed()), b"10000000000000000\r\n"),
            (Left::Line, b"2\r\nbody", Err(malformed()), b"dy"),
            (Left::Line, b"x\r\n", Err(malformed()), b"x\r\n"),
            (Left::Line, b"4\r\nbo", Err(Failure::ClientLeft), b""),
            (Left::Line, b"0\r\nX: y\r\n", Err(Failure::ClientLeft), b""),
        ];
        for (left, sent, expected, rest) in table {
            let (body, ahead) = read_all(left, sent).await;
            let shown = String::from_utf8_lossy(sent);
            assert_eq!(body, expected.map(Bytes::from_static), "{shown}");
            assert_eq!(ahead, rest, "{shown}");
        }
    }

    #[tokio::test]
    async fn lines_without_an_end_are_not_read_on() {
        let mut sent = b"0\r\n".to_vec();
        sent.extend(std::iter::repeat_n(b'a', 2 * MAX_LINES));
        let (body, _) = read_all(Left::Line, &sent).await;
        assert!(matches!(body, Err(Failure::BadRequest(_))), "{body:?}");
    }
}
