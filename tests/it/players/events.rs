//! The stream of events: who is told what, and how streams end.

use tokio::net::TcpSocket;

use super::listener::Listener;
use super::*;
use crate::streaming_urls::{KEYS, log_out};
use crate::support::chromium::Chromium;
use crate::support::raw::Raw;
use crate::support::{in_time, token};

#[tokio::test]
async fn a_change_made_in_one_window_is_heard_in_the_others_and_by_nobody_else() {
    let folder = TempFolder::new("players");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let (alice, bob) = (Client::new(&gate, "alice"), Client::new(&gate, "bob"));
    alice.put("pitch", json!({ "semitones": 4 })).await;
    let Some(mut window) = Listener::open(&gate, "alice", "").await else { return };
    let mut other = Listener::open(&gate, "alice", "?channel_id=main").await.expect("curl is there");
    let mut bobs = Listener::open(&gate, "bob", "").await.expect("curl is there");
    // At first what holds.
    for listener in [&mut window, &mut other] {
        assert_eq!(listener.event("settings").await["semitones"], 4);
        assert_eq!(listener.event("player").await["state"], "stopped");
    }
    let said = alice.put("speed", json!({ "speed": 1.5 })).await;
    for listener in [&mut window, &mut other] {
        assert_eq!(listener.event("settings").await, said, "the event has what the answer has");
    }
    alice.report(json!({ "track_id": "t", "state": "playing", "position_ms": 7_000, "title": "Á & B" })).await;
    let player = window.event("player").await;
    assert_eq!(
        (&player["state"], &player["title"], &player["speed"]),
        (&json!("playing"), &json!("Á & B"), &json!(1.5))
    );
    // The same again is no news.
    alice.report(json!({ "track_id": "t", "state": "playing", "position_ms": 7_100 })).await;
    alice.post("seek", json!({ "position_ms": "01:00" })).await;
    let (name, seek) = window.next().await.expect("it goes on");
    assert_eq!((name.as_str(), &seek["position_ms"], &seek["track_id"]), ("seek", &json!(60_000), &json!("t")));
    let player = window.event("player").await;
    assert!(player["position_ms"].as_i64() >= Some(60_000) && player["revision"] == seek["revision"], "{player}");
    alice.put("speed", json!({ "speed": 0.75 })).await;
    assert_eq!(window.event("player").await["speed"], 0.75, "the clock goes by the new speed");
    alice.put("equalizer", json!({ "preset": "jazz" })).await;
    assert_eq!(window.event("settings").await["equalizer"]["preset"], "jazz");
    // Another channel is for those who listen to all.
    let mut kitchen = report("k", "playing", 0);
    kitchen["channel_id"] = json!("kitchen");
    alice.report(kitchen).await;
    assert_eq!(window.event("player").await["channel_id"], "kitchen");
    alice.put("pitch", json!({ "semitones": 0 })).await;
    loop {
        let (_, data) = other.next().await.expect("it goes on");
        assert_eq!(data["channel_id"], "main", "{data}");
        if data["semitones"] == 0 {
            break;
        }
    }
    bob.put("speed", json!({ "speed": 0.5 })).await;
    let told = [bobs.event("settings").await, bobs.event("settings").await];
    assert_eq!((&told[0]["revision"], &told[1]["speed"]), (&json!(0), &json!(0.5)), "nothing of another user");
}

#[tokio::test]
async fn a_browser_follows_by_event_source() {
    let Some(browser) = Chromium::start().await else { return };
    let folder = TempFolder::new("players");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let client = Client::new(&gate, "alice");
    browser.open(&format!("{}/health", gate.url())).await;
    let opened = format!(
        "window.told = [];
        window.source = new EventSource('{}?access_token={}');
        source.addEventListener('settings', event => told.push(JSON.parse(event.data).speed));
        await new Promise(heard => source.addEventListener('player', heard));
        return told;",
        path("events"),
        token::of("alice")
    );
    assert_eq!(browser.run(&opened).await, json!([1]));
    client.put("speed", json!({ "speed": 1.75 })).await;
    let told = "while (told.length < 2) await new Promise(next => setTimeout(next, 10)); return told;";
    assert_eq!(browser.run(told).await, json!([1, 1.75]));
    browser.run("source.close(); return 0;").await;
    let left = async || (gate.metric("tidegate_players_streams_open", "").await == 0.0).then_some(());
    eventually("the listener is gone", left).await;
    browser.close().await;
}

