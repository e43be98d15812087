//! Events over upgrades: one process at a time has the outbox and the file, and none of them is lost or refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::TRACK;
use super::process::Upgradable;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::tools::{TempFolder, json_lines};
use crate::support::{ScriptedOrigin, config, token};

/// Posts events until `stop`; gives the ids of those that were acknowledged. No answer but that is allowed.
async fn post(client: Client, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut ids = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = Uuid::now_v7().to_string();
        let body = json!({ "action": "Seek", "positionMs": 1, "eventId": id });
        let request = client.request(Method::POST, "/api/v1/tracks/song/events").bearer_auth(token::of("alice"));
        let answer = request.json(&body).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 202, "{}", answer.text().await.unwrap_or_default());
        ids.push(id);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ids
}

/// How often each event stands in the file.
fn delivered(folder: &TempFolder) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in json_lines::<Value>(&folder.path().join("events.jsonl")) {
        *counts.entry(event["id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_acknowledged_and_delivered_over_upgrades() {
    let (origin, folder) = (ScriptedOrigin::with_track(pattern(30 << 20)).await, TempFolder::new("handed-events"));
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Server"]["ShutdownGrace"] = json!("1h");
    config["Events"] = json!({
        "File": folder.path().join("events.jsonl"),
        "Outbox": { "Path": folder.path().join("outbox") },
        "FromStreams": true,
    });
    let mut gate = Upgradable::start(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let posting = tokio::spawn(post(gate.client(), Arc::clone(&stop)));
    let mut acknowledged_before = 0;
    for _ in 0..3 {
        let former = gate.process();
        // A stream that keeps the former process, and with it the outbox.
        let mut stream = Raw::connect(gate.address).await;
        let token = token::of("bob");
        stream
            .send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
            .await;
        stream.head().await.expect("a head");
        let ended = gate.upgrade(true).await;
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stderr, gate.log());
        eventually("the former process delivers for the new one", async || {
            let count = delivered(&folder).len();
            (count > acknowledged_before + 50).then_some(())
        })
        .await;
        stream.reset();
        gate.has_ended(former).await;
        let count = delivered(&folder).len();
        eventually("the new one delivers", async || (delivered(&folder).len() > count + 20).then_some(())).await;
        acknowledged_before = delivered(&folder).len();
    }
    stop.store(true, Ordering::Relaxed);
    let ids = posting.await.expect("every event is acknowledged");
    eventually("all have arrived", async || {
        let delivered = delivered(&folder);
        ids.iter().all(|id| delivered.contains_key(id)).then_some(())
    })
    .await;
    // Twice is allowed where a process ends in between, and not the rule.
    let twice = delivered(&folder).values().filter(|count| **count > 1).count();
    assert!(twice <= 3, "{twice} events came twice");
    assert!(gate.said("another process uses it").is_empty(), "{}", gate.log());
}
