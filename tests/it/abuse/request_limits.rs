//! Limits of a request and of the requests of one connection.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::process::Command;

use super::{configuration, gate};
use crate::support::curl::{self, Version};
use crate::support::eventually::LIMIT;
use crate::support::fault::{End, Step};
use crate::support::frames::{self, Frames};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::{Gate, ScriptedOrigin, eventually};
use crate::tls::Certificates;

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

#[tokio::test]
async fn size_and_number_of_headers_are_limited_as_configured() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let limits = json!({ "MaxRequestHeaderCount": 40, "MaxRequestHeadersTotalSize": "8KiB" });
    let narrow = gate(&origin, limits).await;
    let limits = json!({ "MaxRequestHeaderCount": 512, "MaxRequestHeadersTotalSize": "256KiB" });
    let wide = gate(&origin, limits).await;
    let status = async |gate: &Gate, version, count: usize, size: usize| {
        let header = format!("x-filler: {}", "a".repeat(size));
        let arguments: Vec<&str> = (0..count).flat_map(|_| ["-H", header.as_str()]).collect();
        let answer = curl::get(&format!("{}/stream/track.mp3", gate.url()), version, &arguments).await;
        answer.heads.last().map(|head| head.status)
    };
    for version in VERSIONS {
        assert_eq!(status(&narrow, version, 30, 1).await, Some(200), "{version:?}");
        assert_eq!(status(&narrow, version, 41, 1).await, Some(431), "{version:?}");
        assert_eq!(status(&narrow, version, 1, 7000).await, Some(200), "{version:?}");
        assert_eq!(status(&narrow, version, 1, 9000).await, Some(431), "{version:?}");
        // The library of curl sends no head of more than 64 KiB over HTTP/2.
        let (count, size) = if version == Version::Http1 { (500, 400) } else { (300, 150) };
        assert_eq!(status(&wide, version, count, size).await, Some(200), "{version:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_after_its_last_request_and_the_client_takes_another() {
    let Some(curl) = curl::find() else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    let certificates = Certificates::make();
    for (limits, more) in
        [(json!({ "MaxRequestsPerConnection": 2 }), "200 1\n200 0\n200 1\n"), (json!({}), "200 0\n200 0\n200 0\n")]
    {
        let mut config = configuration(&origin, limits);
        // This curl uses no connection of HTTP/2 twice in the clear.
        config["Server"]["Listeners"] = json!([certificates.listener()]);
        let gate = Gate::start(&config).await;
        let url = format!("https://{}/stream/track.mp3", gate.address());
        for way in ["--http1.1", "--http2"] {
            let mut command = Command::new(&curl);
            command.args(["-sSk", way, "-w", "%{stderr}%{http_code} %{num_connects}\n"]).args(vec![&url; 5]);
            let output = command.output().await.expect("curl runs");
            assert_eq!(String::from_utf8_lossy(&output.stderr), format!("200 1\n200 0\n{more}"), "{way}");
        }
    }
}

#[tokio::test]
async fn streams_of_a_connection_are_limited_as_configured() {
    let origin = ScriptedOrigin::with_track(pattern(1 << 20)).await;
    let gate = gate(&origin, json!({ "MaxStreamsPerConnection": 3 })).await;
    let mut frames = Frames::connect(gate.address()).await;
    let settings = frames.next().await.expect("the gate's settings");
    assert_eq!(settings.kind, frames::SETTINGS);
    // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 3]), "{settings:?}");
    // Each is held by its window. The fourth is refused (REFUSED_STREAM).
    let flags = frames::END_HEADERS | frames::END_STREAM;
    for stream in [1, 3, 5, 7] {
        frames.send(&frames::request("GET", "/stream/track.mp3", stream, flags)).await;
    }
    let refused = loop {
        let frame = frames.next().await.expect("the connection stays");
        if frame.kind == frames::RST_STREAM {
            break frame;
        }
    };
    assert_eq!((refused.stream, refused.payload), (7, vec![0, 0, 0, 7]));
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_on() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = configuration(&origin, json!({}));
    config["ReverseProxy"]["Routes"]["plain"]["MaxRequestBodySize"] = json!(10);
    let gate = Gate::start(&config).await;
    for (begin, status) in [
        ("GET /plain/x HTTP/1.1\r\nHost: gate\r\nx: ", 431),
        ("POST /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 99999999\r\n\r\n", 413),
        ("POST /plain/x HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n8000000\r\n", 413),
        ("GET /plain/x HTTP/1.1\r\nHost: gate\r\nHost: other\r\n\r\n", 400),
    ] {
        let mut raw = gate.raw().await;
        raw.send(begin.as_bytes()).await;
        raw.send(&vec![b'a'; 4 << 20]).await;
        let answer = raw.response("GET", LIMIT).await.unwrap_or_else(|error| panic!("no answer to {begin}: {error}"));
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{begin}");
        raw.rest(LIMIT).await.unwrap_or_else(|error| panic!("{begin} ends by a reset: {error}"));
    }
}

#[tokio::test]
async fn a_request_ends_at_its_total_deadline_where_there_is_one() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track(pattern(100_000)).await;
    let limited = gate(&origin, json!({ "RequestTimeout": "1s" })).await;
    let unlimited = gate(&origin, json!({})).await;
    let url = |gate: &Gate, path: &str| format!("{}{path}", gate.url());
    for (number, version) in VERSIONS.into_iter().enumerate() {
        // Nothing has come from the server behind.
        origin.script([Step::Silence(End::Stall)]);
        let late = curl::get(&url(&limited, "/plain/x"), version, &[]).await;
        assert_eq!(late.heads.last().map(|head| head.status), Some(408), "{version:?}");
        assert!(String::from_utf8_lossy(&late.body).contains("request_timeout"), "{version:?}");
        // A stream that flows, and takes longer than it may.
        let trickle = || Step::Trickle { pieces: 10, pause: Duration::from_millis(300) };
        origin.script([trickle()]);
        let slow = curl::get(&url(&limited, "/stream/track.mp3"), version, &[]).await;
        assert_ne!(slow.exit, 0, "{version:?}");
        assert_eq!(slow.heads.last().map(|head| head.status), Some(200), "{version:?}");
        origin.script([trickle()]);
        let whole = curl::get(&url(&unlimited, "/stream/track.mp3"), version, &[]).await;
        assert_eq!((whole.exit, whole.body.len()), (0, 100_000), "{version:?}");
        eventually("both are logged", async || {
            let late = limited.access_lines().iter().filter(|line| line["failure"] == "request_timeout").count();
            (late == 2 * (number + 1)).then_some(())
        })
        .await;
    }
    // The connection of HTTP/2 goes on.
    let h2 = H2::connect(limited.address()).await;
    origin.script([Step::Silence(End::Stall)]);
    assert_eq!(h2.request(Method::GET, "/plain/x", &[]).await.status, 408);
    assert_eq!(h2.get("/health", &[]).await.status, 200);
}
