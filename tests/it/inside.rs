//! How modules are served: bodies in, streams out, connections that become WebSockets. The server runs in the test, with
//! a module of the test's own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::{SinkExt, StreamExt};
use http::Method;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use server_kit::api::user::User;
use tidegate::app::{self, RunningServer};
use tidegate::config as settings;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;

use crate::support::client::{self, Client};
use crate::support::h2::H2;
use crate::support::raw::Raw;
use crate::support::tools::TempFolder;
use crate::support::{LIMIT, config, eventually, in_time, token};

/// What the test's module tells every listener.
type Feed = Arc<broadcast::Sender<&'static str>>;

/// The test's module: an echo, a stream that never ends by itself, and both ways over a WebSocket.
fn module(feed: &Feed) -> Router {
    Router::new()
        .route("/api/test/echo", any(async |body: Bytes| body).layer(DefaultBodyLimit::disable()))
        .route("/api/test/stream", get(stream))
        .route("/api/test/ws", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .route("/api/test/guarded", any(async |_: User, body: Bytes| body).layer(DefaultBodyLimit::disable()))
        .route("/api/test/private", get(async |_: User, upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .with_state(Arc::clone(feed))
}

async fn stream(State(feed): State<Feed>) -> Response {
    let next = async |mut heard: broadcast::Receiver<&'static str>| {
        let text = heard.recv().await.ok()?;
        Some((Ok::<_, Infallible>(text), heard))
    };
    Body::from_stream(futures::stream::unfold(feed.subscribe(), next)).into_response()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

struct Server {
    running: RunningServer,
    feed: Feed,
}

impl Server {
    async fn start(listener: Value) -> Self {
        let mut config = config::objects("http://127.0.0.1:1", "audio");
        config["Server"]["Listeners"] = json!([listener]);
        config["Server"]["ShutdownGrace"] = json!("10s");
        config["Auth"] = config::jwt();
        let environment = |name: &str| {
            config::ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        // It wants a provider of TLS to be installed.
        drop(client::plain());
        let settings = settings::load_text("the test's", &config.to_string(), &environment).expect("it is sound");
        let feed: Feed = Arc::new(broadcast::channel(16).0);
        Self { running: app::start(settings, None, module(&feed)).await.expect("it starts"), feed }
    }

    async fn plain() -> Self {
        Self::start(json!({ "Address": "127.0.0.1:0", "H2c": true })).await
    }

    fn address(&self) -> SocketAddr {
        self.running.listeners[0].tcp().expect("a TCP listener")
    }

    async fn raw(&self) -> Raw {
        Raw::connect(self.address()).await
    }

    /// Player connections open now.
    async fn open(&self) -> f64 {
        let admin = Client::new(format!("http://{}", self.running.admin.expect("there is one")));
        let page = admin.get("/metrics", &[]).await.is(200).text();
        let line = page.lines().find(|line| line.starts_with("tidegate_connections_open ")).expect("the gauge");
        line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    }

    async fn until_open(&self, count: f64) {
        eventually("so many connections are open", async || (self.open().await == count).then_some(())).await;
    }

    /// Tells whoever streams, once there are `count`.
    async fn tell(&self, count: usize, text: &'static str) {
        eventually("they listen", async || (self.feed.receiver_count() == count).then_some(())).await;
        self.feed.send(text).expect("somebody listens");
    }
}

async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(
    server: &Server,
    stream: S,
    path: &str,
    token: Option<String>,
) -> Result<WebSocketStream<S>, tungstenite::Error> {
    let query = token.map(|token| format!("?access_token={token}")).unwrap_or_default();
    let url = format!("ws://{}{path}{query}", server.address());
    tokio_tungstenite::client_async(url, stream).await.map(|(socket, _)| socket)
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address()).await.expect("it accepts")
}

async fn says_it_back<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, text: &str) {
    socket.send(tungstenite::Message::text(text)).await.expect("it is taken");
    let heard = in_time("an answer in time", socket.next()).await.expect("an answer").expect("whole");
    assert_eq!(heard, tungstenite::Message::text(text));
}

#[tokio::test]
async fn bodies_of_every_framing_reach_a_module_over_one_connection() {
    let server = Server::plain().await;
    let mut raw = server.raw().await;
    let large = "x".repeat(300_000);
    let sized = format!("Content-Length: {}\r\n\r\n{large}", large.len());
    let chunked =
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n3;a=b\r\nend\r\n0\r\nX: y\r\n\r\n", large.len());
    let table = [
        ("POST", "Content-Length: 4\r\n\r\nbody".to_owned(), "body".to_owned()),
        ("PUT", "Content-Length: 0\r\n\r\n".to_owned(), String::new()),
        ("DELETE", "\r\n".to_owned(), String::new()),
        ("POST", sized, large.clone()),
        ("PATCH", chunked, format!("{large}end")),
        ("GET", "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n".to_owned(), String::new()),
    ];
    for (method, rest, expected) in table {
        raw.send(format!("{method} /api/test/echo HTTP/1.1\r\nHost: gate\r\n{rest}").as_bytes()).await;
        let answer = raw.response(method, LIMIT).await.expect(method);
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body)), (200, expected.into()), "{method}");
    }
    server.until_open(1.0).await;
}

