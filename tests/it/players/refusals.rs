//! What is refused, and leaves nothing behind.

use super::*;
use crate::support::token;

#[tokio::test]
async fn what_is_out_of_range_or_malformed_is_refused_and_nothing_is_kept() {
    let folder = TempFolder::new("players");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let client = Client::new(&gate, "alice");
    client.report(report("song", "paused", 60_000)).await;
    let before = (client.get("settings").await, client.get("position").await);
    let report_with = |member: &str, value: Value| {
        let mut body = report("song", "playing", 1_000);
        body[member] = value;
        body
    };
    let (put, post) = (Method::PUT, Method::POST);
    let long = "x".repeat(65);
    for (method, what, body, status) in [
        (&put, "speed", json!({ "speed": 0.49 }), 422),
        (&put, "speed", json!({ "speed": 0.499 }), 422),
        (&put, "speed", json!({ "speed": 2.001 }), 422),
        (&put, "speed", json!({ "speed": 1e308 }), 422),
        (&put, "speed", json!({ "speed": "1.5" }), 400),
        (&put, "speed", json!({ "speed": null }), 400),
        (&put, "speed", json!({}), 400),
        (&put, "speed", json!({ "speed": 1.5, "channelId": "main" }), 400),
        (&put, "speed", json!({ "speed": 1.5, "track_id": "" }), 400),
        (&put, "speed", json!({ "speed": 1.5, "channel_id": "" }), 400),
        (&put, "speed", json!({ "speed": 1.5, "channel_id": long }), 400),
        (&put, "speed", json!({ "speed": 1.5, "channel_id": "a\u{0}" }), 400),
        (&put, "speed", json!({ "speed": 1.5, "channel_id": 1.5 }), 400),
        (&put, "speed", json!({ "speed": 1.5, "channel_id": "none" }), 404),
        (&put, "speed?channel_id=none", json!({ "speed": 1.5 }), 404),
        (&put, "speed?channel_id=none", json!({ "speed": 1.5, "channel_id": "main" }), 400),
        (&put, "pitch", json!({ "semitones": 13 }), 422),
        (&put, "pitch", json!({ "semitones": -13 }), 422),
        (&put, "pitch", json!({ "semitones": 0.5 }), 422),
        (&put, "pitch", json!({ "semitones": "1" }), 400),
        (&put, "equalizer", json!({ "preset": "loud" }), 422),
        (&put, "equalizer", json!({ "preset": "Rock" }), 422),
        (&put, "equalizer", json!({ "bands": [0, 0, 0, 0, 0, 0, 0, 0, 0] }), 422),
        (&put, "equalizer", json!({ "bands": [0, 0, 0, 0, 0, 0, 0, 0, 0, 12.1] }), 422),
        (&put, "equalizer", json!({ "bands": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "preset": "rock" }), 422),
        (&put, "equalizer", json!({ "bands": "rock" }), 400),
        (&put, "equalizer", json!({}), 400),
        (&post, "seek", json!({ "position_ms": -1 }), 422),
        (&post, "seek", json!({ "position_ms": 600_001 }), 422),
        (&post, "seek", json!({ "position_ms": "1:5" }), 400),
        (&post, "seek", json!({ "position_ms": "01:60" }), 400),
        (&post, "seek", json!({ "position_ms": "-1:00" }), 400),
        (&post, "seek", json!({ "position_ms": "99:99:99" }), 400),
        (&post, "seek", json!({ "position_ms": "1:00", "position": "1:00" }), 400),
        (&post, "seek", json!({ "position_ms": null }), 400),
        (&post, "seek", json!({}), 400),
        (&post, "rewind", json!({ "seconds": 0 }), 422),
        (&post, "rewind", json!({ "seconds": -30 }), 422),
        (&post, "rewind", json!({ "seconds": 86_401 }), 422),
        (&post, "rewind", json!({ "seconds": 1.5 }), 422),
        (&post, "rewind", json!([]), 400),
        (&post, "report", report_with("title", json!("<b>Song</b>")), 422),
        (&post, "report", report_with("title", json!("<script>alert(1)</script>")), 422),
        (&post, "report", report_with("title", json!("two\nlines")), 422),
        (&post, "report", report_with("title", json!("x".repeat(513))), 422),
        (&post, "report", report_with("track_id", json!("..")), 400),
        (&post, "report", report_with("state", json!("buffering")), 400),
        (&post, "report", report_with("position_ms", json!(-1)), 422),
        (&post, "report", report_with("duration_ms", json!(0)), 422),
        (&post, "report", report_with("speed", json!(0.49)), 422),
        (&post, "report", report_with("seq", json!(-1)), 400),
        (&post, "report", report_with("session_id", json!("")), 400),
        (&post, "report", report_with("timestamp", json!("yesterday")), 400),
        (&post, "report", report_with("timestamp", json!("1969-01-01T00:00:00Z")), 422),
        (&post, "report", report_with("position", json!(1)), 400),
    ] {
        let said = client.send(method.clone(), what, Some(&body)).await.problem(status);
        assert_eq!(said["success"], false, "{what} {body}");
    }
    assert_eq!((client.get("settings").await, client.get("position").await), before, "nothing was kept");
    client.send(Method::GET, "settings?channel_id=none", None).await.problem(404);
    let large = json!({ "track_id": "t", "state": "playing", "position_ms": 1, "title": "x".repeat(9000) });
    client.send(Method::POST, "report", Some(&large)).await.problem(413);
}

