//! Players that are not heard of any more, and the events of what is played.

use super::listener::Listener;
use super::*;
use crate::support::tools::json_lines;

/// Closed after three seconds without a report.
fn impatient(mut config: Value) -> Value {
    config["Playback"]["ReportInterval"] = json!("1s");
    config["Playback"]["PausedTimeout"] = json!("1s");
    config
}

#[tokio::test]
async fn a_player_in_memory_that_stops_reporting_is_closed() {
    let folder = TempFolder::new("players");
    is_closed(&impatient(in_a_file(&folder))).await;
}

#[tokio::test]
async fn a_player_in_redis_that_stops_reporting_is_closed() {
    let folder = TempFolder::new("players");
    let Some((config, redis)) = in_servers(&folder).await else { return };
    is_closed(&impatient(config)).await;
    let due = redis.ask("ZCARD tide:playback.deadlines");
    assert!(due.starts_with(":2"), "those that stopped are dropped later: {due}");
}

async fn is_closed(config: &Value) {
    let gate = Gate::start(config).await;
    let client = Client::new(&gate, "alice");
    let Some(mut listener) = Listener::open(&gate, "alice", "").await else { return };
    listener.event("player").await;
    client.report(report("song", "playing", 5_000)).await;
    player_in(&mut listener, "playing").await;
    let closed = player_in(&mut listener, "stopped").await;
    assert_eq!(closed["position_ms"], 5_000, "where it was last");
    let now = client.get("position").await;
    assert_eq!((&now["state"], &now["track_id"]), (&json!("stopped"), &json!("song")));
    let mut paused = report("song", "paused", 9_000);
    paused["channel_id"] = json!("kitchen");
    client.report(paused).await;
    player_in(&mut listener, "paused").await;
    let closed = player_in(&mut listener, "stopped").await;
    assert_eq!(closed["channel_id"], "kitchen", "a pause ends too");
    assert_eq!(gate.metric("tidegate_players_closed_total", "").await, 2.0);
}

/// The next event of a player in this state. What holds may be told once more while nodes find each other.
async fn player_in(listener: &mut Listener, state: &str) -> Value {
    loop {
        let player = listener.event("player").await;
        if player["state"] == state {
            return player;
        }
    }
}

#[tokio::test]
async fn a_player_that_reports_is_not_closed() {
    let folder = TempFolder::new("players");
    let gate = Gate::start(&impatient(in_a_file(&folder))).await;
    let (client, other) = (Client::new(&gate, "alice"), Client::new(&gate, "bob"));
    other.report(report("song", "playing", 0)).await;
    let others_is_closed = async || {
        client.report(report("song", "playing", 1_000)).await;
        (gate.metric("tidegate_players_closed_total", "").await == 1.0).then_some(())
    };
    eventually("another player is closed", others_is_closed).await;
    assert_eq!(client.get("position").await["state"], "playing");
    assert_eq!(other.get("position").await["state"], "stopped");
}

#[tokio::test]
async fn what_players_report_becomes_playback_events() {
    let folder = TempFolder::new("players");
    let mut config = impatient(in_a_file(&folder));
    let file = folder.path().join("events.jsonl");
    config["Events"] = json!({ "File": file, "Outbox": { "Path": folder.path().join("outbox") } });
    config["Playback"]["PublishEvents"] = json!(true);
    let gate = Gate::start(&config).await;
    let client = Client::new(&gate, "alice");
    for (state, position) in [("starting", 0), ("playing", 0), ("paused", 9_000), ("playing", 9_000)] {
        client.report(report("one", state, position)).await;
    }
    client.post("seek", json!({ "position_ms": 590_000 })).await;
    client.report(report("one", "stopped", 599_000)).await;
    client.report(report("two", "playing", 1_000)).await;
    // Nothing more: it is closed, and that is published too.
    let published = async || Some(json_lines::<Value>(&file)).filter(|lines| lines.len() >= 7);
    let lines = eventually("all events are published", published).await;
    let body = |line: &Value| line.get("body").cloned().unwrap_or_else(|| line.clone());
    let actions: Vec<String> = lines
        .iter()
        .map(|line| {
            let body = body(line);
            format!("{} {}", body["trackId"].as_str().unwrap_or("?"), body["action"].as_str().unwrap_or("?"))
        })
        .collect();
    assert_eq!(
        actions,
        ["one Start", "one Pause", "one Resume", "one Seek", "one Complete", "two Start", "two Pause"],
        "{lines:?}"
    );
}
