//! The body of an HTTP/1.1 request, read whole from its connection (RFC 9112 §6, §7.1). The head has been checked
//! before: it gives one length or one encoding, or neither.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header};
use memchr::memmem;
use pingora::protocols::Stream;
use pingora::time::timeout;
use tokio::io::AsyncReadExt;

use super::DRAIN;
use super::failure::Failure;

/// How long a client may send nothing of a body.
const IDLE: Duration = Duration::from_secs(30);
/// Read at once at most.
const READ: usize = 64 * 1024;
/// Longest line that begins a chunk, and most bytes of the fields behind the last one.
const MAX_LINES: usize = 8 * 1024;

/// Where a body ends, and whether it is sent only on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// So many bytes; `None`: chunked.
    length: Option<u64>,
    /// `Expect: 100-continue` (RFC 9110 §10.1.1).
    waits: bool,
}

impl Framing {
    /// The body that `headers` announce; `None` where there is none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let expects = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        let waits = headers.get(header::EXPECT).is_some_and(expects);
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Some(Self { length: None, waits });
        }
        // What is no number is refused with the head.
        let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        (length > 0).then_some(Self { length: Some(length), waits })
    }

    /// The bytes announced.
    pub fn length(self) -> Option<u64> {
        self.length
    }

    /// Whether the client sends only when it is told to.
    pub fn waits(self) -> bool {
        self.waits
    }

    /// The same, once the client has been told.
    pub fn awaited(mut self) -> Self {
        self.waits = false;
        self
    }
}

/// Reads the body; `ahead` holds what came of it already, and then what came behind it.
pub async fn read(stream: &mut Stream, ahead: &mut BytesMut, framing: Framing, limit: usize) -> Result<Bytes, Failure> {
    match framing.length {
        Some(length) => {
            let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(Failure::BodyTooLarge)?;
            fill(stream, ahead, length).await?;
            Ok(ahead.split_to(length).freeze())
        }
        None => chunks(stream, ahead, limit).await,
    }
}

/// Reads what is left of the body and drops it, for a while.
pub async fn drain(stream: &mut Stream, ahead: &mut BytesMut, framing: Framing) {
    let mut left = framing.length.unwrap_or(u64::MAX).saturating_sub(ahead.len() as u64);
    let rest = async {
        while left > 0 {
            ahead.clear();
            ahead.reserve(READ);
            match stream.read_buf(ahead).await {
                Ok(read) if read > 0 => left = left.saturating_sub(read as u64),
                _ => break,
            }
        }
    };
    // Whoever takes longer loses the answer with the connection.
    let _ = timeout(DRAIN, rest).await;
}

async fn chunks(stream: &mut Stream, ahead: &mut BytesMut, limit: usize) -> Result<Bytes, Failure> {
    let malformed = || Failure::BadRequest("a chunk of the body is malformed".into());
    let mut body = BytesMut::new();
    loop {
        let size = loop {
            match httparse::parse_chunk_size(ahead) {
                Ok(httparse::Status::Complete((line, size))) => {
                    ahead.advance(line);
                    break usize::try_from(size).map_err(|_| Failure::BodyTooLarge)?;
                }
                Ok(httparse::Status::Partial) if ahead.len() < MAX_LINES => more(stream, ahead).await?,
                _ => return Err(malformed()),
            }
        };
        if size == 0 {
            break;
        }
        if size > limit - body.len() {
            return Err(Failure::BodyTooLarge);
        }
        fill(stream, ahead, size + 2).await?;
        body.extend_from_slice(&ahead[..size]);
        if &ahead[size..size + 2] != b"\r\n" {
            return Err(malformed());
        }
        ahead.advance(size + 2);
    }
    trailers(stream, ahead).await?;
    Ok(body.freeze())
}

/// Passes over the fields behind the last chunk and the empty line that ends them.
async fn trailers(stream: &mut Stream, ahead: &mut BytesMut) -> Result<(), Failure> {
    let mut passed = 0;
    loop {
        match memmem::find(ahead, b"\r\n") {
            Some(end) => {
                ahead.advance(end + 2);
                passed += end + 2;
                if end == 0 {
                    return Ok(());
                }
            }
            None if passed + ahead.len() < MAX_LINES => more(stream, ahead).await?,
            None => return Err(Failure::BadRequest("too many fields behind the body".into())),
        }
    }
}

async fn fill(stream: &mut Stream, ahead: &mut BytesMut, length: usize) -> Result<(), Failure> {
    while ahead.len() < length {
        ahead.reserve((length - ahead.len()).min(READ));
        more(stream, ahead).await?;
    }
    Ok(())
}

async fn more(stream: &mut Stream, ahead: &mut BytesMut) -> Result<(), Failure> {
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
    async fn read_all(framing: Framing, sent: &[u8]) -> (Result<Bytes, Failure>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(64);
        let sent = sent.to_vec();
        let sending = async move {
            // A refused body is not read to its end.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, &sent).await;
        };
        let reading = async {
            let (mut stream, mut ahead): (Stream, _) = (Box::new(server), BytesMut::new());
            let body = read(&mut stream, &mut ahead, framing, 20).await;
            (body, ahead.to_vec())
        };
        let (result, ()) = tokio::join!(reading, sending);
        result
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end_and_no_further() {
        let sized = |length| Framing { length: Some(length), waits: false };
        let chunked = || Framing { length: None, waits: false };
        let bad = |what: &'static str| Failure::BadRequest(what.into());
        let malformed = || bad("a chunk of the body is malformed");
        type Case<'a> = (Framing, &'a [u8], Result<&'a [u8], Failure>, &'a [u8]);
        let table: [Case<'_>; 13] = [
            (sized(4), b"bodynext", Ok(b"body"), b"next"),
            (sized(20), b"01234567890123456789", Ok(b"01234567890123456789"), b""),
            (sized(21), b"", Err(Failure::BodyTooLarge), b""),
            (sized(4), b"bod", Err(Failure::ClientLeft), b"bod"),
            (chunked(), b"0\r\n\r\nnext", Ok(b""), b"next"),
            (chunked(), b"2\r\nbo\r\n2;a=b\r\ndy\r\n0\r\nX: y\r\n\r\nnext", Ok(b"body"), b"next"),
            (chunked(), b"15\r\n", Err(Failure::BodyTooLarge), b""),
            (chunked(), b"a\r\n0123456789\r\nb\r\n", Err(Failure::BodyTooLarge), b""),
            (chunked(), b"ffffffffffffffff\r\n", Err(Failure::BodyTooLarge), b""),
            (chunked(), b"2\r\nbody", Err(malformed()), b"body"),
            (chunked(), b"x\r\n", Err(malformed()), b"x\r\n"),
            (chunked(), b"4\r\nbo", Err(Failure::ClientLeft), b"bo"),
            (chunked(), b"0\r\nX: y\r\n", Err(Failure::ClientLeft), b""),
        ];
        for (framing, sent, expected, left) in table {
            let (body, ahead) = read_all(framing, sent).await;
            let shown = String::from_utf8_lossy(sent);
            assert_eq!(body, expected.map(Bytes::from_static), "{shown}");
            assert_eq!(ahead, left, "{shown}");
        }
    }

    #[tokio::test]
    async fn lines_without_an_end_are_not_read_on() {
        let mut sent = b"0\r\n".to_vec();
        sent.extend(std::iter::repeat_n(b'a', 2 * MAX_LINES));
        let (body, _) = read_all(Framing { length: None, waits: false }, &sent).await;
        assert!(matches!(body, Err(Failure::BadRequest(_))), "{body:?}");
    }
}
