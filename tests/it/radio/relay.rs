//! Sound: one connection to a station for all who listen, its loss and its return, and listeners that take nothing.

use super::station::Station;
use super::*;
use crate::streaming_urls::log_out;
use crate::support::eventually;

/// Frames of the scripted station in a stretch of sound that may begin within one.
fn is_sound(heard: &[u8]) -> bool {
    let begin = heard.windows(4).position(|four| four == [0xFF, 0xFB, 0x90, 0x00]).unwrap_or(heard.len());
    let mut frames = heard[begin..].chunks_exact(417);
    begin <= 417 && frames.len() > 0 && frames.all(|frame| frame.starts_with(&[0xFF, 0xFB, 0x90, 0x00]))
}

async fn state_is(client: &Client, id: &str, expected: &str) {
    let what = format!("the station is {expected}");
    eventually(&what, async || (client.get(&format!("streams/{id}")).await["state"] == expected).then_some(())).await;
}

#[tokio::test]
async fn a_station_has_one_connection_however_many_listen_and_none_when_they_have_left() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Radio"]["Linger"] = json!("0s");
    config["Radio"]["MaxListenersPerUser"] = json!(100);
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let id = id_of(&added);
    let before = station.plays();
    let mut listeners = Vec::new();
    for _ in 0..30 {
        listeners.push(admin.hear(id).await);
    }
    for listener in &mut listeners {
        assert!(is_sound(listener.hear(20_000).await), "sound without the titles in it");
    }
    assert_eq!((station.plays() - before, station.open()), (1, 1));
    let shown = admin.get(&format!("streams/{id}")).await;
    assert_eq!((&shown["state"], &shown["listeners"]), (&json!("live"), &json!(30)));
    assert_eq!(gate.metric("tidegate_radio_listeners", "").await, 30.0);
    drop(listeners);
    eventually("the station is let go", async || (station.open() == 0).then_some(())).await;
    state_is(&admin, id, "idle").await;
    assert_eq!(gate.metric("tidegate_radio_streams_ended_total", "left").await, 30.0);
}

#[tokio::test]
async fn who_comes_later_gets_the_last_seconds_at_once() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let mut first = admin.hear(id_of(&added)).await;
    first.hear(150_000).await;
    // What the second one hears can only be what was kept.
    station.hold();
    let mut second = admin.hear(id_of(&added)).await;
    second.hear(48 * 1024).await;
}

#[tokio::test]
async fn a_station_that_breaks_is_connected_to_anew_and_its_listeners_go_on() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let mut sound = admin.hear(id_of(&added)).await;
    sound.hear(10_000).await;
    station.cut(true);
    state_is(&admin, id_of(&added), "reconnecting").await;
    station.come_back();
    state_is(&admin, id_of(&added), "live").await;
    sound.hear(100_000).await;
    assert!(gate.metric("tidegate_radio_connects_total", "connected").await >= 2.0);
}

#[tokio::test]
async fn a_station_that_stays_away_is_tried_again_after_ever_longer_waits_and_its_listeners_stay() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let mut sound = admin.hear(id_of(&added)).await;
    sound.hear(10_000).await;
    // The waits before it broke are none between two attempts.
    let before = station.waits().len();
    station.cut(true);
    let waits = eventually("it was tried three times", async || {
        Some(station.waits().split_off(before)).filter(|waits| waits.len() >= 3)
    })
    .await;
    // About 2 and 4 seconds; the first one has the time before the break in it.
    assert!(waits[1] < waits[2], "{waits:?}");
    assert_eq!(gate.metric("tidegate_radio_listeners", "").await, 1.0);
    station.come_back();
    state_is(&admin, id_of(&added), "live").await;
    sound.hear(50_000).await;
}

/// Hears on until there is sound of a station that fills its frames with `byte`.
async fn hear_filling(sound: &mut Sound, byte: u8) {
    while !sound.hear(10_000).await.windows(100).any(|bytes| bytes.iter().all(|it| *it == byte)) {}
}

#[tokio::test]
async fn while_a_station_is_away_its_fallback_station_is_heard() {
    let folder = TempFolder::new("radio");
    let (gate, station, other) =
        (Gate::start(&in_a_file(&folder)).await, Station::start().await, Station::start().await);
    let admin = Client::admin(&gate);
    other.fill_with(0x33);
    let spare = admin.add("Spare", &other.url("/live.mp3")).await;
    let added = json!({ "name": "One", "url": station.url("/live.mp3"), "fallback_id": spare["id"] });
    let added = admin.add_with(added).await;
    let mut sound = admin.hear(id_of(&added)).await;
    sound.hear(10_000).await;
    station.cut(true);
    state_is(&admin, id_of(&added), "fallback").await;
    hear_filling(&mut sound, 0x33).await;
    assert_eq!(other.open(), 1);
    assert_eq!(gate.metric("tidegate_radio_fallbacks_total", "").await, 1.0);
    // Somebody who comes now hears it too.
    hear_filling(&mut admin.hear(id_of(&added)).await, 0x33).await;
    station.come_back();
    state_is(&admin, id_of(&added), "live").await;
    hear_filling(&mut sound, 0x55).await;
    sound.hear(50_000).await;
}

