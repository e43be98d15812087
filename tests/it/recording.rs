//! Recordings of sharing sessions in a real MinIO: what is in them, and what a store that dies does to the relay.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Method;
use opusic_c::{Application, Channels, SampleRate};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::minio::OwnMinio;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Minio, config, eventually, in_time, tools};

const TOKEN: &str = "Bearer a-token-for-sharing";
const RECORDING: &str = "/api/v1/share/123456/recording";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A gate that records into `minio`, with a session.
async fn gate(minio: &Minio, limits: &[(&str, &str)]) -> Gate {
    let mut config = config::objects(&minio.url(), minio.name());
    config["Share"] = json!({"Recording": {"Store": "main", "Bucket": minio.name()}});
    for (key, value) in limits {
        config["Share"]["Recording"][*key] = json!(value);
    }
    let gate = Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN)]).await;
    call(&gate, Method::POST, "/api/share/start", json!({"sessionId": "123456"})).await;
    gate
}

async fn call(gate: &Gate, method: Method, path: &str, body: Value) -> Value {
    let request = gate.client().request(method, path).header("authorization", TOKEN).body(body.to_string());
    let answer = request.send().await.expect("it answers");
    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

async fn recording(gate: &Gate) -> Value {
    call(gate, Method::GET, RECORDING, json!(null)).await
}

/// Waits until the recording is what it will be.
async fn recorded(gate: &Gate) -> Value {
    let done = async || {
        let status = recording(gate).await;
        (status["stored"] == true || !status["error"].is_null()).then_some(status)
    };
    eventually("the recording is stored, or is not", done).await
}

async fn socket(gate: &Gate, query: &str) -> Socket {
    let url = format!("ws://{}/api/v1/share/123456/ws{query}", gate.address());
    let mut request = url.into_client_request().expect("a request");
    request.headers_mut().insert("authorization", TOKEN.parse().expect("a header"));
    tokio_tungstenite::connect_async(request).await.expect("it opens").0
}

async fn say(socket: &mut Socket, said: Value) {
    socket.send(Message::Text(said.to_string().into())).await.expect("it is sent");
}

/// The next text of this type.
async fn text(socket: &mut Socket, kind: &str) -> Value {
    let found = async {
        loop {
            let message = socket.next().await.expect("it is open").expect("a message");
            let Message::Text(text) = message else { continue };
            let value: Value = serde_json::from_str(&text).expect("it is JSON");
            if value["type"] == kind {
                return value;
            }
        }
    };
    in_time(&format!("{kind} comes"), found).await
}

/// A frame of packets as a host sends them: docs/share.md.
fn frame(first: u32, packets: &[Bytes]) -> Bytes {
    let mut frame = vec![1, 0];
    frame.extend(u16::try_from(packets.len()).expect("few").to_be_bytes());
    frame.extend(first.to_be_bytes());
    frame.extend([0; 12]);
    packets.iter().for_each(|packet| frame.extend(u16::try_from(packet.len()).expect("short").to_be_bytes()));
    packets.iter().for_each(|packet| frame.extend(packet));
    frame.into()
}

/// A host that sends what it is given in frames of 100 ms, three times as fast as it plays.
struct Host {
    socket: Socket,
    sent: u32,
}

impl Host {
    async fn open(gate: &Gate) -> Self {
        let mut socket = socket(gate, "?role=host").await;
        let welcome = text(&mut socket, "welcome").await;
        assert_eq!((&welcome["recording"], &welcome["chat"]["on"]), (&json!(false), &json!(true)));
        Self { socket, sent: 0 }
    }

    async fn send(&mut self, packets: &[Bytes], per_frame: usize) {
        let mut pace = tokio::time::interval(Duration::from_millis(33));
        for part in packets.chunks(per_frame) {
            pace.tick().await;
            let frame = frame(self.sent, part);
            self.sent += u32::try_from(part.len()).expect("few");
            self.socket.send(Message::Binary(frame)).await.expect("it is sent");
        }
    }

    async fn tone(&mut self, seconds: usize) {
        let packets: Vec<Bytes> = tone(seconds);
        self.send(&packets, 5).await;
    }
}

/// A tone in packets of 20 ms.
fn tone(seconds: usize) -> Vec<Bytes> {
    let mut encoder =
        opusic_c::Encoder::new(Channels::Stereo, SampleRate::Hz48000, Application::Audio).expect("libopus");
    let packet = |number: usize| {
        let samples: Vec<f32> =
            (0..960).flat_map(|at| [((number * 960 + at) as f32 * 0.0576).sin() * 0.4; 2]).collect();
        let mut packet = vec![0; 1500];
        let length = encoder.encode_float_to_slice(&samples, &mut packet).expect("Opus");
        packet.truncate(length);
        Bytes::from(packet)
    };
    (0..seconds * 50).map(packet).collect()
}

/// Packets of 2.5 ms that are as large as they can be, each with its number inside.
fn large(numbers: std::ops::Range<u32>) -> Vec<Bytes> {
    let packet = |number: u32| {
        // CELT, full band, 2.5 ms, stereo.
        let mut packet = vec![0xe4];
        packet.extend((0..318).flat_map(|at: u32| (number ^ at.wrapping_mul(2_654_435_761)).to_be_bytes()));
        Bytes::from(packet)
    };
    numbers.map(packet).collect()
}

async fn probe(object: &[u8]) -> Option<Value> {
    let program = tools::find("ffprobe")?;
    let folder = TempFolder::new("recording");
    let file = folder.path().join("recording.ogg");
    std::fs::write(&file, object).expect("it is written");
    let mut command = Command::new(program);
    command.args(["-v", "error", "-of", "json", "-show_format", "-show_streams"]).arg(&file);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("ffprobe starts");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("ffprobe speaks JSON"))
}

