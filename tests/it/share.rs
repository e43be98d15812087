//! The share relay, judged by a client that was written from its document alone: a sharer, and receivers with the
//! document's buffering rules, through the shipped binary.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::client::Reply;
use crate::support::eventually::eventually_every;
use crate::support::{Client, Gate, config};

const TOKEN: &str = "Bearer a-token-for-sharing";
/// 4096 stereo frames at 44.1 kHz.
const CHUNK: Duration = Duration::from_micros(92_880);

async fn gate(share: Value) -> Gate {
    let mut config = nobody();
    config["Share"] = share;
    Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN), ("MAX_SESSIONS", "3")]).await
}

/// A route that nobody needs here.
fn nobody() -> Value {
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&["http://127.0.0.1:9".to_owned()]);
    config
}

async fn call(client: &Client, method: http::Method, path: &str, body: Option<&Value>) -> Reply {
    let request = client.request(method, path).header("authorization", TOKEN);
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    let response = request.send().await.expect("it answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

async fn post(client: &Client, path: &str, body: &Value) -> Reply {
    call(client, http::Method::POST, path, Some(body)).await
}

async fn get(client: &Client, path: &str) -> Reply {
    call(client, http::Method::GET, path, None).await
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("not JSON: {}", reply.text()))
}

/// The samples of a chunk: every bit pattern that a float may have somewhere.
fn samples(sequence: u32) -> Vec<u8> {
    let bits = (0..8192_u32).map(|at| (sequence * 8192 + at).wrapping_mul(2_654_435_761));
    bits.flat_map(u32::to_le_bytes).collect()
}

/// The document's receiver: plays after five chunks, pauses below two, drops beyond ten seconds.
#[derive(Default)]
struct Receiver {
    since: Option<i64>,
    buffered: Vec<(i64, Vec<u8>)>,
    playing: bool,
    played: Vec<(i64, Vec<u8>)>,
    pauses: u32,
}

impl Receiver {
    async fn poll(&mut self, client: &Client) {
        let since = self.since.unwrap_or(-1);
        let reply = get(client, &format!("/api/share/123456/audio?since={since}")).await;
        if reply.status.as_u16() == 204 {
            return;
        }
        let chunks = json_of(reply.is(200));
        for chunk in chunks.as_array().expect("an array") {
            let number = chunk["sequenceNumber"].as_i64().expect("a number");
            let data = STANDARD.decode(chunk["data"].as_str().expect("text")).expect("Base64");
            assert_eq!((&chunk["sampleRate"], &chunk["channels"]), (&json!(44100), &json!(2)));
            self.since = Some(number);
            self.buffered.push((number, data));
        }
    }

    /// What playing for the time of one chunk does.
    fn play(&mut self) {
        if !self.playing && self.buffered.len() >= 5 {
            self.playing = true;
        } else if self.playing && self.buffered.len() < 2 {
            self.playing = false;
            self.pauses += 1;
        }
        if self.buffered.len() > 107 {
            self.buffered.drain(..self.buffered.len() - 107);
        }
        if self.playing && !self.buffered.is_empty() {
            self.played.push(self.buffered.remove(0));
        }
    }
}

/// The document's sharer: 45 chunks as fast as they play, and the song with every fifth. Says in `sent` how many there are: that
/// is the time of the receivers, so that a machine that stands still holds up all of them alike.
async fn share(sharing: Client, sent: watch::Sender<u32>) {
    let mut pace = tokio::time::interval(CHUNK);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for sequence in 0..45_u32 {
        pace.tick().await;
        let body = json!({"data": STANDARD.encode(samples(sequence)), "sampleRate": 44100, "channels": 2,
            "timestamp": 1_700_000_000_000_i64 + i64::from(sequence) * 93, "sequenceNumber": sequence});
        let reply = post(&sharing, "/api/share/123456/audio", &body).await;
        assert_eq!(json_of(reply.is(200)), json!({"success": true, "buffered": true}));
        sent.send_replace(sequence + 1);
        if sequence % 5 == 0 {
            let song = json!({"title": "Song", "artist": "Artist", "lyrics": "", "hasSyncedLyrics": false,
                "elapsedSeconds": f64::from(sequence) * 0.093, "totalSeconds": 180.5, "thumbnailData": null,
                "timestamp": 1_700_000_000_000_i64});
            post(&sharing, "/api/share/123456/metadata", &song).await.is(200);
        }
    }
}

#[tokio::test]
async fn a_sharer_and_receivers_of_the_document_hear_each_other_bit_by_bit() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    post(&client, "/api/share/start", &json!({"sessionId": "123456"})).await.is(200);
    assert_eq!(json_of(gate.client().get("/health", &[]).await.is(200))["activeSessions"], 1);
    let sharing = gate.client();
    let (sent, time) = watch::channel(0);
    let host = tokio::spawn(share(sharing, sent));
    let receivers = (0..3).map(|_| {
        let (client, mut time) = (gate.client(), time.clone());
        tokio::spawn(async move {
            let mut receiver = Receiver::default();
            let mut played = 0;
            while played < 40 {
                time.changed().await.expect("the host goes on");
                let now = *time.borrow_and_update();
                receiver.poll(&client).await;
                while played < now {
                    receiver.play();
                    played += 1;
                }
            }
            receiver
        })
    });
    let receivers: Vec<_> = receivers.collect();
    let counted = async || {
        let status = json_of(get(&client, "/api/share/123456/status").await.is(200));
        (status["listenerCount"] == 3 && status["currentMetadata"]["title"] == "Song").then_some(())
    };
    // Whoever looks more often is refused.
    eventually_every(Duration::from_millis(150), "three listeners are counted", counted).await;
    for receiver in receivers {
        let receiver = receiver.await.expect("no receiver fails");
        assert!(receiver.played.len() > 20, "only {} chunks were played", receiver.played.len());
        for ((before, _), (after, _)) in receiver.played.iter().zip(&receiver.played[1..]) {
            assert_eq!(before + 1, *after, "no chunk is missing");
        }
        for (number, data) in &receiver.played {
            assert!(*data == samples(u32::try_from(*number).expect("small")), "chunk {number} is as it was sent");
        }
        assert!(receiver.pauses <= 1, "{} pauses", receiver.pauses);
    }
    host.await.expect("no chunk is refused");
    let stopped = json_of(post(&client, "/api/share/123456/stop", &json!({})).await.is(200));
    assert_eq!(stopped["bytesTransferred"], 45 * 32_768);
    get(&client, "/api/share/123456/audio?since=44").await.problem(404);
    assert_eq!(json_of(gate.client().get("/health", &[]).await.is(200))["activeSessions"], 0);
    assert!(gate.metric("tidegate_share_audio_bytes_total", "out").await > 0.0);
    assert_eq!(gate.metric("tidegate_share_sessions_ended_total", "stopped").await, 1.0);
    let page = gate.metrics().await;
    // Names and labels: a value may have any digits.
    let series = page.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series);
    assert_eq!(series.filter(|series| series.contains("123456")).collect::<Vec<_>>(), [""; 0], "the session's id");
    assert!(!gate.log().contains(TOKEN));
}

