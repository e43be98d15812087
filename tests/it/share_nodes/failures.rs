//! Nodes that are killed or stop, and a Redis that is away.

use super::*;
use primitives::clock::monotonic_now;

#[tokio::test]
async fn a_host_whose_node_was_killed_goes_on_at_another() {
    let Some((_redis, mut one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut host = Socket::open(&one, "?role=host", true).await.expect("it opens");
    let secret = host.text("welcome").await["resume"].as_str().expect("a secret").to_owned();
    let mut listener = Socket::open(&other, "", true).await.expect("it opens");
    assert_eq!(listener.text("hello").await["host"], true);
    for first in (0..50).step_by(5) {
        host.send(frame(first)).await;
    }
    listener.until(&opus(49)).await;
    let heard: Vec<u32> = listener.heard.iter().map(|(number, _)| *number).collect();
    assert_eq!(heard, (heard[0]..heard[0] + 50).collect::<Vec<_>>());

    one.signal("KILL").await;
    one.ended().await;
    assert_eq!(listener.text("host").await["here"], false);
    let query = format!("?role=host&resume={secret}");
    let mut host = Socket::open(&other, &query, false).await.expect("it goes on");
    assert_eq!(host.text("welcome").await["resume"], secret.as_str());
    for first in (200..250).step_by(5) {
        host.send(frame(first)).await;
    }
    listener.until(&opus(249)).await;
    let heard: Vec<Bytes> = listener.heard.iter().map(|(_, packet)| packet.clone()).collect();
    let sent: Vec<Bytes> = (0..50).chain(200..250).map(opus).collect();
    assert!(heard == sent, "what is sent at once is heard: no lease of the killed node is waited for");
    assert_eq!(listener.text("host").await["here"], true);
    assert_eq!(Socket::open(&other, &format!("?resume={secret}"), false).await.err(), Some(401), "it is the host's");
    assert_eq!(Socket::open(&other, "?role=host&resume=made-up", false).await.err(), Some(401));

    drop(host);
    assert_eq!(listener.text("host").await["here"], false);
    let mut late = Socket::open(&other, "", true).await.expect("it opens");
    assert_eq!(late.text("hello").await["host"], false);
    eventually("the other node answers for the session", async || {
        (other.metric("tidegate_share_sessions_active", "").await == 1.0).then_some(())
    })
    .await;
    post(&other, "/api/share/123456/stop", Value::Null).await.is(200);
    listener.text("ended").await;
    assert_eq!(Socket::open(&other, &query, false).await.err(), Some(404));
}

#[tokio::test]
async fn a_node_that_stops_leaves_its_sessions_to_the_others() {
    let Some((_redis, mut one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut listener = Socket::listen(&one, "f32").await;
    send(&one, 0).await;
    one.stop().await;
    listener.end().await;
    let mut listener = Socket::listen(&other, "f32").await;
    send(&other, 1).await;
    assert_eq!(listener.floats(32_768).await, samples(1));
}

#[tokio::test]
async fn without_redis_everybody_keeps_what_is_at_the_own_node() {
    let Some((mut redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut here, mut there) = (Socket::listen(&one, "f32").await, Socket::listen(&other, "f32").await);
    count(&one, 2).await;
    let began = monotonic_now();
    for sequence in 0..60 {
        match sequence {
            10 => redis.stop(),
            40 => redis.restart(),
            _ => {}
        }
        send(&one, sequence).await;
        let then = began + CHUNK * (sequence + 1);
        futures::join!(here.hear_until(then), there.hear_until(then));
    }
    let expected: Vec<u8> = (0..60).flat_map(samples).collect();
    assert!(here.floats(expected.len()).await == expected, "nobody beside the host notices");
    let again = async {
        let mut sent: Vec<Bytes> = Vec::new();
        for sequence in 60.. {
            send(&one, sequence).await;
            sent.push(samples(sequence).into());
            there.hear_until(began + CHUNK * (sequence + 1)).await;
            if there.heard.iter().any(|(_, packet)| sent.contains(packet)) {
                return;
            }
        }
    };
    in_time("the other node hears it again", again).await;
    count(&other, 2).await;
    for gate in [&one, &other] {
        assert!(gate.log().contains("sharing sessions are shared with other nodes again"));
        assert!(gate.metric("tidegate_share_state_errors_total", "").await > 0.0);
    }
}

#[tokio::test]
async fn a_session_that_begins_without_redis_is_known_to_all_when_it_is_back() {
    let Some((mut redis, one, other)) = nodes(json!({})).await else { return };
    redis.stop();
    start(&one).await;
    send(&one, 0).await;
    call(&other, http::Method::GET, "/api/share/123456/status", &Value::Null).await.problem(503);
    redis.restart();
    seldom("the other node finds it", async || status(&other).await).await;
}
