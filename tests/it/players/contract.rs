//! What holds wherever settings and players are kept.

use super::*;

#[tokio::test]
async fn settings_and_players_in_a_file_and_in_memory() {
    let folder = TempFolder::new("players");
    holds(&in_a_file(&folder)).await;
}

#[tokio::test]
async fn settings_in_postgresql_and_players_in_redis() {
    let folder = TempFolder::new("players");
    let Some((config, redis)) = in_servers(&folder).await else { return };
    holds(&config).await;
    assert!(redis.ask("EXISTS tide:playback.player:clock:main").starts_with(":1"));
    let ttl = redis.ask("PTTL tide:playback.player:clock:main");
    assert!(!ttl.starts_with(":-"), "it expires by itself: {ttl}");
}

async fn holds(config: &Value) {
    let gate = Gate::start(config).await;
    settings_are_set_and_read(&Client::new(&gate, "settings")).await;
    each_stop_of_the_player_is_taken(&Client::new(&gate, "speeds")).await;
    each_preset_is_taken_by_its_name(&Client::new(&gate, "presets")).await;
    a_track_remembers_its_speed(&Client::new(&gate, "tracks")).await;
    the_position_moves_by_the_speed(&Client::new(&gate, "clock")).await;
    a_player_is_sent_to_another_position(&Client::new(&gate, "seek")).await;
    late_reports_change_nothing(&Client::new(&gate, "late")).await;
    a_channel_belongs_to_its_user(&gate).await;
    of_two_changes_at_once_neither_is_lost(&Client::new(&gate, "both")).await;
    answers_are_as_described(&gate).await;
    let revision = Client::new(&gate, "settings").get("settings").await["revision"].clone();
    drop(gate);
    let gate = Gate::start(config).await;
    let kept = Client::new(&gate, "settings").get("settings").await;
    assert_eq!((&kept["speed"], &kept["revision"]), (&json!(1.5), &revision), "settings outlive the process");
    assert_eq!(Client::new(&gate, "tracks").get("settings?track_id=book").await["track_speed"], 1.5);
}

async fn settings_are_set_and_read(client: &Client) {
    let initial = client.get("settings").await;
    let flat = json!({ "preset": "flat", "bands": vec![0.0; 10] });
    assert_eq!(
        initial,
        json!({ "channel_id": "main", "speed": 1.0, "semitones": 0, "equalizer": flat, "track_id": null,
            "track_speed": null, "revision": 0, "updated_at": null })
    );
    let mut revision = 0;
    for (what, body, member, expected) in [
        ("speed", json!({ "speed": 1.25 }), "speed", json!(1.25)),
        ("speed", json!({ "speed": 1.234_5 }), "speed", json!(1.23)),
        ("pitch", json!({ "semitones": -12 }), "semitones", json!(-12)),
        ("pitch", json!({ "semitones": 12.0 }), "semitones", json!(12)),
        ("pitch", json!({ "semitones": 3, "channel_id": "main" }), "semitones", json!(3)),
        ("speed?channel_id=main", json!({ "speed": 1.5, "channel_id": "main" }), "speed", json!(1.5)),
    ] {
        let said = client.put(what, body.clone()).await;
        assert_eq!(said[member], expected, "{body}");
        assert_eq!(client.get("settings").await, said, "the answer is all settings");
        let newer = said["revision"].as_u64().expect("a number");
        assert!(newer > revision, "{said}");
        revision = newer;
    }
    assert_eq!(client.get("settings").await["equalizer"], flat, "one setting changes no other");
}

/// The 22 stops of the player's list.
async fn each_stop_of_the_player_is_taken(client: &Client) {
    let fine = (10..=20).map(|step| f64::from(step) / 20.0);
    let coarse = (11..=20).map(|step| f64::from(step) / 10.0);
    let stops: Vec<f64> = fine.chain(coarse).chain([1.25]).collect();
    assert_eq!(stops.len(), 22);
    for stop in stops {
        assert_eq!(client.put("speed", json!({ "speed": stop })).await["speed"], json!(stop));
    }
}

