//! HTTP/2 frames that cost the server more than the client: each flood ends its connection, and nobody else's.

use http::Method;
use serde_json::json;
use tokio::process::Command;

use super::gate;
use crate::support::eventually::LIMIT;
use crate::support::fault::{End, Step};
use crate::support::frames::{self, ENHANCE_YOUR_CALM, Frames, frame};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::{Client, Gate, ScriptedOrigin, tools};

const WHOLE: u8 = frames::END_HEADERS | frames::END_STREAM;

/// A flood: its name, the kind that is counted, the most rounds that may be taken, what is sent first, and each round.
struct Flood {
    name: &'static str,
    kind: &'static str,
    most: usize,
    first: Vec<u8>,
    round: fn(usize) -> Vec<u8>,
}

/// Returns the number of the client's next stream, one of which is open already.
fn stream(round: usize) -> u32 {
    u32::try_from(2 * round + 3).expect("a small number")
}

fn floods() -> Vec<Flood> {
    let post = || frames::request("POST", "/plain/x", 1, frames::END_HEADERS);
    let control = |name, first, round| Flood { name, kind: "control_frames", most: 1100, first, round };
    vec![
        // CVE-2023-44487. The library ends it where the requests were not even taken yet.
        Flood {
            name: "rapid reset",
            kind: "",
            most: 250,
            first: Vec::new(),
            round: |round| {
                let reset = frame(frames::RST_STREAM, 0, stream(round), &8u32.to_be_bytes());
                [frames::request("GET", "/stream/track.mp3", stream(round), WHOLE), reset].concat()
            },
        },
        // CVE-2025-8671: a window that grows too large makes the server reset the stream.
        Flood {
            name: "resets by mistakes",
            kind: "other",
            most: 400,
            first: Vec::new(),
            round: |round| {
                let mistake = frame(frames::WINDOW_UPDATE, 0, stream(round), &[0x7f, 0xff, 0xff, 0xff]);
                [frames::request("GET", "/stream/track.mp3", stream(round), WHOLE), mistake].concat()
            },
        },
        // CVE-2024-27316: a head without end.
        Flood {
            name: "CONTINUATION",
            kind: "other",
            most: 100,
            first: frames::request("GET", "/stream/track.mp3", 1, 0),
            round: |_| frame(frames::CONTINUATION, 0, 1, &[&[0x00, 0x01, b'x', 0x01, b'y'][..]; 100].concat()),
        },
        Flood {
            name: "empty CONTINUATION",
            kind: "other",
            most: 100,
            first: frames::request("GET", "/stream/track.mp3", 1, 0),
            round: |_| frame(frames::CONTINUATION, 0, 1, &[]),
        },
        // CVE-2019-9512, CVE-2019-9515.
        control("PING", Vec::new(), |_| frame(frames::PING, 0, 0, &[0; 8])),
        control("PING answers", Vec::new(), |_| frame(frames::PING, 1, 0, &[0; 8])),
        control("SETTINGS", Vec::new(), |round| {
            let size = u32::try_from(round % 2 * 4096).expect("small").to_be_bytes();
            frame(frames::SETTINGS, 0, 0, &[&[0, 1][..], &size].concat())
        }),
        control("WINDOW_UPDATE", Vec::new(), |_| frame(frames::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        control("PRIORITY", Vec::new(), |round| frame(frames::PRIORITY, 0, stream(round), &[0, 0, 0, 0, 1])),
        control("unknown frames", Vec::new(), |_| frame(0xfa, 0, 0, &[0; 16])),
        // CVE-2019-9518. The library ends some of them sooner.
        Flood { kind: "", ..control("empty DATA", post(), |_| frame(frames::DATA, 0, 1, &[])) },
    ]
}

#[tokio::test]
async fn each_flood_ends_its_connection_and_nobody_elses() {
    let origin = ScriptedOrigin::with_track(pattern(4 << 20)).await;
    let gate = gate(&origin, json!({})).await;
    // Somebody else, over both versions, whose answers are under way all the time.
    let other = H2::connect(gate.address()).await;
    let mut listening = other.open("/stream/track.mp3", &[]).await;
    for flood in floods() {
        let before = gate.metric("tidegate_http2_floods_total", flood.kind).await;
        let mut frames = Frames::connect(gate.address()).await;
        frames.send(&flood.first).await;
        let (sent, code) = frames.flood(100_000, flood.round).await;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{}, after {sent} rounds", flood.name);
        let after = gate.metric("tidegate_http2_floods_total", flood.kind).await;
        assert_eq!(after - before, 1.0, "{}", flood.name);
        listening.take(1000).await;
        assert_eq!(other.request(Method::HEAD, "/stream/track.mp3", &[]).await.status, 200, "{}", flood.name);
    }
    assert_eq!(listening.finish().await.body.len(), 4 << 20);
    // Nor does a flood reach the log, but by the access lines of its requests.
    assert!(gate.log_lines().iter().all(|line| line["level"] == "INFO"), "{}", gate.log());
}

#[tokio::test]
async fn the_goaway_of_a_flood_reaches_a_client_that_sends_on() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, json!({})).await;
    for (name, flood) in [
        ("PING", frame(frames::PING, 0, 0, &[0; 8])),
        // Ended by the library: a head without end.
        ("CONTINUATION", frame(frames::CONTINUATION, 0, 1, &[&[0x00, 0x01, b'x', 0x01, b'y'][..]; 100].concat())),
    ] {
        let mut raw = Raw::connect(gate.address()).await;
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&frame(frames::SETTINGS, 0, 0, &[])).await;
        if name == "CONTINUATION" {
            raw.send(&frames::request("GET", "/stream/track.mp3", 1, 0)).await;
        }
        // Far more than is read before the connection is ended.
        raw.send(&flood.repeat((1 << 20) / flood.len())).await;
        let said = raw.rest(LIMIT).await.unwrap_or_else(|error| panic!("{name}: it ends by a reset: {error}"));
        let mut left = &said[..];
        let mut code = None;
        while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = left {
            let (payload, next) = rest.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
            if *kind == frames::GOAWAY {
                code = payload[4..8].try_into().ok().map(u32::from_be_bytes);
            }
            left = next;
        }
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{name}");
        // Not reset, which would drop what the system has not sent yet: a GOAWAY behind data that waits for the client.
        for _ in 0..64 {
            assert!(raw.try_send(&[0; 16 << 10]).await, "{name}: what is sent on is not read any more");
        }
    }
}

