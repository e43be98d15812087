//! Paths that are refused before anything else reads them (RFC 9110 §17.3, RFC 3986 §2.1, §3.3): no object's key and no
//! route can mean them, or a store would read them differently. It must not know routes or keys.

/// Longest accepted path, in bytes as sent.
pub const MAX_PATH_BYTES: usize = 8192;

/// Reason for which a path is refused. The texts repeat nothing of the path, since a path may hold a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Longer than [`MAX_PATH_BYTES`].
    #[error("the path has {length} bytes: expected at most {MAX_PATH_BYTES}")]
    TooLong {
        /// Length of the path in bytes.
        length: usize,
    },
    /// Not an absolute path.
    #[error("the path does not begin with '/': expected an absolute path")]
    NotAbsolute,
    /// A `%` that begins no escape.
    #[error("the '%' at byte {at} of the path begins no escape: expected two hexadecimal digits after it")]
    BadEscape {
        /// Position of the `%`, counted from 0.
        at: usize,
    },
    /// A NUL, CR or LF, raw or escaped.
    #[error("the path has a NUL, CR or LF at byte {at}: expected none, raw or escaped")]
    ControlByte {
        /// Position where it begins, counted from 0.
        at: usize,
    },
    /// A `.` or `..` segment, however escaped.
    #[error("the path has a '.' or '..' segment before byte {at}: expected none, raw or escaped")]
    DotSegment {
        /// Position of the segment's end, counted from 0.
        at: usize,
    },
}

/// Checks a raw path, without its query. An escaped `/` separates segments here, since it does so in a decoded key.
pub fn check(path: &[u8]) -> Result<(), InvalidPath> {
    let length = path.len();
    // Length first: the loop below costs time for each byte.
    if length > MAX_PATH_BYTES {
        return Err(InvalidPath::TooLong { length });
    }
    if !path.starts_with(b"/") {
        return Err(InvalidPath::NotAbsolute);
    }
    let mut segment = DotSegmentState::Empty;
    let mut at = 0;
    while let Some(&raw) = path.get(at) {
        let (byte, width) = match raw {
            b'%' => (escaped(&path[at + 1..]).ok_or(InvalidPath::BadEscape { at })?, 3),
            raw => (raw, 1),
        };
        segment = match byte {
            b'\0' | b'\r' | b'\n' => return Err(InvalidPath::ControlByte { at }),
            b'/' if segment.is_dots() => return Err(InvalidPath::DotSegment { at }),
            b'/' => DotSegmentState::Empty,
            b'.' => segment.with_dot(),
            _ => DotSegmentState::Other,
        };
        at += width;
    }
    // The last segment has no `/` behind it.
    if segment.is_dots() { Err(InvalidPath::DotSegment { at }) } else { Ok(()) }
}

/// Bytes of a segment seen so far, as far as dots are concerned.
#[derive(Clone, Copy)]
enum DotSegmentState {
    Empty,
    Dot,
    DotDot,
    Other,
}

impl DotSegmentState {
    fn with_dot(self) -> Self {
        match self {
            Self::Empty => Self::Dot,
            Self::Dot => Self::DotDot,
            Self::DotDot | Self::Other => Self::Other,
        }
    }

    fn is_dots(self) -> bool {
        matches!(self, Self::Dot | Self::DotDot)
    }
}

/// Decodes the two hexadecimal digits after a `%`; `None` if they are missing or no digits.
fn escaped(after: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*after.get(index)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn harmless_paths_pass() {
        let paths = [
            "/",
            "//",
            "/stream/a//b/",
            "/stream/01%20Song.mp3",
            "/a%2Fb",
            "/a%252Fb",
            "/%252e%252e/",
            "/+@:'*$,;&=()!\"~",
            "/caf%C3%A9",
            "/caf\u{e9}",
            "/%ff",
            "/...",
            "/..a/b../.hidden/a.b/%2e%2e%2e",
        ];
        for path in paths {
            assert_eq!(check(path.as_bytes()), Ok(()), "{path:?}");
        }
        assert_eq!(check(&[b'/'; MAX_PATH_BYTES]), Ok(()));
    }

    #[test]
    fn bad_paths_are_refused_with_the_place() {
        let table = [
            ("", InvalidPath::NotAbsolute),
            ("*", InvalidPath::NotAbsolute),
            ("a/b", InvalidPath::NotAbsolute),
            ("http://a/", InvalidPath::NotAbsolute),
            ("/a%", InvalidPath::BadEscape { at: 2 }),
            ("/a%2", InvalidPath::BadEscape { at: 2 }),
            ("/%zz/..", InvalidPath::BadEscape { at: 1 }),
            ("/%2g", InvalidPath::BadEscape { at: 1 }),
            ("/%+1", InvalidPath::BadEscape { at: 1 }),
            ("/%%41", InvalidPath::BadEscape { at: 1 }),
            ("/a\0", InvalidPath::ControlByte { at: 2 }),
            ("/a%00b", InvalidPath::ControlByte { at: 2 }),
            ("/%0d%0aSet-Cookie:%20a=b", InvalidPath::ControlByte { at: 1 }),
            ("/ab%0A", InvalidPath::ControlByte { at: 3 }),
            ("/.", InvalidPath::DotSegment { at: 2 }),
            ("/..", InvalidPath::DotSegment { at: 3 }),
            ("/a/../b", InvalidPath::DotSegment { at: 5 }),
            ("/a/./b", InvalidPath::DotSegment { at: 4 }),
            ("/%2e%2E/etc/passwd", InvalidPath::DotSegment { at: 7 }),
            ("/a/.%2e", InvalidPath::DotSegment { at: 7 }),
            ("/a%2F..%2fb", InvalidPath::DotSegment { at: 7 }),
        ];
        for (path, expected) in table {
            assert_eq!(check(path.as_bytes()), Err(expected), "{path:?}");
        }
        let length = MAX_PATH_BYTES + 1;
        assert_eq!(check(&vec![b'/'; length]), Err(InvalidPath::TooLong { length }));
    }

    proptest! {
        #[test]
        fn any_path_is_checked_without_panic(bytes in any::<Vec<u8>>(), path in "/[%./a0-9eEfF]{0,30}") {
            let _ = check(&bytes);
            let passed = check(path.as_bytes()).is_ok();
            let decoded: Vec<u8> = percent_encoding::percent_decode(path.as_bytes()).collect();
            let dotted = decoded.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..");
            prop_assert!(!passed || !dotted && !decoded.contains(&0));
        }

        #[test]
        fn every_escaped_path_passes_unless_its_bytes_are_bad(bytes in any::<Vec<u8>>()) {
            let path: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
            let dotted = bytes.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..");
            let control = bytes.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'));
            prop_assert_eq!(check(format!("/{path}").as_bytes()).is_ok(), !dotted && !control);
        }
    }
}
