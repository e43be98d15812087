//! The paths as clients see them, over a clock that the tests move.

mod beside;

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

const OPUS_HEADER: FrameHeader = FrameHeader {
    codec: Codec::Opus,
    discontinuity: false,
    ends_epoch: false,
    sequence: 0,
    server_time: 0,
    sample_time: 0,
};

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
    let relay = Relay::start(settings, None, clock.clone(), &tasks, &metrics, None).expect("it starts");
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
    let next = tokio::time::timeout(LIMIT, socket.next()).await.expect("something comes in time");
    next.expect("it is open").expect("a message")
}

/// The next text of this type.
async fn text(socket: &mut Socket, kind: &str) -> Value {
    loop {
        if let Message::Text(text) = message(socket).await {
            let value: Value = serde_json::from_str(&text).expect("it is JSON");
            if value["type"] == kind {
                return value;
            }
        }
    }
}

async fn audio(socket: &mut Socket) -> (FrameHeader, Vec<Bytes>) {
    loop {
        if let Message::Binary(bytes) = message(socket).await {
            return frame::decode(bytes).expect("a frame");
        }
    }
}

#[tokio::test]
async fn the_documents_way_of_a_session() {
    let server = server(|_| {});
    let started = server.post("/api/share/start", json!({"sessionId": "123456"})).await;
    assert_eq!(started.json(), json!({"success": true, "sessionId": "123456", "timestamp": 1_700_000_000_000_i64}));
    let again = server.post("/api/share/start", json!({"sessionId": "123456"})).await;
    assert_eq!((again.status, again.json()["error"].clone()), (409, json!("Session ID already in use")));
    assert_eq!(again.json()["success"], false);

    assert_eq!(server.get("/api/share/123456/metadata").await.status, 404);
    assert_eq!(server.get("/api/share/123456/audio?since=-1").await.status, 204);
    let song = json!({"title": "Song Title", "artist": "Artist Name", "lyrics": "[00:12.50]Line", "hasSyncedLyrics": true,
        "elapsedSeconds": 45.2, "totalSeconds": 180.5, "thumbnailData": "/9j/4AAQ", "timestamp": 1_234_567_890_123_i64});
    let noted = server.post("/api/share/123456/metadata", song.clone()).await;
    assert_eq!(noted.json(), json!({"success": true, "listenersNotified": 1}));
    assert_eq!(server.get("/api/share/123456/metadata").await.json(), song);

    for sequence in 0..3 {
        let sent = server.post("/api/share/123456/audio", chunk(sequence).0).await;
        assert_eq!(sent.json(), json!({"success": true, "buffered": true}));
    }
    let polled = server.get("/api/v1/share/123456/audio?since=0").await;
    assert_eq!(polled.json(), json!([chunk(1).0, chunk(2).0]));
    assert_eq!(server.get("/api/share/123456/audio?since=2").await.status, 204);

    server.advance(2_500);
    let status = server.get("/api/share/123456/status").await.json();
    let song = json!({"title": "Song Title", "artist": "Artist Name"});
    let expected =
        json!({"isActive": true, "startTime": 1_700_000_000_000_i64, "listenerCount": 1, "currentMetadata": song});
    assert_eq!(status, expected);

    let stopped = server.post("/api/share/123456/stop", json!(null)).await.json();
    assert_eq!(stopped, json!({"success": true, "sessionDuration": 2.5, "bytesTransferred": 3 * 32_768}));
    assert_eq!(server.get("/api/share/123456/status").await.json()["isActive"], false);
    assert_eq!(server.get("/api/share/123456/audio?since=2").await.status, 404);
    assert_eq!(server.post("/api/share/123456/audio", chunk(3).0).await.status, 404);
    server.advance(300_000);
    server.relay.sessions.tick(server.relay.now());
    let gone = server.get("/api/share/123456/status").await;
    assert_eq!((gone.status, &gone.json()["isActive"], &gone.json()["success"]), (404, &json!(false), &json!(false)));
    server.start().await;
}

#[tokio::test]
async fn who_shows_nothing_is_told_so() {
    let server = server(|_| {});
    let reply = server.send("GET", "/api/share/123456/audio", &[], "").await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (401, json!("unauthorized")));
}

#[tokio::test]
async fn who_comes_to_a_silent_host_hears_nothing_old() {
    let server = server(|_| {});
    server.start().await;
    for sequence in 0..8 {
        assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200);
        server.advance(93);
    }
    let poll = async |since: i64| server.get(&format!("/api/share/123456/audio?since={since}")).await;
    assert_eq!(poll(-1).await.json().as_array().map(Vec::len), Some(5));
    server.advance(9_800);
    assert_eq!(poll(-1).await.status, 200);
    server.advance(200);
    assert_eq!([poll(-1).await.status, poll(2).await.status, poll(7).await.status], [204, 204, 204]);
    assert_eq!(server.post("/api/share/123456/audio", chunk(8).0).await.status, 200);
    assert_eq!(poll(7).await.json(), json!([chunk(8).0]));
}

