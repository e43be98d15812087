//! Hosts that flood, values that a stranger wrote into Redis, and keys that Redis refuses: who suffers by them, and that
//! nobody else does.

use super::*;
use primitives::clock::monotonic_now;

async fn host(gate: &Gate) -> Socket {
    let mut host = Socket::open(gate, "?role=host", true).await.expect("it opens");
    host.text("welcome").await;
    host
}

async fn say(socket: &mut Socket, said: Value) {
    socket.send(Message::Text(said.to_string().into())).await;
}

#[tokio::test]
async fn a_host_that_floods_is_told_then_closed_and_nobody_else_notices() {
    let Some((_redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut here, mut there) = (Socket::listen(&one, "f32").await, Socket::listen(&other, "f32").await);
    count(&one, 2).await;
    let mut flooder = host(&one).await;
    // One by one, so that the end is heard and no reset in its place.
    let code = async {
        loop {
            say(&mut flooder, json!({"type": "chat", "on": true})).await;
            match flooder.inner.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| u16::from(frame.code)),
                Some(Ok(Message::Text(text))) => flooder.texts.push(serde_json::from_str(&text).expect("JSON")),
                other => panic!("no answer: {other:?}"),
            }
        }
    };
    assert_eq!(in_time("it is closed", code).await, Some(1008));
    let told = |texts: &[Value], kind: &str| texts.iter().filter(|text| text["type"] == kind).count();
    assert!(told(&flooder.texts, "error") >= 20, "it is told first");
    for sequence in 0..8 {
        send(&one, sequence).await;
    }
    let expected: Vec<u8> = (0..8).flat_map(samples).collect();
    for listener in [&mut here, &mut there] {
        assert!(listener.floats(expected.len()).await == expected, "no gap and nothing twice");
        let switches = told(&listener.texts, "chat");
        assert!((1..=10).contains(&switches), "{switches} switches");
        assert_eq!(told(&listener.texts, "gap"), 0);
    }
}

#[tokio::test]
async fn long_texts_are_for_metadata_alone() {
    let Some((_redis, one, _other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut listener, mut host) = (Socket::listen(&one, "f32").await, host(&one).await);
    let before = one.memory();
    let array = format!("[{}0]", "0,".repeat((5 << 20) / 2 - 2));
    host.send(Message::Text(array.into())).await;
    assert_eq!(host.text("error").await["error"], "a text other than metadata has at most 16 KiB");
    let grown = one.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    let song = json!({"type": "meta", "title": "Song", "lyrics": "la ".repeat(60_000), "thumbnailData": "/9j/".repeat(100_000)});
    say(&mut host, song).await;
    assert_eq!(listener.text("meta").await["title"], "Song");
}

#[tokio::test]
async fn numbers_that_a_stranger_publishes_end_nothing() {
    let Some((redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let mut listener = Socket::listen(&other, "f32").await;
    count(&one, 1).await;
    publish(&redis, &json!({"type": "host", "here": true, "number": u64::MAX}));
    publish(&redis, &json!({"type": "chat", "on": false, "id": i64::MAX}));
    let line = json!({"type": "chat", "id": i64::MAX, "at": 1, "name": "stranger", "text": "the last line"});
    publish(&redis, &json!({"type": "line", "line": line}));
    let history = json!({"type": "said", "on": true, "switched": i64::MAX, "lines": [line.to_string()]});
    publish(&redis, &history);
    let mut host = host(&one).await;
    for text in ["first", "second"] {
        say(&mut host, json!({"type": "chat", "name": "Ann", "text": text})).await;
    }
    let (first, second) = (listener.text("chat").await, listener.text("chat").await);
    assert_eq!((&first["text"], &second["text"]), (&json!("first"), &json!("second")));
    assert!(first["id"].as_i64() < second["id"].as_i64(), "{first} {second}");
    assert!(second["id"].as_i64().is_some_and(|id| id < 1 << 53), "{second}");
}

#[tokio::test]
async fn a_session_that_redis_refuses_keeps_no_other_from_it() {
    let Some((redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    for id in ["200001", "200002", "200003"] {
        post(&one, "/api/share/start", json!({ "sessionId": id })).await.is(200);
        assert!(redis.ask(&format!("DEL session:{id}")).starts_with(':'));
        // A key of another type: WRONGTYPE is the answer to every heartbeat.
        assert!(redis.ask(&format!("SET session:{id} nothing")).starts_with("+OK"));
    }
    let commands = || {
        let stats = redis.ask("INFO stats");
        let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.expect("a number").trim().parse::<u64>().expect("a number")
    };
    let (began, before) = (monotonic_now(), commands());
    eventually("four rounds have met them", async || {
        (one.metric("tidegate_share_state_errors_total", "beat").await >= 12.0).then_some(())
    })
    .await;
    let (took, sent) = (began.elapsed(), commands() - before);
    assert!(took > Duration::from_secs(1), "rounds have their pace: {took:?}");
    assert!(sent < 500, "{sent} commands in {took:?}");
    let _listener = Socket::listen(&other, "f32").await;
    count(&one, 1).await;
    let log = one.log();
    assert!(!log.contains("sharing sessions stay with their nodes"), "Redis is there");
    assert!(log.matches("refuses commands").count() <= 3, "it is told, not over and over");
}
