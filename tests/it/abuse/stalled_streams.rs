//! HTTP/2 streams whose clients open no window: what they keep in memory is bounded in sum.

use http::Method;
use serde_json::json;

use super::gate;
use crate::support::frames::{self, Frames, frame};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually, in_time};

const WHOLE: u8 = frames::END_HEADERS | frames::END_STREAM;
/// The setting INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;
/// Streams of a connection.
const STREAMS: usize = 100;
const MIB: usize = 1 << 20;

/// Opens a connection with so many streams, and returns it once their heads are there; `path` is that of a stream's number.
async fn stall(gate: &Gate, count: usize, path: impl Fn(usize) -> String) -> Frames {
    let mut frames = Frames::connect_with(gate.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let requests: Vec<u8> =
        (0..count).flat_map(|number| frames::request("GET", &path(number), id(number), WHOLE)).collect();
    assert!(frames.send(&requests).await);
    let mut heads = 0;
    while heads < count {
        let frame = in_time("the heads", frames.next()).await.expect("the connection goes on");
        heads += usize::from(frame.kind == frames::HEADERS);
    }
    frames
}

async fn waiting(gate: &Gate) -> f64 {
    gate.metric("tidegate_http2_stalled_streams", "").await
}

/// Returns the identifier of a stream (RFC 9113 §5.1.1).
fn id(number: usize) -> u32 {
    u32::try_from(2 * number + 1).expect("a small number")
}

#[tokio::test]
async fn beyond_their_number_those_that_have_waited_longest_are_reset() {
    let origin = ScriptedOrigin::with_track(pattern(4 << 20)).await;
    let gate = gate(&origin, json!({ "MaxStalledStreams": 100 })).await;
    let path = |_| "/stream/track.mp3".to_owned();
    let mut first = stall(&gate, 75, path).await;
    let mut second = stall(&gate, 75, path).await;
    for expected in 0..50 {
        let frame = in_time("a reset", first.next()).await.expect("the connection goes on");
        assert_eq!((frame.kind, frame.payload), (frames::RST_STREAM, vec![0, 0, 0, 2]), "{expected}");
    }
    eventually("they are counted", async || (waiting(&gate).await == 100.0).then_some(())).await;
    assert_eq!(gate.metric("tidegate_http2_stalled_streams_ended_total", "").await, 50.0);
    // Who takes what waits for him is not concerned, nor are the other streams of the connection.
    let other = H2::connect(gate.address()).await.request(Method::GET, "/stream/track.mp3", &[]).await;
    assert_eq!((other.status, other.body.len()), (200, 4 << 20));
    let window = 5_u32.to_be_bytes();
    for (frames, number) in [(&mut first, 74), (&mut second, 0)] {
        frames.send(&frame(frames::WINDOW_UPDATE, 0, id(number), &window)).await;
        let mut data = in_time("bytes of the body", frames.next()).await.expect("the connection goes on");
        // The other one has waited for its client too, if only for a moment.
        while data.kind == frames::RST_STREAM && data.stream != id(number) {
            data = in_time("bytes of the body", frames.next()).await.expect("the connection goes on");
        }
        assert_eq!((data.kind, data.payload), (frames::DATA, pattern(5)));
    }
    drop((first, second));
    eventually("they are gone", async || (waiting(&gate).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn cached_slices_of_stalled_streams_are_released_beyond_256_mib() {
    let origin = ScriptedOrigin::with_track("music").await;
    let body = Object::new(pattern(MIB));
    for number in 0..6 * STREAMS {
        origin.put(&format!("/audio/{number}"), body.clone());
    }
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    config["Cache"] = json!({ "Memory": "16MiB", "SliceSize": "1MiB" });
    let gate = Gate::start(&config).await;
    let before = gate.memory();
    let mut stalled = Vec::new();
    for connection in 0..6 {
        stalled.push(stall(&gate, STREAMS, |number| format!("/stream/{}", connection * STREAMS + number)).await);
    }
    eventually("all of them wait", async || (waiting(&gate).await == 600.0).then_some(())).await;
    // The slices are 600 MiB; streams, connections and the cache itself have their own part.
    let grown = gate.memory().saturating_sub(before);
    assert!(grown < 400 * MIB as u64, "{} MiB for 600 streams", grown / MIB as u64);
    // One that was asked to release its slice goes on where it was.
    let window = u32::try_from(2 * MIB).expect("small").to_be_bytes();
    let frames = &mut stalled[0];
    frames
        .send(&[frame(frames::WINDOW_UPDATE, 0, 0, &window), frame(frames::WINDOW_UPDATE, 0, 1, &window)].concat())
        .await;
    let mut taken = Vec::new();
    while taken.len() < MIB {
        let frame = in_time("the body", frames.next()).await.expect("the connection goes on");
        assert_ne!(frame.kind, frames::RST_STREAM);
        if frame.kind == frames::DATA {
            taken.extend(frame.payload);
        }
    }
    assert!(taken == pattern(MIB));
}
