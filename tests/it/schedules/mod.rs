//! Schedules, through the shipped binary: what is kept over SQLite and PostgreSQL, radio that begins on a user's players, nodes
//! that share instants and die, and what is refused.

mod channels;
mod contract;
mod nodes;
mod refusals;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, sqlite};
use crate::players::listener::Listener;
use crate::radio::station::Station;
use crate::support::client::Reply;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, config, eventually};

/// Schedules, radio and players in `database`; instants may be a second apart.
fn schedules(folder: &TempFolder, database: &str) -> Value {
    let mut config = config::empty();
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["ReverseProxy"]["Routes"]["stream"] = config::object_route("/stream/{**key}", "main", "audio", "{**key}");
    config["Auth"] = config::jwt();
    config["Database"]["Url"] = json!(database);
    config["Playback"] = json!({});
    config["Radio"] = json!({ "AllowedNetworks": ["127.0.0.1/32"] });
    config["Schedules"] = json!({ "MinInterval": "1s", "Lease": "1s" });
    config
}

/// A caller.
struct Client<'a> {
    gate: &'a Gate,
    who: String,
}

impl<'a> Client<'a> {
    fn new(gate: &'a Gate, user: &str) -> Self {
        Self { gate, who: bearer(user) }
    }

    fn admin(gate: &'a Gate) -> Self {
        Self { gate, who: admin() }
    }

    /// A request with a body and more headers.
    async fn send_with(&self, method: Method, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.gate.client().request(method, path).header("authorization", &self.who);
        request = body.into_iter().fold(request, |request, body| request.json(body));
        request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.expect("the gate answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.expect("a whole answer") }
    }

    async fn send(&self, method: Method, what: &str, body: Option<&Value>) -> Reply {
        self.send_with(method, &path(what), body, &[]).await
    }

    /// Makes a schedule, which must succeed.
    async fn create(&self, body: &Value) -> Value {
        json_of(self.send(Method::POST, "", Some(body)).await.is(201))
    }

    async fn get(&self, what: &str) -> Value {
        json_of(self.send(Method::GET, what, None).await.is(200))
    }

    /// Runs of a schedule, the newest first.
    async fn history(&self, id: &str) -> Vec<Value> {
        self.get(&format!("{id}/history?limit=100")).await["items"].as_array().expect("a list").clone()
    }

    /// Waits until the newest run has this state; gives it.
    async fn ends_as(&self, id: &str, state: &str) -> Value {
        let ended = async || self.history(id).await.into_iter().next().filter(|run| run["state"] == state);
        eventually(&format!("the newest run is {state}"), ended).await
    }
}

/// Adds a station; returns its id.
async fn add(gate: &Gate, station: &Station) -> String {
    let body = json!({ "name": "One", "url": station.url("/live.mp3") });
    let reply = Client::admin(gate).send_with(Method::POST, "/api/v1/radio/streams", Some(&body), &[]).await;
    id_of(&json_of(reply.is(201))).to_owned()
}

/// Schedule of a station that never comes within a test.
fn yearly(station: &str) -> Value {
    json!({ "name": "New year", "stream_id": station, "timezone": "Europe/Kyiv", "cron": "0 0 1 1 *" })
}

fn path(what: &str) -> String {
    let slash = if what.is_empty() || what.starts_with('?') { "" } else { "/" };
    format!("/api/v1/scheduler/schedules{slash}{what}")
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

fn id_of(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}
