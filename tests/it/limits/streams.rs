//! Streams at once, and the speed that they share.

use std::time::Duration;

use serde_json::json;

use super::{TRACK, bearer, limited};
use crate::support::origin::pattern;
use crate::support::{Gate, ScriptedOrigin, eventually};
use primitives::clock::monotonic_now;

#[tokio::test]
async fn a_stream_counts_until_its_end_and_its_abort_is_one() {
    let origin = ScriptedOrigin::with_track(pattern(30_000_000)).await;
    let gate = Gate::start(&limited(&origin, json!({ "Concurrency": { "PermitLimit": 2 } }))).await;
    let alice = bearer("alice");
    let request = format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\nAuthorization: {alice}\r\n\r\n");
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut raw = gate.raw().await;
        raw.send(request.as_bytes()).await;
        raw.head().await.expect("a header");
        streams.push(raw);
    }
    let refused = gate.client().get(TRACK, &[("authorization", &alice)]).await;
    assert_eq!(refused.problem(429)["code"], "too_many_streams");
    gate.client().head(TRACK, &[("authorization", &bearer("bob"))]).await.is(200);
    streams.pop().expect("there are two").reset();
    eventually("the place is free", async || {
        let reply = gate.client().get(TRACK, &[("authorization", &alice), ("range", "bytes=0-9")]).await;
        (reply.status == 206).then_some(())
    })
    .await;
}

#[tokio::test]
async fn all_streams_of_a_user_share_one_speed() {
    let origin = ScriptedOrigin::with_track(pattern(400_000)).await;
    let speed = json!({ "Bandwidth": { "BytesPerSecond": 400_000, "Burst": 100_000 } });
    let gate = Gate::start(&limited(&origin, speed)).await;
    let (client, alice, bob) = (gate.client(), bearer("alice"), bearer("bob"));
    let started = monotonic_now();
    let heard = async |user: &str| {
        let reply = client.get(TRACK, &[("authorization", user)]).await;
        assert_eq!(reply.is(200).body.len(), 400_000);
        started.elapsed()
    };
    let (one, two, other) = tokio::join!(heard(&alice), heard(&alice), heard(&bob));
    // The last buffer of each goes out before its wait.
    assert!(one.max(two) >= Duration::from_secs(1), "{one:?}, {two:?}");
    assert!(other < one.max(two), "{other:?}: another user has a speed of its own, and half as much to hear");
}