#[tokio::test]
async fn a_dead_station_is_said_to_be_dead_and_its_listeners_are_let_go() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Radio"]["OfflineTimeout"] = json!("1s");
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let mut sound = admin.hear(id_of(&added)).await;
    sound.hear(10_000).await;
    station.cut(true);
    sound.end().await;
    assert_eq!(gate.metric("tidegate_radio_streams_ended_total", "offline").await, 1.0);
    let played = admin.send(Method::POST, "play", Some(&json!({ "stream_id": added["id"] }))).await;
    assert!(!played.header("retry-after").is_empty());
    played.problem(503);
    admin.send(Method::GET, &format!("{}/live", id_of(&added)), None).await.problem(503);
}

#[tokio::test]
async fn a_station_that_nobody_hears_gives_way_to_another() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Radio"]["MaxUpstreams"] = json!(1);
    config["Radio"]["Linger"] = json!("1h");
    let (gate, one, two) = (Gate::start(&config).await, Station::start().await, Station::start().await);
    let admin = Client::admin(&gate);
    let first = admin.add("One", &one.url("/live.mp3")).await;
    let second = admin.add("Two", &two.url("/live.mp3")).await;
    admin.play(id_of(&first)).await;
    admin.play(id_of(&second)).await;
    let mut sound = admin.hear(id_of(&second)).await;
    sound.hear(10_000).await;
    let refused = admin.send(Method::POST, "play", Some(&json!({ "stream_id": first["id"] }))).await;
    refused.problem(503);
    sound.hear(10_000).await;
}

#[tokio::test]
async fn a_listener_that_takes_nothing_is_dropped_and_holds_nobody_up() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Server"]["WriteTimeout"] = json!("5s");
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/fast.mp3")).await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let stream = socket.connect(gate.address()).await.expect("the gate accepts");
    let mut slow = crate::support::raw::Raw::over(stream);
    let (live, authorization) = (path(&format!("{}/live", id_of(&added))), &admin.0.authorization);
    slow.send(format!("GET {live} HTTP/1.1\r\nHost: gate\r\nAuthorization: {authorization}\r\n\r\n").as_bytes()).await;
    let mut quick = admin.hear(id_of(&added)).await;
    // Read without a pause: the station is so fast that whoever waits between two reads is slow too.
    let hearing = async {
        loop {
            quick.hear(10_000).await;
        }
    };
    let dropped = async || {
        let ended = gate.metric("tidegate_radio_streams_ended_total", "slow").await;
        (ended == 1.0).then_some(())
    };
    tokio::select! {
        () = hearing => {}
        () = eventually("it is dropped while the other one hears", dropped) => {}
    }
    assert_eq!(gate.metric("tidegate_radio_listeners", "").await, 1.0);
}

#[tokio::test]
async fn deleting_a_station_logging_out_and_a_shutdown_end_streams() {
    let folder = TempFolder::new("radio");
    let (mut gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let (admin, alice) = (Client::admin(&gate), Client::new(&gate, "alice"));
    let one = admin.add("One", &station.url("/live.mp3")).await;
    let two = admin.add("Two", &station.url("/other.mp3")).await;
    let (mut hers, mut theirs, ended) =
        (alice.hear(id_of(&two)).await, admin.hear(id_of(&two)).await, admin.hear(id_of(&one)).await);
    hers.hear(1000).await;
    let played = alice.play(id_of(&two)).await;
    assert_eq!(admin.send(Method::DELETE, &format!("streams/{}", id_of(&one)), None).await.status, 204);
    ended.end().await;
    log_out(&gate, "alice").await;
    hers.end().await;
    gate.client().get(played["play_url"].as_str().expect("an address"), &[]).await.problem(401);
    theirs.hear(50_000).await;
    for reason in ["deleted", "logged_out"] {
        assert_eq!(gate.metric("tidegate_radio_streams_ended_total", reason).await, 1.0, "{reason}");
    }
    gate.signal("TERM").await;
    theirs.end().await;
    assert!(gate.ended().await.success());
}