#[tokio::test]
async fn a_session_holds_one_song_however_many_were_told() {
    let server = server(|_| {});
    server.start().await;
    // Somebody who takes nothing, and would be told all of them.
    let session = server.relay.sessions.get("123456".parse().expect("an id")).expect("it is there");
    let _events = session.subscribe_events().expect("it is live");
    let mut songs = Vec::new();
    for number in 0..20 {
        let song = json!({"title": number.to_string(), "lyrics": "la ".repeat(80_000)});
        assert_eq!(server.post("/api/share/123456/metadata", song).await.status, 200);
        songs.push(Arc::downgrade(&session.latest_metadata().expect("a song")));
        server.advance(1_000);
    }
    assert_eq!(songs.iter().filter(|song| song.strong_count() > 0).count(), 1);
}

#[tokio::test]
async fn a_real_host_is_never_limited_and_a_flood_is() {
    let server = server(|_| {});
    server.start().await;
    for sequence in 0..200 {
        server.advance(93);
        assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200, "chunk {sequence}");
    }
    let mut flood = Vec::new();
    for sequence in 200..300 {
        let reply = server.post("/api/share/123456/audio", chunk(sequence).0).await;
        flood.push(reply.status);
        if reply.status == 429 {
            assert!(reply.headers.contains_key("retry-after") && reply.json()["reset_after"].is_i64());
        }
    }
    assert!(flood.iter().filter(|status| **status == 200).count() <= 81, "{flood:?}");
    assert_eq!(flood.last(), Some(&429));
    let mut metadata = Vec::new();
    for _ in 0..6 {
        metadata.push(server.post("/api/share/123456/metadata", json!({"title": "x"})).await.status);
    }
    assert_eq!(metadata, [200, 200, 200, 200, 429, 429]);
}

#[tokio::test]
async fn what_is_too_large_too_many_or_misshapen_is_refused() {
    let server = server(|settings| settings.max_sessions = 2);
    for id in ["12345", "abcdef", "1234567"] {
        assert_eq!(server.post("/api/share/start", json!({"sessionId": id})).await.status, 400, "{id}");
        assert_eq!(server.get(&format!("/api/share/{id}/status")).await.status, 400, "{id}");
    }
    server.start().await;
    let large =
        server.send("POST", "/api/share/123456/audio", &[("authorization", "Bearer Token")], vec![b'a'; 1_100_000]);
    assert_eq!(large.await.status, 413);
    let large =
        server.send("POST", "/api/share/123456/metadata", &[("authorization", "Bearer Token")], vec![b'a'; 6_000_000]);
    assert_eq!(large.await.status, 413);
    assert_eq!(server.post("/api/share/123456/audio", json!({"data": "AAAA"})).await.status, 400);
    let picked = server.send("POST", "/api/share/start", &[("authorization", "Bearer Token")], "").await.json();
    assert_eq!(picked["sessionId"].as_str().map(str::len), Some(6));
    let full = server.post("/api/share/start", json!({"sessionId": "000001"})).await;
    assert_eq!((full.status, full.headers.contains_key("retry-after")), (503, true));
}

#[tokio::test]
async fn whoever_guesses_ids_finds_none() {
    let server = server(|_| {});
    server.start().await;
    for id in 0..20 {
        assert_eq!(server.get(&format!("/api/share/{id:06}/status")).await.status, 404);
    }
    assert_eq!(server.get("/api/share/000099/status").await.status, 429);
    assert_eq!(server.get("/api/share/123456/status").await.status, 200, "one that it was let in to before");
    let id = Some("000099".parse().expect("an id"));
    assert!(server.relay.start_session(id).await.is_ok());
    assert_eq!(server.get("/api/share/000099/status").await.status, 429, "nor one that is there");
    server.advance(3_000);
    assert_eq!(server.get("/api/share/000099/status").await.status, 200);
}

#[tokio::test]
async fn a_host_that_is_not_heard_of_for_fifteen_minutes_is_gone() {
    let server = server(|_| {});
    server.start().await;
    server.advance(899_000);
    assert_eq!(server.post("/api/share/123456/audio", chunk(0).0).await.status, 200);
    server.advance(899_000);
    server.relay.sessions.tick(server.relay.now());
    assert_eq!(server.relay.active_sessions(), 1, "each chunk begins the time anew");
    server.advance(1_000);
    server.relay.sessions.tick(server.relay.now());
    assert_eq!(server.relay.active_sessions(), 0);
    assert_eq!(server.get("/api/share/123456/status").await.json()["ended"], "timeout");
}

