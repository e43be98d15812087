//! Positions, through the shipped binary, over each of what they can be kept in: a file, PostgreSQL, Redis, and
//! PostgreSQL with Redis before it.

mod clocks;
mod contract;
mod outages;
mod ways;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, Postgres, Redis, config};

/// A configuration with an embedded store, which is always ready, and tokens.
fn base(folder: &TempFolder) -> Value {
    let mut config = config::empty();
    // A bucket that is not there would make the node unready.
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["ReverseProxy"]["Routes"]["stream"] = config::object_route("/stream/{**key}", "main", "audio", "{**key}");
    config["Auth"] = config::jwt();
    config
}

/// Kept in a file in `folder`.
fn in_a_file(folder: &TempFolder) -> Value {
    let mut config = base(folder);
    config["Database"]["Url"] = json!(format!("sqlite://{}", folder.path().join("data/tidegate.db").display()));
    config
}

/// A player with a token of its own.
#[derive(Clone)]
struct Player(ApiUser);

impl Player {
    fn new(gate: &Gate, user: &str) -> Self {
        Self(ApiUser::new(gate, user))
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.0.send(method, path, body).await
    }

    async fn post(&self, track: &str, body: Value) -> Reply {
        self.send(Method::POST, &path(track), Some(&body)).await
    }

    /// Saves, which must succeed.
    async fn save(&self, track: &str, body: Value) {
        self.post(track, body).await.is(204);
    }

    async fn clear(&self, track: &str) {
        self.send(Method::DELETE, &path(track), None).await.is(204);
    }

    async fn get(&self, track: &str) -> Option<i64> {
        let answer = self.json(&path(track)).await;
        let position = answer.get("positionMs").unwrap_or_else(|| panic!("no positionMs in {answer}"));
        position.as_i64()
    }

    async fn json(&self, path: &str) -> Value {
        let reply = self.send(Method::GET, path, None).await;
        serde_json::from_slice(&reply.is(200).body).expect("JSON")
    }

    /// The ids of the list.
    async fn progress(&self, query: &str) -> (Vec<String>, Option<String>) {
        let answer = self.json(&format!("/api/v1/progress?{query}")).await;
        let items = answer["items"].as_array().expect("items");
        let ids = items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect();
        (ids, answer["nextCursor"].as_str().map(str::to_owned))
    }
}

fn path(track: &str) -> String {
    format!("/api/v1/tracks/{track}/position")
}
