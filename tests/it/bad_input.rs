//! What no client should send: a clear 4xx before any timeout, no byte to the store, and the gate lives on.

use std::time::Duration;

use serde_json::json;

use crate::support::{Gate, LIMIT, ScriptedOrigin, config, in_time};
use primitives::clock::monotonic_now;

/// Bytes on the wire, what they are about, and the statuses that are clear answers to it.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    statuses: &'static [u16],
}

fn row(name: &'static str, bytes: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Row {
    Row { name, bytes: bytes.into(), statuses }
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gate\r\n{headers}\r\n")
}

fn targets() -> Vec<Row> {
    let traversals = [
        "/stream/../secret.mp3",
        "/stream/a/../../secret.mp3",
        "/stream/%2e%2e/secret.mp3",
        "/stream/%2E%2E%2Fsecret.mp3",
        "/stream/a/..%2fsecret.mp3",
        "/stream/./track.mp3",
        "/stream/a/%2e/track.mp3",
        "/stream/..",
        "/../stream/track.mp3",
    ];
    let escapes = ["/stream/%", "/stream/%2", "/stream/%zz", "/stream/a%2gb", "/stream/%%20"];
    let bytes = ["/stream/a%00b", "/stream/a%0d%0ab", "/stream/a%0Ab", "/stream/%ff%fe"];
    let mut rows: Vec<Row> = traversals.map(|target| row("traversal", get(target, ""), &[400])).into();
    rows.extend(escapes.map(|target| row("broken escape", get(target, ""), &[400])));
    rows.extend(bytes.map(|target| row("forbidden byte", get(target, ""), &[400])));
    rows.push(row("raw NUL", get("/stream/a\0b", ""), &[400]));
    rows.push(row("path over 8 KiB", get(&format!("/stream/{}", "a".repeat(8192)), ""), &[400, 414]));
    rows.push(row("no leading slash", get("stream/track.mp3", ""), &[400, 404]));
    rows.push(row("store's query", get("/stream/track.mp3?X-Amz-Signature=abc&X-Amz-Expires=9", ""), &[400]));
    rows.push(row("store's header", get("/stream/track.mp3", "x-amz-security-token: abc\r\n"), &[400]));
    rows.push(row("store's header", get("/stream/track.mp3", "X-Amz-Content-Sha256: abc\r\n"), &[400]));
    rows
}