#[tokio::test]
async fn bare_floats_are_taken_and_pushed_bit_by_bit() {
    let server = server(|_| {});
    server.start().await;
    let mut expected = Vec::new();
    let send = async |sequence: i64| {
        let (body, bytes) = chunk(sequence);
        let number = sequence.to_string();
        let headers = [
            ("authorization", "Bearer Token"),
            ("content-type", "application/octet-stream"),
            ("x-sample-rate", "44100"),
            ("x-channels", "2"),
            ("x-timestamp", "5"),
            ("x-sequence-number", &number),
        ];
        let reply = match sequence % 2 {
            0 => server.send("POST", "/api/share/123456/audio", &headers, bytes.clone()).await,
            _ => server.post("/api/share/123456/audio", body).await,
        };
        assert_eq!(reply.status, 200);
        bytes
    };
    for sequence in 0..8 {
        expected.extend(send(sequence).await);
    }
    let mut socket = server.socket("?codec=f32").await;
    let hello = text(&mut socket, "hello").await;
    assert_eq!((&hello["codec"], &hello["rate"], &hello["channels"]), (&json!("f32"), &json!(44100), &json!(2)));
    let (head, packets) = audio(&mut socket).await;
    assert!(head.discontinuity && head.codec == Codec::F32);
    let mut heard = packets.concat();
    let late = expected.len() - heard.len();
    assert!(heard.len() >= 4 * 32_768, "at least 400 ms from before");
    for sequence in 8..20 {
        server.advance(93);
        expected.extend(send(sequence).await);
    }
    while heard.len() < expected.len() - late {
        heard.extend(audio(&mut socket).await.1.concat());
    }
    assert!(heard == expected[late..], "every bit is as it was sent");
    server.post("/api/share/123456/stop", json!(null)).await;
    assert_eq!(text(&mut socket, "ended").await["reason"], "stopped");
    assert!(matches!(message(&mut socket).await, Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
}

#[tokio::test]
async fn floats_are_heard_as_opus_and_as_ogg() {
    let server = server(|_| {});
    server.start().await;
    server.post("/api/share/123456/metadata", json!({"title": "Song"})).await;
    let mut socket = server.socket("").await;
    let hello = text(&mut socket, "hello").await;
    assert_eq!((&hello["codec"], &hello["meta"]["title"]), (&json!("opus"), &json!("Song")));
    let address = server.listen().await;
    for sequence in 0..20 {
        server.advance(93);
        assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200);
    }
    let mut decoder =
        opusic_c::Decoder::new(opusic_c::Channels::Stereo, opusic_c::SampleRate::Hz48000).expect("libopus");
    let (mut loud, mut next) = (0.0_f32, None);
    for _ in 0..8 {
        let (head, packets) = audio(&mut socket).await;
        assert!(next.is_none_or(|next| next == head.sequence), "no packet is missing");
        next = Some(head.sequence + u32::try_from(packets.len()).expect("few"));
        for packet in packets {
            let mut samples = vec![0.0; 11_520];
            let frames = decoder.decode_float_to_slice(&packet, &mut samples, false).expect("Opus");
            assert_eq!(frames, 960);
            loud = samples[..1920].iter().fold(loud, |loud, sample| loud.max(sample.abs()));
        }
    }
    assert!((0.3..0.6).contains(&loud), "the tone is there: {loud}");
    let mut stream = TcpStream::connect(address).await.expect("it connects");
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = "GET /api/v1/share/123456/stream.ogg HTTP/1.1\r\nhost: x\r\nauthorization: Bearer Token\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut said = Vec::new();
    let first = tokio::time::timeout(LIMIT, async {
        // Two heads and a page of what was played last.
        while said.windows(4).filter(|at| at == b"OggS").count() < 3 {
            assert!(stream.read_buf(&mut said).await.expect("it can be read") > 0, "it ended");
        }
    });
    first.await.expect("sound comes at once");
    assert!(String::from_utf8_lossy(&said).contains("content-type: audio/ogg"));
}

#[tokio::test]
async fn opus_of_a_host_is_pushed_as_it_is_and_polled_as_floats() {
    let server = server(|_| {});
    server.start().await;
    let mut host = server.socket("?role=host").await;
    text(&mut host, "welcome").await;
    let mut listener = server.socket("").await;
    text(&mut listener, "hello").await;
    let mut encoder =
        opusic_c::Encoder::new(opusic_c::Channels::Stereo, opusic_c::SampleRate::Hz48000, opusic_c::Application::Audio)
            .expect("libopus");
    let mut sent = Vec::new();
    assert_eq!(server.get("/api/share/123456/audio").await.status, 204);
    for number in 0..50_u32 {
        let samples: Vec<f32> =
            (0..960).flat_map(|at| [((number * 960 + at) as f32 * 0.0576).sin() * 0.4; 2]).collect();
        let mut packet = vec![0; 1500];
        let length = encoder.encode_float_to_slice(&samples, &mut packet).expect("Opus");
        packet.truncate(length);
        sent.push(Bytes::from(packet));
        let header = FrameHeader { sequence: number, ..OPUS_HEADER };
        let frame = frame::encode(&header, [sent[number as usize].clone()].iter());
        host.send(Message::Binary(frame)).await.expect("it is sent");
        server.advance(20);
    }
    let meta = json!({"type": "meta", "title": "From the host"});
    host.send(Message::Text(meta.to_string().into())).await.expect("it is sent");
    let mut heard = Vec::new();
    while heard.len() < 50 {
        heard.extend(audio(&mut listener).await.1);
    }
    assert_eq!(heard, sent);
    assert_eq!(text(&mut listener, "meta").await["title"], "From the host");
    let started = std::time::Instant::now();
    let chunks = loop {
        let reply = server.get("/api/share/123456/audio?since=-1").await;
        if reply.status == 200 && reply.json().as_array().map_or(0, Vec::len) >= 5 {
            break reply.json();
        }
        server.advance(100);
        assert!(started.elapsed() < LIMIT, "no floats come: {}", reply.status);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((&chunks[0]["sampleRate"], &chunks[0]["channels"]), (&json!(48000), &json!(2)));
    let samples = STANDARD.decode(chunks[4]["data"].as_str().expect("text")).expect("Base64");
    let loud =
        samples.as_chunks::<4>().0.iter().fold(0.0_f32, |loud, bytes| loud.max(f32::from_le_bytes(*bytes).abs()));
    assert!((0.3..0.6).contains(&loud), "the tone is there: {loud}");
    host.send(Message::Binary(Bytes::from_static(b"no frame"))).await.expect("it is sent");
    loop {
        if let Message::Close(frame) = message(&mut host).await {
            assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1008));
            break;
        }
    }
    assert_eq!(server.relay.active_sessions(), 1, "the session outlives its host's socket");
}

