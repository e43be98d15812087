//! Lines of the chunked coding (RFC 9112 §7.1), for bodies of clients and of servers alike. Strict: input that two
//! parsers could read differently is an error.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Largest chunk-size line, and largest trailer section, in bytes.
pub const MAX_SECTION: usize = 8 * 1024;
/// Most trailer fields of one body.
const MAX_TRAILERS: usize = 64;

/// Malformed framing of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of the body is malformed")]
pub struct MalformedChunk;

/// Reads the chunk-size line at the front of `bytes`. Returns its length including CR LF, and the chunk's size in
/// bytes; `None` while the line is incomplete. Chunk extensions are skipped (RFC 9112 §7.1.1).
pub fn size_line(bytes: &[u8]) -> Result<Option<(usize, u64)>, MalformedChunk> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // Sixteen hexadecimal digits are 64 bits: the shifts below cannot overflow.
    if digits > 16 || (digits == 0 && !bytes.is_empty()) {
        return Err(MalformedChunk);
    }
    let rest = &bytes[digits..];
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        // The line may go on in the next read, but only up to the limit: otherwise a peer could make us buffer without
        // end.
        let may_go_on = bytes.len() < MAX_SECTION && extension(rest);
        return if may_go_on { Ok(None) } else { Err(MalformedChunk) };
    };
    // RFC 9112 §7.1.1 lets a recipient ignore extensions; their characters are checked, since a stray CR hides a line.
    if !extension(&rest[..end]) {
        return Err(MalformedChunk);
    }
    match rest[end..] {
        [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] if digits + end < MAX_SECTION => {
            let size = bytes[..digits].iter().fold(0, |size, digit| size << 4 | u64::from(hex(*digit)));
            Ok(Some((digits + end + 2, size)))
        }
        _ => Err(MalformedChunk),
    }
}

/// Reads the CR LF behind a chunk's data. Returns its length; `None` while it is incomplete.
pub fn data_end(bytes: &[u8]) -> Result<Option<usize>, MalformedChunk> {
    match bytes {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        _ => Err(MalformedChunk),
    }
}

/// Reads the trailer section at the front of `bytes`, with the empty line that ends it. Returns its length in bytes and
/// its fields; `None` while it is incomplete.
pub fn trailer_section(bytes: &[u8]) -> Result<Option<(usize, HeaderMap)>, MalformedChunk> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(bytes, &mut lines) {
        // Bare line feeds, which the parser takes, are as malformed as in a head.
        Ok(httparse::Status::Complete((length, fields)))
            if length <= MAX_SECTION && has_proper_lines(&bytes[..length]) =>
        {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| MalformedChunk)?;
                trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| MalformedChunk)?);
            }
            Ok(Some((length, trailers)))
        }
        Ok(httparse::Status::Partial) if bytes.len() < MAX_SECTION => Ok(None),
        _ => Err(MalformedChunk),
    }
}

fn has_proper_lines(section: &[u8]) -> bool {
    let feeds = section.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    feeds.into_iter().all(|(at, _)| at > 0 && section[at - 1] == b'\r')
}

/// Returns true for blanks followed by `;` and visible characters, or for nothing (RFC 9112 §7.1.1).
fn extension(text: &[u8]) -> bool {
    let begins = matches!(text.trim_ascii_start(), [] | [b';', ..]);
    begins && text.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        // Setting bit 5 makes an ASCII letter lower-case, so one subtraction serves both cases.
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_line_is_read_strictly() {
        type Case<'a> = (&'a [u8], Result<Option<(usize, u64)>, MalformedChunk>);
        let table: [Case<'_>; 22] = [
            (b"4\r\nWiki", Ok(Some((3, 4)))),
            (b"0\r\n\r\n", Ok(Some((3, 0)))),
            (b"aB\r\n", Ok(Some((4, 0xab)))),
            (b"6;name=value\r\n", Ok(Some((14, 6)))),
            (b"6 ;name=\"a b\"\r\n", Ok(Some((15, 6)))),
            (b"ffffffffffffffff\r\n", Ok(Some((18, u64::MAX)))),
            (b"", Ok(None)),
            (b"4", Ok(None)),
            (b"4\r", Ok(None)),
            (b"4;na", Ok(None)),
            (b"10000000000000000\r\n", Err(MalformedChunk)),
            (b"\r\n4\r\n", Err(MalformedChunk)),
            (b"\n4\r\n", Err(MalformedChunk)),
            (b"4\n", Err(MalformedChunk)),
            (b"4;a\nb\r\n", Err(MalformedChunk)),
            (b"4;a\rb\r\n", Err(MalformedChunk)),
            (b"4;a\0\r\n", Err(MalformedChunk)),
            (b"+4\r\n", Err(MalformedChunk)),
            (b"0x4\r\n", Err(MalformedChunk)),
            (b" 4\r\n", Err(MalformedChunk)),
            (b"4 4\r\n", Err(MalformedChunk)),
            (b";a\r\n", Err(MalformedChunk)),
        ];
        for (bytes, expected) in table {
            assert_eq!(size_line(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        let mut endless = b"4;".to_vec();
        endless.resize(MAX_SECTION, b'a');
        assert_eq!(size_line(&endless), Err(MalformedChunk));
    }

    #[test]
    fn a_trailer_section_is_read_to_its_empty_line() {
        let none = trailer_section(b"\r\nnext").expect("well formed").expect("whole");
        assert_eq!((none.0, none.1.len()), (2, 0));
        let (length, fields) = trailer_section(b"A: b\r\nC: d\r\n\r\nnext").expect("well formed").expect("whole");
        assert_eq!((length, fields["a"].as_bytes(), fields["c"].as_bytes()), (14, &b"b"[..], &b"d"[..]));
        for part in [&b""[..], b"\r", b"A: b\r\n", b"A: b\r\n\r"] {
            assert_eq!(trailer_section(part), Ok(None), "{part:?}");
        }
        for bad in [&b"A: b\n\n"[..], b"no colon\r\n\r\n", b": x\r\n\r\n", b"A: b\r\n\n"] {
            assert_eq!(trailer_section(bad), Err(MalformedChunk), "{bad:?}");
        }
    }
}
