//! The share relay on two nodes over one Redis, through the shipped binary: whoever listens does so at any node, and a host
//! sends to any.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::client::Reply;
use crate::support::redis::Redis;
use crate::support::{Gate, config, eventually};

mod hostile;
mod rivals;

const TOKEN: &str = "Bearer a-token-for-sharing";
const LIMIT: Duration = Duration::from_secs(20);
/// 4096 stereo frames at 44.1 kHz.
const CHUNK: Duration = Duration::from_micros(92_880);
const COVER: &str = "/9j/4AAQ";

async fn gate(redis: &Redis, share: Value) -> Gate {
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&["http://127.0.0.1:9".to_owned()]);
    config["State"] = json!({ "Url": redis.url() });
    config["Share"] = share;
    Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN)]).await
}

/// Two nodes, and their Redis.
async fn nodes(share: Value) -> Option<(Redis, Gate, Gate)> {
    let redis = Redis::start()?;
    let (one, other) = (gate(&redis, share.clone()).await, gate(&redis, share).await);
    Some((redis, one, other))
}

async fn call(gate: &Gate, method: http::Method, path: &str, body: &Value) -> Reply {
    let request = gate.client().request(method, path).header("authorization", TOKEN);
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await;
    let response = response.expect("it answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

async fn post(gate: &Gate, path: &str, body: Value) -> Reply {
    call(gate, http::Method::POST, path, &body).await
}

async fn get(gate: &Gate, path: &str) -> Value {
    let reply = call(gate, http::Method::GET, path, &Value::Null).await;
    serde_json::from_slice(&reply.is(200).body).expect("JSON")
}

async fn start(gate: &Gate) {
    post(gate, "/api/share/start", json!({"sessionId": "123456"})).await.is(200);
}

/// The samples of a chunk: every bit pattern that a float may have somewhere.
fn samples(sequence: u32) -> Vec<u8> {
    let bits = (0..8192_u32).map(|at| (sequence * 8192 + at).wrapping_mul(2_654_435_761));
    bits.flat_map(u32::to_le_bytes).collect()
}

async fn send(gate: &Gate, sequence: u32) {
    let body = json!({"data": STANDARD.encode(samples(sequence)), "sampleRate": 44100, "channels": 2,
        "timestamp": 1_700_000_000_000_i64 + i64::from(sequence) * 93, "sequenceNumber": sequence});
    post(gate, "/api/share/123456/audio", body).await.is(200);
}

struct Socket {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Numbers of packets that were heard, and the packets.
    heard: Vec<(u32, Bytes)>,
    texts: Vec<Value>,
}

impl Socket {
    /// `query` begins with `?`; `token`: whether it is shown.
    async fn open(gate: &Gate, query: &str, token: bool) -> Result<Self, u16> {
        let url = format!("ws://{}/api/v1/share/123456/ws{query}", gate.address());
        let mut request = url.into_client_request().expect("a request");
        if token {
            request.headers_mut().insert("authorization", TOKEN.parse().expect("a header"));
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((inner, _)) => Ok(Self { inner, heard: Vec::new(), texts: Vec::new() }),
            Err(tokio_tungstenite::tungstenite::Error::Http(reply)) => Err(reply.status().as_u16()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    async fn listen(gate: &Gate, codec: &str) -> Self {
        let mut socket = Self::open(gate, &format!("?codec={codec}"), true).await.expect("it opens");
        socket.text("hello").await;
        socket
    }

    /// Takes the next message; false at the end.
    async fn next(&mut self) -> bool {
        let message = timeout(LIMIT, self.inner.next()).await.expect("something comes in time");
        match message {
            Some(Ok(Message::Binary(frame))) => self.heard.extend(packets(&frame)),
            Some(Ok(Message::Text(text))) => self.texts.push(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
            Some(Ok(_)) => {}
        }
        true
    }

    /// The next text of this type; those before it are forgotten.
    async fn text(&mut self, kind: &str) -> Value {
        loop {
            while !self.texts.is_empty() {
                let text = self.texts.remove(0);
                if text["type"] == kind {
                    return text;
                }
            }
            assert!(self.next().await, "it ended before {kind}");
        }
    }

    /// Hears on until these many bytes of samples were heard; returns them.
    async fn floats(&mut self, length: usize) -> Vec<u8> {
        let hearing = async {
            while self.heard.iter().map(|(_, packet)| packet.len()).sum::<usize>() < length {
                assert!(self.next().await, "it ended after {} packets", self.heard.len());
            }
        };
        timeout(LIMIT, hearing).await.expect("all of it comes in time");
        self.heard.drain(..).flat_map(|(_, packet)| packet).collect()
    }

    /// Hears on until then: who takes nothing for long is moved to the live edge.
    async fn hear_until(&mut self, then: Instant) {
        while let Ok(open) = tokio::time::timeout_at(then.into(), self.next()).await {
            assert!(open, "it stayed connected");
        }
    }

    /// Hears on until this packet.
    async fn until(&mut self, packet: &Bytes) {
        while self.heard.last().is_none_or(|(_, last)| last != packet) {
            assert!(self.next().await, "it ended after {} packets", self.heard.len());
        }
    }

    async fn send(&mut self, message: Message) {
        self.inner.send(message).await.expect("it is taken");
    }
}

/// The packets of a frame, with their numbers.
fn packets(frame: &Bytes) -> Vec<(u32, Bytes)> {
    let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (count, first) = (usize::from(number(2)), u32::from_be_bytes(frame[4..8].try_into().expect("four bytes")));
    let mut at = 20 + 2 * count;
    let packets = (0..count).zip(first..).map(|(index, sequence)| {
        let length = usize::from(number(20 + 2 * index));
        at += length;
        (sequence, frame.slice(at - length..at))
    });
    packets.collect()
}

/// 20 milliseconds of Opus that say their number.
fn opus(number: u32) -> Bytes {
    [&[0xfc][..], &number.to_be_bytes()].concat().into()
}

/// A frame of five packets from this number on.
fn frame(first: u32) -> Message {
    let packets: Vec<Bytes> = (first..first + 5).map(opus).collect();
    let mut frame = vec![1, 0, 0, 5];
    frame.extend(first.to_be_bytes());
    frame.extend([0; 12]);
    packets.iter().for_each(|packet| frame.extend(u16::try_from(packet.len()).expect("short").to_be_bytes()));
    packets.iter().for_each(|packet| frame.extend(packet));
    Message::Binary(frame.into())
}

/// Until this node counts so many listeners at all nodes.
async fn count(gate: &Gate, listeners: usize) {
    eventually("the listeners of all nodes are counted", async || {
        let counted = status(gate).await.is_some_and(|status| status["listenerCount"] == listeners);
        if !counted {
            pause().await;
        }
        counted.then_some(())
    })
    .await;
}

/// How the session is; `None` where the node does not say.
async fn status(gate: &Gate) -> Option<Value> {
    let reply = call(gate, http::Method::GET, "/api/share/123456/status", &Value::Null).await;
    (reply.status == 200).then(|| serde_json::from_slice(&reply.body).expect("JSON"))
}

async fn a_ticket_of_one_opens_at(one: &Gate, other: &Gate) {
    let ticket = post(one, "/api/v1/share/123456/tickets", json!({"ttl": 60})).await;
    let ticket: Value = serde_json::from_slice(&ticket.is(200).body).expect("JSON");
    let query = format!("?ticket={}", ticket["ticket"].as_str().expect("text"));
    assert!(Socket::open(other, &query, false).await.is_ok());
    assert_eq!(Socket::open(other, "?ticket=made-up", false).await.err(), Some(401));
}

/// Whoever asks more often is refused.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

#[tokio::test]
async fn what_is_sent_to_one_node_is_heard_at_the_other_bit_by_bit() {
    let Some((_redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let again = post(&other, "/api/share/start", json!({"sessionId": "123456"})).await;
    assert_eq!(again.problem(409)["error"], "Session ID already in use");
    for sequence in 0..8 {
        send(&one, sequence).await;
    }
    let song = json!({"title": "Song", "artist": null, "lyrics": "", "hasSyncedLyrics": false, "elapsedSeconds": 1.5,
        "totalSeconds": 180.25, "thumbnailData": COVER, "timestamp": 1_700_000_000_000_i64});
    post(&one, "/api/share/123456/metadata", song.clone()).await.is(200);
    eventually("the other node knows the song", async || {
        pause().await;
        let reply = call(&other, http::Method::GET, "/api/share/123456/metadata", &Value::Null).await;
        (reply.status == 200).then(|| assert_eq!(serde_json::from_slice::<Value>(&reply.body).expect("JSON"), song))
    })
    .await;

    let mut here = Socket::listen(&one, "f32").await;
    let mut there = Socket::listen(&other, "f32").await;
    count(&one, 2).await;
    count(&other, 2).await;
    for sequence in 8..20 {
        send(&one, sequence).await;
    }
    let expected: Vec<u8> = (0..20).flat_map(samples).collect();
    for socket in [&mut here, &mut there] {
        socket.until(&samples(19).into()).await;
        let heard = socket.floats(17 * 32_768).await;
        assert!(expected.ends_with(&heard), "every bit is as it was sent, in order");
    }
    let polled = get(&other, "/api/share/123456/audio?since=15").await;
    for (chunk, number) in polled.as_array().expect("an array").iter().zip(16_u32..) {
        assert_eq!(chunk["sequenceNumber"], number);
        assert_eq!(chunk["data"], STANDARD.encode(samples(number)));
    }
    assert_eq!(polled.as_array().map(Vec::len), Some(4));

    let changed = json!({"title": "Next", "thumbnailData": "/9j/4BBR"});
    let told = post(&one, "/api/share/123456/metadata", changed).await;
    let told: Value = serde_json::from_slice(&told.is(200).body).expect("JSON");
    assert!(told["listenersNotified"].as_u64() >= Some(2), "{told}");
    assert_eq!(there.text("meta").await["title"], "Next");
    assert_eq!(get(&other, "/api/share/123456/metadata").await["thumbnailData"], "/9j/4BBR");

    let line = json!({"type": "chat", "name": "Ann", "text": "hi"}).to_string();
    here.send(Message::Text(line.into())).await;
    assert_eq!(there.text("chat").await["text"], "hi");

    a_ticket_of_one_opens_at(&one, &other).await;

    let (began, stopped) = (Instant::now(), post(&other, "/api/share/123456/stop", Value::Null).await);
    stopped.is(200);
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.text("ended").await["reason"], "stopped");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for gate in [&one, &other] {
        assert_eq!(get(gate, "/api/share/123456/status").await["ended"], "stopped");
    }
    assert_eq!(one.metric("tidegate_share_sessions_ended_total", "stopped").await, 1.0);
    assert_eq!(other.metric("tidegate_share_sessions_ended_total", "").await, 0.0);
    start(&other).await;
    assert_eq!(get(&one, "/api/share/123456/status").await["isActive"], true);
}

#[tokio::test]
async fn a_host_may_send_to_the_nodes_by_turns() {
    let Some((_redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut listeners = [Socket::listen(&one, "f32").await, Socket::listen(&other, "f32").await];
    count(&one, 2).await;
    count(&other, 2).await;
    let gates = [&one, &other];
    for sequence in 0..40 {
        send(gates[sequence as usize % 2], sequence).await;
        for listener in &mut listeners {
            listener.until(&samples(sequence).into()).await;
        }
    }
    let expected: Vec<u8> = (0..40).flat_map(samples).collect();
    for listener in &mut listeners {
        let heard = listener.floats(expected.len()).await;
        assert!(heard == expected, "no gap and nothing twice");
    }
    for gate in gates {
        assert_eq!(gate.metric("tidegate_share_overflows_total", "").await, 0.0);
        assert_eq!(gate.metric("tidegate_share_chunks_total", "late").await, 0.0);
    }
}

#[tokio::test]
async fn audio_crosses_only_while_somebody_listens_elsewhere() {
    let Some((_redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let _here = Socket::listen(&one, "f32").await;
    send(&one, 0).await;
    // To look is not to listen.
    assert_eq!(get(&other, "/api/share/123456/status").await["isActive"], true);
    count(&other, 1).await;
    let crossed = async || one.metric("tidegate_share_crossed_total", "out").await;
    let before = crossed().await;
    for sequence in 1..15 {
        send(&one, sequence).await;
    }
    assert_eq!(crossed().await, before);
    let there = Socket::listen(&other, "f32").await;
    count(&one, 2).await;
    for sequence in 15..20 {
        send(&one, sequence).await;
    }
    eventually("audio crosses", async || (crossed().await >= before + 6.0).then_some(())).await;
    drop(there);
    count(&one, 1).await;
    let mut sequence = 20;
    eventually("it crosses no more", async || {
        let before = crossed().await;
        send(&one, sequence).await;
        sequence += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        (crossed().await == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_host_whose_node_was_killed_goes_on_at_another() {
    let Some((_redis, mut one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut host = Socket::open(&one, "?role=host", true).await.expect("it opens");
    let secret = host.text("welcome").await["resume"].as_str().expect("a secret").to_owned();
    let mut listener = Socket::open(&other, "", true).await.expect("it opens");
    assert_eq!(listener.text("hello").await["host"], true);
    for first in (0..50).step_by(5) {
        host.send(frame(first)).await;
    }
    listener.until(&opus(49)).await;
    let heard: Vec<u32> = listener.heard.iter().map(|(number, _)| *number).collect();
    assert_eq!(heard, (heard[0]..heard[0] + 50).collect::<Vec<_>>());

    one.signal("KILL").await;
    one.ended().await;
    assert_eq!(listener.text("host").await["here"], false);
    let query = format!("?role=host&resume={secret}");
    let began = Instant::now();
    let mut host = Socket::open(&other, &query, false).await.expect("it goes on");
    assert_eq!(host.text("welcome").await["resume"], secret.as_str());
    for first in (200..250).step_by(5) {
        host.send(frame(first)).await;
    }
    listener.until(&opus(249)).await;
    assert!(began.elapsed() < Duration::from_secs(3), "silence of {:?}", began.elapsed());
    assert_eq!(listener.text("host").await["here"], true);
    assert_eq!(Socket::open(&other, &format!("?resume={secret}"), false).await.err(), Some(401), "it is the host's");
    assert_eq!(Socket::open(&other, "?role=host&resume=made-up", false).await.err(), Some(401));

    drop(host);
    assert_eq!(listener.text("host").await["here"], false);
    let mut late = Socket::open(&other, "", true).await.expect("it opens");
    assert_eq!(late.text("hello").await["host"], false);
    eventually("the other node answers for the session", async || {
        (other.metric("tidegate_share_sessions_active", "").await == 1.0).then_some(())
    })
    .await;
    post(&other, "/api/share/123456/stop", Value::Null).await.is(200);
    listener.text("ended").await;
    assert_eq!(Socket::open(&other, &query, false).await.err(), Some(404));
}

#[tokio::test]
async fn a_node_that_stops_leaves_its_sessions_to_the_others() {
    let Some((_redis, mut one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut listener = Socket::listen(&one, "f32").await;
    send(&one, 0).await;
    one.stop().await;
    while listener.next().await {}
    let mut listener = Socket::listen(&other, "f32").await;
    send(&other, 1).await;
    assert_eq!(listener.floats(32_768).await, samples(1));
}

#[tokio::test]
async fn without_redis_everybody_keeps_what_is_at_the_own_node() {
    let Some((mut redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut here, mut there) = (Socket::listen(&one, "f32").await, Socket::listen(&other, "f32").await);
    count(&one, 2).await;
    let began = Instant::now();
    for sequence in 0..60 {
        match sequence {
            10 => redis.stop(),
            40 => redis.restart(),
            _ => {}
        }
        send(&one, sequence).await;
        let then = began + CHUNK * (sequence + 1);
        futures::join!(here.hear_until(then), there.hear_until(then));
    }
    let expected: Vec<u8> = (0..60).flat_map(samples).collect();
    assert!(here.floats(expected.len()).await == expected, "nobody beside the host notices");
    let mut sequence = 60;
    eventually("the other node hears it again", async || {
        send(&one, sequence).await;
        tokio::time::sleep_until((began + CHUNK * (sequence + 1)).into()).await;
        let sent = samples(sequence);
        sequence += 1;
        while let Ok(open) = timeout(CHUNK, there.next()).await {
            assert!(open, "it stayed connected");
            if there.heard.iter().any(|(_, packet)| *packet == sent) {
                return Some(());
            }
        }
        None
    })
    .await;
    count(&other, 2).await;
    for gate in [&one, &other] {
        assert!(gate.log().contains("sharing sessions are shared with other nodes again"));
        assert!(gate.metric("tidegate_share_state_errors_total", "").await > 0.0);
    }
}

#[tokio::test]
async fn a_session_that_begins_without_redis_is_known_to_all_when_it_is_back() {
    let Some((mut redis, one, other)) = nodes(json!({})).await else { return };
    redis.stop();
    start(&one).await;
    send(&one, 0).await;
    call(&other, http::Method::GET, "/api/share/123456/status", &Value::Null).await.problem(503);
    redis.restart();
    eventually("the other node finds it", async || {
        pause().await;
        status(&other).await
    })
    .await;
}

#[tokio::test]
async fn all_nodes_together_have_as_many_sessions_as_one() {
    let Some((_redis, one, other)) = nodes(json!({"MaxSessions": 2})).await else { return };
    post(&one, "/api/share/start", json!({})).await.is(200);
    post(&other, "/api/share/start", json!({})).await.is(200);
    for gate in [&one, &other] {
        post(gate, "/api/share/start", json!({})).await.problem(503);
        assert_eq!(
            serde_json::from_slice::<Value>(&gate.client().get("/health", &[]).await.is(200).body).expect("JSON")["activeSessions"],
            1
        );
    }
}

#[tokio::test]
async fn a_program_that_knows_only_the_document_reads_the_session_in_redis() {
    let Some((redis, one, other)) = nodes(json!({"Compatibility": true})).await else { return };
    start(&one).await;
    // What can be shown as text.
    let data = STANDARD.encode([b'A'; 4096 * 8]);
    for sequence in 0..60 {
        let body = json!({"data": data, "sampleRate": 44100, "channels": 2, "timestamp": 1_700_000_000_000_i64,
            "sequenceNumber": sequence});
        let sent = Instant::now();
        post(&one, "/api/share/123456/audio", body).await.is(200);
        tokio::time::sleep_until((sent + CHUNK / 2).into()).await;
    }
    let song = json!({"title": "Song", "artist": "Artist", "lyrics": "[00:12.50]Line", "hasSyncedLyrics": true,
        "elapsedSeconds": 45.2, "totalSeconds": 180.5, "thumbnailData": COVER, "timestamp": 1_234_567_890_123_i64});
    post(&one, "/api/share/123456/metadata", song).await.is(200);
    let _listener = Socket::listen(&other, "opus").await;
    count(&one, 1).await;
    let field = |key: &str, field: &str| {
        let said = redis.ask(&format!("HGET {key} {field}"));
        said.split_once("\r\n").map_or(said.clone(), |(_, value)| value.trim_end().to_owned())
    };
    let session = |name: &str| field("session:123456", name);
    assert_eq!((session("active"), session("listenerCount")), ("true".to_owned(), "1".to_owned()));
    assert!(session("startTime").len() == 13 && session("lastActivity") > session("startTime"));
    eventually("the song is there", async || (field("session:123456:metadata", "title") == "Song").then_some(())).await;
    for (name, value) in [
        ("artist", "Artist"),
        ("lyrics", "[00:12.50]Line"),
        ("hasSyncedLyrics", "true"),
        ("elapsedSeconds", "45.2"),
        ("totalSeconds", "180.5"),
        ("thumbnailData", COVER),
        ("timestamp", "1234567890123"),
    ] {
        assert_eq!(field("session:123456:metadata", name), value, "{name}");
    }
    let number =
        |command: &str| redis.ask(command).trim_start_matches(':').trim_end().parse::<i64>().expect("a number");
    assert!((850_000..=900_000).contains(&number("PTTL session:123456")));
    assert!((1..=30_000).contains(&number("PTTL session:123456:metadata")));
    assert!((1..=10_000).contains(&number("PTTL session:123456:audio")));
    assert_eq!(number("XLEN session:123456:audio"), 54, "five seconds");
    let last = redis.ask("XREVRANGE session:123456:audio + - COUNT 1");
    let entry: Vec<&str> = last.split("\r\n").filter(|line| !line.starts_with(['$', '*'])).collect();
    let value = |name: &str| entry.iter().skip_while(|line| **line != name).nth(1).copied().unwrap_or_default();
    assert_eq!((value("sequenceNumber"), value("sampleRate"), value("channels")), ("59", "44100", "2"));
    assert_eq!((value("timestamp"), value("data")), ("1700000000000", "A".repeat(4096 * 8).as_str()));

    post(&other, "/api/share/123456/stop", Value::Null).await.is(200);
    assert_eq!(session("active"), "false");
    assert!((1..=300_000).contains(&number("PTTL session:123456")));
    assert_eq!(number("EXISTS session:123456:audio session:123456:metadata"), 0);
}