#[tokio::test]
async fn the_documents_names_in_the_environment_are_heeded() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    for id in ["000001", "000002", "000003"] {
        post(&client, "/api/share/start", &json!({ "sessionId": id })).await.is(200);
    }
    post(&client, "/api/share/start", &json!({"sessionId": "000004"})).await.problem(503);
    gate.client().get("/api/share/000001/status", &[]).await.problem(401);
}

#[tokio::test]
async fn pages_of_localhost_may_call_where_the_operator_says_so() {
    let asked = |origin| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization"),
        ]
    };
    let (local, page, evil) = ("http://localhost:3000", "https://app.example", "https://evil.example");
    let mut config = nobody();
    config["Share"] = json!({ "AllowLocalhost": true });
    for with_policy in [false, true] {
        if with_policy {
            config["Policies"]["Cors"]["page"] = json!({ "Origins": [page] });
            config["Api"]["CorsPolicy"] = json!("page");
        }
        let gate = Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN)]).await;
        let client = gate.client();
        for (origin, allowed) in [(local, true), (page, with_policy), (evil, false)] {
            let expected = if allowed { origin } else { "" };
            for path in ["/api/share/start", "/api/v1/share/123456/audio"] {
                let reply = client.send(http::Method::OPTIONS, path, &asked(origin)).await;
                assert_eq!(reply.is(204).header("access-control-allow-origin"), expected, "{path} {origin}");
            }
            let refused = client.get("/api/share/123456/status", &[("origin", origin)]).await;
            assert_eq!(refused.is(401).header("access-control-allow-origin"), expected, "{origin}");
        }
        let other = client.send(http::Method::PUT, "/api/share/start", &[("origin", local)]).await;
        other.problem(405);
        assert_eq!((other.header("allow"), other.header("access-control-allow-origin")), ("POST", local));
    }
    let closed = Gate::start_with(
        &{
            config["Share"] = json!({});
            config
        },
        &[("BEARER_TOKEN", TOKEN)],
    )
    .await;
    let reply = closed.client().send(http::Method::OPTIONS, "/api/share/start", &asked(local)).await;
    assert_eq!(reply.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn without_the_section_nothing_is_shared() {
    let gate = Gate::start(&nobody()).await;
    gate.client().get("/api/share/123456/status", &[("authorization", TOKEN)]).await.problem(404);
}

#[test]
fn every_metric_of_the_dashboard_is_counted() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("the file is readable");
    let (board, counted) = (read("deploy/grafana/share.json"), read("crates/share/src/metrics.rs"));
    serde_json::from_str::<Value>(&board).expect("the dashboard is JSON");
    let words = board.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: std::collections::BTreeSet<_> = words.filter(|word| word.starts_with("tidegate_")).collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(counted.contains(&format!("\"{name}\"")), "{name} is in the dashboard and nowhere else");
    }
}
