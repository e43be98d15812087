//! SIGTERM and SIGINT: what is under way ends in order, what is idle ends at once, and the rest is cut and logged.

use std::process::Stdio;
use std::time::Duration;

use h2::Reason;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::TRACK;
use crate::support::curl::{self, Version};
use crate::support::fault::{End, Step};
use crate::support::h2::H2;
use crate::support::heard::Ending;
use crate::support::origin::pattern;
use crate::support::{Gate, ScriptedOrigin, config, eventually, tools};

const LIMIT: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;

/// Objects of `origin` over HTTP/1.1 and HTTP/2 in the clear, with these keys of `Server`.
fn configuration(origin: &ScriptedOrigin, server: &Value) -> Value {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    for (key, value) in server.as_object().expect("keys of Server") {
        config["Server"][key] = value.clone();
    }
    config
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: gate\r\n\r\n").into_bytes()
}

async fn is_stopping(gate: &Gate) {
    eventually("it is stopping", async || gate.log().contains("\"stopping").then_some(())).await;
}

async fn is_not_ready(gate: &Gate) {
    let unready = async || (gate.admin().get("/readyz", &[]).await.status == 503).then_some(());
    eventually("it is not ready", unready).await;
}

#[tokio::test]
async fn idle_connections_keep_no_process_from_its_end() {
    let origin = ScriptedOrigin::with_track("music").await;
    for signal in ["TERM", "INT"] {
        // Longer than any patience of the test: the end waits for nothing.
        let server = json!({ "ShutdownGrace": "1h", "KeepAliveTimeout": "1h", "HeaderTimeout": "1h" });
        let mut gate = Gate::start(&configuration(&origin, &server)).await;
        let (mut kept, _silent) = (gate.raw().await, gate.raw().await);
        kept.send(&get(TRACK)).await;
        assert_eq!(kept.response("GET", LIMIT).await.expect("an answer").status, 200);
        let mut http2 = H2::connect(gate.address()).await;
        http2.get(TRACK, &[]).await.is(200, b"music");
        gate.signal(signal).await;
        assert!(gate.ended().await.success(), "SIG{signal}");
        assert_eq!(kept.rest(LIMIT).await.expect("it is closed"), b"", "SIG{signal}");
        http2.ended().await.expect("GOAWAY without an error");
        let last = gate.log_lines().pop().expect("a line");
        assert_eq!(last["message"], "stopped", "SIG{signal}");
    }
}

/// curl with two requests, the second of which is sent only when the first is answered.
fn curl_twice(gate: &Gate, way: &str) -> JoinHandle<std::io::Result<std::process::Output>> {
    let mut command = Command::new(curl::find().expect("curl was there"));
    let url = format!("{}{TRACK}", gate.url());
    command.args(["-sS", "-v", "--max-time", "20", way, "-o", "/dev/null", &url, "-o", "/dev/null", &url]);
    tokio::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).output())
}

#[tokio::test]
async fn a_connection_ends_with_the_answer_that_a_stop_finds_under_way() {
    if curl::find().is_none() {
        return;
    }
    for way in ["--http1.1", "--http2-prior-knowledge"] {
        let origin = ScriptedOrigin::with_track("music").await;
        let mut gate = Gate::start(&configuration(&origin, &json!({}))).await;
        origin.script([Step::Trickle { pieces: 1, pause: Duration::from_millis(1500) }]);
        let client = curl_twice(&gate, way);
        eventually("the store is asked", async || (!origin.seen().is_empty()).then_some(())).await;
        gate.signal("TERM").await;
        assert!(gate.ended().await.success());
        let output = client.await.expect("a task").expect("curl runs");
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        // The first is whole; for the second nobody listens.
        assert_eq!((said.matches("< http/").count(), output.status.code()), (1, Some(7)), "{way}: {said}");
    }
}

#[tokio::test]
async fn an_answer_that_begins_after_the_signal_says_that_the_connection_ends() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = configuration(&origin, &json!({}));
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/audio/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[origin.url()]);
    let mut gate = Gate::start(&config).await;
    let mut raw = gate.raw().await;
    // The store gives its head only when the request's body is whole.
    raw.send(b"PUT /audio/new HTTP/1.1\r\nHost: gate\r\nContent-Length: 2\r\n\r\no").await;
    eventually("the request is under way", async || {
        (gate.metric("tidegate_connections_open", "").await >= 1.0 && origin.open_connections() >= 1).then_some(())
    })
    .await;
    gate.signal("TERM").await;
    is_not_ready(&gate).await;
    raw.send(b"k").await;
    let answer = raw.response("PUT", LIMIT).await.expect("an answer");
    assert_eq!(answer.header("connection"), Some("close"), "{}", answer.head);
    assert_eq!(raw.rest(LIMIT).await.expect("it is closed"), b"");
    assert!(gate.ended().await.success());
}