#[tokio::test]
async fn without_a_token_there_is_nothing_and_without_the_section_no_path() {
    let folder = TempFolder::new("players");
    let mut config = in_a_file(&folder);
    let gate = Gate::start(&config).await;
    for (method, what) in [
        (Method::PUT, "speed"),
        (Method::PUT, "pitch"),
        (Method::PUT, "equalizer"),
        (Method::POST, "seek"),
        (Method::POST, "rewind"),
        (Method::POST, "report"),
        (Method::GET, "position"),
        (Method::GET, "settings"),
        (Method::GET, "events"),
    ] {
        gate.client().send(method, &path(what), &[]).await.problem(401);
    }
    drop(gate);
    for off in [json!({ "Enabled": false }), Value::Null] {
        config["Playback"] = off;
        if config["Playback"].is_null() {
            config.as_object_mut().expect("a map").remove("Playback");
        }
        let gate = Gate::start(&config).await;
        Client::new(&gate, "alice").send(Method::GET, "settings", None).await.problem(404);
        assert!(!gate.metrics().await.contains("tidegate_players_"));
    }
}

#[tokio::test]
async fn requests_are_of_the_standard_class_and_reports_of_that_of_positions() {
    let folder = TempFolder::new("players");
    let mut config = in_a_file(&folder);
    let limit = |permits: u32| json!({ "FixedWindow": { "PermitLimit": permits, "Window": "1d" } });
    config["Policies"]["RateLimiter"] = json!({ "standard": limit(3), "elevated": limit(5), "positions": limit(4) });
    let gate = Gate::start(&config).await;
    let alice = Client::new(&gate, "alice");
    for number in 0..4 {
        alice.report(report("song", "playing", number)).await;
    }
    let refused = alice.send(Method::POST, "report", Some(&report("song", "playing", 9))).await;
    assert!(refused.problem(429)["reset_after"].is_u64() && !refused.header("retry-after").is_empty());
    let mut claims = token::claims("vip");
    claims["role"] = json!("vip");
    let mut vip = Client::new(&gate, "vip");
    vip.0.authorization = format!("Bearer {}", token::with(&claims));
    for (client, most) in [(&alice, 3), (&vip, 5)] {
        let allowed = [
            client.send(Method::PUT, "speed", Some(&json!({ "speed": 1.5 }))).await,
            client.send(Method::PUT, "pitch", Some(&json!({ "semitones": 1 }))).await,
            client.send(Method::GET, "settings", None).await,
            client.send(Method::GET, "position", None).await,
            client.send(Method::PUT, "equalizer", Some(&json!({ "preset": "pop" }))).await,
        ];
        let allowed = allowed.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(allowed, most, "{}", client.0.authorization);
        client.send(Method::GET, "events", None).await.problem(429);
    }
}

#[tokio::test]
async fn channels_and_remembered_speeds_of_a_user_are_bounded() {
    let folder = TempFolder::new("players");
    let mut config = in_a_file(&folder);
    config["Playback"] = json!({ "MaxChannelsPerUser": 3, "MaxTrackSpeedsPerUser": 2 });
    let gate = Gate::start(&config).await;
    let client = Client::new(&gate, "alice");
    client.put("speed", json!({ "speed": 1.5 })).await;
    for channel in ["one", "two", "three"] {
        client.post(&format!("report?channel_id={channel}"), report("song", "playing", 0)).await;
        client.put("speed", json!({ "speed": 1.1, "channel_id": channel })).await;
    }
    client.send(Method::GET, "settings?channel_id=one", None).await.problem(404);
    for (channel, speed) in [("main", 1.5), ("two", 1.1), ("three", 1.1)] {
        assert_eq!(client.get(&format!("settings?channel_id={channel}")).await["speed"], speed, "{channel}");
    }
    for track in ["a", "b", "c"] {
        client.put("speed", json!({ "speed": 1.3, "track_id": track })).await;
    }
    for (track, speed) in [("a", Value::Null), ("b", json!(1.3)), ("c", json!(1.3))] {
        assert_eq!(client.get(&format!("settings?track_id={track}")).await["track_speed"], speed, "{track}");
    }
}
