//! The head of an HTTP/1.1 response on the wire (RFC 9112 §4, §5).

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, StatusCode, header};

/// Writes the status line, with CR LF.
pub fn status_line(wire: &mut Vec<u8>, status: StatusCode) {
    wire.extend_from_slice(b"HTTP/1.1 ");
    wire.extend_from_slice(status.as_str().as_bytes());
    // The space stays where no reason phrase follows (RFC 9112 §4).
    wire.extend_from_slice(b" ");
    wire.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    wire.extend_from_slice(b"\r\n");
}

/// Writes the fields, and the empty line behind them.
pub fn write_fields(wire: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        write_name(wire, name);
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
}

/// Writes a name with capital letters, for old clients that compare names letter by letter.
fn write_name(wire: &mut Vec<u8>, name: &HeaderName) {
    match *name {
        header::ETAG => wire.extend_from_slice(b"ETag"),
        header::WWW_AUTHENTICATE => wire.extend_from_slice(b"WWW-Authenticate"),
        _ => {
            let mut begins = true;
            wire.extend(name.as_str().bytes().map(|byte| {
                let letter = if begins { byte.to_ascii_uppercase() } else { byte };
                begins = byte == b'-';
                letter
            }));
        }
    }
}

/// Returns the time in the form of a `Date` header (RFC 9110 §5.6.7). Formatting costs less than keeping a cached one
/// in step.
#[expect(clippy::disallowed_methods, reason = "the time of the answer, which no test moves")]
pub fn date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}
