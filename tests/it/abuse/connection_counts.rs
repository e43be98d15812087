//! Connections at once from one client.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::curl::{self, Version};
use crate::support::raw::Raw;
use crate::support::{Gate, ScriptedOrigin, config, eventually};

const LIMIT: Duration = Duration::from_secs(8);
/// Exit codes of curl: the server sent nothing, and the connection was reset.
const CLOSED: [i32; 2] = [52, 56];

async fn gate(origin: &ScriptedOrigin, address: &str, limits: Value) -> Gate {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": address }]);
    config["Server"]["TrustedProxies"] = json!(["127.0.0.3"]);
    config["Server"]["Limits"] = limits;
    Gate::start(&config).await
}

/// Opens `count` connections that are kept.
async fn open(gate: &Gate, count: usize) -> Vec<Raw> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut raw = gate.raw().await;
        raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        open.push(raw);
    }
    open
}

#[tokio::test]
async fn an_address_with_too_many_connections_is_refused_and_others_are_not() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, "127.0.0.1:0", json!({ "MaxConnectionsPerAddress": 3 })).await;
    let mut kept = open(&gate, 3).await;
    let url = format!("{}/stream/track.mp3", gate.url());
    let refused = curl::get(&url, Version::Http1, &[]).await;
    assert!(CLOSED.contains(&refused.exit) && refused.heads.is_empty(), "{refused:?}");
    for reason in ["total", "address", "network"] {
        let expected = if reason == "address" { 1.0 } else { 0.0 };
        let labels = format!("reason=\"{reason}\"");
        assert_eq!(gate.metric("tidegate_connections_refused_total", &labels).await, expected, "{reason}");
    }
    // Another address, and a proxy that speaks for many, however many connections it has.
    for address in ["127.0.0.2", "127.0.0.3", "127.0.0.3"] {
        let answer = curl::get(&url, Version::Http1, &["--interface", address]).await;
        assert_eq!((answer.exit, answer.body.as_slice()), (0, &b"music"[..]), "{address}");
    }
    kept.pop();
    eventually("the place is free", async || (curl::get(&url, Version::Http1, &[]).await.exit == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn a_proxy_that_is_trusted_may_have_any_number_of_connections() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, "127.0.0.1:0", json!({ "MaxConnectionsPerAddress": 1 })).await;
    let url = format!("{}/stream/track.mp3", gate.url());
    // Several at once, each kept for a while by its slow reader.
    let one = async || curl::get(&url, Version::Http1, &["--interface", "127.0.0.3", "--limit-rate", "5"]).await;
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert_eq!([a.exit, b.exit, c.exit], [0; 3]);
    assert_eq!(gate.metric("tidegate_connections_refused_total", "").await, 0.0);
}

#[tokio::test]
async fn an_ipv6_network_with_too_many_connections_is_refused() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, "[::]:0", json!({ "MaxConnectionsPerNetwork": 2 })).await;
    let port = gate.address().port();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).await;
        raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        kept.push(raw);
    }
    let refused = curl::get(&format!("http://[::1]:{port}/stream/track.mp3"), Version::Http1, &[]).await;
    assert!(CLOSED.contains(&refused.exit), "{refused:?}");
    assert_eq!(gate.metric("tidegate_connections_refused_total", "reason=\"network\"").await, 1.0);
    // IPv4 has no such networks.
    for _ in 0..3 {
        let mut raw = Raw::connect(([127, 0, 0, 1], port).into()).await;
        raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        kept.push(raw);
    }
}