/// The packets of an Ogg file behind its heads, and whether it has an end.
fn packets(object: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut reader = ogg::PacketReader::new(std::io::Cursor::new(object));
    let (mut packets, mut ended) = (Vec::new(), false);
    while let Some(packet) = reader.read_packet().expect("good pages") {
        ended |= packet.last_in_stream();
        packets.push(packet.data);
    }
    (packets.split_off(2), ended)
}

#[tokio::test]
async fn a_session_is_recorded_with_its_songs_and_everybody_is_told() {
    let Some(minio) = Minio::bucket().await else { return };
    let gate = gate(&minio, &[]).await;
    let (mut host, mut listener) = (Host::open(&gate).await, socket(&gate, "").await);
    assert_eq!(text(&mut listener, "hello").await["recording"], false);
    let song = |title: &str| json!({"type": "meta", "title": title, "artist": "Artist", "thumbnailData": "/9j/4AAQ"});
    say(&mut host.socket, song("First")).await;
    host.tone(1).await;
    say(&mut host.socket, json!({"type": "record", "on": true})).await;
    assert_eq!(text(&mut host.socket, "recording").await["on"], true);
    assert_eq!(text(&mut listener, "recording").await["on"], true);
    let mut late = socket(&gate, "").await;
    assert_eq!(text(&mut late, "hello").await["recording"], true);
    host.tone(3).await;
    say(&mut host.socket, song("Second")).await;
    host.tone(3).await;
    let longer = async || (recording(&gate).await["bytes"].as_u64() > Some(20_000)).then_some(());
    eventually("what was sent is written down", longer).await;
    let status = call(&gate, Method::GET, "/api/v1/share/123456/status", json!(null)).await;
    assert_eq!(status["listenerCount"], 2, "whoever records is no listener");
    assert_eq!(gate.metric("tidegate_share_recordings_active", "").await, 1.0);
    call(&gate, Method::POST, RECORDING, json!({"on": false})).await;
    assert_eq!(text(&mut listener, "recording").await["on"], false);

    let status = recorded(&gate).await;
    assert_eq!((&status["on"], &status["error"]), (&json!(false), &Value::Null), "{status}");
    let key = status["object"].as_str().expect("a key");
    let parts: Vec<&str> = key.strip_suffix(".ogg").expect("Ogg").split('-').collect();
    let [session, time, millis, random] = parts[..] else { panic!("{key}") };
    assert!(session == "shared/123456" && time.len() == 16 && time.ends_with('Z'), "{key}");
    assert!(millis.len() == 3 && random.len() == 8, "{key}");
    let (object, list) = (minio.get(key).await, minio.get(&format!("{key}.json")).await);
    assert_eq!(status["bytes"], object.len());
    let list: Value = serde_json::from_slice(&list).expect("it is JSON");
    assert_eq!((&list["session"], &list["bytes"]), (&json!("123456"), &json!(object.len())));
    assert!(list["sessionStarted"].as_i64() <= list["started"].as_i64(), "{list}");
    let songs = list["songs"].as_array().expect("songs");
    assert_eq!((&songs[0]["title"], &songs[0]["offset"]), (&json!("First"), &json!(0.0)));
    let second = songs[1]["offset"].as_f64().expect("a number");
    assert!(songs[1]["title"] == "Second" && (2.7..3.3).contains(&second), "{list}");
    let (packets, ended) = packets(&object);
    assert!(ended && (300..=306).contains(&packets.len()), "{} packets", packets.len());
    let Some(found) = probe(&object).await else { return };
    let seconds: f64 = found["format"]["duration"].as_str().and_then(|text| text.parse().ok()).expect("a length");
    assert!((5.8..6.1).contains(&seconds) && (seconds - list["seconds"].as_f64().expect("a length")).abs() < 0.1);
    let tags = &found["streams"][0]["tags"];
    assert_eq!((&found["streams"][0]["codec_name"], &tags["TITLE"]), (&json!("opus"), &json!("First")), "{found}");
    assert!(tags["ARTIST"] == "Artist" && tags["DATE"].as_str().is_some_and(|date| date.len() >= 20), "{tags}");
    assert_eq!(gate.metric("tidegate_share_recordings_total", "stored").await, 1.0);
    assert!(!gate.log().contains(minio.name()) && !gate.log().contains("X-Amz"), "the log names no bucket");
}

