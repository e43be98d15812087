//! Conditional requests (RFC 9110 §13) through the gate: decided by the gate, whatever the store makes of them.

use std::time::{Duration, SystemTime};

use http::Method;

use crate::support::client::Reply;
use crate::support::origin::pattern;
use crate::support::{Client, Gate, Minio, Object, ScriptedOrigin, StoreKind, config};

/// Headers of a request; `{etag}`, `{modified}`, `{earlier}` and `{later}` are filled in. Then the status.
const TABLE: [(&[(&str, &str)], u16); 33] = [
    (&[("if-none-match", "{etag}")], 304),
    (&[("if-none-match", "W/{etag}")], 304),
    (&[("if-none-match", "\"a\", {etag}, \"b\"")], 304),
    (&[("if-none-match", "\"a\""), ("if-none-match", "{etag}")], 304),
    (&[("if-none-match", "*")], 304),
    (&[("if-none-match", "\"another\"")], 200),
    (&[("if-none-match", "\"a\", \"b\"")], 200),
    (&[("if-match", "{etag}")], 200),
    (&[("if-match", "\"a\", {etag}")], 200),
    (&[("if-match", "*")], 200),
    (&[("if-match", "\"another\"")], 412),
    // If-Match compares strongly.
    (&[("if-match", "W/{etag}")], 412),
    (&[("if-modified-since", "{modified}")], 304),
    (&[("if-modified-since", "{later}")], 304),
    (&[("if-modified-since", "{earlier}")], 200),
    (&[("if-modified-since", "last Tuesday")], 200),
    (&[("if-unmodified-since", "{modified}")], 200),
    (&[("if-unmodified-since", "{later}")], 200),
    (&[("if-unmodified-since", "{earlier}")], 412),
    (&[("if-unmodified-since", "last Tuesday")], 200),
    // Precedence (§13.2.2).
    (&[("if-match", "{etag}"), ("if-unmodified-since", "{earlier}")], 200),
    (&[("if-match", "\"another\""), ("if-none-match", "{etag}")], 412),
    (&[("if-match", "{etag}"), ("if-none-match", "{etag}")], 304),
    (&[("if-unmodified-since", "{earlier}"), ("if-none-match", "{etag}")], 412),
    (&[("if-none-match", "\"another\""), ("if-modified-since", "{later}")], 200),
    (&[("if-none-match", "{etag}"), ("if-modified-since", "{earlier}")], 304),
    // With a range: the conditions come first, then the range.
    (&[("if-none-match", "{etag}"), ("range", "bytes=0-9")], 304),
    (&[("if-match", "\"another\""), ("range", "bytes=0-9")], 412),
    (&[("if-match", "\"another\""), ("range", "bytes=5000-")], 412),
    (&[("if-none-match", "{etag}"), ("range", "bytes=5000-")], 304),
    (&[("if-match", "{etag}"), ("range", "bytes=0-9")], 206),
    (&[("if-match", "{etag}"), ("range", "bytes=5000-")], 416),
    (&[("if-none-match", "\"another\""), ("range", "bytes=0-9")], 206),
];

async fn conditionals_are_right(client: &Client, path: &str) {
    let whole = client.get(path, &[]).await;
    let modified = httpdate::parse_http_date(whole.is(200).header("last-modified")).expect("a date");
    let day = Duration::from_secs(86_400);
    let fill = |value: &str| {
        value
            .replace("{etag}", whole.header("etag"))
            .replace("{modified}", whole.header("last-modified"))
            .replace("{earlier}", &httpdate::fmt_http_date(modified - day))
            .replace("{later}", &httpdate::fmt_http_date(SystemTime::now()))
    };
    for (headers, status) in TABLE {
        let filled: Vec<(&str, String)> = headers.iter().map(|(name, value)| (*name, fill(value))).collect();
        let filled: Vec<(&str, &str)> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = client.get(path, &filled).await;
        assert_eq!((headers, reply.status.as_u16()), (headers, status), "{path}");
        match status {
            304 => is_a_whole_304(&reply, &whole),
            412 | 416 => drop(reply.problem(status)),
            _ => assert_eq!(reply.header("etag"), whole.header("etag")),
        }
        // HEAD has the same conditions and no ranges.
        let head = client.send(Method::HEAD, path, &filled).await;
        let expected = if matches!(status, 206 | 416) { 200 } else { status };
        assert_eq!((headers, head.status.as_u16(), head.body.len()), (headers, expected, 0));
    }
}

