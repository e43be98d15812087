//! Fuzz targets of the headers by which a client asks for a part of an object, or for none of it.

use std::time::{Duration, SystemTime};

use fuzz_inputs::{FuzzInput, FuzzInputs, check};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::conditional::{PreconditionOutcome, Preconditions, Validators};
use crate::etag::ETag;
use crate::range::{self, ContentRange};

const MEMBER: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn range_headers() {
    let tokens: &[&[u8]] = &[
        b"bytes",
        b"=",
        b"-",
        b",",
        b"/",
        b"*",
        b" ",
        b"\t",
        b"0",
        b"00",
        b"18446744073709551615",
        b"18446744073709551616",
        b"+1",
        b"-1",
        b"0x1",
        b"bytes ",
        b"bytes=",
        b"items=",
        b"BYTES=",
        b"\xff",
    ];
    let inputs = FuzzInputs::new(MEMBER, "range_headers", tokens);
    inputs.each_sample(range_header);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| range_header(input));
}

/// A range that can be satisfied lies in the object, and is read again as it is written.
fn range_header(input: &[u8]) {
    if let Some(asked) = range::parse(input) {
        assert_eq!(range::parse(asked.to_header().as_bytes()), Some(asked));
        for size in [0, 1, 2, 100, u64::MAX] {
            let Ok(span) = asked.resolve(size) else { continue };
            assert!(span.first <= span.last && span.last < size && span.len() > 0, "{span:?} of {size}");
            let content = ContentRange { span, total: Some(size) };
            assert_eq!(ContentRange::parse(content.to_header().as_bytes()), Some(content));
        }
    }
    if let Some(content) = ContentRange::parse(input) {
        assert_eq!(ContentRange::parse(content.to_header().as_bytes()), Some(content));
    }
}

#[test]
fn conditional_headers() {
    let tokens: &[&[u8]] = &[
        b"\n",
        b"If-Match: ",
        b"If-None-Match: ",
        b"If-Modified-Since: ",
        b"If-Unmodified-Since: ",
        b"If-Range: ",
        b"*",
        b"W/",
        b"\"",
        b"\"v1\"",
        b"W/\"v1\"",
        b",",
        b" , ",
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"GMT",
        b"\xff",
    ];
    let inputs = FuzzInputs::new(MEMBER, "conditional_headers", tokens);
    inputs.each_sample(conditional_header);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| conditional_header(input));
}

/// Returns the header lines of `input`, without those that no request can have.
fn headers(input: &[u8]) -> HeaderMap {
    let line = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        Some((name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in input.split(|byte| *byte == b'\n').filter_map(line) {
        headers.append(name, value);
    }
    headers
}

/// Conditions never turn into others: without them the answer is whole, a tag that is not the object's never holds
/// `If-Match` or `If-Range`, and a tag is read again as it is written.
fn conditional_header(input: &[u8]) {
    let headers = headers(input);
    let conditions = Preconditions::from_headers(&headers);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let none = Validators { etag: None, last_modified: None };
    let weak = Validators { etag: ETag::parse(b"W/\"v1\""), last_modified: None };
    let dated = Validators { etag: ETag::parse(b"\"v1\""), last_modified: Some(time) };
    for object in [&none, &weak, &dated] {
        let outcome = conditions.evaluate(object);
        if conditions.is_empty() {
            assert_eq!(outcome, PreconditionOutcome::Proceed);
        }
        let tags = |name| headers.get_all(name).iter().collect::<Vec<&HeaderValue>>();
        let is_star = tags(header::IF_MATCH).iter().any(|value| value.as_bytes().contains(&b'*'));
        if object.etag.as_ref().is_none_or(|tag| !tag.is_strong()) && headers.contains_key(header::IF_MATCH) && !is_star
        {
            assert_eq!(outcome, PreconditionOutcome::PreconditionFailed);
        }
        if headers.contains_key(header::IF_RANGE) && object.etag.is_none() {
            assert!(!conditions.if_range_holds(object, None));
        }
    }
    for value in headers.values() {
        if let Some(tag) = ETag::parse(value.as_bytes()) {
            assert_eq!(ETag::parse(tag.to_header().as_bytes()), Some(tag));
        }
    }
}