#[tokio::test]
async fn a_long_recording_goes_up_in_parts_and_comes_back_whole() {
    let Some(minio) = Minio::bucket().await else { return };
    let gate = gate(&minio, &[]).await;
    let mut host = Host::open(&gate).await;
    call(&gate, Method::POST, RECORDING, json!({"on": true})).await;
    // A host may send 4 MiB at once and then 1 MiB a second; 10 MB are two parts and a rest.
    let sent = large(0..8_000);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for part in sent.chunks(75) {
        pace.tick().await;
        host.send(part, 38).await;
    }
    call(&gate, Method::POST, "/api/share/123456/stop", json!(null)).await;
    let status = recorded(&gate).await;
    assert_eq!(status["error"], Value::Null, "the end of the session ends the recording too");
    let object = minio.get(status["object"].as_str().expect("a key")).await;
    assert!(object.len() > 10_000_000, "{}", object.len());
    let (packets, ended) = packets(&object);
    assert!(ended && packets.len() == sent.len() + 1, "{} packets", packets.len());
    assert!(packets.iter().zip(&sent).all(|(stored, sent)| stored == sent), "each as it was sent, in order");
    let statistics = call(&gate, Method::GET, "/api/v1/share/123456/statistics", json!(null)).await;
    assert_eq!((&statistics["joined"], &statistics["listeners"]), (&json!(0), &json!(0)), "{statistics}");
}

#[tokio::test]
async fn a_recording_that_is_as_long_as_it_may_be_ends_by_itself() {
    let Some(minio) = Minio::bucket().await else { return };
    let gate = gate(&minio, &[("MaxSize", "1MiB"), ("Prefix", "")]).await;
    let mut host = Host::open(&gate).await;
    say(&mut host.socket, json!({"type": "record", "on": true})).await;
    text(&mut host.socket, "recording").await;
    host.send(&large(0..1_000), 40).await;
    assert_eq!(text(&mut host.socket, "recording").await["on"], false);
    let status = recorded(&gate).await;
    let key = status["object"].as_str().expect("a key");
    assert!(key.starts_with("123456-"), "{status}");
    let object = minio.get(key).await;
    assert!((1 << 20..1_200_000).contains(&object.len()), "{}", object.len());
    host.tone(1).await;
    let (packets, ended) = packets(&object);
    assert!(ended && packets.len() > 800);
}

