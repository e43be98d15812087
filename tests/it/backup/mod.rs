//! Backups, through the shipped binary: of real databases, Redis and files into a real MinIO; processes that are killed at each
//! step; stores that are away; and restoring by the command.

mod contract;
mod failures;
mod kills;
mod refusals;
mod restoring;
mod store_relay;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, sqlite};
use crate::support::client::Reply;
use crate::support::gate::{Ended, run, write_config};
use crate::support::tools::TempFolder;
use crate::support::{Gate, Minio, Postgres, Redis, config, eventually};

/// Backups of `database` into `bucket` of the store at `endpoint`.
fn backups(folder: &TempFolder, endpoint: &str, bucket: &str, database: &str) -> Value {
    let mut config = config::objects(endpoint, bucket);
    config["Auth"] = config::jwt();
    config["Database"]["Url"] = json!(database);
    config["Positions"] = json!({});
    config["Playlists"] = json!({});
    config["Backup"] = json!({ "Store": "main", "Bucket": bucket, "Lease": "1s", "WorkFolder": folder.path() });
    config
}

async fn send(gate: &Gate, method: Method, what: &str, body: Option<&Value>) -> Reply {
    send_as(gate, &admin(), method, what, body).await
}

async fn send_as(gate: &Gate, who: &str, method: Method, what: &str, body: Option<&Value>) -> Reply {
    let path = format!("/api/v1/backup/{what}");
    let request = gate.client().request(method, &path).header("authorization", who);
    let request = body.into_iter().fold(request, |request, body| request.json(body));
    let response = request.send().await.expect("the gate answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a whole answer") }
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

fn id_of(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

/// Begins a backup once none is under way; returns it.
async fn trigger(gate: &Gate, body: Option<&Value>) -> Value {
    let begun = async || {
        let reply = send(gate, Method::POST, "trigger", body).await;
        (reply.status != 409).then(|| json_of(reply.is(202)))
    };
    eventually("a backup can begin", begun).await
}

async fn status(gate: &Gate) -> Value {
    json_of(send(gate, Method::GET, "status", None).await.is(200))
}

async fn history(gate: &Gate) -> Vec<Value> {
    json_of(send(gate, Method::GET, "history", None).await.is(200))["items"].as_array().expect("a list").clone()
}

/// Waits until a backup has ended; returns it.
async fn ended(gate: &Gate, id: &str) -> Value {
    let found = async || {
        let found = history(gate).await.into_iter().find(|backup| id_of(backup) == id)?;
        matches!(found["state"].as_str(), Some("ok" | "failed" | "expired")).then_some(found)
    };
    eventually("the backup has ended", found).await
}

/// Makes a backup, which must succeed.
async fn make(gate: &Gate) -> Value {
    let begun = trigger(gate, None).await;
    let made = ended(gate, id_of(&begun)).await;
    assert_eq!((&made["state"], &made["detail"]), (&json!("ok"), &json!(null)), "{made}");
    made
}

/// Makes playlists, which are rows of the database.
async fn add_playlists(gate: &Gate, number: usize) {
    for number in 0..number {
        let body = json!({ "name": format!("List {number}"), "items": [] });
        let request = gate.client().request(Method::POST, "/api/v1/playlists").header("authorization", bearer("ada"));
        assert_eq!(request.json(&body).send().await.expect("the gate answers").status(), 201);
    }
}

/// Number of the user's playlists.
async fn playlists(gate: &Gate) -> usize {
    let request = gate.client().request(Method::GET, "/api/v1/playlists?limit=100");
    let response = request.header("authorization", bearer("ada")).send().await.expect("the gate answers");
    let page: Value = response.json().await.expect("JSON");
    page["items"].as_array().expect("a list").len()
}

/// Runs `tidegate restore` with the configuration `config`.
async fn restore(config: &Value, arguments: &[&str]) -> Ended {
    let folder = TempFolder::new("restore");
    let file = write_config(&folder, config);
    let file = file.to_str().expect("a path in UTF-8");
    run(&[&["restore", "-c", file], arguments].concat(), &folder).await
}

/// Runs it, which must succeed; returns what it prints.
async fn restored(config: &Value, arguments: &[&str]) -> String {
    let ended = restore(config, arguments).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// Names of files in a folder that backups leave there for a while.
fn work_files(folder: &TempFolder) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).expect("the folder is there").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("tidegate-backup-")).collect()
}