#[tokio::test]
async fn a_client_that_waits_for_leave_gets_it_and_pipelined_requests_their_answers_in_turn() {
    let server = Server::plain().await;
    let mut raw = server.raw().await;
    let head = "POST /api/test/echo HTTP/1.1\r\nHost: gate\r\nContent-Length: 5\r\n";
    raw.send(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await;
    assert!(raw.head().await.expect("leave").starts_with("HTTP/1.1 100 "));
    raw.send(format!("first{head}\r\nother{head}\r\nthird").as_bytes()).await;
    for expected in [b"first", b"other", b"third"] {
        assert_eq!(raw.response("POST", LIMIT).await.expect("an answer").body, expected);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_is_sent() {
    let server = Server::plain().await;
    let announced = format!("Content-Length: {}\r\n", 13 << 20);
    let table = [
        format!("{announced}\r\n"),
        format!("{announced}Expect: 100-continue\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", 13 << 20),
    ];
    for rest in table {
        let mut raw = server.raw().await;
        raw.send(format!("POST /api/test/echo HTTP/1.1\r\nHost: gate\r\n{rest}").as_bytes()).await;
        if !rest.contains("Expect") {
            raw.send(&vec![b'x'; 13 << 20]).await;
        }
        let answer = raw.response("POST", LIMIT).await.expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{rest:?}");
    }
    let mut raw = server.raw().await;
    raw.send(b"POST /api/test/echo HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n").await;
    assert_eq!(raw.response("POST", LIMIT).await.expect("an answer").status, 400);
}

#[tokio::test]
async fn of_a_caller_who_is_refused_no_large_body_is_read() {
    let server = Server::plain().await;
    let head = "POST /api/test/guarded HTTP/1.1\r\nHost: gate\r\n";
    let large = "Content-Length: 10000000\r\n";
    let expects = "Expect: 100-continue\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for framing in
        [large.to_owned(), format!("{large}{expects}"), format!("Content-Length: 9\r\n{expects}"), chunked.to_owned()]
    {
        let mut raw = server.raw().await;
        raw.send(format!("{head}{framing}\r\n").as_bytes()).await;
        let answer = raw.response("POST", LIMIT).await.expect("an answer before any of the body");
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")), "{framing}");
    }
    // Who sends it all the same finds the answer, and who was let in is heard.
    let token = token::of("alice");
    for (authorization, status) in [("Bearer no", 401), (&*format!("Bearer {token}"), 200)] {
        let mut raw = server.raw().await;
        raw.send(format!("{head}{large}Authorization: {authorization}\r\n\r\n").as_bytes()).await;
        raw.send(&vec![b'x'; 10_000_000]).await;
        let answer = raw.response("POST", LIMIT).await.expect("an answer");
        assert_eq!((answer.status, answer.body.len() == 10_000_000), (status, status == 200));
    }
    // A small one costs nobody the connection.
    let mut raw = server.raw().await;
    for _ in 0..2 {
        raw.send(format!("{head}Content-Length: 2\r\n\r\nok").as_bytes()).await;
        let answer = raw.response("POST", LIMIT).await.expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (401, Some("keep-alive")));
    }
    let h2 = H2::connect(server.address()).await;
    let (answer, mut body) = h2.begin(Method::POST, "/api/test/guarded", &[], false).await;
    assert_eq!(in_time("before any of the body", answer).await.expect("an answer").status(), 401);
    let _ = body.send_data(Bytes::from_static(b"late"), true);
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let (answer, mut body) = h2.begin(Method::POST, "/api/test/guarded", &headers, false).await;
    body.send_data(Bytes::from_static(b"in time"), true).expect("the stream is open");
    let answer = in_time("in time", answer).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers()["content-length"].as_bytes()), (200, &b"7"[..]));
}

