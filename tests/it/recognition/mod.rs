//! Recognition, through the shipped binary, before real MinIO: clips as people record them, an index that grows with the
//! catalogue, the history over SQLite and PostgreSQL, and what is refused.

mod clips;
mod history;
mod index;
mod refusals;
mod songs;

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::client::Reply;
use crate::support::store::StoreBucket;
use crate::support::tools::TempFolder;
use crate::support::{Gate, gate};

const BOUNDARY: &str = "------------------------a1b2c3";

/// Recognition of tracks in the store at `endpoint`, kept in `database`; the index is in `folder`.
fn recognition(endpoint: &str, database: &str, folder: &TempFolder) -> Value {
    let mut config = tracks(endpoint, database);
    config["Recognition"] = json!({ "Index": folder.path().join("index") });
    config
}

/// Recognition of tracks in a folder, of which there are none.
fn without_store(database: &str, folder: &TempFolder) -> Value {
    let mut config = recognition("http://127.0.0.1:9", database, folder);
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config
}

/// Form as `curl -F` sends it: parts by name, file name and content.
fn form(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
    body
}

/// Sends a body as a form to be recognised.
async fn send_form(gate: &Gate, who: &str, body: Vec<u8>) -> Reply {
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let request = gate.client().request(Method::POST, "/api/v1/recognition/identify").header("authorization", who);
    let response = request.header("content-type", content_type).body(body).send().await.expect("the gate answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a whole answer") }
}

async fn identify(gate: &Gate, user: &str, clip: &[u8]) -> Reply {
    send_form(gate, &bearer(user), form(&[("file", "clip", clip)])).await
}

/// What is recognised in a clip, which must be accepted.
async fn recognised(gate: &Gate, user: &str, clip: &[u8]) -> Value {
    json_of(identify(gate, user, clip).await.is(200))
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// Puts an object into the bucket, and into the catalogue as a track of alice's.
async fn add_track(gate: &Gate, bucket: &StoreBucket, id: &str, key: &str, content: Vec<u8>) {
    bucket.put(key, content).await;
    let track = json!({ "id": id, "store": "main", "bucket": bucket.name(), "key": key, "ownerId": "alice" });
    send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
}

/// Runs `tidegate index` for a configuration; returns what it prints, which must be a success.
async fn run_index(config: &Value, folder: &TempFolder, arguments: &[&str]) -> String {
    let file = folder.path().join("index.yaml");
    std::fs::write(&file, config.to_string()).expect("a file");
    let file = file.display().to_string();
    let arguments = [&["index", "-c", &*file][..], arguments].concat();
    let ended = gate::run(&arguments, folder).await;
    assert_eq!(ended.code, Some(0), "{} {}", ended.stdout, ended.stderr);
    format!("{}{}", ended.stderr, ended.stdout)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file")
}
