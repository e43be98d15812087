//! The framing of an HTTP/1.1 request's body (RFC 9112 §6, §7.1), without I/O. The head has been checked before: it
//! gives one length or one encoding, or neither.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header};

use http_semantics::chunked::{self, MalformedChunk};
use http_semantics::headers::expects_continue;

/// Most bytes that are read at once.
const MAX_READ_BYTES: usize = 64 * 1024;

/// Pieces below this many bytes are copied.
const COPY_BELOW_BYTES: usize = 4 * 1024;
/// Most bytes of a chunk's size line without an extension: 16 hexadecimal digits, CR and LF.
const SIZE_LINE: usize = 18;
/// Most bytes of all chunk extensions of a body (RFC 9112 §7.1.1 asks for a limit).
const MAX_EXTENSIONS: usize = 16 * 1024;

/// The rest of a request's body.
#[derive(Debug, Default)]
pub struct RequestBodyDecoder {
    rest: DecoderState,
    awaits_continue: bool,
    trailers: Option<HeaderMap>,
    /// Bytes of lines that begin chunks, beyond their sizes.
    extensions: usize,
}

/// The next part of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DecoderState {
    /// Nothing.
    #[default]
    None,
    /// So many bytes, and nothing behind them.
    Length(u64),
    /// The line that begins a chunk.
    ChunkSize,
    /// So many bytes of a chunk, and the end of its line.
    ChunkData(u64),
    /// The fields behind the last chunk.
    Trailers,
}

/// Outcome of reading from the bytes that are there.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// The next bytes of the body.
    Data(Bytes),
    /// There are none yet; about so many are worth reading.
    NeedsMore(usize),
    /// The body is at its end.
    End,
}

impl RequestBodyDecoder {
    /// Makes the decoder of the body that `headers` announce (RFC 9112 §6.3).
    pub fn from_headers(headers: &HeaderMap) -> Self {
        // A length that is no number was refused with the head.
        let length = || headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        // It is `chunked`: any other encoding was refused with the head.
        let rest = if headers.contains_key(header::TRANSFER_ENCODING) {
            DecoderState::ChunkSize
        } else {
            length().filter(|length| *length > 0).map_or(DecoderState::None, DecoderState::Length)
        };
        let awaits_continue = rest != DecoderState::None && expects_continue(headers);
        Self { rest, awaits_continue, trailers: None, extensions: 0 }
    }

    /// Returns true where nothing more of the body will come.
    pub fn is_over(&self) -> bool {
        self.rest == DecoderState::None
    }

    /// Returns true where the client waits for `100 Continue` before it sends.
    pub fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// Notes that `100 Continue` was sent, or is not needed.
    pub fn continued(&mut self) {
        self.awaits_continue = false;
    }

    /// Takes the trailer fields, once the end was reached.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Takes the next bytes of the body from the front of `ahead`; bytes behind its end stay there. Fails where a chunk
    /// is malformed, or the extensions of all chunks exceed their limit.
    pub fn next(&mut self, ahead: &mut BytesMut) -> Result<BodyStep, MalformedChunk> {
        loop {
            match &mut self.rest {
                DecoderState::None => return Ok(BodyStep::End),
                DecoderState::Length(left) | DecoderState::ChunkData(left @ 1..) => {
                    let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
                    if ahead.is_empty() {
                        return Ok(BodyStep::NeedsMore(wanted.min(MAX_READ_BYTES)));
                    }
                    let taken = wanted.min(ahead.len());
                    *left -= taken as u64;
                    // A counted body ends here; behind a chunk its line end follows.
                    if self.rest == DecoderState::Length(0) {
                        self.rest = DecoderState::None;
                    }
                    return Ok(BodyStep::Data(take(ahead, taken)));
                }
                DecoderState::ChunkData(0) => match chunked::data_end(ahead)? {
                    Some(length) => {
                        ahead.advance(length);
                        self.rest = DecoderState::ChunkSize;
                    }
                    None => return Ok(BodyStep::NeedsMore(MAX_READ_BYTES)),
                },
                DecoderState::ChunkSize => match chunked::size_line(ahead)? {
                    Some((length, size)) => {
                        ahead.advance(length);
                        // Extensions are dropped; without a limit a body of tiny chunks could cost far more than it
                        // carries.
                        self.extensions += length.saturating_sub(SIZE_LINE);
                        if self.extensions > MAX_EXTENSIONS {
                            return Err(MalformedChunk);
                        }
                        self.rest = if size == 0 { DecoderState::Trailers } else { DecoderState::ChunkData(size) };
                    }
                    None => return Ok(BodyStep::NeedsMore(MAX_READ_BYTES)),
                },
                DecoderState::Trailers => match chunked::trailer_section(ahead)? {
                    Some((length, fields)) => {
                        ahead.advance(length);
                        self.trailers = Some(fields).filter(|fields| !fields.is_empty());
                        self.rest = DecoderState::None;
                    }
                    None => return Ok(BodyStep::NeedsMore(MAX_READ_BYTES)),
                },
            }
        }
    }
}

