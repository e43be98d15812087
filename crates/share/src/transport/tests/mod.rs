//! The paths as clients see them, over a clock that the tests move.

mod admitted;
mod beside;
mod polled;
mod pushed;
mod refused;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tower::ServiceExt;

use super::*;
use crate::audio::frame::{self, Codec, FrameHeader};
use crate::settings::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use primitives::secret::Secret;
use server_kit::api::error::envelope;

const LIMIT: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Server {
    relay: Arc<Relay>,
    router: Router,
    clock: Clock,
    tasks: BackgroundTasks,
}

struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }
}

fn server(change: impl FnOnce(&mut Settings)) -> Server {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let mut settings = Settings::new(Secret::new("Bearer Token"));
    change(&mut settings);
    let tasks = BackgroundTasks::default();
    let metrics = prometheus::Registry::new();
    let relay = Relay::start(settings, None, clock.clone(), &tasks, &metrics, (None, None)).expect("it starts");
    let (router, _) = routes(Arc::clone(&relay), |routes, _| routes).split_for_parts();
    let router = router.layer(middleware::from_fn_with_state(clock.clone(), envelope));
    Server { relay, router, clock, tasks }
}

impl Server {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("a request");
        let (parts, body) = self.router.clone().oneshot(request).await.expect("it answers").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, &[("authorization", "Bearer Token")], body.to_string()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[("authorization", "Bearer Token")], "").await
    }

    async fn start(&self) {
        assert_eq!(self.post("/api/share/start", json!({"sessionId": "123456"})).await.status, 200);
    }

    fn advance(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    /// Serves on a socket of its own.
    async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (router, stopping) = (self.router.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(async move { stopping.stopping().await });
            served.await.expect("it serves");
        });
        address
    }

    async fn socket(&self, query: &str) -> Socket {
        let address = self.listen().await;
        let url = format!("ws://{address}/api/v1/share/123456/ws{query}");
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("authorization", "Bearer Token".parse().expect("a header"));
        tokio_tungstenite::connect_async(request).await.expect("it opens").0
    }
}

/// The chunk of this number, 4096 stereo frames of a tone, and its bytes.
fn chunk(sequence: i64) -> (Value, Vec<u8>) {
    let sample = |at: i64| ((at as f64 * 0.0627).sin() * 0.4) as f32;
    let samples = (sequence * 4096..(sequence + 1) * 4096).flat_map(|at| [sample(at), -sample(at)]);
    let bytes: Vec<u8> = samples.flat_map(f32::to_le_bytes).collect();
    let body = json!({"data": STANDARD.encode(&bytes), "sampleRate": 44100, "channels": 2,
        "timestamp": 1_700_000_000_000_i64 + sequence * 93, "sequenceNumber": sequence});
    (body, bytes)
}

async fn message(socket: &mut Socket) -> Message {
    first(socket, Some).await
}

/// The first of what comes of which `take` makes something. The limit is for all of it: what is said over and over must not
/// put it off.
async fn first<T>(socket: &mut Socket, mut take: impl FnMut(Message) -> Option<T>) -> T {
    let hearing = async {
        loop {
            let message = socket.next().await.expect("it is open").expect("a message");
            if let Some(taken) = take(message) {
                return taken;
            }
        }
    };
    tokio::time::timeout(LIMIT, hearing).await.expect("it comes in time")
}

/// The next text of this type.
async fn text(socket: &mut Socket, kind: &str) -> Value {
    let of_kind = |message| {
        let Message::Text(text) = message else { return None };
        let value: Value = serde_json::from_str(&text).expect("it is JSON");
        (value["type"] == kind).then_some(value)
    };
    first(socket, of_kind).await
}

async fn audio(socket: &mut Socket) -> (FrameHeader, Vec<Bytes>) {
    let frame = |message| match message {
        Message::Binary(bytes) => Some(frame::decode(bytes).expect("a frame")),
        _ => None,
    };
    first(socket, frame).await
}

#[tokio::test]
async fn events_tell_what_happens() {
    let server = server(|_| {});
    server.start().await;
    let request = Request::get("/api/v1/share/123456/events").header("authorization", "Bearer Token");
    let answer =
        server.router.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    server.post("/api/share/123456/metadata", json!({"title": "Song"})).await;
    let (mut body, mut told) = (answer.into_body().into_data_stream(), Vec::new());
    let mut stopped = false;
    let reading = async {
        while let Some(part) = body.next().await {
            told.extend(part.expect("a body"));
            if !stopped && String::from_utf8_lossy(&told).contains("event: meta") {
                server.post("/api/share/123456/stop", json!(null)).await;
                stopped = true;
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("it ends with the session");
    let told = String::from_utf8(told).expect("text");
    let names: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names.first(), names.last()), (Some(&"count"), Some(&"ended")), "{told}");
    assert!(names.contains(&"meta") && told.contains("\"title\":\"Song\""), "{told}");
}
