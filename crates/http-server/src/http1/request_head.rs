//! The head of an HTTP/1 request: finding its end, and parsing it. Checked strictly before it is parsed.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use memchr::memchr_iter;

use crate::RefusalDetail;
use crate::connection_limits::MAX_HEADER_LINES;
use http_semantics::head_syntax;
use http_semantics::headers::has_token;
use http_semantics::request_host;

/// Reason why a request's head cannot be taken. The connection ends with the refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestHeadError {
    /// More bytes, or more lines, than are read.
    TooLong,
    /// Not a request as RFC 9112 or RFC 9113 has it.
    Malformed(RefusalDetail),
}

/// Returns the end of the head at the front of `buffer`; `None` where it is not there yet. `from` is at least 3 bytes
/// before the end of what was searched, 0 at first.
/// Heads with bare line feeds end here too, for the check to refuse them.
pub fn find_end(buffer: &[u8], from: usize) -> Option<usize> {
    let after_lines = memchr_iter(b'\n', &buffer[from..]).map(|at| from + at + 1);
    after_lines.into_iter().find_map(|at| match buffer[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    })
}

/// Parses the request with the head `head`; its target and values are parts of it, but for the host, which is written in
/// one spelling. Fails where the head is malformed or has more than `most_lines` header lines, [`MAX_HEADER_LINES`] at
/// most.
pub fn parse(head: &Bytes, most_lines: usize) -> Result<Parts, RequestHeadError> {
    // First, because the parser accepts more than RFC 9112 allows, such as bare line feeds.
    head_syntax::check(head).map_err(|fault| RequestHeadError::Malformed(fault.to_string().into()))?;
    let malformed = || RequestHeadError::Malformed("the request's head is malformed".into());
    // Not initialised: few requests use most of the lines.
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADER_LINES];
    let lines = &mut lines[..most_lines.min(MAX_HEADER_LINES)];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, lines) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(RequestHeadError::TooLong),
        _ => return Err(malformed()),
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| malformed())?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value)).map_err(|_| malformed())?;
        headers.try_append(name, value).map_err(|_| RequestHeadError::TooLong)?;
    }
    let target = parsed.path.ok_or_else(malformed)?.as_bytes();
    let uri = Uri::from_maybe_shared(head.slice_ref(target));
    let uri =
        uri.map_err(|_| RequestHeadError::Malformed("the request's target is malformed; percent-encode it".into()))?;
    let mut parts = empty_parts();
    parts.method = parsed.method.and_then(|method| method.parse().ok()).ok_or_else(malformed)?;
    parts.version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    (parts.uri, parts.headers) = (uri, headers);
    request_host::normalize(&mut parts);
    Ok(parts)
}

/// The parts of a request of which nothing is known.
pub fn empty_parts() -> Parts {
    http::Request::new(()).into_parts().0
}

/// Returns true where the client wants to go on with the connection (RFC 9112 §9.3).
pub fn wants_keep_alive(request: &Parts) -> bool {
    let names = |option: &str| has_token(&request.headers, &header::CONNECTION, option);
    !names("close") && (request.version == Version::HTTP_11 || names("keep-alive"))
}
