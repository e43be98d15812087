//! Clients that read or send so slowly that they seem to live, but hold what they asked for.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::time::{interval, timeout};

use super::gate;
use crate::support::frames::{self, Frames};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::{Gate, LIMIT, ScriptedOrigin, eventually, in_time};

fn strict() -> Value {
    json!({ "MinResponseDataRate": "10KiB", "MinRequestBodyDataRate": 100, "DataRateWindow": "2s" })
}

async fn stalled(gate: &Gate, number: usize) {
    eventually("it is cut", async || {
        let stalled = gate.access_lines().iter().filter(|line| line["failure"] == "client_stalled").count();
        (stalled == number).then_some(())
    })
    .await;
}

/// A client whose system takes only what its program reads.
async fn narrow(gate: &Gate) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    Raw::over(socket.connect(gate.address()).await.expect("the gate accepts"))
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_cut_and_a_quicker_one_is_not() {
    let origin = ScriptedOrigin::with_track(pattern(8 << 20)).await;
    let gate = gate(&origin, strict()).await;
    let mut raw = narrow(&gate).await;
    raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    raw.head().await.expect("a head");
    // 1 KB a second: bytes are taken all the time.
    let reading = async {
        let mut pace = interval(Duration::from_millis(100));
        while raw.exactly(100).await.is_ok() {
            pace.tick().await;
        }
    };
    in_time("it is cut", reading).await;
    stalled(&gate, 1).await;
    // 200 KB a second, for four windows.
    let mut raw = narrow(&gate).await;
    raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    raw.head().await.expect("a head");
    let mut pace = interval(Duration::from_millis(100));
    for _ in 0..80 {
        pace.tick().await;
        raw.exactly(20_000).await.expect("it goes on");
    }
    stalled(&gate, 1).await;
}

#[tokio::test]
async fn a_stream_whose_window_grows_too_slowly_is_cut() {
    let origin = ScriptedOrigin::with_track(pattern(8 << 20)).await;
    let gate = gate(&origin, strict()).await;
    let mut frames = Frames::connect(gate.address()).await;
    let flags = frames::END_HEADERS | frames::END_STREAM;
    frames.send(&frames::request("GET", "/stream/track.mp3", 1, flags)).await;
    // The windows of 65,535 bytes fill, and open by 10 bytes every 100 ms (CVE-2019-9511).
    let more = |stream| frames::frame(frames::WINDOW_UPDATE, 0, stream, &10u32.to_be_bytes());
    let mut pace = interval(Duration::from_millis(100));
    in_time("it is cut", async {
        loop {
            pace.tick().await;
            frames.send(&[more(0), more(1)].concat()).await;
            let reset = async { while frames.next().await.is_some_and(|frame| frame.kind != frames::RST_STREAM) {} };
            if timeout(Duration::from_millis(1), reset).await.is_ok() {
                return;
            }
        }
    })
    .await;
    stalled(&gate, 1).await;
    // The connection goes on for others of the same client that read.
    let h2 = H2::connect(gate.address()).await;
    assert_eq!(h2.get("/stream/track.mp3", &[]).await.body.len(), 8 << 20);
}

#[tokio::test]
async fn a_client_that_sends_its_body_too_slowly_is_cut_and_a_quicker_one_is_not() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, strict()).await;
    let mut raw = gate.raw().await;
    raw.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 100000\r\n\r\n").await;
    let h2 = H2::connect(gate.address()).await;
    let (_answer, mut body) = h2.begin(Method::POST, "/plain/x", &[], false).await;
    // 10 bytes a second on each.
    let mut pace = interval(Duration::from_millis(100));
    let cut = || gate.access_lines().iter().filter(|line| line["failure"] == "client_stalled").count();
    in_time("both are cut", async {
        while cut() < 2 {
            pace.tick().await;
            raw.send(b"a").await;
            let _ = body.send_data("a".into(), false);
        }
    })
    .await;
    // 1000 bytes a second, for two windows.
    let mut quick = gate.raw().await;
    quick.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 4000\r\n\r\n").await;
    for _ in 0..40 {
        pace.tick().await;
        quick.send(&[b'a'; 100]).await;
    }
    assert!(quick.response("POST", LIMIT).await.expect("an answer").status < 500);
    assert_eq!(cut(), 2);
}
