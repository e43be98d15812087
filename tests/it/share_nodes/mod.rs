//! The share relay on two nodes over one Redis, through the shipped binary: whoever listens does so at any node, and a host
//! sends to any.

mod crossing;
mod document;
mod failures;
mod hostile;
mod rivals;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::client::Reply;
use crate::support::eventually::eventually_every;
use crate::support::redis::Redis;
use crate::support::{Gate, config, eventually, in_time};

const TOKEN: &str = "Bearer a-token-for-sharing";
/// 4096 stereo frames at 44.1 kHz.
const CHUNK: Duration = Duration::from_micros(92_880);
/// Where the nodes tell each other of the session.
const CHANNEL: &str = "share.channel:123456";
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

    /// Takes the next message, however long that takes; false at the end.
    async fn next(&mut self) -> bool {
        match self.inner.next().await {
            Some(Ok(Message::Binary(frame))) => self.heard.extend(packets(&frame)),
            Some(Ok(Message::Text(text))) => self.texts.push(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
            Some(Ok(_)) => {}
        }
        true
    }

    /// The next text of this type; those before it are forgotten.
    async fn text(&mut self, kind: &str) -> Value {
        let hearing = async {
            loop {
                while !self.texts.is_empty() {
                    let text = self.texts.remove(0);
                    if text["type"] == kind {
                        return text;
                    }
                }
                assert!(self.next().await, "it ended before {kind}");
            }
        };
        in_time(&format!("{kind} comes"), hearing).await
    }

    /// Hears on until these many bytes of samples were heard; returns them.
    async fn floats(&mut self, length: usize) -> Vec<u8> {
        let hearing = async {
            while self.heard.iter().map(|(_, packet)| packet.len()).sum::<usize>() < length {
                assert!(self.next().await, "it ended after {} packets", self.heard.len());
            }
        };
        in_time("all of it comes", hearing).await;
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
        let hearing = async {
            while self.heard.last().is_none_or(|(_, last)| last != packet) {
                assert!(self.next().await, "it ended after {} packets", self.heard.len());
            }
        };
        in_time("the packet comes", hearing).await;
    }

    /// Hears on until it ends.
    async fn end(&mut self) {
        in_time("it ends", async { while self.next().await {} }).await;
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
    seldom("the listeners of all nodes are counted", async || {
        status(gate).await.is_some_and(|status| status["listenerCount"] == listeners).then_some(())
    })
    .await;
}

/// How the session is; `None` where the node does not say.
async fn status(gate: &Gate) -> Option<Value> {
    let reply = call(gate, http::Method::GET, "/api/share/123456/status", &Value::Null).await;
    (reply.status == 200).then(|| serde_json::from_slice(&reply.body).expect("JSON"))
}

/// As [`eventually`]: whoever looks at a session more often is refused.
async fn seldom<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_every(Duration::from_millis(150), what, probe).await
}

/// The number by which [`publish`] calls itself a node.
const STRANGER: u64 = 7;

/// Publishes a message without audio on the session's channel, as a node of our own would.
fn publish(redis: &Redis, message: &Value) {
    let incarnation = redis.ask("HGET session:123456 incarnation");
    let incarnation = incarnation.lines().nth(1).expect("the session has one").trim().to_owned();
    let incarnation = u64::from_str_radix(&incarnation, 16).expect("a number");
    let mut bytes = vec![2];
    for number in [STRANGER, 0, incarnation] {
        bytes.extend(u64::to_be_bytes(number));
    }
    bytes.push(3);
    bytes.extend(message.to_string().bytes());
    let quoted: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let heard = redis.ask(&format!("PUBLISH {CHANNEL} \"{quoted}\""));
    let heard: u32 = heard.trim_start_matches(':').trim_end().parse().expect("a number");
    assert!(heard >= 2, "both nodes hear it: {heard}");
}
