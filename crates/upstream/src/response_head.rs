//! The head of an HTTP/1.1 response: reading it over interim responses, and how its body ends (RFC 9112 §6.3). It must not
//! know what the response is for.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_semantics::headers::list_has_token;

use super::body_reader::BodyFraming;
use super::connection::{ExchangeError, UpstreamStream};

/// Longest response head that is accepted, in bytes, interim responses included.
const MAX_HEAD: usize = 64 * 1024;
/// Most header lines that are accepted.
const MAX_HEADERS: usize = 100;
/// Most interim responses (1xx) before the final one.
const MAX_INTERIM: usize = 16;
/// Header fields to allocate for: an object's response rarely keeps more. Not a limit.
const KEPT_FIELDS: usize = 12;

/// Head of a final response, with what is known of its connection and its body.
pub struct ResponseHead {
    /// Status code; 101 is final.
    pub status: StatusCode,
    /// Header fields that were kept, in the order in which they were sent.
    pub headers: HeaderMap,
    /// Values of `Transfer-Encoding`, joined by commas.
    encoding: Option<Vec<u8>>,
    /// True if the server keeps the connection after the body.
    pub keep_alive: bool,
    /// Bytes of the head in the buffer that it was read into.
    pub length: usize,
}

/// Reads the head of a final response into `buffer`, in which bytes of the body may follow it; `keep` tells the fields that
/// are kept by their names. Fails with `Closed`, whose `reused` is true only if the connection had served before and no
/// byte of the response came, or with `Malformed`.
pub async fn read_head(
    io: &mut UpstreamStream,
    buffer: &mut Vec<u8>,
    keep: fn(&str) -> bool,
    reused: bool,
) -> Result<ResponseHead, ExchangeError> {
    // Interim responses stay in the buffer until the final head is there, so that all a store sends before it is
    // bounded together, and no byte is moved twice.
    let (mut start, mut interim) = (0, 0);
    loop {
        let known = buffer.len();
        match io.read(buffer).await {
            Ok(1..) => {}
            ended => {
                // After the first byte of a response the server did not close for idleness: trying again is then a
                // retry.
                let reused = reused && buffer.is_empty();
                return Err(ExchangeError::Closed { reused, source: ended.err() });
            }
        }
        // Only the end of a line can complete a head: one that comes byte by byte is parsed once for each line.
        let has_line = known == 0 || buffer[known..].contains(&b'\n');
        while has_line && let Some(head) = parse_head(&buffer[start..], keep)? {
            // 101 is final here: the connection then speaks another protocol (RFC 9110 §15.2.2).
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                buffer.drain(..start);
                return Ok(head);
            }
            start += head.length;
            interim += 1;
            if interim > MAX_INTERIM {
                return Err(ExchangeError::Malformed("it sends too many interim answers"));
            }
        }
        if buffer.len() >= MAX_HEAD {
            return Err(ExchangeError::Malformed("its head is too long"));
        }
    }
}

fn parse_head(buffer: &[u8], keep: fn(&str) -> bool) -> Result<Option<ResponseHead>, ExchangeError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let malformed = || ExchangeError::Malformed("its head cannot be parsed");
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, buffer, &mut lines);
    let httparse::Status::Complete(length) = read.map_err(|_| malformed())? else {
        return Ok(None);
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(malformed)?;
    let mut headers = HeaderMap::with_capacity(KEPT_FIELDS);
    // HTTP/1.1 keeps the connection unless it says `close`, HTTP/1.0 only if it says `keep-alive` (RFC 9112 §9.3).
    let (mut encoding, mut close, mut keep_alive) = (None::<Vec<u8>>, false, parsed.version == Some(1));
    for line in parsed.headers.iter() {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        if is("connection") {
            close |= list_has_token(line.value, "close");
            keep_alive |= list_has_token(line.value, "keep-alive");
        } else if is("transfer-encoding") {
            // Several lines are one list (RFC 9110 §5.3), which is refused: without the comma, `chun` and `ked` would be
            // one coding.
            match &mut encoding {
                Some(encoding) => {
                    encoding.push(b',');
                    encoding.extend_from_slice(line.value);
                }
                None => encoding = Some(line.value.to_vec()),
            }
        } else if is("content-length") || keep(line.name) {
            // Names are made only for kept fields: stores send many that nobody asks for.
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| malformed())?;
            headers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| malformed())?);
        }
    }
    Ok(Some(ResponseHead { status, headers, encoding, keep_alive: keep_alive && !close, length }))
}

/// Determines how the body ends (RFC 9112 §6.3). Fails with `Malformed` where the length is ambiguous.
pub fn framing(head: &ResponseHead, head_only: bool) -> Result<BodyFraming, ExchangeError> {
    // These have no body, whatever their `Content-Length` says.
    if head_only || matches!(head.status.as_u16(), 101 | 204 | 304) {
        return Ok(BodyFraming::Length(0));
    }
    let ambiguous = ExchangeError::Malformed("its length is ambiguous");
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), &head.encoding) {
        // The RFC lets `Transfer-Encoding` win, but warns that such a message may be an attempt at smuggling.
        (Some(_), Some(_)) => Err(ambiguous),
        (None, Some(encoding)) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::chunked()),
        (None, Some(_)) => Err(ExchangeError::Malformed("its transfer coding is unknown")),
        (None, None) => Ok(BodyFraming::UntilClose),
        (Some(length), None) => {
            // Equal repeated lengths are valid (RFC 9110 §8.6).
            if lengths.any(|other| other != length) {
                return Err(ambiguous);
            }
            // `parse` alone would accept a leading `+`.
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|text| text.parse().ok()).map(BodyFraming::Length).ok_or(ambiguous)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_as_its_head_says_or_the_head_is_refused() {
        for (fields, expected) in [
            ("", "until close"),
            ("Content-Length: 12\r\n", "12"),
            ("Content-Length: 12\r\nContent-Length: 12\r\n", "12"),
            ("Content-Length: 12\r\nContent-Length: 13\r\n", "refused"),
            ("Content-Length: +12\r\n", "refused"),
            ("Content-Length: 12, 12\r\n", "refused"),
            ("Transfer-Encoding: Chunked\r\n", "chunked"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 12\r\n", "refused"),
            ("Transfer-Encoding: gzip, chunked\r\n", "refused"),
            ("Transfer-Encoding: chun\r\nTransfer-Encoding: ked\r\n", "refused"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "refused"),
            ("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", "refused"),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let head = parse_head(text.as_bytes(), |_| false).expect("a head").expect("a whole one");
            let found = match framing(&head, false) {
                Ok(BodyFraming::Length(length)) => length.to_string(),
                Ok(BodyFraming::UntilClose) => "until close".to_owned(),
                Ok(_) => "chunked".to_owned(),
                Err(_) => "refused".to_owned(),
            };
            assert_eq!(found, expected, "{fields:?}");
        }
    }
}
