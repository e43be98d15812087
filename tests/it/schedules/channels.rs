//! Schedules that begin a playlist or a track on a channel that everybody hears.

use super::*;
use crate::catalogue::{send, tracks};
use crate::channels::listening::silence;
use crate::support::token;

const HOST: &str = "the token of sharing";

/// Channels that play, playlists and schedules; the tracks `t1` and `t2` are everybody's who has a token.
fn with_channels(folder: &TempFolder) -> Value {
    let mut config = tracks("http://127.0.0.1:1", &sqlite(folder));
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    for track in ["t1", "t2"] {
        std::fs::write(folder.path().join(format!("objects/audio/{track}.wav")), silence()).expect("a file");
    }
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["Channels"] = json!({ "Names": ["main", "lounge"] });
    config["Share"] = json!({ "Token": "env:BEARER_TOKEN" });
    config["Playlists"] = json!({});
    config["Schedules"] = json!({ "MinInterval": "1s", "Lease": "1s" });
    config
}

async fn start(config: &Value) -> Gate {
    Gate::start_with(config, &[("BEARER_TOKEN", HOST)]).await
}

async fn add_tracks(gate: &Gate) {
    for id in ["t1", "t2"] {
        let track =
            json!({ "id": id, "store": "main", "bucket": "audio", "key": format!("{id}.wav"), "ownerId": "root" });
        send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    }
}

/// Makes a playlist of `who`; gives its id.
async fn playlist(gate: &Gate, who: &str, tracks: &[&str]) -> Value {
    let items: Vec<Value> = tracks.iter().map(|track| json!({ "track_id": track })).collect();
    let body = json!({ "name": "Morning", "items": items });
    json_of(send(gate, Method::POST, "/api/v1/playlists", who, Some(body)).await.is(201))["id"].clone()
}

/// Waits until a channel plays a track.
async fn plays(gate: &Gate, channel: &str, track: &str) {
    let heard = async || {
        let reply = send(gate, Method::GET, &format!("/api/v1/channels/{channel}"), &bearer("bob"), None).await;
        (json_of(reply.is(200))["now"]["track_id"] == track).then_some(())
    };
    eventually("the channel plays it", heard).await;
}

/// A client whose token has a role.
fn with_role<'a>(gate: &'a Gate, role: &str) -> Client<'a> {
    let mut claims = token::claims("vera");
    claims["role"] = json!(role);
    Client { gate, who: format!("Bearer {}", token::with(&claims)) }
}

fn beginning(what: &str, id: &Value, channel: &str) -> Value {
    json!({ "name": "Morning", what: id, "channel_id": channel, "cron": "0 0 1 1 *" })
}

#[tokio::test]
async fn a_schedule_begins_a_playlist_on_a_channel_and_the_channel_plays_it() {
    let folder = TempFolder::new("schedules");
    let mut config = with_channels(&folder);
    let mut gate = start(&config).await;
    add_tracks(&gate).await;
    let list = playlist(&gate, &admin(), &["t1", "t2"]).await;
    let client = Client::admin(&gate);
    let mut often = beginning("playlist_id", &list, "main");
    often["cron"] = json!("* * * * * *");
    let made = client.create(&often).await;
    client.ends_as(id_of(&made), "done").await;
    plays(&gate, "main", "t1").await;
    client.send(Method::POST, &format!("{}/pause", id_of(&made)), None).await.is(200);
    // A single track, on another channel, now.
    let track = client.create(&beginning("track_id", &json!("t2"), "lounge")).await;
    client.send(Method::POST, &format!("{}/run", id_of(&track)), None).await.is(202);
    plays(&gate, "lounge", "t2").await;
    let requests = send(&gate, Method::GET, "/api/v1/queue/lounge/items", &bearer("bob"), None).await;
    assert_eq!(json_of(requests.is(200))["items"][0]["source"], "playlist");
    // Who may schedule is asked again when the instant comes.
    gate.stop().await;
    config["Channels"]["ScheduledBy"] = json!(["vip"]);
    let gate = start(&config).await;
    let client = Client::admin(&gate);
    client.send(Method::POST, &format!("{}/run", id_of(&track)), None).await.is(202);
    let failed = client.ends_as(id_of(&track), "failed").await;
    assert!(failed["detail"].as_str().expect("a reason").contains("role"), "{failed}");
    client.send(Method::POST, "", Some(&beginning("playlist_id", &list, "main"))).await.problem(403);
    with_role(&gate, "vip").create(&beginning("track_id", &json!("t1"), "main")).await;
}

#[tokio::test]
async fn what_cannot_be_begun_on_a_channel_is_refused_when_it_is_scheduled() {
    let folder = TempFolder::new("schedules");
    let gate = start(&with_channels(&folder)).await;
    add_tracks(&gate).await;
    let (list, empty) = (playlist(&gate, &admin(), &["t1"]).await, playlist(&gate, &admin(), &[]).await);
    let others = playlist(&gate, &bearer("alice"), &["t1"]).await;
    let client = Client::admin(&gate);
    let unknown = json!("0199a3f0-0000-7000-8000-000000000000");
    for (body, words) in [
        (beginning("playlist_id", &list, "kitchen"), "no such channel"),
        (beginning("playlist_id", &empty, "main"), "1 to 2000 tracks"),
        (beginning("playlist_id", &others, "main"), "no such playlist"),
        (beginning("playlist_id", &unknown, "main"), "no such playlist"),
        (beginning("track_id", &json!("t9"), "main"), "cannot be played"),
        // Neither radio nor players are there.
        (beginning("stream_id", &unknown, "main"), "cannot begin a radio station"),
    ] {
        let said = client.send(Method::POST, "", Some(&body)).await.problem(422);
        assert!(said["detail"].as_str().expect("a detail").contains(words), "{body}: {said}");
    }
    for who in [Client::new(&gate, "alice"), with_role(&gate, "vip"), with_role(&gate, "boss")] {
        let own = playlist(&gate, &who.who, &["t1"]).await;
        who.send(Method::POST, "", Some(&beginning("playlist_id", &own, "main"))).await.problem(403);
        assert_eq!(who.get("").await["items"], json!([]), "nothing is kept");
    }
    assert_eq!(client.get("").await["items"], json!([]), "nothing is kept");
}
