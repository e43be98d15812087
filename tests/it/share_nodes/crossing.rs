//! What crosses from node to node, and when.

use super::*;
use crate::support::redis::Subscription;

pub(super) async fn a_ticket_of_one_opens_at(one: &Gate, other: &Gate) {
    let ticket = post(one, "/api/v1/share/123456/tickets", json!({"ttl": 60})).await;
    let ticket: Value = serde_json::from_slice(&ticket.is(200).body).expect("JSON");
    let query = format!("?ticket={}", ticket["ticket"].as_str().expect("text"));
    assert!(Socket::open(other, &query, false).await.is_ok());
    assert_eq!(Socket::open(other, "?ticket=made-up", false).await.err(), Some(401));
}

#[tokio::test]
async fn what_is_sent_to_one_node_is_heard_at_the_other_bit_by_bit() {
    let Some((redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let again = post(&other, "/api/share/start", json!({"sessionId": "123456"})).await;
    assert_eq!(again.problem(409)["error"], "Session ID already in use");
    for sequence in 0..8 {
        send(&one, sequence).await;
    }
    let song = json!({"title": "Song", "artist": null, "lyrics": "", "hasSyncedLyrics": false, "elapsedSeconds": 1.5,
        "totalSeconds": 180.25, "thumbnailData": COVER, "timestamp": 1_700_000_000_000_i64});
    post(&one, "/api/share/123456/metadata", song.clone()).await.is(200);
    seldom("the other node knows the song", async || {
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

    let mut channel = redis.subscribe(CHANNEL).await;
    post(&other, "/api/share/123456/stop", Value::Null).await.is(200);
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.text("ended").await["reason"], "stopped");
    }
    let told = async { while !String::from_utf8_lossy(&channel.next().await).contains(r#""type":"ended""#) {} };
    in_time("the other node is told, and not only by its next heartbeat", told).await;
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

/// The channel between the nodes, and the node whose audio is counted on it. Not the metric of messages: nodes tell each other
/// more than audio, and at any time.
struct Channel {
    messages: Subscription,
    node: [u8; 8],
}

impl Channel {
    /// The channel, with the node of this listener. It writes in the chat, of which its node tells the others.
    async fn of(redis: &Redis, listener: &mut Socket) -> Self {
        let mut messages = redis.subscribe(CHANNEL).await;
        let line = json!({"type": "chat", "name": "Ann", "text": "which node am I at?"}).to_string();
        listener.send(Message::Text(line.into())).await;
        let told = async {
            loop {
                let message = messages.next().await;
                if String::from_utf8_lossy(&message).contains("which node am I at?") {
                    return message[1..9].try_into().expect("eight bytes");
                }
            }
        };
        let node = in_time("the line crosses", told).await;
        Self { messages, node }
    }

    /// Messages with audio that the node has published since it was asked last. It is asked for the chat, and its answer to
    /// that is behind them: messages go in their order.
    async fn audio(&mut self, redis: &Redis) -> usize {
        publish(redis, &json!({"type": "recall"}));
        let counting = async {
            let mut audio = 0;
            loop {
                let message = self.messages.next().await;
                let (from, to, kind) = (&message[1..9], &message[9..17], message[25]);
                match kind {
                    3 if from == self.node && to == STRANGER.to_be_bytes() => return audio,
                    0..=2 if from == self.node => audio += 1,
                    _ => {}
                }
            }
        };
        in_time("the node answers", counting).await
    }
}

#[tokio::test]
async fn audio_crosses_only_while_somebody_listens_elsewhere() {
    let Some((redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut here = Socket::listen(&one, "f32").await;
    let mut channel = Channel::of(&redis, &mut here).await;
    send(&one, 0).await;
    // To look is not to listen.
    assert_eq!(get(&other, "/api/share/123456/status").await["isActive"], true);
    count(&other, 1).await;
    for sequence in 1..15 {
        send(&one, sequence).await;
    }
    assert_eq!(channel.audio(&redis).await, 0, "nobody listens elsewhere");
    let there = Socket::listen(&other, "f32").await;
    count(&one, 2).await;
    for sequence in 15..20 {
        send(&one, sequence).await;
    }
    let audio = channel.audio(&redis).await;
    assert!(audio >= 6, "what was there before, and five chunks: {audio} messages");
    drop(there);
    count(&one, 1).await;
    let mut sequence = 20;
    eventually_every(CHUNK, "it crosses no more", async || {
        send(&one, sequence).await;
        sequence += 1;
        (channel.audio(&redis).await == 0).then_some(())
    })
    .await;
    assert!(one.metric("tidegate_share_crossed_total", "out").await >= 6.0);
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
