//! Players, through the shipped binary: settings of channels, live state, reports, and the events between windows, over
//! SQLite and memory, and over PostgreSQL and Redis.

mod contract;
mod events;
pub mod listener;
mod nodes;
mod refusals;
mod sessions;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::sqlite;
use crate::support::client::Reply;
use crate::support::described::Described;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, Postgres, Redis, config, eventually};

/// Settings in a file in `folder`, players in memory.
pub fn in_a_file(folder: &TempFolder) -> Value {
    let mut config = config::empty();
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["ReverseProxy"]["Routes"]["stream"] = config::object_route("/stream/{**key}", "main", "audio", "{**key}");
    config["Auth"] = config::jwt();
    config["Database"]["Url"] = json!(sqlite(folder));
    config["Playback"] = json!({});
    config
}

/// Settings in PostgreSQL, players in Redis; `None` where one is missing and not required.
async fn in_servers(folder: &TempFolder) -> Option<(Value, Redis)> {
    let (url, redis) = (Postgres::database().await?, Redis::start()?);
    let mut config = in_a_file(folder);
    config["Database"]["Url"] = json!(url);
    config["State"] = json!({ "Url": redis.url(), "Prefix": "tide:" });
    Some((config, redis))
}

/// A user's client.
#[derive(Clone)]
struct Client(ApiUser);

impl Client {
    fn new(gate: &Gate, user: &str) -> Self {
        Self(ApiUser::new(gate, user))
    }

    async fn send(&self, method: Method, what: &str, body: Option<&Value>) -> Reply {
        self.0.send(method, &path(what), body).await
    }

    /// PUTs, which must succeed.
    async fn put(&self, what: &str, body: Value) -> Value {
        json_of(&self.send(Method::PUT, what, Some(&body)).await)
    }

    /// POSTs, which must succeed.
    async fn post(&self, what: &str, body: Value) -> Value {
        json_of(&self.send(Method::POST, what, Some(&body)).await)
    }

    /// GETs, which must succeed.
    async fn get(&self, what: &str) -> Value {
        json_of(&self.send(Method::GET, what, None).await)
    }

    /// Reports, which must be taken.
    async fn report(&self, body: Value) -> Value {
        let said = self.post("report", body.clone()).await;
        assert_eq!(said["applied"], true, "{body}: {said}");
        said
    }
}

fn path(what: &str) -> String {
    format!("/api/v1/playback/{what}")
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.is(200).body).expect("JSON")
}

/// A report of `track` in this state.
fn report(track: &str, state: &str, position: i64) -> Value {
    json!({ "track_id": track, "state": state, "position_ms": position, "duration_ms": 600_000 })
}
