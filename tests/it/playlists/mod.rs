//! Playlists, through the shipped binary, over SQLite and PostgreSQL: what users keep, changes of two editors, files of other
//! players, and what is refused.

mod contract;
mod files;
mod refusals;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, sqlite};
use crate::support::client::Reply;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, config};

/// Playlists in `database`.
pub fn playlists(folder: &TempFolder, database: &str) -> Value {
    let mut config = config::empty();
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["ReverseProxy"]["Routes"]["stream"] = config::object_route("/stream/{**key}", "main", "audio", "{**key}");
    config["Auth"] = config::jwt();
    config["Database"]["Url"] = json!(database);
    config["Playlists"] = json!({});
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

    /// A request with a body and, if it is not empty, `If-Match`.
    async fn send_if(&self, method: Method, what: &str, body: Vec<u8>, tag: &str) -> Reply {
        let mut request = self.gate.client().request(method, &path(what)).header("authorization", &self.who);
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body);
        }
        if !tag.is_empty() {
            request = request.header("if-match", tag);
        }
        let response = request.send().await.expect("the gate answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.expect("a whole answer") }
    }

    async fn send(&self, method: Method, what: &str, body: Option<&Value>) -> Reply {
        self.send_if(method, what, body.map(|body| body.to_string().into_bytes()).unwrap_or_default(), "").await
    }

    /// Makes a playlist, which must succeed.
    async fn create(&self, name: &str, tracks: &[&str]) -> Value {
        let body = json!({ "name": name, "items": tracks_of(tracks) });
        json_of(self.send(Method::POST, "", Some(&body)).await.is(201))
    }

    async fn get(&self, what: &str) -> Value {
        json_of(self.send(Method::GET, what, None).await.is(200))
    }
}

fn path(what: &str) -> String {
    let slash = if what.is_empty() || what.starts_with('?') { "" } else { "/" };
    format!("/api/v1/playlists{slash}{what}")
}

fn tracks_of(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({ "track_id": id })).collect()
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

fn id_of(playlist: &Value) -> &str {
    playlist["id"].as_str().expect("an id")
}

/// The ids of a playlist's tracks.
fn ids(playlist: &Value) -> Vec<&str> {
    let items = playlist["items"].as_array().expect("tracks");
    items.iter().map(|item| item["track_id"].as_str().expect("an id")).collect()
}
