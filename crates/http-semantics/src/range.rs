//! Byte range of a request and of a response: `Range` and `Content-Range` (RFC 9110 §14).
//!
//! Parsing knows nothing of the object; [`RangeSpec::resolve`] applies a range to an object's size. It must not know
//! where the size comes from, nor the status of a response.

use std::fmt;
use std::io::Write;

use http::header::RANGE;
use http::{HeaderMap, HeaderValue};

/// Requested range, before the object's size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `bytes=first-last` or `bytes=first-`.
    From {
        /// The first byte's position.
        first: u64,
        /// The last byte's position, itself included, never before `first`; `None` is to the end.
        last: Option<u64>,
    },
    /// `bytes=-length`: the last bytes of the object.
    Suffix {
        /// Number of bytes.
        length: u64,
    },
}

/// Bytes of an object, from `first` to `last`, both included; `first` is never after `last`, so it is never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// The first byte's position.
    pub first: u64,
    /// The last byte's position.
    pub last: u64,
}

/// The range contains no byte of the object: the response is 416 with [`unsatisfied_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range has no byte of the object: expected a first position before its end, or a suffix of at least 1")]
pub struct UnsatisfiableRange;

/// Part of the object in the body of a 206 (`Content-Range: bytes 0-499/1234`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes in the body.
    pub span: ByteRange,
    /// The whole object's size; `None` where the sender did not know (`*`).
    pub total: Option<u64>,
}

/// Returns the range of a request. More than one `Range` line is malformed and ignored, as in [`parse`].
pub fn from_headers(headers: &HeaderMap) -> Option<RangeSpec> {
    let mut lines = headers.get_all(RANGE).iter();
    match (lines.next(), lines.next()) {
        (Some(only), None) => parse(only.as_bytes()),
        _ => None,
    }
}

/// Parses a `Range` value. `None` means that it is to be ignored and the whole object is sent (RFC 9110 §14.2): another
/// unit, malformed, positions that overflow or run backwards, and several ranges, which a server may decline.
pub fn parse(value: &[u8]) -> Option<RangeSpec> {
    let (unit, set) = split_at_byte(value, b'=')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    // §5.6.1: a recipient passes over the empty elements of a list.
    let mut ranges = set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|range| !range.is_empty());
    let (Some(only), None) = (ranges.next(), ranges.next()) else { return None };
    match split_at_byte(only, b'-')? {
        (b"", length) => Some(RangeSpec::Suffix { length: digits(length)? }),
        (first, b"") => Some(RangeSpec::From { first: digits(first)?, last: None }),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(RangeSpec::From { first, last: Some(last) })
        }
    }
}

impl RangeSpec {
    /// Returns the bytes of an object of `size` bytes that are in this range; the end is limited to the object's end.
    pub fn resolve(self, size: u64) -> Result<ByteRange, UnsatisfiableRange> {
        // An empty object satisfies no range, not even a suffix (RFC 9110 §14.1.2).
        let end = size.checked_sub(1).ok_or(UnsatisfiableRange)?;
        let (first, last) = match self {
            Self::From { first, last } => (first, last.map_or(end, |last| last.min(end))),
            Self::Suffix { length: 0 } => return Err(UnsatisfiableRange),
            // §14.1.2: a suffix longer than the object is the whole object.
            Self::Suffix { length } => (size.saturating_sub(length), end),
        };
        if first <= last { Ok(ByteRange { first, last }) } else { Err(UnsatisfiableRange) }
    }

    /// Returns the `Range` value of this request.
    pub fn to_header(self) -> HeaderValue {
        match self {
            Self::From { first, last: Some(last) } => header(format_args!("bytes={first}-{last}")),
            Self::From { first, last: None } => header(format_args!("bytes={first}-")),
            Self::Suffix { length } => header(format_args!("bytes=-{length}")),
        }
    }
}

impl ByteRange {
    /// Returns the number of bytes, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a span is never empty")]
    pub fn len(self) -> u64 {
        // Saturates only for a range over all 2^64 bytes, which no object has.
        (self.last - self.first).saturating_add(1)
    }
}