#[tokio::test]
async fn a_process_that_stops_stores_what_it_has() {
    let Some(minio) = Minio::bucket().await else { return };
    let mut gate = gate(&minio, &[]).await;
    let status = call(&gate, Method::POST, RECORDING, json!({"on": true})).await;
    let key = status["object"].as_str().expect("a key").to_owned();
    // Floats: Opus is made for the recording alone.
    for sequence in 0..30 {
        let request = gate.client().request(Method::POST, "/api/share/123456/audio").header("authorization", TOKEN);
        let said = [("content-type", "application/octet-stream"), ("x-sample-rate", "44100"), ("x-channels", "2")];
        let request = said.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.header("x-timestamp", "0").header("x-sequence-number", sequence.to_string());
        let samples = (0..4096).flat_map(|at| [((sequence * 4096 + at) as f32 * 0.06).sin() * 0.4; 2]);
        let body: Vec<u8> = samples.flat_map(f32::to_le_bytes).collect();
        assert_eq!(request.body(body).send().await.expect("it answers").status(), 200);
    }
    eventually("something is written down", async || {
        (recording(&gate).await["bytes"].as_u64() > Some(8_000)).then_some(())
    })
    .await;
    assert!(gate.stop().await.success(), "{}", gate.log());
    let (packets, ended) = packets(&minio.get(&key).await);
    assert!(ended && packets.len() > 100, "{} packets", packets.len());
}

#[tokio::test]
async fn a_store_that_dies_ends_the_recording_and_nothing_else() {
    let Some(mut own) = OwnMinio::start() else { return };
    let minio = own.bucket("recordings").await;
    let gate = gate(&minio, &[]).await;
    let (mut host, mut listener) = (Host::open(&gate).await, socket(&gate, "").await);
    text(&mut listener, "hello").await;
    say(&mut host.socket, json!({"type": "record", "on": true})).await;
    text(&mut host.socket, "recording").await;
    host.tone(2).await;
    own.kill();
    let heard = tokio::spawn(async move {
        let mut next = None;
        let mut heard = 0;
        while heard < 200 {
            let message = listener.next().await.expect("it is open").expect("a message");
            let Message::Binary(frame) = message else { continue };
            let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
            let count = u32::from(u16::from_be_bytes([frame[2], frame[3]]));
            assert!(next.is_none_or(|next| next == number(4)), "nothing is missing");
            next = Some(number(4) + count);
            heard += count;
        }
    });
    host.tone(3).await;
    call(&gate, Method::POST, RECORDING, json!({"on": false})).await;
    let again = gate.client().request(Method::POST, RECORDING).header("authorization", TOKEN).body(r#"{"on": true}"#);
    assert_eq!(again.send().await.expect("it answers").status(), 409, "the one before is not done");
    in_time("the listener hears everything", heard).await.expect("nothing is missing");
    let status = recorded(&gate).await;
    let expected = (&json!(false), &json!(false), &Value::Null, &json!("the store did not answer"));
    assert_eq!((&status["on"], &status["stored"], &status["object"], &status["error"]), expected);
    assert_eq!(gate.metric("tidegate_share_recordings_total", "failed").await, 1.0);

    own.restart();
    let status = call(&gate, Method::POST, RECORDING, json!({"on": true})).await;
    assert_eq!((&status["on"], &status["error"]), (&json!(true), &Value::Null));
    host.tone(1).await;
    eventually("something is written down", async || {
        (recording(&gate).await["bytes"].as_u64() > Some(2_000)).then_some(())
    })
    .await;
    call(&gate, Method::POST, RECORDING, json!({"on": false})).await;
    let status = recorded(&gate).await;
    assert_eq!((&status["stored"], &status["error"]), (&json!(true), &Value::Null));
    assert!(packets(&minio.get(status["object"].as_str().expect("a key")).await).1);
}
