//! What crosses from node to node, and when.

use super::*;
use primitives::clock::monotonic_now;

async fn a_ticket_of_one_opens_at(one: &Gate, other: &Gate) {
    let ticket = post(one, "/api/v1/share/123456/tickets", json!({"ttl": 60})).await;
    let ticket: Value = serde_json::from_slice(&ticket.is(200).body).expect("JSON");
    let query = format!("?ticket={}", ticket["ticket"].as_str().expect("text"));
    assert!(Socket::open(other, &query, false).await.is_ok());
    assert_eq!(Socket::open(other, "?ticket=made-up", false).await.err(), Some(401));
}

#[tokio::test]
async fn what_is_sent_to_one_node_is_heard_at_the_other_bit_by_bit() {
    let Some((_redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let again = post(&other, "/api/share/start", json!({"sessionId": "123456"})).await;
    assert_eq!(again.problem(409)["error"], "Session ID already in use");
    for sequence in 0..8 {
        send(&one, sequence).await;
    }
    let song = json!({"title": "Song", "artist": null, "lyrics": "", "hasSyncedLyrics": false, "elapsedSeconds": 1.5,
        "totalSeconds": 180.25, "thumbnailData": COVER, "timestamp": 1_700_000_000_000_i64});
    post(&one, "/api/share/123456/metadata", song.clone()).await.is(200);
    eventually("the other node knows the song", async || {
        pause().await;
        let reply = call(&other, http::Method::GET, "/api/share/123456/metadata", &Value::Null).await;
        (reply.status == 200).then(|| assert_eq!(serde_json::from_slice::<Value>(&reply.body).expect("JSON"), song))
    })
    .await;

    let mut here = Socket::listen(&one, "f32").await;
    let mut there = Socket::listen(&other, "f32").await;
    count(&one, 2).await;
    count(&other, 2).await;
    for sequence in 8..20 {
        send(&one, sequence).await;
    }
    let expected: Vec<u8> = (0..20).flat_map(samples).collect();
    for socket in [&mut here, &mut there] {
        socket.until(&samples(19).into()).await;
        let heard = socket.floats(17 * 32_768).await;
        assert!(expected.ends_with(&heard), "every bit is as it was sent, in order");
    }
    let polled = get(&other, "/api/share/123456/audio?since=15").await;
    for (chunk, number) in polled.as_array().expect("an array").iter().zip(16_u32..) {
        assert_eq!(chunk["sequenceNumber"], number);
        assert_eq!(chunk["data"], STANDARD.encode(samples(number)));
    }
    assert_eq!(polled.as_array().map(Vec::len), Some(4));

    let changed = json!({"title": "Next", "thumbnailData": "/9j/4BBR"});
    let told = post(&one, "/api/share/123456/metadata", changed).await;
    let told: Value = serde_json::from_slice(&told.is(200).body).expect("JSON");
    assert!(told["listenersNotified"].as_u64() >= Some(2), "{told}");
    assert_eq!(there.text("meta").await["title"], "Next");
    assert_eq!(get(&other, "/api/share/123456/metadata").await["thumbnailData"], "/9j/4BBR");

    let line = json!({"type": "chat", "name": "Ann", "text": "hi"}).to_string();
    here.send(Message::Text(line.into())).await;
    assert_eq!(there.text("chat").await["text"], "hi");

    a_ticket_of_one_opens_at(&one, &other).await;

    let (began, stopped) = (monotonic_now(), post(&other, "/api/share/123456/stop", Value::Null).await);
    stopped.is(200);
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.text("ended").await["reason"], "stopped");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for gate in [&one, &other] {
        assert_eq!(get(gate, "/api/share/123456/status").await["ended"], "stopped");
    }
    assert_eq!(one.metric("tidegate_share_sessions_ended_total", "stopped").await, 1.0);
    assert_eq!(other.metric("tidegate_share_sessions_ended_total", "").await, 0.0);
    start(&other).await;
    assert_eq!(get(&one, "/api/share/123456/status").await["isActive"], true);
}

#[tokio::test]
async fn a_host_may_send_to_the_nodes_by_turns() {
    let Some((_redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut listeners = [Socket::listen(&one, "f32").await, Socket::listen(&other, "f32").await];
    count(&one, 2).await;
    count(&other, 2).await;
    let gates = [&one, &other];
    for sequence in 0..40 {
        send(gates[sequence as usize % 2], sequence).await;
        for listener in &mut listeners {
            listener.until(&samples(sequence).into()).await;
        }
    }
    let expected: Vec<u8> = (0..40).flat_map(samples).collect();
    for listener in &mut listeners {
        let heard = listener.floats(expected.len()).await;
        assert!(heard == expected, "no gap and nothing twice");
    }
    for gate in gates {
        assert_eq!(gate.metric("tidegate_share_overflows_total", "").await, 0.0);
        assert_eq!(gate.metric("tidegate_share_chunks_total", "late").await, 0.0);
    }
}

#[tokio::test]
async fn audio_crosses_only_while_somebody_listens_elsewhere() {
    let Some((_redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let _here = Socket::listen(&one, "f32").await;
    send(&one, 0).await;
    // To look is not to listen.
    assert_eq!(get(&other, "/api/share/123456/status").await["isActive"], true);
    count(&other, 1).await;
    let crossed = async || one.metric("tidegate_share_crossed_total", "out").await;
    let before = crossed().await;
    for sequence in 1..15 {
        send(&one, sequence).await;
    }
    assert_eq!(crossed().await, before);
    let there = Socket::listen(&other, "f32").await;
    count(&one, 2).await;
    for sequence in 15..20 {
        send(&one, sequence).await;
    }
    eventually("audio crosses", async || (crossed().await >= before + 6.0).then_some(())).await;
    drop(there);
    count(&one, 1).await;
    let mut sequence = 20;
    eventually("it crosses no more", async || {
        let before = crossed().await;
        send(&one, sequence).await;
        sequence += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        (crossed().await == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn all_nodes_together_have_as_many_sessions_as_one() {
    let Some((_redis, one, other)) = nodes(json!({"MaxSessions": 2})).await else { return };
    post(&one, "/api/share/start", json!({})).await.is(200);
    post(&other, "/api/share/start", json!({})).await.is(200);
    for gate in [&one, &other] {
        post(gate, "/api/share/start", json!({})).await.problem(503);
        assert_eq!(
            serde_json::from_slice::<Value>(&gate.client().get("/health", &[]).await.is(200).body).expect("JSON")["activeSessions"],
            1
        );
    }
}
