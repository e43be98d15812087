//! Channels, through the shipped binary: their queues in memory and in Redis, who goes first, and what is refused.

mod contract;
mod events;
mod isolation;
pub mod listening;
mod playing;
mod refusals;
mod store;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::client::Reply;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Redis, token};

/// Channels `main` and `lounge` over a catalogue in a file, queues in memory.
fn in_memory(folder: &TempFolder) -> Value {
    let mut config = tracks("http://127.0.0.1:1", &sqlite(folder));
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["Channels"] = json!({ "Names": ["main", "lounge"], "MaxItems": 8, "MaxItemsPerUser": 3 });
    config
}

/// The same, queues in Redis; `None` where it is missing and not required.
fn in_redis(folder: &TempFolder) -> Option<(Value, Redis)> {
    let redis = Redis::start()?;
    let mut config = in_memory(folder);
    config["State"] = json!({ "Url": redis.url(), "Prefix": "tide:" });
    Some((config, redis))
}

/// Starts a gate whose catalogue has the tracks `t1` to `t9`, which are alice's, and everybody's who has a token.
async fn start(config: &Value) -> Gate {
    let gate = Gate::start(config).await;
    for number in 1..10 {
        let track = json!({ "id": format!("t{number}"), "store": "main", "bucket": "audio", "key": format!("{number}.mp3"),
            "ownerId": "alice" });
        let added = send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await;
        assert!(added.status.is_success(), "{}", added.status);
    }
    gate
}

/// `Authorization` of a VIP.
fn vip(user: &str) -> String {
    let mut claims = token::claims(user);
    claims["role"] = json!("vip");
    format!("Bearer {}", token::with(&claims))
}

fn items_of(channel: &str) -> String {
    format!("/api/v1/queue/{channel}/items")
}

/// Asks to queue a track.
async fn ask(gate: &Gate, channel: &str, who: &str, track: &str) -> Reply {
    send(gate, Method::POST, &items_of(channel), who, Some(json!({ "track_id": track }))).await
}

/// Queues a track, which must be taken; returns the answer.
async fn queue(gate: &Gate, channel: &str, who: &str, track: &str) -> Value {
    serde_json::from_slice(&ask(gate, channel, who, track).await.is(201).body).expect("JSON")
}

/// A page of the queue.
async fn page(gate: &Gate, channel: &str, who: &str, query: &str) -> Value {
    let path = format!("{}{query}", items_of(channel));
    serde_json::from_slice(&send(gate, Method::GET, &path, who, None).await.is(200).body).expect("JSON")
}

/// Tracks of a channel's queue, in their order.
async fn order(gate: &Gate, channel: &str) -> Vec<String> {
    let page = page(gate, channel, &bearer("alice"), "?limit=100").await;
    let items = page["items"].as_array().expect("a list").iter();
    items.map(|item| item["track_id"].as_str().expect("a text").to_owned()).collect()
}

async fn delete(gate: &Gate, channel: &str, who: &str, id: &Value) -> Reply {
    let path = format!("{}/{}", items_of(channel), id.as_str().expect("an id"));
    send(gate, Method::DELETE, &path, who, None).await
}
