//! Ranges (RFC 9110 §14) through the gate: the same truth before a real MinIO and before the scripted origin.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use crate::support::origin::pattern;
use crate::support::{Client, Gate, Object, ScriptedOrigin, StoreKind, config, fault};

/// Range header, status, Content-Range, the bytes of a 1000-byte object that come.
const TABLE: [(&str, u16, &str, Range<usize>); 24] = [
    ("bytes=0-0", 206, "bytes 0-0/1000", 0..1),
    ("bytes=0-499", 206, "bytes 0-499/1000", 0..500),
    ("bytes=500-999", 206, "bytes 500-999/1000", 500..1000),
    ("bytes=500-", 206, "bytes 500-999/1000", 500..1000),
    ("bytes=999-", 206, "bytes 999-999/1000", 999..1000),
    ("bytes=-500", 206, "bytes 500-999/1000", 500..1000),
    ("bytes=-1", 206, "bytes 999-999/1000", 999..1000),
    ("bytes=-5000", 206, "bytes 0-999/1000", 0..1000),
    ("bytes=900-5000", 206, "bytes 900-999/1000", 900..1000),
    ("bytes=0-", 206, "bytes 0-999/1000", 0..1000),
    ("Bytes=1-2", 206, "bytes 1-2/1000", 1..3),
    ("bytes=1000-", 416, "bytes */1000", 0..0),
    ("bytes=5000-6000", 416, "bytes */1000", 0..0),
    ("bytes=-0", 416, "bytes */1000", 0..0),
    // What is not one understandable byte range is ignored (§14.2).
    ("bytes=5-2", 200, "", 0..1000),
    ("bytes=abc", 200, "", 0..1000),
    ("bytes=", 200, "", 0..1000),
    ("bytes=-", 200, "", 0..1000),
    ("bytes", 200, "", 0..1000),
    ("items=0-1", 200, "", 0..1000),
    ("bytes=99999999999999999999999-", 200, "", 0..1000),
    ("bytes=0-99999999999999999999999", 200, "", 0..1000),
    ("bytes=0x1-2", 200, "", 0..1000),
    // Several ranges: the whole object is a valid answer, and ours.
    ("bytes=0-1,4-5", 200, "", 0..1000),
];

/// `path` gives the object for each row: the same, or one of its own, of which nothing is known yet.
async fn ranges_are_right(client: &Client, body: &[u8], path: impl Fn(usize) -> String) {
    for (row, (range, status, content_range, bytes)) in TABLE.into_iter().enumerate() {
        let path = path(row);
        let reply = client.range(&path, range).await;
        let said = (range, reply.status.as_u16(), reply.header("content-range"));
        assert_eq!(said, (range, status, content_range), "{path}");
        let whole = client.get(&path, &[]).await;
        assert_eq!(whole.is(200).body, body);
        assert_eq!((whole.header("accept-ranges"), whole.header("content-length")), ("bytes", "1000"));
        let head = client.head(&path, &[("range", range)]).await;
        assert_eq!((head.is(200).header("content-length"), head.header("content-range")), ("1000", ""), "{range}");
        if status == 416 {
            reply.problem(416);
            continue;
        }
        assert_eq!(reply.body, body[bytes], "{range}");
        assert_eq!(reply.header("content-length"), reply.body.len().to_string(), "{range}");
        assert_eq!(reply.header("accept-ranges"), "bytes", "{range}");
        for name in ["etag", "content-type", "last-modified"] {
            assert_eq!(reply.header(name), whole.header(name), "{range} {name}");
        }
    }
}

async fn an_empty_object_is_right(client: &Client, path: impl Fn(usize) -> String) {
    for (row, range) in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=-0", "bytes=7-9"].into_iter().enumerate() {
        let path = path(row);
        let reply = client.range(&path, range).await;
        reply.problem(416);
        assert_eq!(reply.header("content-range"), "bytes */0", "{path} {range}");
        assert_eq!(client.get(&path, &[]).await.is(200).header("content-length"), "0");
        client.range(&path, "bytes=x").await.is(200);
    }
}