#[tokio::test]
async fn connections_are_accepted_for_the_delay_while_the_node_is_not_ready() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let mut gate = Gate::start(&configuration(&origin, &json!({ "ShutdownDelay": "1h" }))).await;
    let mut kept = gate.raw().await;
    kept.send(&get(TRACK)).await;
    let before = kept.response("GET", LIMIT).await.expect("an answer");
    assert_eq!(before.header("connection"), Some("keep-alive"));
    gate.signal("TERM").await;
    is_not_ready(&gate).await;
    let url = format!("{}{TRACK}", gate.url());
    let new = curl::get(&url, Version::Http1, &[]).await;
    assert_eq!((new.exit, new.heads[0].status, new.heads[0].field("connection")), (0, 200, Some("close")));
    assert_eq!(curl::get(&url, Version::Http2, &[]).await.heads[0].status, 200);
    kept.send(&get(TRACK)).await;
    let after = kept.response("GET", LIMIT).await.expect("a kept connection is still served");
    assert_eq!(after.header("connection"), Some("close"));
    assert_eq!(kept.rest(LIMIT).await.expect("it is closed"), b"");
    assert!(gate.is_alive());
    gate.signal("TERM").await;
    assert!(gate.ended().await.success(), "the second signal ends the delay");
}

#[tokio::test]
async fn it_stops_by_itself_after_the_delay() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut gate = Gate::start(&configuration(&origin, &json!({ "ShutdownDelay": "300ms" }))).await;
    gate.signal("TERM").await;
    assert!(gate.ended().await.success());
    assert!(TcpStream::connect(gate.address()).await.is_err());
}

#[tokio::test]
async fn a_request_that_the_signal_overtakes_is_answered() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut gate = Gate::start(&configuration(&origin, &json!({}))).await;
    // Open, and not yet asked for anything.
    let mut raw = gate.raw().await;
    gate.signal("TERM").await;
    is_stopping(&gate).await;
    raw.send(&get(TRACK)).await;
    let answer = raw.response("GET", LIMIT).await.expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(gate.ended().await.success());
}

#[tokio::test]
async fn streams_that_outlast_the_grace_are_cut_and_each_has_its_line() {
    let origin = ScriptedOrigin::with_track(pattern(30 * MIB)).await;
    let mut gate = Gate::start(&configuration(&origin, &json!({ "ShutdownGrace": "300ms" }))).await;
    let (mut http1, mut stalled) = (gate.raw().await, gate.raw().await);
    http1.send(&get(TRACK)).await;
    http1.head().await.expect("a header");
    let http2 = H2::connect(gate.address()).await;
    let mut stream = http2.open(TRACK, &[]).await;
    stream.take(1024).await;
    origin.always(Step::Silence(End::Stall));
    stalled.send(&get("/stream/other.mp3")).await;
    eventually("all are under way", async || (origin.seen().len() >= 3).then_some(())).await;
    gate.signal("INT").await;
    assert!(gate.ended().await.success());
    assert!(matches!(stream.finish().await.end, Ending::Broken(_) | Ending::Wrong(_)), "it is not whole");
    assert!(http1.rest(LIMIT).await.map_or(0, |rest| rest.len()) < 30 * MIB);
    let lines = async || Some(gate.access_lines()).filter(|lines| lines.len() >= 3);
    let lines = eventually("each has its access line", lines).await;
    assert!(lines.iter().all(|line| line["failure"] == "stopped"), "{lines:#?}");
    let last = gate.log_lines().pop().expect("a line");
    assert_eq!(last["message"], "stopped with streams under way");
}

#[tokio::test]
async fn a_player_reads_to_the_end_over_a_stop() {
    let Some(ffmpeg) = tools::find("ffmpeg") else { return };
    let made = Command::new(&ffmpeg)
        .args(["-v", "error", "-f", "lavfi", "-i", "sine=duration=3", "-f", "wav", "-"])
        .output()
        .await
        .expect("ffmpeg runs");
    let origin = ScriptedOrigin::with_track(made.stdout).await;
    let mut gate = Gate::start(&configuration(&origin, &json!({}))).await;
    let url = format!("{}{TRACK}", gate.url());
    // In the time that the music lasts, as a player reads it; with small buffers, so that the stream is under way.
    let mut player = Command::new(&ffmpeg);
    player.args(["-v", "error", "-readrate", "2", "-i", &url, "-f", "framemd5", "-"]).kill_on_drop(true);
    let player = tokio::spawn(player.output());
    eventually("it plays", async || (!origin.seen().is_empty()).then_some(())).await;
    assert!(gate.stop().await.success());
    let played = player.await.expect("a task").expect("ffmpeg runs");
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    let last = String::from_utf8_lossy(&played.stdout).lines().last().map(str::to_owned).unwrap_or_default();
    let samples: u64 = last.split(',').nth(1).and_then(|at| at.trim().parse().ok()).expect("a frame");
    assert!(samples > 2 * 44_100, "it stopped early: {last}");
}

#[tokio::test]
async fn a_client_of_http_2_learns_which_of_its_requests_was_not_taken() {
    let origin = ScriptedOrigin::with_track(pattern(4 * MIB)).await;
    let mut gate = Gate::start(&configuration(&origin, &json!({}))).await;
    let mut http2 = H2::connect(gate.address()).await;
    let mut stream = http2.open(TRACK, &[]).await;
    stream.take(1024).await;
    gate.signal("TERM").await;
    is_stopping(&gate).await;
    stream.finish().await.is(200, &pattern(4 * MIB));
    match http2.ended().await {
        Ok(()) => {}
        Err(error) => assert_eq!(error.reason(), Some(Reason::NO_ERROR), "{error}"),
    }
    assert!(gate.ended().await.success());
    assert!(TcpStream::connect(gate.address()).await.is_err(), "nobody listens any more");
}
