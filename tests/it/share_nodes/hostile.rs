//! Hosts that flood, values that a stranger wrote into Redis, and keys that Redis refuses: who suffers by them, and that
//! nobody else does.

use super::*;

/// Publishes a message without audio on the session's channel, as a node of our own would.
fn publish(redis: &Redis, message: &Value) {
    let incarnation = redis.ask("HGET session:123456 incarnation");
    let incarnation = incarnation.lines().nth(1).expect("the session has one").trim().to_owned();
    let incarnation = u64::from_str_radix(&incarnation, 16).expect("a number");
    let mut bytes = vec![2];
    for number in [7, 0, incarnation] {
        bytes.extend(u64::to_be_bytes(number));
    }
    bytes.push(3);
    bytes.extend(message.to_string().bytes());
    let quoted: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let heard = redis.ask(&format!("PUBLISH share.channel:123456 \"{quoted}\""));
    assert!(heard.starts_with(":2"), "both nodes hear it: {heard}");
}

async fn host(gate: &Gate) -> Socket {
    let mut host = Socket::open(gate, "?role=host", true).await.expect("it opens");
    host.text("welcome").await;
    host
}

async fn say(socket: &mut Socket, said: Value) {
    socket.send(Message::Text(said.to_string().into())).await;
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
    let (began, before) = (Instant::now(), commands());
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
