//! Tests of the transforms of trailers.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{ResponseCondition, Transform, WriteMode, apply_trailers};

fn trailer(value: &'static str, write: WriteMode, when: ResponseCondition) -> Transform {
    let (name, value) = (HeaderName::from_static("x-a"), HeaderValue::from_static(value));
    Transform::ResponseTrailer { name, value, write, when }
}

fn remove(when: ResponseCondition) -> Transform {
    Transform::ResponseTrailerRemove { name: HeaderName::from_static("x-b"), when }
}

#[test]
fn trailers_are_copied_restricted_and_written_by_the_status() {
    let allowed = Transform::ResponseTrailersAllowed(vec![HeaderName::from_static("x-b")]);
    let cases: Vec<(Vec<Transform>, u16, &[&str])> = vec![
        (vec![], 200, &["x-a: 1", "x-b: 2"]),
        (vec![Transform::ResponseTrailersCopy(false)], 200, &[]),
        (vec![allowed.clone()], 200, &["x-b: 2"]),
        (vec![trailer("3", WriteMode::Set, ResponseCondition::Success)], 200, &["x-a: 3", "x-b: 2"]),
        (vec![trailer("3", WriteMode::Append, ResponseCondition::Always)], 500, &["x-a: 1", "x-a: 3", "x-b: 2"]),
        (vec![trailer("3", WriteMode::Set, ResponseCondition::Success)], 500, &["x-a: 1", "x-b: 2"]),
        (vec![remove(ResponseCondition::Failure)], 500, &["x-a: 1"]),
        (vec![allowed, remove(ResponseCondition::Success)], 200, &[]),
    ];
    for (transforms, status, expected) in cases {
        let mut sent = HeaderMap::new();
        sent.insert("x-a", HeaderValue::from_static("1"));
        sent.insert("x-b", HeaderValue::from_static("2"));
        let status = StatusCode::from_u16(status).expect("a status");
        let left = apply_trailers(&transforms, status, Some(sent)).unwrap_or_default();
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
        let mut lines: Vec<String> = left.iter().map(line).collect();
        lines.sort();
        assert_eq!(lines, expected, "{transforms:?} at {status}");
    }
}

#[test]
fn an_answer_without_trailers_gets_those_that_are_written() {
    let written = [trailer("3", WriteMode::Append, ResponseCondition::Success)];
    assert_eq!(apply_trailers(&written, StatusCode::OK, None).map(|trailers| trailers.len()), Some(1));
    assert_eq!(apply_trailers(&[], StatusCode::OK, None), None);
}
