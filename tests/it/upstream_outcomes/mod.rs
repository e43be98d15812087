//! What a client gets for each thing that a store can do (the table of outcomes), and how often the store is asked.

mod signatures;

use std::ops::RangeInclusive;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::fault::{self, End, Refusal, Step};
use crate::support::origin::pattern;
use crate::support::{Gate, LIMIT, ScriptedOrigin, config};

const TRACK: &str = "/stream/track.mp3";

/// A gate with short time limits before `endpoint`.
async fn gate(endpoint: &str, change: impl FnOnce(&mut Value)) -> Gate {
    let mut config = config::objects(endpoint, "audio");
    config["Policies"]["Timeout"]["quick"] = json!({ "Connect": "1s", "FirstByte": "500ms", "Idle": "1s" });
    config["ReverseProxy"]["Routes"]["stream"]["TimeoutPolicy"] = json!("quick");
    change(&mut config);
    Gate::start(&config).await
}

/// What the store does once, before it serves again.
fn passing_faults() -> Vec<(&'static str, Step)> {
    vec![
        ("expired", fault::EXPIRED),
        ("not yet valid", fault::NOT_YET_VALID),
        ("too skewed", fault::refuse(403, "RequestTimeTooSkewed", "The difference … is too large.")),
        ("request expired", fault::refuse(400, "RequestExpired", "Request has expired")),
        ("slow down", fault::SLOW_DOWN),
        ("too many", fault::TOO_MANY),
        ("server busy", fault::refuse(503, "ServerBusy", "Please reduce your request rate.")),
        ("internal error", fault::INTERNAL_ERROR),
        ("reset", Step::Silence(End::Reset)),
        ("closed", Step::Silence(End::Close)),
    ]
}

#[tokio::test]
async fn a_fault_that_passes_is_never_seen() {
    let body = pattern(1000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = gate(&origin.url(), |_| {}).await;
    for (name, step) in passing_faults() {
        for method in [Method::GET, Method::HEAD] {
            origin.reset();
            origin.script([step.clone()]);
            let reply = gate.client().send(method.clone(), TRACK, &[]).await;
            assert_eq!((name, reply.status.as_u16()), (name, 200), "{method}: {}", reply.text());
            assert_eq!(origin.seen().len(), 2, "{name} {method}");
        }
        origin.reset();
        origin.script([step]);
        let part = gate.client().range(TRACK, "bytes=10-19").await;
        assert_eq!((name, part.status.as_u16(), &part.body[..]), (name, 206, &body[10..20]));
    }
}

/// One thing that a store keeps doing, and what comes of it.
struct Row {
    name: &'static str,
    step: Step,
    range: Option<&'static str>,
    status: u16,
    code: &'static str,
    retry_after: bool,
    asked: RangeInclusive<usize>,
}

fn row(name: &'static str, step: Step, status: u16, code: &'static str, asked: RangeInclusive<usize>) -> Row {
    Row { name, step, range: None, status, code, retry_after: false, asked }
}

fn retry_later(row: Row) -> Row {
    Row { retry_after: true, ..row }
}

fn ranged(row: Row) -> Row {
    Row { range: Some("bytes=10-19"), ..row }
}

fn lasting_faults() -> Vec<Row> {
    vec![
        row("denied", fault::DENIED, 404, "not_found", 1..=1),
        row("wrong signature", fault::WRONG_SIGNATURE, 502, "store_signature", 1..=2),
        retry_later(row("unknown key", fault::UNKNOWN_KEY, 503, "store_credentials", 1..=2)),
        retry_later(row(
            "expired token",
            fault::refuse(400, "ExpiredToken", "The provided token has expired."),
            503,
            "store_credentials",
            1..=2,
        )),
        retry_later(row("archived", fault::ARCHIVED, 503, "archived", 1..=1)),
        row("no such key", fault::NO_SUCH_KEY, 404, "not_found", 1..=1),
        row("no such bucket", fault::NO_SUCH_BUCKET, 502, "store_configuration", 1..=1),
        row("delete marker", fault::DELETE_MARKER, 410, "gone", 1..=1),
        retry_later(row("slow down", fault::SLOW_DOWN, 503, "store_busy", 2..=3)),
        retry_later(row("too many", fault::TOO_MANY, 503, "store_busy", 2..=3)),
        row("internal error", fault::INTERNAL_ERROR, 502, "store_failed", 2..=2),
        row("reset", Step::Silence(End::Reset), 502, "store_closed", 2..=4),
        row("closed", Step::Silence(End::Close), 502, "store_closed", 2..=4),
        row("stalled", Step::Silence(End::Stall), 504, "store_timeout", 1..=2),
        row("redirect", fault::REDIRECT, 502, "store_protocol", 1..=2),
        row("switching protocols", fault::SWITCHING_PROTOCOLS, 502, "store_protocol", 1..=2),
        row("unasked 304", fault::UNASKED_NOT_MODIFIED, 502, "store_protocol", 1..=2),
        row("garbage", fault::GARBAGE, 502, "store_protocol", 1..=4),
        ranged(row("206 without Content-Range", fault::NO_CONTENT_RANGE, 502, "store_protocol", 1..=2)),
        ranged(row("206 of another range", fault::WRONG_CONTENT_RANGE, 502, "store_protocol", 1..=2)),
    ]
}

#[tokio::test]
async fn a_fault_that_lasts_has_its_own_status() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    for row in lasting_faults() {
        origin.reset();
        origin.always(row.step);
        let headers: Vec<(&str, &str)> = row.range.map(|range| ("range", range)).into_iter().collect();
        let reply = gate.client().get(TRACK, &headers).await;
        assert_eq!((row.name, reply.status.as_u16()), (row.name, row.status), "{}", reply.text());
        assert_eq!(reply.problem(row.status)["code"], row.code, "{}", row.name);
        assert!(row.asked.contains(&origin.seen().len()), "{}: asked {} times", row.name, origin.seen().len());
        has_retry_after(row.name, &reply, row.retry_after);
        assert!(row.name != "archived" || reply.header("retry-after") == "120", "{:?}", reply.headers);
        origin.reset();
        gate.client().get(TRACK, &[]).await.is(200);
    }
}