/// Takes `count` bytes off the front. A small piece is copied: as a part of the buffer it would keep all of it.
fn take(ahead: &mut BytesMut, count: usize) -> Bytes {
    if count >= COPY_BELOW_BYTES {
        return ahead.split_to(count).freeze();
    }
    let piece = Bytes::copy_from_slice(&ahead[..count]);
    ahead.advance(count);
    piece
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn body(name: &'static str, value: &'static str) -> RequestBodyDecoder {
        let name = http::HeaderName::from_static(name);
        RequestBodyDecoder::from_headers(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]))
    }

    /// The body of `sent` in pieces of `step` bytes, whether its end was seen, and what is left behind it.
    fn read(
        mut body: RequestBodyDecoder,
        sent: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, bool, Vec<u8>), MalformedChunk> {
        let (mut ahead, mut read, mut pieces) = (BytesMut::new(), Vec::new(), sent.chunks(step));
        loop {
            match body.next(&mut ahead)? {
                BodyStep::Data(bytes) => read.extend_from_slice(&bytes),
                BodyStep::End => {
                    pieces.for_each(|piece| ahead.extend_from_slice(piece));
                    return Ok((read, true, ahead.to_vec()));
                }
                BodyStep::NeedsMore(_) => match pieces.next() {
                    Some(piece) => ahead.extend_from_slice(piece),
                    None => return Ok((read, false, ahead.to_vec())),
                },
            }
        }
    }

    #[test]
    fn a_body_is_read_to_its_end_and_no_further_however_it_is_cut() {
        let counted = || body("content-length", "4");
        let chunked = || body("transfer-encoding", "chunked");
        type Case<'a> = (fn() -> RequestBodyDecoder, &'a [u8], &'a [u8], bool, &'a [u8]);
        let table: [Case<'_>; 8] = [
            (counted, b"bodynext", b"body", true, b"next"),
            (counted, b"bod", b"bod", false, b""),
            (|| body("content-length", "0"), b"next", b"", true, b"next"),
            (|| RequestBodyDecoder::from_headers(&HeaderMap::new()), b"next", b"", true, b"next"),
            (chunked, b"0\r\n\r\nnext", b"", true, b"next"),
            (chunked, b"2\r\nbo\r\n2;a=b\r\ndy\r\n0\r\nX: y\r\n\r\nnext", b"body", true, b"next"),
            (chunked, b"ffffffffffffffff\r\nbo", b"bo", false, b""),
            (chunked, b"0\r\nX: y\r\n", b"", false, b"X: y\r\n"),
        ];
        for (of, sent, expected, ended, rest) in table {
            for step in 1..=sent.len() {
                let (read, end, left) = read(of(), sent, step).expect("well formed");
                let shown = String::from_utf8_lossy(sent);
                assert_eq!((read.as_slice(), end, left.as_slice()), (expected, ended, rest), "{shown} by {step}");
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for sent in [&b"2\r\nbody"[..], b"x\r\n", b"\r\n0\r\n\r\n", b"1;\n\r\nx\r\n0\r\n\r\n", b"0\r\nX: y\n\n"] {
            for step in 1..=sent.len() {
                let outcome = read(body("transfer-encoding", "chunked"), sent, step);
                assert_eq!(outcome, Err(MalformedChunk), "{:?} by {step}", String::from_utf8_lossy(sent));
            }
        }
    }

    #[test]
    fn trailers_are_kept_for_the_handler() {
        let (mut body, mut ahead) = (body("transfer-encoding", "chunked"), BytesMut::from("0\r\nA: b\r\n\r\n"));
        assert_eq!(body.next(&mut ahead), Ok(BodyStep::End));
        assert_eq!(body.take_trailers().expect("there are some")["a"], "b");
        assert_eq!(body.take_trailers(), None);
    }

    #[test]
    fn only_a_client_with_a_body_waits_for_leave_to_send_it() {
        let mut headers = HeaderMap::new();
        headers.insert(header::EXPECT, HeaderValue::from_static("100-Continue"));
        assert!(!RequestBodyDecoder::from_headers(&headers).awaits_continue());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        assert!(RequestBodyDecoder::from_headers(&headers).awaits_continue());
    }
}
