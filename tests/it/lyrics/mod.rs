//! Lyrics, through the shipped binary: files beside tracks and tags in real MinIO, services outside by stand-ins, what owners
//! set, and what is refused.

mod bombs;
mod edits;
mod embedded;
mod refusals;
mod services;
mod sidecars;
mod stand_ins;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::client::Reply;
use crate::support::described::Described;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Minio, Postgres, ScriptedOrigin, eventually};

/// Lyrics of tracks in the store at `endpoint`, kept in `database`.
pub fn lyrics(endpoint: &str, database: &str) -> Value {
    let mut config = tracks(endpoint, database);
    config["Lyrics"] = json!({});
    config
}

/// Adds a track of alice's.
pub async fn add(gate: &Gate, id: &str, bucket: &str, key: &str) {
    let track = json!({ "id": id, "store": "main", "bucket": bucket, "key": key, "ownerId": "alice" });
    send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
}

pub async fn ask(gate: &Gate, what: &str, user: &str) -> Reply {
    send(gate, Method::GET, &format!("/api/v1/lyrics/{what}"), &bearer(user), None).await
}

/// What a GET gives, which must succeed.
async fn get(gate: &Gate, what: &str, user: &str) -> Value {
    serde_json::from_slice(&ask(gate, what, user).await.is(200).body).expect("JSON")
}

/// What the sources say now, for a user who may have them asked; else the refusal.
async fn refresh(gate: &Gate, id: &str, user: &str) -> Reply {
    let path = format!("/api/v1/lyrics/{id}/refresh");
    let reply = send(gate, Method::POST, &path, &bearer(user), None).await;
    Described::by(&gate.client()).await.checks("POST", &path, &reply);
    reply
}

/// Lines as `start text`.
fn lines(lines: &Value) -> Vec<String> {
    let line = |line: &Value| format!("{} {}", line["start_ms"], line["text"].as_str().expect("a text"));
    lines.as_array().expect("lines").iter().map(line).collect()
}