async fn each_preset_is_taken_by_its_name(client: &Client) {
    let presets = [
        "flat",
        "rock",
        "jazz",
        "pop",
        "hiphop",
        "dance",
        "metal",
        "electronic",
        "acoustic",
        "classical",
        "lofi",
        "custom",
    ];
    for preset in presets {
        let said = client.put("equalizer", json!({ "preset": preset })).await;
        assert_eq!(said["equalizer"]["preset"], preset);
        let is_flat = said["equalizer"]["bands"] == json!(vec![0.0; 10]);
        assert_eq!(is_flat, matches!(preset, "flat" | "custom"), "{said}");
    }
    let rock = client.put("equalizer", json!({ "preset": "rock" })).await;
    assert_eq!(rock["equalizer"]["bands"], json!([5.0, 4.0, 3.0, 1.0, -1.0, -1.0, 1.0, 3.0, 4.0, 4.0]));
    let bands = json!([12.0, -12.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -3.3]);
    let own = client.put("equalizer", json!({ "bands": bands })).await;
    assert_eq!(own["equalizer"], json!({ "preset": "custom", "bands": bands }));
    client.put("equalizer", json!({ "preset": "jazz" })).await;
    let own = client.put("equalizer", json!({ "preset": "custom" })).await;
    assert_eq!(own["equalizer"]["bands"], bands, "the user's bands come back");
}

async fn a_track_remembers_its_speed(client: &Client) {
    client.put("speed", json!({ "speed": 0.9 })).await;
    let said = client.put("speed", json!({ "speed": 1.5, "track_id": "book" })).await;
    assert_eq!((&said["speed"], &said["track_speed"]), (&json!(0.9), &json!(1.5)));
    assert_eq!(client.get("settings?track_id=song").await["track_speed"], Value::Null);
    // The channel's speed is that of all others.
    for (track, speed) in [("song", 0.9), ("book", 1.5), ("song", 0.9)] {
        assert_eq!(client.report(report(track, "starting", 0)).await["speed"], speed, "{track}");
    }
    client.report(report("book", "playing", 0)).await;
    client.put("speed", json!({ "speed": 1.75, "track_id": "song" })).await;
    assert_eq!(client.get("position").await["speed"], 1.5, "another track's speed");
    client.put("speed", json!({ "speed": 2, "track_id": "book" })).await;
    assert_eq!(client.get("position").await["speed"], 2.0, "the speed of what is played");
    client.put("speed", json!({ "speed": null, "track_id": "book" })).await;
    assert_eq!(client.get("position").await["speed"], 0.9, "forgotten");
    client.put("speed", json!({ "speed": 1.5, "track_id": "book" })).await;
}