impl ContentRange {
    /// Parses a `Content-Range` value. `None` where it names no bytes (`bytes */N`), is malformed, or contradicts
    /// itself (§14.4: positions run backwards, or the total does not exceed the last position).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (unit, range) = split_at_byte(value.trim_ascii(), b' ')?;
        let (positions, total) = split_at_byte(range, b'/')?;
        let (first, last) = split_at_byte(positions, b'-')?;
        let (first, last) = (digits(first)?, digits(last)?);
        let total = if total == b"*" { None } else { Some(digits(total)?) };
        let sound = unit.eq_ignore_ascii_case(b"bytes") && first <= last && total.is_none_or(|total| last < total);
        sound.then_some(Self { span: ByteRange { first, last }, total })
    }

    /// Returns the `Content-Range` value of a 206.
    pub fn to_header(self) -> HeaderValue {
        let ByteRange { first, last } = self.span;
        match self.total {
            Some(total) => header(format_args!("bytes {first}-{last}/{total}")),
            None => header(format_args!("bytes {first}-{last}/*")),
        }
    }
}

/// Returns the `Content-Range` value of a 416 for an object of `size` bytes.
pub fn unsatisfied_range(size: u64) -> HeaderValue {
    header(format_args!("bytes */{size}"))
}

/// Formats on the stack, so that a header value costs only one allocation.
fn header(text: fmt::Arguments<'_>) -> HeaderValue {
    // 20 digits are the most that a `u64` has.
    const LONGEST: usize = "bytes -/".len() + 3 * 20;
    let mut buffer = [0; LONGEST];
    let mut rest = buffer.as_mut_slice();
    rest.write_fmt(text).expect("three positions of at most 20 digits fit");
    let written = LONGEST - rest.len();
    HeaderValue::from_bytes(&buffer[..written]).expect("digits and punctuation make a header value")
}

