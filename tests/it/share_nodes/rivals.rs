//! Nodes that were apart: which of two sessions, and which of two hosts, goes on; and what was written in the chat.

use std::collections::BTreeSet;

use super::*;

/// The code with which a socket is closed; what comes before is heard.
async fn closed(socket: &mut Socket) -> u16 {
    let close = async {
        loop {
            match socket.inner.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map_or(0, |frame| frame.code.into()),
                Some(Ok(Message::Text(text))) => socket.texts.push(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("it broke: {error}"),
                None => panic!("it ended without a word"),
            }
        }
    };
    in_time("it is closed", close).await
}

/// A host's socket with the token, and its secret.
async fn host(gate: &Gate) -> (Socket, String) {
    let mut host = Socket::open(gate, "?role=host", true).await.expect("it opens");
    let secret = host.text("welcome").await["resume"].as_str().expect("a secret").to_owned();
    (host, secret)
}

/// Whether the host still may send: what it says is answered.
async fn is_served(host: &mut Socket) {
    host.send(Message::Text(json!({"type": "time", "t0": 1}).to_string().into())).await;
    host.text("time").await;
}

async fn forgets_everything(redis: &Redis) {
    assert!(redis.ask("FLUSHALL").starts_with("+OK"));
}

#[tokio::test]
async fn a_session_that_redis_forgot_is_kept_by_the_nodes_that_have_it() {
    let Some((redis, mut one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut first, secret) = host(&one).await;
    first.send(frame(0)).await;
    let mut listener = Socket::open(&other, "", true).await.expect("it opens");
    listener.text("hello").await;
    count(&one, 1).await;
    one.signal("KILL").await;
    one.ended().await;
    forgets_everything(&redis).await;
    eventually("who has it writes it down", async || {
        redis.ask("HGET session:123456 active").contains("true").then_some(())
    })
    .await;
    let third = gate(&redis, json!({})).await;
    post(&third, "/api/share/start", json!({"sessionId": "123456"})).await.problem(409);
    let mut host = Socket::open(&third, &format!("?role=host&resume={secret}"), false).await.expect("it goes on");
    host.text("welcome").await;
    for first in (100..150).step_by(5) {
        host.send(frame(first)).await;
    }
    listener.until(&opus(149)).await;
}

#[tokio::test]
async fn a_live_host_does_not_lose_its_id_to_whoever_starts_it_in_an_empty_redis() {
    let Some((mut redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut first, _) = host(&one).await;
    let mut listener = Socket::open(&one, "", true).await.expect("it opens");
    listener.text("hello").await;
    first.send(frame(0)).await;
    redis.stop();
    // Nobody is asked: the id is free there.
    start(&other).await;
    let (mut second, _) = host(&other).await;
    let mut misled = Socket::open(&other, "", true).await.expect("it opens");
    redis.restart();
    forgets_everything(&redis).await;
    assert_eq!(closed(&mut second).await, 4009, "the younger one yields, though it says nothing");
    assert_eq!(misled.text("ended").await["reason"], "replaced");
    // A host without a socket is told when it sends: its song is not that of the session that stayed.
    post(&other, "/api/share/123456/metadata", json!({"title": "Mine"})).await.problem(404);
    is_served(&mut first).await;
    for number in (5..50).step_by(5) {
        first.send(frame(number)).await;
    }
    listener.until(&opus(49)).await;
    assert!(!listener.texts.iter().any(|text| text["type"] == "ended"));
    seldom("the other node finds the session that stayed", async || {
        let here = status(&one).await?["startTime"].clone();
        (status(&other).await?["startTime"] == here).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_two_hosts_of_a_session_the_later_one_stays() {
    let Some((mut redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut first, secret) = host(&one).await;
    eventually("the first is written down", async || {
        redis.ask("HGET session:123456 hosting").contains("\n1 ").then_some(())
    })
    .await;
    let mut listener = Socket::open(&other, "", true).await.expect("it opens");
    listener.text("hello").await;
    // A node that a ticket of the other opened knows what the other signs its secrets with, too.
    crossing::a_ticket_of_one_opens_at(&one, &other).await;
    redis.stop();
    let mut second =
        Socket::open(&other, &format!("?role=host&resume={secret}"), false).await.expect("its secret is good");
    second.text("welcome").await;
    is_served(&mut first).await;
    redis.restart();
    assert_eq!(closed(&mut first).await, 4009, "it says nothing, and is told");
    is_served(&mut second).await;
    for number in (0..50).step_by(5) {
        second.send(frame(number)).await;
    }
    listener.until(&opus(49)).await;
}

#[tokio::test]
async fn a_host_in_whose_place_another_comes_is_told_at_once() {
    let Some((redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut first, _) = host(&one).await;
    let (mut second, _) = host(&one).await;
    assert_eq!(closed(&mut first).await, 4009, "at the same node");
    // Two that open in the same millisecond have no order.
    eventually("the second is written down", async || {
        redis.ask("HGET session:123456 hosting").contains("\n2 ").then_some(())
    })
    .await;
    let (mut third, _) = host(&other).await;
    assert_eq!(closed(&mut second).await, 4009, "at another node");
    is_served(&mut third).await;
    drop(third);
    let (mut fourth, _) = host(&one).await;
    is_served(&mut fourth).await;
}

/// The lines that a node shows to who comes.
async fn lines(gate: &Gate) -> Vec<(i64, String)> {
    let mut socket = Socket::open(gate, "", true).await.expect("it opens");
    let hello = socket.text("hello").await;
    let line = |line: &Value| (line["id"].as_i64().expect("a number"), line["text"].as_str().expect("text").to_owned());
    hello["chat"]["last"].as_array().expect("lines").iter().map(line).collect()
}

#[tokio::test]
async fn no_line_is_lost_while_nodes_are_apart_and_their_numbers_rise_everywhere() {
    let Some((mut redis, one, other)) = nodes(json!({})).await else { return };
    start(&one).await;
    let (mut here, mut there) = (Socket::listen(&one, "opus").await, Socket::listen(&other, "opus").await);
    count(&one, 2).await;
    count(&other, 2).await;
    let say = |text: String| Message::Text(json!({"type": "chat", "text": text}).to_string().into());
    for apart in [false, true] {
        if apart {
            redis.stop();
        }
        for number in 0..2 {
            here.send(say(format!("here {apart} {number}"))).await;
            there.send(say(format!("there {apart} {number}"))).await;
            here.text("chat").await;
            there.text("chat").await;
        }
    }
    redis.restart();
    eventually("both nodes have all lines", async || {
        let (one, other) = (lines(&one).await, lines(&other).await);
        (one.len() == 8 && one == other).then(|| {
            assert!(one.windows(2).all(|pair| pair[0].0 < pair[1].0), "{one:?}");
            let texts: BTreeSet<_> = one.iter().map(|(_, text)| text.clone()).collect();
            assert_eq!(texts.len(), 8);
        })
    })
    .await;
    for socket in [&mut here, &mut there] {
        let after = socket.text("chat").await;
        assert!(after["last"].is_array() || after["text"].is_string(), "who was there before is told too: {after}");
    }
}