async fn the_position_moves_by_the_speed(client: &Client) {
    let idle = client.get("position").await;
    assert_eq!(
        (&idle["state"], &idle["track_id"], &idle["position_ms"]),
        (&json!("stopped"), &Value::Null, &Value::Null)
    );
    client.put("pitch", json!({ "semitones": 2 })).await;
    client.report(report("song", "starting", 0)).await;
    assert_eq!(client.get("position").await["position_ms"], 0, "the clock moves from playing on");
    client.report(report("song", "playing", 10_000)).await;
    client.put("speed", json!({ "speed": 2.0 })).await;
    let moved = async || {
        let now = client.get("position").await;
        (now["position_ms"].as_i64().expect("a number") > 11_000).then_some(now)
    };
    let moved = eventually("the clock moves without a report", moved).await;
    for (member, expected) in [
        ("channel_id", json!("main")),
        ("track_id", json!("song")),
        ("duration_ms", json!(600_000)),
        ("speed", json!(2.0)),
        ("semitones", json!(2)),
        ("state", json!("playing")),
    ] {
        assert_eq!(moved[member], expected, "{moved}");
    }
    assert!(moved["updated_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{moved}");
    client.report(report("song", "playing", 599_999)).await;
    let at_the_end = async || (client.get("position").await["position_ms"] == 600_000).then_some(());
    eventually("the clock stops at the end", at_the_end).await;
    client.report(report("song", "paused", 30_000)).await;
    let (one, other) = (client.get("position").await, client.get("position").await);
    assert_eq!((&one["position_ms"], &other["position_ms"]), (&json!(30_000), &json!(30_000)));
}

async fn a_player_is_sent_to_another_position(client: &Client) {
    client.report(report("song", "paused", 60_000)).await;
    for (what, body, expected) in [
        ("seek", json!({ "position_ms": 93_500 }), 93_500),
        ("seek", json!({ "position_ms": 93_500.9 }), 93_500),
        ("seek", json!({ "position_ms": "01:05" }), 65_000),
        ("seek", json!({ "position": "0:02:05" }), 125_000),
        ("seek", json!({ "position_ms": 600_000 }), 600_000),
        ("rewind", json!({}), 570_000),
        ("rewind", json!({ "seconds": 70 }), 500_000),
        ("rewind", json!({ "seconds": 86_400 }), 0),
        ("seek", json!({ "position_ms": 45_000 }), 45_000),
    ] {
        let said = client.post(what, body.clone()).await;
        assert_eq!(said["position_ms"], expected, "{what} {body}");
        assert!(said["equalizer"]["bands"].is_array(), "all settings: {said}");
        assert_eq!(client.get("position").await["position_ms"], expected, "{what} {body}");
    }
    let empty = json_of(&client.send(Method::POST, "rewind", None).await);
    assert_eq!(empty["position_ms"], 15_000, "without a body by 30 seconds");
}

async fn late_reports_change_nothing(client: &Client) {
    let of = |session: &str, seq: u64, state: &str, position: i64| json!({ "track_id": session, "session_id": session, "seq": seq, "state": state, "position_ms": position });
    client.report(of("one", 2, "playing", 5_000)).await;
    for late in [of("one", 1, "starting", 0), of("one", 2, "paused", 1)] {
        let said = client.post("report", late).await;
        assert_eq!((&said["applied"], &said["state"]), (&json!(false), &json!("playing")), "{said}");
    }
    client.report(of("two", 1, "playing", 0)).await;
    for late in [of("one", 3, "stopped", 9_000), of("one", 4, "playing", 9_000)] {
        let said = client.post("report", late).await;
        assert_eq!((&said["applied"], &said["session_id"]), (&json!(false), &json!("two")), "{said}");
    }
    client.report(of("two", 2, "stopped", 7_000)).await;
    let now = client.get("position").await;
    assert_eq!((&now["state"], &now["position_ms"]), (&json!("stopped"), &json!(7_000)));
    client.send(Method::POST, "seek", Some(&json!({ "position_ms": 1 }))).await.problem(409);
}

async fn a_channel_belongs_to_its_user(gate: &Gate) {
    let (alice, bob) = (Client::new(gate, "a:kitchen"), Client::new(gate, "a"));
    let mut first = report("song", "playing", 1_000);
    first["channel_id"] = json!("kitchen");
    alice.report(first.clone()).await;
    alice.put("speed", json!({ "speed": 1.5, "channel_id": "kitchen" })).await;
    assert_eq!(alice.get("settings").await["speed"], 1.0, "of another channel");
    assert_eq!(alice.get("position").await["track_id"], Value::Null, "of another channel");
    assert_eq!(alice.get("position?channel_id=kitchen").await["track_id"], "song");
    // To others it does not exist, and is not made.
    for (method, what, body) in [
        (Method::PUT, "speed", json!({ "speed": 2.0, "channel_id": "kitchen" })),
        (Method::PUT, "speed", json!({ "speed": 2.0, "track_id": "song", "channel_id": "kitchen" })),
        (Method::PUT, "pitch", json!({ "semitones": 1, "channel_id": "kitchen" })),
        (Method::PUT, "equalizer", json!({ "preset": "rock", "channel_id": "kitchen" })),
        (Method::POST, "seek", json!({ "position_ms": 1, "channel_id": "kitchen" })),
        (Method::POST, "rewind", json!({ "channel_id": "kitchen" })),
        (
            Method::POST,
            "report",
            json!({ "track_id": "song", "state": "stopped", "position_ms": 1, "channel_id": "kitchen" }),
        ),
    ] {
        assert_eq!(bob.send(method, what, Some(&body)).await.problem(404)["code"], "not_found", "{what}");
    }
    for what in ["settings", "position", "events"] {
        bob.send(Method::GET, &format!("{what}?channel_id=kitchen"), None).await.problem(404);
    }
    assert_eq!(bob.get("settings?track_id=song").await["track_speed"], Value::Null);
    let kept = alice.get("settings?channel_id=kitchen").await;
    assert_eq!((&kept["speed"], &kept["semitones"]), (&json!(1.5), &json!(0)));
    // One of the same name is another one.
    bob.report(first).await;
    assert_eq!(bob.get("settings?channel_id=kitchen").await["speed"], 1.0);
    // A bot's chat.
    let mut chat = report("song", "playing", 0);
    chat["channel_id"] = json!(-100_123);
    alice.report(chat).await;
    assert_eq!(alice.get("position?channel_id=-100123").await["channel_id"], "-100123");
}

async fn of_two_changes_at_once_neither_is_lost(client: &Client) {
    client.report(report("song", "paused", 500_000)).await;
    let rewinds = (0..20).map(|_| client.post("rewind", json!({ "seconds": 1 })));
    let changes = (0..5).map(|step| async move {
        client.put("pitch", json!({ "semitones": step })).await;
        client.put("equalizer", json!({ "preset": "rock" })).await
    });
    tokio::join!(futures::future::join_all(rewinds), futures::future::join_all(changes));
    assert_eq!(client.get("position").await["position_ms"], 480_000);
    assert_eq!(client.get("settings").await["equalizer"]["preset"], "rock");
}

async fn answers_are_as_described(gate: &Gate) {
    let described = Described::by(&gate.client()).await;
    let client = Client::new(gate, "described");
    let good = json!({ "track_id": "t", "state": "playing", "position_ms": 1, "title": "I <3 You", "session_id": "s" });
    for (method, what, body, status) in [
        (Method::GET, "position", None, 200),
        (Method::POST, "report", Some(good), 200),
        (Method::GET, "position", None, 200),
        (Method::PUT, "speed", Some(json!({ "speed": 1.25 })), 200),
        (Method::PUT, "speed", Some(json!({ "speed": 1.25, "track_id": "t" })), 200),
        (Method::PUT, "pitch", Some(json!({ "semitones": 1 })), 200),
        (Method::PUT, "equalizer", Some(json!({ "preset": "rock" })), 200),
        (Method::POST, "seek", Some(json!({ "position_ms": "00:01" })), 200),
        (Method::POST, "rewind", None, 200),
        (Method::GET, "settings?track_id=t", None, 200),
        (Method::GET, "settings?channel_id=none", None, 404),
        (Method::PUT, "speed", Some(json!({ "speed": 3 })), 422),
        (Method::POST, "seek", Some(json!({ "position_ms": "1" })), 400),
    ] {
        let reply = client.send(method.clone(), what, body.as_ref()).await;
        reply.is(status);
        described.checks(method.as_str(), &path(what), &reply);
    }
    let events = &described.document()["paths"]["/api/v1/playback/events"]["get"]["responses"]["200"]["content"];
    assert!(events["text/event-stream"].is_object(), "{events}");
}
