//! The marks that part a raw path for one server or another, and paths that are refused before anything else reads them
//! (RFC 9110 §17.3, RFC 3986 §2.1, §3.3): no object's key and no route can mean them, or what is behind would read them
//! differently. It must not know routes or keys.

use std::ops::Range;

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
    /// A `.` or `..` segment, however escaped, with or without parameters, between slashes or backslashes.
    #[error("the path has a '.' or '..' segment before byte {at}: expected none, raw or escaped")]
    DotSegment {
        /// Position of the segment's end, counted from 0.
        at: usize,
    },
}

/// Character of a raw path that means something to one server and nothing to another, in one of its two spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMark {
    /// `/`, which parts segments for everybody.
    Slash,
    /// `%2F`, which parts segments for servers that decode first.
    EscapedSlash,
    /// `\`, a slash to browsers, to everything that reads URLs as they do, and on Windows.
    Backslash,
    /// `%5C`.
    EscapedBackslash,
    /// `;`, which begins the parameters of a segment (RFC 3986 §3.3).
    Semicolon,
    /// `%3B`.
    EscapedSemicolon,
}

impl PathMark {
    /// Returns the bytes that the mark takes.
    pub fn width(self) -> usize {
        match self {
            Self::Slash | Self::Backslash | Self::Semicolon => 1,
            Self::EscapedSlash | Self::EscapedBackslash | Self::EscapedSemicolon => 3,
        }
    }

    /// Returns true where the mark ends a segment for somebody.
    pub fn is_separator(self) -> bool {
        !matches!(self, Self::Semicolon | Self::EscapedSemicolon)
    }
}

/// Returns the marks of a raw path with their positions.
pub fn marks(path: &[u8]) -> impl Iterator<Item = (usize, PathMark)> {
    path.iter().enumerate().filter_map(move |(at, byte)| {
        let mark = match byte {
            b'/' => PathMark::Slash,
            b'\\' => PathMark::Backslash,
            b';' => PathMark::Semicolon,
            b'%' => match escaped(&path[at + 1..])? {
                b'/' => PathMark::EscapedSlash,
                b'\\' => PathMark::EscapedBackslash,
                b';' => PathMark::EscapedSemicolon,
                _ => return None,
            },
            _ => return None,
        };
        Some((at, mark))
    })
}

/// Cuts a raw path at every mark that ends a segment for somebody, and each segment where its parameters begin; returns
/// the places of what is left. A `.` or `..` that any server sees is one of them.
pub fn segments(path: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut marks = marks(path);
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next.take()?;
        let mut end = None;
        for (at, mark) in marks.by_ref() {
            end = end.or(Some(at));
            if mark.is_separator() {
                next = Some(at + mark.width());
                break;
            }
        }
        Some(start..end.unwrap_or(path.len()))
    })
}

/// Checks a raw path, without its query.
pub fn check(path: &[u8]) -> Result<(), InvalidPath> {
    let length = path.len();
    // Length first: what follows costs time for each byte.
    if length > MAX_PATH_BYTES {
        return Err(InvalidPath::TooLong { length });
    }
    if !path.starts_with(b"/") {
        return Err(InvalidPath::NotAbsolute);
    }
    let mut at = 0;
    while let Some(&raw) = path.get(at) {
        let (byte, width) = match raw {
            b'%' => (escaped(&path[at + 1..]).ok_or(InvalidPath::BadEscape { at })?, 3),
            raw => (raw, 1),
        };
        if matches!(byte, b'\0' | b'\r' | b'\n') {
            return Err(InvalidPath::ControlByte { at });
        }
        at += width;
    }
    match segments(path).find(|segment| is_dots(&path[segment.clone()])) {
        Some(segment) => Err(InvalidPath::DotSegment { at: segment.end }),
        None => Ok(()),
    }
}

/// Returns true for `.` and `..`, raw or escaped.
fn is_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    for count in 0..=2 {
        rest = match rest {
            [] => return count > 0,
            [b'.', rest @ ..] => rest,
            [b'%', rest @ ..] if escaped(rest) == Some(b'.') => &rest[2..],
            _ => return false,
        };
    }
    false
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
            "/a;../b;x/;..",
            "/a\\b%5C...;c",
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
            ("/a/..\\b", InvalidPath::DotSegment { at: 5 }),
            ("/a\\.", InvalidPath::DotSegment { at: 4 }),
            ("/a%5C%2e.%5cb", InvalidPath::DotSegment { at: 9 }),
            ("/a/..;/b", InvalidPath::DotSegment { at: 5 }),
            ("/a/%2e%2E;x", InvalidPath::DotSegment { at: 9 }),
            ("/.%3Bx/b", InvalidPath::DotSegment { at: 2 }),
            ("/a%2F..;x\\y", InvalidPath::DotSegment { at: 7 }),
            ("/a/x;\\..", InvalidPath::DotSegment { at: 8 }),
        ];
        for (path, expected) in table {
            assert_eq!(check(path.as_bytes()), Err(expected), "{path:?}");
        }
        let length = MAX_PATH_BYTES + 1;
        assert_eq!(check(&vec![b'/'; length]), Err(InvalidPath::TooLong { length }));
    }

    /// Returns true where a decoded path has a `.` or `..` for some server.
    fn has_dots(decoded: &[u8]) -> bool {
        let parts = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
        parts.map(|part| part.split(|byte| *byte == b';').next()).any(|name| matches!(name, Some(b"." | b"..")))
    }

    proptest! {
        #[test]
        fn any_path_is_checked_without_panic(bytes in any::<Vec<u8>>(), path in r"/[%./\\;a0-9bBcCeEfF]{0,30}") {
            let _ = check(&bytes);
            let passed = check(path.as_bytes()).is_ok();
            let decoded: Vec<u8> = percent_encoding::percent_decode(path.as_bytes()).collect();
            let dotted = has_dots(&decoded);
            prop_assert!(!passed || !dotted && !decoded.contains(&0));
        }

        #[test]
        fn every_escaped_path_passes_unless_its_bytes_are_bad(bytes in any::<Vec<u8>>()) {
            let path: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
            let dotted = has_dots(&bytes);
            let control = bytes.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'));
            prop_assert_eq!(check(format!("/{path}").as_bytes()).is_ok(), !dotted && !control);
        }
    }
}