fn split_at_byte(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Parses `1*DIGIT`; `None` if it overflows or, unlike in `str::parse`, has a sign.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const fn from(first: u64, last: u64) -> Option<RangeSpec> {
        Some(RangeSpec::From { first, last: Some(last) })
    }

    #[test]
    fn one_range_is_read_and_all_else_ignored() {
        let open = |first| Some(RangeSpec::From { first, last: None });
        let suffix = |length| Some(RangeSpec::Suffix { length });
        let table = [
            // RFC 9110 §14.1.2
            ("bytes=0-499", from(0, 499)),
            ("bytes=500-999", from(500, 999)),
            ("bytes=-500", suffix(500)),
            ("bytes=9500-", open(9500)),
            ("bytes=0-0", from(0, 0)),
            ("bytes=0-0,-1", None),
            ("bytes= 0-999, 4500-5499, -1000", None),
            ("bytes=500-700,601-999", None),
            // legal, if odd
            ("BYTES=1-2", from(1, 2)),
            ("bytes= 1-2 ", from(1, 2)),
            ("bytes=,1-2,", from(1, 2)),
            ("bytes=007-008", from(7, 8)),
            ("bytes=-0", suffix(0)),
            ("bytes=18446744073709551615-", open(u64::MAX)),
            // to be ignored
            ("", None),
            ("bytes", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes=,", None),
            ("bytes=5-2", None),
            ("bytes=a-2", None),
            ("bytes=1-b", None),
            ("bytes=+1-2", None),
            ("bytes=1--2", None),
            ("bytes=1-2-3", None),
            ("bytes=1 - 2", None),
            ("bytes =1-2", None),
            (" bytes=1-2", None),
            ("bytes:1-2", None),
            ("items=0-5", None),
            ("bytes=0-18446744073709551616", None),
            ("bytes=18446744073709551616-", None),
            ("bytes=-18446744073709551616", None),
        ];
        for (value, expected) in table {
            assert_eq!(parse(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_second_range_line_makes_both_ignored() {
        let mut headers = HeaderMap::new();
        assert_eq!(from_headers(&headers), None);
        headers.append(RANGE, HeaderValue::from_static("bytes=0-4"));
        assert_eq!(from_headers(&headers), from(0, 4));
        headers.append(RANGE, HeaderValue::from_static("bytes=5-9"));
        assert_eq!(from_headers(&headers), None);
    }

    #[test]
    fn a_range_is_laid_over_the_object() {
        let table = [
            ("bytes=0-499", 10_000, Ok((0, 499))),
            ("bytes=-500", 10_000, Ok((9_500, 9_999))),
            ("bytes=9500-", 10_000, Ok((9_500, 9_999))),
            ("bytes=9999-", 10_000, Ok((9_999, 9_999))),
            ("bytes=0-0", 1, Ok((0, 0))),
            ("bytes=0-10000", 10_000, Ok((0, 9_999))),
            ("bytes=-10001", 10_000, Ok((0, 9_999))),
            ("bytes=10000-", 10_000, Err(UnsatisfiableRange)),
            ("bytes=10000-10001", 10_000, Err(UnsatisfiableRange)),
            ("bytes=-0", 10_000, Err(UnsatisfiableRange)),
            ("bytes=0-", 0, Err(UnsatisfiableRange)),
            ("bytes=-1", 0, Err(UnsatisfiableRange)),
            ("bytes=0-18446744073709551615", u64::MAX, Ok((0, u64::MAX - 1))),
        ];
        for (value, size, expected) in table {
            let spec = parse(value.as_bytes()).expect(value);
            assert_eq!(
                spec.resolve(size),
                expected.map(|(first, last)| ByteRange { first, last }),
                "{value:?} of {size}"
            );
        }
    }

    #[test]
    fn a_content_range_is_read_or_refused() {
        let table = [
            // RFC 9110 §14.4
            ("bytes 42-1233/1234", Some((42, 1233, Some(1234)))),
            ("bytes 42-1233/*", Some((42, 1233, None))),
            ("bytes */1234", None),
            ("bytes 0-0/1", Some((0, 0, Some(1)))),
            ("bytes 0--1/0", None),
            ("bytes 5-2/10", None),
            ("bytes 0-9/9", None),
            ("bytes 0-9", None),
            ("bytes=0-9/10", None),
            ("items 0-9/10", None),
            ("bytes 0-9/", None),
            ("bytes  0-9/10", None),
            ("", None),
        ];
        for (value, expected) in table {
            let expected = expected.map(|(first, last, total)| ContentRange { span: ByteRange { first, last }, total });
            assert_eq!(ContentRange::parse(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn the_longest_positions_fit_into_a_header() {
        let span = ByteRange { first: u64::MAX, last: u64::MAX };
        let longest = ContentRange { span, total: Some(u64::MAX) }.to_header();
        assert_eq!(longest, "bytes 18446744073709551615-18446744073709551615/18446744073709551615");
        assert_eq!(unsatisfied_range(0), "bytes */0");
        assert_eq!(ByteRange { first: 0, last: u64::MAX }.len(), u64::MAX);
    }

    proptest! {
        #[test]
        fn any_value_is_read_without_panic_and_lies_inside_the_object(
            value in r"bytes=[0-9]{0,20}-[0-9]{0,20}|bytes=[ ,0-9\-]{0,45}|.{0,40}", size in any::<u64>(),
        ) {
            let spec = parse(value.as_bytes());
            let _ = ContentRange::parse(value.as_bytes());
            if let Some(Ok(span)) = spec.map(|spec| spec.resolve(size)) {
                prop_assert!(span.first <= span.last && span.last < size && span.len() <= size);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(value in any::<Vec<u8>>()) {
            let _ = (parse(&value), ContentRange::parse(&value));
        }

        #[test]
        fn what_is_written_is_read_again(first in any::<u64>(), more in any::<u32>(), total in any::<Option<u32>>()) {
            let first = first >> 1;
            let span = ByteRange { first, last: first + u64::from(more) };
            let range = ContentRange { span, total: total.map(|total| span.last + 1 + u64::from(total)) };
            prop_assert_eq!(ContentRange::parse(range.to_header().as_bytes()), Some(range));
            let asked = [
                RangeSpec::From { first, last: Some(span.last) },
                RangeSpec::From { first, last: None },
                RangeSpec::Suffix { length: first },
            ];
            for spec in asked {
                prop_assert_eq!(parse(spec.to_header().as_bytes()), Some(spec));
            }
        }
    }
}