async fn every_row_holds(kind: StoreKind) {
    let Some(store) = kind.bucket().await else { return };
    let body = pattern(1000);
    for row in 0..TABLE.len() {
        store.put(&format!("track-{row}.mp3"), body.clone()).await;
        store.put(&format!("empty-{row}.mp3"), "").await;
    }
    let gate = Gate::start(&config::objects_both_ways(&store.url(), store.name())).await;
    let client = gate.client();
    ranges_are_right(&client, &body, |_| "/stream/track-0.mp3".to_owned()).await;
    ranges_are_right(&client, &body, |row| format!("/cached/track-{row}.mp3")).await;
    an_empty_object_is_right(&client, |_| "/stream/empty-0.mp3".to_owned()).await;
    an_empty_object_is_right(&client, |row| format!("/cached/empty-{row}.mp3")).await;
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
    let body = pattern(1000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    origin.put("/audio/empty.mp3", Object::new(""));
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    ranges_are_right(&gate.client(), &body, |_| "/stream/track.mp3".to_owned()).await;
    an_empty_object_is_right(&gate.client(), |_| "/stream/empty.mp3".to_owned()).await;
}

#[tokio::test]
async fn every_row_holds_before_a_store_that_ignores_ranges() {
    let body = pattern(1000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    origin.always(fault::WHOLE);
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    for (range, status, content_range, bytes) in TABLE.into_iter().filter(|row| row.1 != 416) {
        let reply = gate.client().range("/stream/track.mp3", range).await;
        assert_eq!((range, reply.status.as_u16(), reply.header("content-range")), (range, status, content_range));
        assert_eq!(reply.body, body[bytes], "{range}");
    }
}

#[tokio::test]
async fn if_range_decides_between_the_part_and_the_whole() {
    let body = pattern(1000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let client = gate.client();
    let whole = client.get("/stream/track.mp3", &[]).await;
    let (etag, modified) = (whole.header("etag").to_owned(), whole.header("last-modified").to_owned());
    let earlier = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(90_000));
    let weak = format!("W/{etag}");
    let table = [
        (etag.as_str(), 206),
        ("\"another\"", 200),
        (weak.as_str(), 200),
        // A date more than a second before the answer's is a strong validator (§8.8.2.2), and must be equal.
        (modified.as_str(), 206),
        (earlier.as_str(), 200),
        ("not a date and not a tag", 200),
    ];
    for (if_range, status) in table {
        let headers = [("range", "bytes=100-199"), ("if-range", if_range)];
        let reply = client.get("/stream/track.mp3", &headers).await;
        assert_eq!((if_range, reply.status.as_u16()), (if_range, status));
        assert_eq!(reply.body, if status == 206 { &body[100..200] } else { &body[..] }, "{if_range}");
    }
    // Without a range there is nothing to decide.
    client.get("/stream/track.mp3", &[("if-range", "\"another\"")]).await.is(200);
    // A range that cannot be satisfied is not looked at when If-Range does not hold.
    for if_range in ["\"another\"", earlier.as_str()] {
        let past = [("range", "bytes=5000-"), ("if-range", if_range)];
        assert_eq!(client.get("/stream/track.mp3", &past).await.is(200).body, body, "{if_range}");
    }
    let past = [("range", "bytes=5000-"), ("if-range", modified.as_str())];
    client.get("/stream/track.mp3", &past).await.is(416);
}

async fn a_resume_never_splices_two_versions(kind: StoreKind) {
    let Some(store) = kind.bucket().await else { return };
    let old = store.put("track.mp3", pattern(1000)).await;
    let gate = Gate::start(&config::objects(&store.url(), store.name())).await;
    let client = gate.client();
    let resume = [("range", "bytes=500-"), ("if-range", old.as_str())];
    assert_eq!(client.get("/stream/track.mp3", &resume).await.is(206).body, pattern(1000)[500..]);
    let changed = vec![7_u8; 800];
    let new = store.put("track.mp3", changed.clone()).await;
    let reply = client.get("/stream/track.mp3", &resume).await;
    assert_eq!(reply.is(200).body, changed, "{kind:?}");
    assert_eq!(reply.header("etag"), new);
}

#[tokio::test]
async fn a_resume_after_an_overwrite_never_splices_two_versions() {
    for kind in [StoreKind::Minio, StoreKind::Versitygw, StoreKind::Rclone] {
        a_resume_never_splices_two_versions(kind).await;
    }
}