/// Where the table asks for it, `Retry-After` is a number of seconds that a player can live with.
fn has_retry_after(name: &str, reply: &Reply, expected: bool) {
    let seconds: Option<u64> = reply.header("retry-after").parse().ok();
    if expected {
        assert!(seconds.is_some_and(|seconds| (1..=120).contains(&seconds)), "{name}: {:?}", reply.headers);
    }
}

#[tokio::test]
async fn a_head_says_the_same_as_a_get() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    for (step, status) in [
        (fault::DENIED, 404),
        (fault::EXPIRED, 503),
        (fault::WRONG_SIGNATURE, 502),
        (fault::NO_SUCH_KEY, 404),
        (fault::NO_SUCH_BUCKET, 502),
        (fault::DELETE_MARKER, 410),
    ] {
        origin.always(step.clone());
        let reply = gate.client().head(TRACK, &[]).await;
        assert_eq!(reply.status.as_u16(), status, "{step:?}");
        assert!(reply.body.is_empty());
    }
}

#[tokio::test]
async fn why_a_head_was_refused_is_asked_by_get_where_no_code_says_it() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    const DENIED: Step = Step::Edit(|answer| {
        answer.status = 403;
        answer.replace_body(Vec::new());
    });
    const BAD: Step = Step::Edit(|answer| {
        answer.status = 400;
        answer.replace_body(Vec::new());
    });
    for no_code in [DENIED, BAD] {
        origin.script([no_code.clone()]);
        let head = gate.client().head(TRACK, &[]).await;
        assert_eq!(head.is(200).header("content-length"), "1000");
        assert_eq!((head.header("content-range"), head.header("content-type")), ("", "audio/mpeg"));
        let seen = origin.take_seen();
        assert_eq!(seen.iter().map(|asked| asked.header("range")).collect::<Vec<_>>(), [None, Some("bytes=0-0")]);
        for (said, status, asked) in [
            (fault::WRONG_SIGNATURE, 502, 2),
            (fault::UNKNOWN_KEY, 503, 2),
            (fault::NO_SUCH_KEY, 404, 2),
            (fault::NO_SUCH_BUCKET, 502, 2),
            (fault::EXPIRED, 200, 3),
        ] {
            origin.script([no_code.clone(), said.clone()]);
            let head = gate.client().head(TRACK, &[]).await;
            assert_eq!((head.status.as_u16(), origin.take_seen().len()), (status, asked), "{said:?}");
        }
    }
    origin.always(DENIED);
    // A kept signature that is denied is renewed once.
    for asked in [3, 2] {
        gate.client().head(TRACK, &[]).await.is(404);
        assert_eq!(origin.take_seen().len(), asked);
    }
}