fn is_a_whole_304(reply: &Reply, whole: &Reply) {
    assert!(reply.body.is_empty());
    for name in ["etag", "cache-control", "vary", "expires"] {
        assert_eq!(reply.header(name), whole.header(name), "{name} of the 304");
    }
    assert!(!reply.header("date").is_empty());
    assert_eq!(reply.header("content-range"), "");
}

async fn every_row_holds(kind: StoreKind) {
    let Some(store) = kind.bucket().await else { return };
    let headers = [("Content-Type", "audio/mpeg"), ("Cache-Control", "private, max-age=60")];
    store.put_as("track.mp3", pattern(1000), &headers).await;
    let gate = Gate::start(&config::objects_both_ways(&store.url(), store.name())).await;
    let client = gate.client();
    for path in ["/stream/track.mp3", "/cached/track.mp3"] {
        // rclone keeps no such header.
        if kind != StoreKind::Rclone {
            let whole = client.get(path, &[]).await;
            assert_eq!(whole.is(200).header("cache-control"), "private, max-age=60");
        }
        conditionals_are_right(&client, path).await;
    }
}

#[tokio::test]
async fn every_row_holds_before_minio() {
    every_row_holds(StoreKind::Minio).await;
}

#[tokio::test]
async fn every_row_holds_before_versitygw() {
    every_row_holds(StoreKind::Versitygw).await;
}

#[tokio::test]
async fn every_row_holds_before_rclone() {
    every_row_holds(StoreKind::Rclone).await;
}

#[tokio::test]
async fn every_row_holds_before_the_scripted_origin() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    conditionals_are_right(&gate.client(), "/stream/track.mp3").await;
}

#[tokio::test]
async fn a_condition_on_a_missing_object_is_404() {
    let origin = ScriptedOrigin::start().await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    for (name, value) in [("if-none-match", "*"), ("if-none-match", "\"a\""), ("range", "bytes=0-")] {
        gate.client().get("/stream/none.mp3", &[(name, value)]).await.problem(404);
    }
}

#[tokio::test]
async fn conditions_cost_one_request_more_and_a_strong_if_range_none() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let tag = Object::new(pattern(1000)).etag;
    gate.client().get("/stream/track.mp3", &[("if-none-match", "\"another\"")]).await.is(200);
    let seen = origin.take_seen();
    assert_eq!(seen.iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>(), ["HEAD", "GET"]);
    assert_eq!(seen[1].header("if-match"), Some(tag.as_str()), "the version that was decided on");
    gate.client().get("/stream/track.mp3", &[("range", "bytes=0-9"), ("if-range", &tag)]).await.is(206);
    let seen = origin.take_seen();
    assert_eq!((seen.len(), seen[0].header("if-match")), (1, Some(tag.as_str())));
}

#[tokio::test]
async fn an_if_range_longer_than_any_tag_is_of_another_version() {
    let Some(minio) = Minio::bucket().await else { return };
    minio.put("track.mp3", pattern(1000)).await;
    let gate = Gate::start(&config::objects_both_ways(&minio.url(), minio.name())).await;
    let tag = format!("\"{}\"", "x".repeat(9000));
    for path in ["/stream/track.mp3", "/cached/track.mp3"] {
        let reply = gate.client().get(path, &[("range", "bytes=0-9"), ("if-range", &tag)]).await;
        assert_eq!(reply.is(200).body.len(), 1000, "{path}");
    }
}