fn framing() -> Vec<Row> {
    let get = |headers| get("/stream/track.mp3", headers);
    vec![
        row("two Content-Lengths", get("Content-Length: 0\r\nContent-Length: 5\r\n"), &[400]),
        row("two equal Content-Lengths", get("Content-Length: 5\r\nContent-Length: 5\r\n") + "hello", &[400]),
        row("a list of Content-Lengths", get("Content-Length: 5, 5\r\n") + "hello", &[400]),
        row("negative Content-Length", get("Content-Length: -1\r\n"), &[400]),
        row("signed Content-Length", get("Content-Length: +5\r\n") + "hello", &[400]),
        row("huge Content-Length", get("Content-Length: 99999999999999999999999\r\n"), &[400, 413]),
        row("Content-Length of words", get("Content-Length: five\r\n"), &[400]),
        row("both framings", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", &[400]),
        row(
            "both framings, reversed",
            get("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n",
            &[400],
        ),
        row("unknown transfer coding", get("Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n", &[400, 501]),
        row("bare LF", "GET /stream/track.mp3 HTTP/1.1\nHost: gate\n\n", &[400]),
        row("bare LF in a header", "GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\nX: y\r\n\r\n", &[400]),
        row("obs-fold", get("X-Folded: one\r\n two\r\n"), &[400]),
        row("obs-fold with a tab", get("X-Folded: one\r\n\ttwo\r\n"), &[400]),
        row("blank before the colon", get("X-Blank : y\r\n"), &[400]),
        row("bad header name", get("X(Bad): y\r\n"), &[400]),
        row("no colon", get("nonsense\r\n"), &[400]),
        row("NUL in a header", get("X-Nul: a\0b\r\n"), &[400]),
        row("too many headers", get(&"X-Many: y\r\n".repeat(400)), &[400, 431]),
        row("huge header", get(&format!("X-Huge: {}\r\n", "y".repeat(2_000_000))), &[400, 431]),
    ]
}

fn hosts_and_methods() -> Vec<Row> {
    let line = |start: &str| format!("{start}\r\nHost: gate\r\n\r\n");
    vec![
        row("no Host", "GET /stream/track.mp3 HTTP/1.1\r\n\r\n", &[400]),
        row("two Hosts", "GET /stream/track.mp3 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
        row("two equal Hosts", "GET /stream/track.mp3 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[400]),
        row("a target of another host", line("GET http://other.test/stream/track.mp3 HTTP/1.1"), &[400]),
        row("unknown method", line("BREW /stream/track.mp3 HTTP/1.1"), &[400, 405, 501]),
        row("method of odd bytes", line("G(T /stream/track.mp3 HTTP/1.1"), &[400, 405, 501]),
        row("DELETE", line("DELETE /stream/track.mp3 HTTP/1.1"), &[405]),
        row("PUT", "PUT /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\nContent-Length: 1\r\n\r\nx", &[405]),
        row("POST", "POST /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\nContent-Length: 0\r\n\r\n", &[405]),
        row("TRACE", line("TRACE /stream/track.mp3 HTTP/1.1"), &[400, 405, 501]),
        row("CONNECT", line("CONNECT other.test:443 HTTP/1.1"), &[400, 405, 501]),
        row("OPTIONS *", line("OPTIONS * HTTP/1.1"), &[400, 404, 405]),
        row("unknown version", line("GET /stream/track.mp3 HTTP/9.9"), &[400, 505]),
        row("no version", line("GET /stream/track.mp3"), &[400, 505]),
        row("not HTTP", "\x16\x03\x01\x02 hello\r\n\r\n", &[400]),
    ]
}

#[tokio::test]
async fn every_bad_request_is_a_clear_4xx_and_reaches_no_store() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let mut wrong = Vec::new();
    for row in targets().into_iter().chain(framing()).chain(hosts_and_methods()) {
        let start = String::from_utf8_lossy(&row.bytes[..row.bytes.len().min(90)]).into_owned();
        let method = start.split(' ').next().unwrap_or_default().to_owned();
        let mut raw = gate.raw().await;
        raw.send(&row.bytes).await;
        match raw.response(&method, LIMIT).await {
            Ok(reply) if !row.statuses.contains(&reply.status) => {
                wrong.push(format!("{}: {} to {start:?}", row.name, reply.status));
            }
            Ok(reply) if String::from_utf8_lossy(&reply.body).contains("Host: gate") => {
                wrong.push(format!("{}: the request is reflected", row.name));
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{}: {error} for {start:?}", row.name)),
        }
        for request in origin.take_seen() {
            wrong.push(format!("{}: the store saw {} {}", row.name, request.method, request.target));
        }
        assert!(gate.is_alive(), "{} killed the gate", row.name);
    }
    gate.client().get("/stream/track.mp3", &[]).await.is(200);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_bad_framing_ends_the_connection() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    for headers in ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 0\r\nContent-Length: 5\r\n"]
    {
        let mut raw = gate.raw().await;
        let smuggled = get("/stream/track.mp3", "");
        raw.send(format!("{}0\r\n\r\n{smuggled}", get("/stream/other.mp3", headers)).as_bytes()).await;
        let all = raw.rest(LIMIT).await.expect("the connection is closed");
        let text = String::from_utf8_lossy(&all);
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "one answer, then the end: {text}");
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn what_a_cdn_adds_is_no_signature_and_reaches_no_store() {
    let origin = ScriptedOrigin::with_track("music").await;
    let server = ScriptedOrigin::start().await;
    server.put("/web/page", crate::support::Object::new("page"));
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[server.url()]);
    let gate = Gate::start(&config).await;
    let client = gate.client();
    let cdn = [("x-amz-cf-id", "canary"), ("x-amz-cf-pop", "canary"), ("x-amz-meta-a", "canary")];
    client.get("/stream/track.mp3?X-Amz-Cf-Id=canary&x-amz-meta=canary", &cdn).await.is(200);
    for request in origin.seen() {
        assert!(!format!("{request:?}").contains("canary"), "the store was told");
    }
    let signed = [("x-amz-cf-id", "canary"), ("x-amz-date", "20260101T000000Z"), ("x-amz-security-token", "theirs")];
    for path in ["/health", "/openapi.json", "/web/page", "/api/v1/none", "/none"] {
        let reply = client.get(&format!("{path}?X-Amz-Signature=abc"), &signed).await;
        assert_ne!(reply.status, 400, "{path}: {}", reply.text());
    }
    assert_eq!(client.get("/stream/track.mp3", &signed).await.problem(400)["code"], "bad_request");
}

#[tokio::test]
async fn a_405_says_what_is_allowed() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    for method in [http::Method::POST, http::Method::PUT, http::Method::DELETE, http::Method::PATCH] {
        let reply = gate.client().send(method, "/stream/track.mp3", &[]).await;
        reply.problem(405);
        let allow = reply.header("allow");
        assert!(["GET", "HEAD", "OPTIONS"].iter().all(|method| allow.contains(method)), "{allow}");
    }
}

#[tokio::test]
async fn an_absolute_target_that_names_us_is_served() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let mut raw = gate.raw().await;
    raw.send(&get("http://gate/stream/track.mp3", "").into_bytes()).await;
    let reply = raw.response("GET", LIMIT).await.expect("a response");
    assert_eq!((reply.status, reply.body), (200, b"music".to_vec()));
}

#[tokio::test]
async fn a_range_that_makes_no_sense_never_reaches_the_store() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    for range in ["bytes=zz-", "bytes=9-1", "bytes=1-2-3", "furlongs=1-2", "bytes=-", "bytes=18446744073709551616-"] {
        gate.client().range("/stream/track.mp3", range).await.is(200);
        for request in origin.take_seen() {
            assert_ne!(request.header("range"), Some(range));
        }
    }
}

#[tokio::test]
async fn a_header_that_never_ends_is_cut_off_by_its_deadline() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["HeaderTimeout"] = json!("1s");
    let gate = Gate::start(&config).await;
    let begun = monotonic_now();
    let mut raw = gate.raw().await;
    raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n").await;
    // A byte now and then must not keep it open.
    let sending = async {
        loop {
            raw.send(b"X").await;
            match raw.rest(Duration::from_millis(200)).await {
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
                ended => return ended,
            }
        }
    };
    let ended = in_time("it is closed", sending).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let text = String::from_utf8_lossy(&ended.unwrap_or_default()).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_silent_connection_is_closed_by_the_same_deadline() {
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["Server"]["HeaderTimeout"] = json!("1s");
    let gate = Gate::start(&config).await;
    let mut raw = gate.raw().await;
    raw.rest(LIMIT).await.expect("it is closed");
}