#[tokio::test]
async fn what_the_store_denies_is_hidden_unless_the_route_says_otherwise() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    origin.always(fault::DENIED);
    for (hide, status) in [(json!(true), 404), (json!(false), 403), (Value::Null, 404)] {
        let gate = gate(&origin.url(), |config| {
            if !hide.is_null() {
                config["ReverseProxy"]["Routes"]["stream"]["HideExistence"] = hide.clone();
            }
        })
        .await;
        gate.client().get(TRACK, &[]).await.problem(status);
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_a_503_soon() {
    let gone = ScriptedOrigin::start().await.url();
    // No timeout answers: only that nobody listens there.
    let gate = gate(&gone, |config| {
        config["Policies"]["Timeout"]["patient"] = config::patient();
        config["ReverseProxy"]["Routes"]["stream"]["TimeoutPolicy"] = json!("patient");
    })
    .await;
    let reply = gate.client().get(TRACK, &[]).await;
    reply.problem(503);
    has_retry_after("refused", &reply, true);
}

#[tokio::test]
async fn a_wrong_part_is_asked_for_once_more() {
    let body = pattern(1000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = gate(&origin.url(), |_| {}).await;
    origin.script([fault::WRONG_CONTENT_RANGE]);
    let part = gate.client().range(TRACK, "bytes=10-19").await;
    assert_eq!(part.is(206).body, body[10..20]);
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].connection, seen[1].connection, "a connection that lied is not used again");
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut() {
    let body = pattern(1000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = gate(&origin.url(), |_| {}).await;
    origin.script([fault::LONG]);
    let mut raw = gate.raw().await;
    for _ in 0..2 {
        raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
        let reply = raw.response("GET", LIMIT).await.expect("a whole response");
        assert_eq!((reply.status, reply.body), (200, body.clone()));
    }
}

#[tokio::test]
async fn a_broken_body_is_never_a_clean_end() {
    let body = pattern(500_000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = gate(&origin.url(), |_| {}).await;
    for end in [End::Close, End::Reset, End::Stall] {
        for send in [0, 100_000, 499_999] {
            origin.reset();
            // For as long as it lasts: whoever continues a broken body must give up in the end, and visibly.
            origin.always(Step::Body { send, end });
            let mut raw = gate.raw().await;
            raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
            match raw.response("GET", LIMIT).await {
                Ok(reply) if reply.status == 200 => assert_eq!(reply.body, body, "{end:?} after {send}"),
                Ok(reply) => assert!(matches!(reply.status, 502 | 504), "{end:?} after {send}: {}", reply.status),
                Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{end:?} after {send}"),
            }
        }
    }
    assert!(gate.metric("novatune_stream_errors_total", "reason=").await >= 1.0);
}

#[tokio::test]
async fn a_store_refusal_with_a_retry_after_of_its_own_is_clamped() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    origin.always(Step::Refuse(Refusal {
        status: 503,
        code: "SlowDown",
        message: "Please reduce your request rate.",
        headers: &[("Retry-After", "86400")],
    }));
    let reply = gate.client().get(TRACK, &[]).await;
    reply.problem(503);
    has_retry_after("a day", &reply, true);
}

#[tokio::test]
async fn an_object_that_is_another_at_each_look_is_given_up() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    let condition = [("if-none-match", "\"another\"")];
    // A HEAD, and a GET of the version that it found: of three versions none is there any more.
    let gone = [Step::Serve, fault::OVERWRITTEN];
    origin.script(gone.iter().cycle().take(6).cloned());
    let reply = gate.client().get(TRACK, &condition).await;
    assert_eq!(reply.problem(503)["code"], "object_changed");
    assert_eq!(origin.take_seen().len(), 6);
    origin.script(gone.iter().cycle().take(4).cloned());
    gate.client().get(TRACK, &condition).await.is(200);
}