#[tokio::test]
async fn a_logout_ends_the_users_streams_and_nobody_elses() {
    let folder = TempFolder::new("players");
    let mut config = in_a_file(&folder);
    config["Auth"]["PathToken"] = json!({ "Keys": ["env:NEW_KEY"] });
    let gate = Gate::start_with(&config, &KEYS).await;
    let Some(mut alices) = Listener::open(&gate, "alice", "").await else { return };
    let mut bobs = Listener::open(&gate, "bob", "").await.expect("curl is there");
    // Its user's state is asked for when the stream begins.
    alices.event("player").await;
    log_out(&gate, "carol").await;
    log_out(&gate, "alice").await;
    assert_eq!(alices.end().await, "logged_out");
    Client::new(&gate, "bob").put("speed", json!({ "speed": 1.5 })).await;
    bobs.event("settings").await;
    assert_eq!(bobs.event("settings").await["speed"], 1.5);
    assert_eq!(gate.metric("tidegate_players_streams_ended_total", "logged_out").await, 1.0);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let folder = TempFolder::new("players");
    let mut config = in_a_file(&folder);
    config["Auth"]["Jwt"]["Leeway"] = json!("1s");
    let gate = Gate::start(&config).await;
    let mut claims = token::claims("alice");
    claims["exp"] = json!(token::now() + 2);
    let Some(mut listener) = Listener::open_with(&gate, &token::with(&claims), "").await else { return };
    assert_eq!(listener.end().await, "token_expired");
}

#[tokio::test]
async fn a_shutdown_ends_streams_at_once() {
    let folder = TempFolder::new("players");
    // Its grace is far longer than the test may take.
    let mut gate = Gate::start(&in_a_file(&folder)).await;
    let Some(mut listener) = Listener::open(&gate, "alice", "").await else { return };
    listener.event("player").await;
    gate.signal("TERM").await;
    assert_eq!(listener.end().await, "shutdown");
    assert!(gate.ended().await.success());
}

#[tokio::test]
async fn a_user_has_so_many_streams_and_no_more() {
    let folder = TempFolder::new("players");
    let mut config = in_a_file(&folder);
    config["Playback"] = json!({ "MaxListenersPerUser": 2, "MaxListeners": 3 });
    let gate = Gate::start(&config).await;
    let Some(first) = Listener::open(&gate, "alice", "").await else { return };
    let _second = Listener::open(&gate, "alice", "").await.expect("curl is there");
    let refused = Client::new(&gate, "alice").send(Method::GET, "events", None).await;
    assert_eq!(refused.problem(429)["code"], "too_many_requests");
    let _bobs = Listener::open(&gate, "bob", "").await.expect("curl is there");
    let full = Client::new(&gate, "carol").send(Method::GET, "events", None).await;
    assert!(!full.header("retry-after").is_empty(), "{:?}", full.problem(503));
    drop(first);
    let two = async || (gate.metric("tidegate_players_streams_open", "").await == 2.0).then_some(());
    eventually("the listener is gone", two).await;
    let _third = Listener::open(&gate, "alice", "").await.expect("there is room");
}

#[tokio::test]
async fn a_listener_that_takes_nothing_is_dropped_and_holds_nobody_up() {
    let folder = TempFolder::new("players");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut slow = Raw::over(socket.connect(gate.address()).await.expect("the gate accepts"));
    let token = token::of("alice");
    let head = format!("GET {} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\n\r\n", path("events"));
    slow.send(head.as_bytes()).await;
    assert!(slow.head().await.expect("a head").contains(" 200"));
    let Some(mut other) = Listener::open(&gate, "alice", "").await else { return };
    let client = Client::new(&gate, "alice");
    let title = "x".repeat(500);
    let mut states = ["playing", "paused"].iter().cycle();
    in_time("the slow listener is dropped", async {
        while gate.metric("tidegate_players_streams_ended_total", "slow").await == 0.0 {
            for _ in 0..200 {
                let state = states.next().expect("they repeat");
                let body = json!({ "track_id": "t", "state": state, "position_ms": 1, "title": title });
                client.report(body).await;
            }
            // Who takes what comes is told all of it.
            for _ in 0..200 {
                other.event("player").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn metrics_of_players_are_there_from_the_start() {
    let folder = TempFolder::new("players");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let page = gate.metrics().await;
    for series in [
        "tidegate_players_reports_total{outcome=\"applied\"} 0",
        "tidegate_players_reports_total{outcome=\"ignored\"} 0",
        "tidegate_players_reports_total{outcome=\"failed\"} 0",
        "tidegate_players_changes_total{kind=\"seek\"} 0",
        "tidegate_players_changes_total{kind=\"track_speed\"} 0",
        "tidegate_players_streams_ended_total{reason=\"slow\"} 0",
        "tidegate_players_streams_ended_total{reason=\"logged_out\"} 0",
        "tidegate_players_events_total{origin=\"local\"} 0",
        "tidegate_players_events_total{origin=\"remote\"} 0",
        "tidegate_players_closed_total 0",
        "tidegate_players_publish_failures_total 0",
        "tidegate_players_streams_open 0",
    ] {
        assert!(page.lines().any(|line| line == series), "no {series}");
    }
    let client = Client::new(&gate, "alice");
    client.report(report("song", "playing", 0)).await;
    client.put("speed", json!({ "speed": 1.5 })).await;
    client.post("seek", json!({ "position_ms": 1 })).await;
    for (name, labels) in [
        ("tidegate_players_reports_total", "applied"),
        ("tidegate_players_changes_total", "\"speed\""),
        ("tidegate_players_changes_total", "seek"),
    ] {
        assert_eq!(gate.metric(name, labels).await, 1.0, "{name} {labels}");
    }
}