#[tokio::test]
async fn resetting_each_stream_once_it_is_answered_is_a_flood_too() {
    let origin = ScriptedOrigin::with_track(pattern(4 << 20)).await;
    let gate = gate(&origin, json!({})).await;
    let mut frames = Frames::connect(gate.address()).await;
    // In batches, so that no machine is too slow for it: more than 20 a second.
    let code = 'batches: {
        for batch in 0..20 {
            let streams = (batch * 90..(batch + 1) * 90).map(stream);
            let requests: Vec<u8> =
                streams.clone().flat_map(|of| frames::request("GET", "/stream/track.mp3", of, WHOLE)).collect();
            frames.send(&requests).await;
            let mut answered = 0;
            while answered < 90 {
                let frame = frames.next().await.expect("a GOAWAY before the end");
                if frame.kind == frames::GOAWAY {
                    break 'batches frame.payload[4..8].to_vec();
                }
                answered += usize::from(frame.kind == frames::HEADERS);
            }
            let resets: Vec<u8> =
                streams.flat_map(|of| frame(frames::RST_STREAM, 0, of, &8u32.to_be_bytes())).collect();
            frames.send(&resets).await;
        }
        panic!("1800 streams were reset");
    };
    assert_eq!(code, ENHANCE_YOUR_CALM.to_be_bytes());
    assert_eq!(gate.metric("tidegate_http2_floods_total", "resets").await, 1.0);
}

#[tokio::test]
async fn a_flood_is_ended_within_its_bound() {
    let origin = ScriptedOrigin::with_track(pattern(1 << 20)).await;
    origin.always(Step::Silence(End::Stall));
    let gate = gate(&origin, json!({})).await;
    for flood in floods() {
        let asked = origin.seen().len();
        let mut frames = Frames::connect(gate.address()).await;
        frames.send(&flood.first).await;
        // As many as may be taken, and no more: the GOAWAY comes for these alone.
        let (_, code) = frames.flood(flood.most, flood.round).await;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{} with {} rounds", flood.name, flood.most);
        let asked = origin.seen().len() - asked;
        assert!(asked <= flood.most, "{}: the store was asked {asked} times", flood.name);
    }
}

#[tokio::test]
async fn as_many_requests_as_a_client_can_send_are_no_flood() {
    let Some(h2load) = tools::find("h2load") else { return };
    let origin = ScriptedOrigin::with_track(pattern(200_000)).await;
    let gate = gate(&origin, json!({})).await;
    for path in ["/health", "/stream/track.mp3"] {
        let mut command = Command::new(&h2load);
        // Small windows, so that it opens them often: 2^14 bytes.
        command.args(["-n", "3000", "-c", "3", "-m", "100", "-w", "14", "-W", "14"]);
        let output = command.arg(format!("{}{path}", gate.url())).output().await.expect("h2load runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "{path}: {said}");
    }
    assert_eq!(gate.metric("tidegate_http2_floods_total", "").await, 0.0);
}

#[tokio::test]
async fn what_ordinary_clients_do_is_no_flood() {
    let origin = ScriptedOrigin::with_track(pattern(8 << 20)).await;
    let gate = gate(&origin, json!({})).await;
    opens_windows_for_each_frame(&gate).await;
    // A page that is left: all its streams are reset at once, twice.
    let h2 = H2::connect(gate.address()).await;
    for _ in 0..2 {
        let mut streams = Vec::new();
        for _ in 0..90 {
            streams.push(h2.open("/stream/track.mp3", &[]).await);
        }
        drop(streams);
    }
    assert_eq!(h2.get("/health", &[]).await.status, 200);
    assert_eq!(gate.metric("tidegate_http2_floods_total", "").await, 0.0);
    Client::new(gate.url()).get("/health", &[]).await.is(200);
}

/// Takes a whole object with two WINDOW_UPDATE and a PING for each of its frames, as simple clients do.
async fn opens_windows_for_each_frame(gate: &Gate) {
    let mut frames = Frames::connect(gate.address()).await;
    let mut taken = 0;
    for round in 0..4 {
        frames.send(&frames::request("GET", "/stream/track.mp3", stream(round), WHOLE)).await;
        loop {
            let frame = frames.next().await.expect("the connection stays");
            assert_ne!(frame.kind, frames::GOAWAY, "after {taken} bytes");
            if frame.kind != frames::DATA {
                continue;
            }
            taken += frame.payload.len();
            if frame.flags & frames::END_STREAM != 0 {
                break;
            }
            let more = u32::try_from(frame.payload.len()).expect("a frame").max(1).to_be_bytes();
            let windows = [0, frame.stream].map(|of| frames::frame(frames::WINDOW_UPDATE, 0, of, &more)).concat();
            frames.send(&[windows, frames::frame(frames::PING, 0, 0, &[1; 8])].concat()).await;
        }
    }
    assert_eq!(taken, 4 * (8 << 20));
}