#[tokio::test]
async fn a_stream_flows_at_once_and_ends_when_its_listener_leaves() {
    let server = Server::plain().await;
    let mut raw = server.raw().await;
    raw.send(b"GET /api/test/stream HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    let head = in_time("before any of the body", raw.head()).await.expect("a head");
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let h2 = H2::connect(server.address()).await;
    let mut other = in_time("before any of the body", h2.open("/api/test/stream", &[])).await;
    server.tell(2, "one").await;
    assert_eq!(in_time("at once", raw.exactly(8)).await.expect("a chunk"), b"3\r\none\r\n");
    assert_eq!(in_time("at once", other.take(3)).await, b"one");
    drop(other);
    drop(h2);
    server.tell(1, "two").await;
    assert_eq!(raw.exactly(8).await.expect("a chunk"), b"3\r\ntwo\r\n");
    raw.half_close().await;
    eventually("nobody listens", async || (server.feed.receiver_count() == 0).then_some(())).await;
    server.until_open(0.0).await;
}

#[tokio::test]
async fn a_connection_becomes_a_websocket_after_other_requests_and_counts_until_it_ends() {
    let server = Server::plain().await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(websocket(&server, connect(&server).await, "/api/test/ws", None).await.expect("it is taken"));
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        says_it_back(socket, &format!("hello {number}")).await;
        says_it_back(socket, &"long ".repeat(20_000)).await;
    }
    server.until_open(3.0).await;
    sockets.pop();
    server.until_open(2.0).await;
    let (mut raw, asked) = (
        server.raw().await,
        "GET /api/test/ws HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    // The frame, a ping, comes together with the request before it.
    raw.send(b"POST /api/test/echo HTTP/1.1\r\nHost: gate\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(raw.response("POST", LIMIT).await.expect("an answer").body, b"ok");
    raw.send(&[asked.as_bytes(), &[0x89, 0x80, 0, 0, 0, 0]].concat()).await;
    let head = raw.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") && head.to_lowercase().contains("x-request-id"), "{head}");
    assert_eq!(in_time("in time", raw.exactly(2)).await.expect("a pong"), [0x8a, 0]);
}

#[tokio::test]
async fn a_websocket_that_is_refused_is_answered_as_any_request() {
    let server = Server::plain().await;
    let refused = async |path: &str, token| match websocket(&server, connect(&server).await, path, token).await {
        Err(tungstenite::Error::Http(answer)) => answer,
        other => panic!("{path}: {:?}", other.map(|_| ())),
    };
    let answer = refused("/api/test/private", None).await;
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("www-authenticate")), (401, true));
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(answer.headers().contains_key("x-request-id"));
    assert_eq!(refused("/api/test/none", None).await.status().as_u16(), 404);
    let token = Some(token::of("alice"));
    let mut socket = websocket(&server, connect(&server).await, "/api/test/private", token).await.expect("it is taken");
    says_it_back(&mut socket, "hello").await;
    let mut raw = server.raw().await;
    raw.send(
        b"GET /api/test/ws HTTP/1.1\r\nHost: gate\r\nHost: other\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 400);
}

#[tokio::test]
async fn shutdown_waits_for_websockets() {
    let server = Server::plain().await;
    let mut socket = websocket(&server, connect(&server).await, "/api/test/ws", None).await.expect("it is taken");
    says_it_back(&mut socket, "before").await;
    let address = server.address();
    let stopping = tokio::spawn(server.running.stop(std::future::pending()));
    eventually("it takes no more", async || TcpStream::connect(address).await.is_err().then_some(())).await;
    says_it_back(&mut socket, "meanwhile").await;
    socket.close(None).await.expect("it is open");
    in_time("it is closed", async { while socket.next().await.is_some() {} }).await;
    drop(socket);
    assert!(in_time("it ends", stopping).await.expect("it does not panic"), "it was cut");
}

#[tokio::test]
async fn a_websocket_runs_over_tls() {
    let folder = TempFolder::new("websocket");
    let CertifiedKey::<KeyPair> { cert, signing_key } =
        generate_simple_self_signed(["gate.test".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("gate.pem"), folder.path().join("gate.key"));
    std::fs::write(&certificate, cert.pem()).expect("a file");
    std::fs::write(&key, signing_key.serialize_pem()).expect("a file");
    let pair = json!({ "Certificate": certificate, "Key": key });
    let server = Server::start(json!({ "Address": "127.0.0.1:0", "Tls": { "Certificates": [pair] } })).await;
    let mut trusted = RootCertStore::empty();
    trusted.add(cert.der().clone()).expect("a certificate");
    let client = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let name = ServerName::try_from("gate.test").expect("a name");
    let stream = TlsConnector::from(Arc::new(client)).connect(name, connect(&server).await).await.expect("TLS");
    let mut socket = websocket(&server, stream, "/api/test/ws", None).await.expect("it is taken");
    says_it_back(&mut socket, &"over TLS ".repeat(10_000)).await;
}