#[tokio::test]
async fn who_falls_behind_goes_on_at_the_live_edge_and_nobody_else_notices() {
    let server = server(|_| {});
    server.start().await;
    let (mut slow, mut quick) = (server.socket("?codec=f32").await, server.socket("?codec=f32").await);
    text(&mut slow, "hello").await;
    text(&mut quick, "hello").await;
    let mut heard = 0;
    for sequence in 0..600 {
        server.advance(93);
        assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200);
        while heard + 2 <= sequence {
            let (head, packets) = audio(&mut quick).await;
            assert_eq!(i64::from(head.sequence), heard, "the quick one misses nothing");
            heard += i64::try_from(packets.len()).expect("few");
        }
    }
    let gap = text(&mut slow, "gap").await;
    assert!(gap["to"].as_i64() > gap["from"].as_i64(), "{gap}");
    let (head, _) = audio(&mut slow).await;
    assert!(head.discontinuity);
    assert_eq!(Some(i64::from(head.sequence)), gap["to"].as_i64());
    assert_eq!(server.relay.metrics.gaps.get(), 1);
}

#[tokio::test]
async fn tickets_let_in_who_has_no_token() {
    let server = server(|_| {});
    server.start().await;
    let issued = server.post("/api/v1/share/123456/tickets", json!({"count": 1, "ttl": 60})).await.json();
    let ticket = issued["ticket"].as_str().expect("a ticket").to_owned();
    assert_eq!(issued["listen_url"], format!("/listen/123456?ticket={ticket}"));
    assert_eq!(server.post("/api/v1/share/123456/tickets", json!({"ttl": 0})).await.status, 422);
    let address = server.listen().await;
    let url = |ticket: &str| format!("ws://{address}/api/v1/share/123456/ws?ticket={ticket}");
    let status = async |url: String| match tokio_tungstenite::connect_async(url).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(reply)) => reply.status().as_u16(),
        other => panic!("not a refusal: {other:?}"),
    };
    assert_eq!(status(url("made-up")).await, 401);
    assert_eq!(status(format!("{}&role=host", url(&ticket))).await, 401, "it does not host");
    let (mut first, _) = tokio_tungstenite::connect_async(url(&ticket)).await.expect("it opens");
    text(&mut first, "hello").await;
    assert_eq!(status(url(&ticket)).await, 409, "one at once");
    server.advance(60_000);
    assert_eq!(status(url(&ticket)).await, 401, "its time is over");
    first.send(Message::Text(json!({"type": "time", "t0": 7}).to_string().into())).await.expect("it is sent");
    let time = text(&mut first, "time").await;
    assert_eq!((&time["t0"], &time["t1"]), (&json!(7), &json!(server.relay.micros())), "who is in stays in");
    server.tasks.shutdown(Duration::from_secs(5)).await;
    loop {
        if let Message::Close(frame) = message(&mut first).await {
            assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1001));
            break;
        }
    }
}

