//! Streaming URLs: they play without headers, for their user and track only, until they expire or are revoked; across
//! nodes, restarts and outages.

mod given;
mod revoked;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{bearer, send};
use crate::support::{Gate, config};

/// The keys of path tokens.
pub const KEYS: [(&str, &str); 2] = [
    ("OLD_KEY", "the old key of path tokens, 32 bytes or more"),
    ("NEW_KEY", "the new key of path tokens, 32 bytes or more"),
];

/// `/api/v1/tracks/{id}/stream` from `bucket`, and streaming URLs by these keys.
pub fn urls(endpoint: &str, bucket: &str, keys: &[&str]) -> Value {
    let mut config = config::objects(endpoint, bucket);
    config["Auth"] = config::jwt();
    config["Auth"]["PathToken"] = json!({ "Keys": keys });
    config["ReverseProxy"]["Routes"]["stream"] = json!({
        "Match": { "Path": "/api/v1/tracks/{id}/stream" },
        "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": bucket, "Key": "{id}.mp3" } }],
    });
    config
}

/// A gate with both keys in its environment.
pub async fn start(config: &Value) -> Gate {
    Gate::start_with(config, &KEYS).await
}

/// What is given to `user` for `id`.
async fn ask(gate: &Gate, id: &str, user: &str) -> Value {
    let reply = send(gate, Method::GET, &format!("/api/v1/tracks/{id}/stream-url"), &bearer(user), None).await;
    assert_eq!(reply.is(200).header("cache-control"), "no-store");
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// Its path.
pub async fn url(gate: &Gate, id: &str, user: &str) -> String {
    let said = ask(gate, id, user).await;
    let url = said["streamUrl"].as_str().expect("a URL").to_owned();
    url.strip_prefix(&gate.url()).expect("it is a URL of this gate").to_owned()
}

/// The status of a GET without any header.
pub async fn status(gate: &Gate, path: &str) -> u16 {
    gate.client().get(path, &[]).await.status.as_u16()
}

/// A logout.
pub async fn log_out(gate: &Gate, user: &str) {
    send(gate, Method::POST, "/api/v1/logout", &bearer(user), None).await.is(204);
}
