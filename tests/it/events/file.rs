//! The file of events: rotated by size, moved away by operators, opened anew when a signal says so.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use super::{id, lines, post, to_file, with_events};
use crate::support::tools::TempFolder;
use crate::support::{Gate, eventually};

/// Events that fill a file of 1 MiB several times.
const MANY: u64 = 16_000;

/// Posts the events `numbers`, and waits until the file has taken them.
async fn publish(gate: &Gate, numbers: std::ops::Range<u64>) {
    let before = gate.metric("tidegate_events_published_total", "").await;
    let count = numbers.end - numbers.start;
    for first in numbers.step_by(100) {
        let event = |number: u64| json!({ "action": "Seek", "positionMs": number, "eventId": id(number).to_string() });
        post(&gate.client(), "alice", &(first..first + 100).map(event).collect()).await.is(202);
    }
    eventually("all are written", async || {
        let published = gate.metric("tidegate_events_published_total", "").await - before;
        (published >= f64::from(u32::try_from(count).expect("a few thousand"))).then_some(())
    })
    .await;
}

/// How often each event stands in any of the files of `folder`.
fn everywhere(folder: &TempFolder) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(folder.path()).expect("the folder is there").flatten() {
        if entry.file_name().to_string_lossy().contains("jsonl") && entry.path().is_file() {
            for (id, ..) in lines(&entry.path()) {
                *counts.entry(id).or_default() += 1;
            }
        }
    }
    counts
}

#[tokio::test]
async fn a_file_is_rotated_and_the_oldest_goes() {
    let folder = TempFolder::new("events");
    let mut events = to_file(&folder);
    events["Rotation"] = json!({ "Size": "1MiB", "Keep": 2 });
    let gate = Gate::start(&with_events(events, &folder)).await;
    let many = json!(vec![json!({ "action": "Seek", "positionMs": 1 }); 100]);
    let mut posted = 0.0;
    while posted < 22_000.0 {
        post(&gate.client(), "alice", &many).await.is(202);
        posted += 100.0;
    }
    eventually("all are written", async || {
        (gate.metric("tidegate_events_published_total", "sink=\"file\"").await == posted).then_some(())
    })
    .await;
    let name = |number: &str| folder.path().join(format!("events.jsonl{number}"));
    for number in ["", ".1", ".2"] {
        let length = std::fs::metadata(name(number)).expect("the file is there").len();
        assert!(length <= 1 << 20, "{number}: {length}");
        assert!(!lines(&name(number)).is_empty());
    }
    assert!(!name(".3").exists());
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew_and_no_older_one_is_lost() {
    let folder = TempFolder::new("events");
    let mut events = to_file(&folder);
    events["Rotation"] = json!({ "Size": "1MiB", "Keep": 20 });
    let gate = Gate::start(&with_events(events, &folder)).await;
    publish(&gate, 0..MANY).await;
    let path = folder.path().join("events.jsonl");
    fs::rename(&path, folder.path().join("moved.jsonl")).expect("it is there");
    publish(&gate, MANY..2 * MANY).await;
    assert!(path.exists());
    let found = everywhere(&folder);
    assert_eq!(found.len() as u64, 2 * MANY, "something is lost");
    assert!(found.values().all(|count| *count == 1), "something is there twice");
    // The folder too.
    fs::remove_dir_all(folder.path()).expect("it is there");
    publish(&gate, 2 * MANY..2 * MANY + 100).await;
    assert_eq!(lines(&path).len(), 100);
}

#[tokio::test]
async fn sigusr1_opens_the_file_anew_and_ends_nothing() {
    let folder = TempFolder::new("events");
    let mut gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    publish(&gate, 0..100).await;
    let (path, moved) = (folder.path().join("events.jsonl"), folder.path().join("moved.jsonl"));
    fs::rename(&path, &moved).expect("it is there");
    gate.signal("USR1").await;
    eventually("there is a new file, before any event", async || path.exists().then_some(())).await;
    assert!(gate.is_alive());
    publish(&gate, 100..200).await;
    assert_eq!((lines(&moved).len(), lines(&path).len()), (100, 100));
    // Also where nothing was moved, and while it stops.
    gate.signal("USR1").await;
    publish(&gate, 200..300).await;
    assert_eq!(lines(&path).len(), 200);
    assert_eq!(gate.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_rotation_that_fails_does_not_halt_delivery_and_loses_no_older_file() {
    let folder = TempFolder::new("events");
    let mut events = to_file(&folder);
    events["Rotation"] = json!({ "Size": "1MiB", "Keep": 3 });
    let gate = Gate::start(&with_events(events, &folder)).await;
    publish(&gate, 0..MANY / 2).await;
    // A folder that is not empty cannot be replaced.
    fs::create_dir_all(folder.path().join("events.jsonl.3/full")).expect("a folder");
    let before = everywhere(&folder);
    publish(&gate, MANY / 2..2 * MANY).await;
    let after = everywhere(&folder);
    assert!(before.keys().all(|id| after.contains_key(id)), "an older file is lost");
    assert_eq!(after.len() as u64, 2 * MANY);
    assert_eq!(gate.log().matches("cannot be rotated").count(), 1, "once is enough");
}