#[tokio::test]
async fn two_starts_in_one_millisecond_are_two_sessions() {
    let server = server(|_| {});
    server.start().await;
    let issued = server.post("/api/v1/share/123456/tickets", json!({})).await.json();
    let path = format!("/api/v1/share/123456/chat?ticket={}", issued["ticket"].as_str().expect("a ticket"));
    let line = json!({"text": "hi"}).to_string();
    assert_eq!(server.send("POST", &path, &[], line.clone()).await.status, 200);
    assert_eq!(server.post("/api/share/123456/stop", json!(null)).await.status, 200);
    server.start().await;
    assert_eq!(server.send("POST", &path, &[], line).await.status, 401, "it was for the one before");
}

#[tokio::test]
async fn the_cover_is_for_those_who_know_it() {
    let server = server(|_| {});
    server.start().await;
    assert_eq!(server.get("/api/v1/share/123456/thumb").await.status, 404);
    let cover = STANDARD.encode([0xff, 0xd8, 0xff, 0xe0, 1, 2, 3]);
    server.post("/api/share/123456/metadata", json!({"title": "x", "thumbnailData": cover})).await;
    let shown = server.get("/api/v1/share/123456/thumb").await;
    assert_eq!((shown.status, &shown.body[..]), (200, &[0xff, 0xd8, 0xff, 0xe0, 1, 2, 3][..]));
    assert_eq!(shown.headers["content-type"], "image/jpeg");
    let mut socket = server.socket("").await;
    let tag = text(&mut socket, "hello").await["meta"]["thumb"].as_str().expect("a tag").to_owned();
    let bare_tag = shown.headers["etag"].to_str().expect("text").trim_matches('"').to_owned();
    let bare =
        async |query: &str| server.send("GET", &format!("/api/v1/share/123456/thumb{query}"), &[], "").await.status;
    assert_eq!(bare("").await, 401);
    assert_eq!(bare("?v=other").await, 401);
    assert_eq!(bare(&format!("?v={bare_tag}")).await, 401, "who has the picture has its digest");
    assert_eq!(server.send("GET", &format!("/api/v1/share/000001/thumb?v={tag}"), &[], "").await.status, 401);
    assert_eq!(bare(&format!("?v={tag}")).await, 200);
    let polled = server.get("/api/share/123456/metadata?thumb=0").await;
    assert_eq!(polled.json()["thumbnailData"], Value::Null);
    let known = polled.headers["etag"].to_str().expect("text").to_owned();
    let headers = [("authorization", "Bearer Token"), ("if-none-match", known.as_str())];
    assert_eq!(server.send("GET", "/api/share/123456/metadata?thumb=0", &headers, "").await.status, 304);
    server.advance(30_000);
    assert_eq!(server.get("/api/share/123456/metadata").await.status, 404, "metadata is fresh for 30 seconds");
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

#[tokio::test]
async fn pages_of_localhost_may_call_where_the_operator_says_so() {
    let preflight = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization"),
        ]
    };
    let (open, closed) = (server(|settings| settings.allow_localhost = true), server(|_| {}));
    for (origin, allowed) in [
        ("http://localhost:3000", true),
        ("https://localhost", true),
        ("http://127.0.0.1:8080", true),
        ("http://localhost.evil.example", false),
        ("http://evil.example:80", false),
        ("http://localhost:80.evil.example", false),
    ] {
        let reply = open.send("OPTIONS", "/api/share/start", &preflight(origin), "").await;
        assert_eq!(reply.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(reply.status, 204);
        let refused = open.send("GET", "/api/share/123456/status", &[("origin", origin)], "").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.headers.contains_key("access-control-allow-origin"), allowed, "{origin}: errors too");
    }
    let reply = closed.send("OPTIONS", "/api/share/start", &preflight("http://localhost:3000"), "").await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
}
