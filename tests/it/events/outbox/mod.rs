//! The outbox: what was acknowledged is delivered, after kills, with its disk full, its file damaged or removed; and a list is
//! taken whole or not at all.

mod damage;
mod full;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use events::Event;
use http::StatusCode;
use rand::Rng;
use serde_json::{Value, json};

use super::{PATH, id, lines, post, to_file, to_kafka, with_events};
use crate::support::client::Client;
use crate::support::kafka::OwnKafka;
use crate::support::tools::TempFolder;
use crate::support::{Gate, ScriptedOrigin, eventually, token};

/// Events of an hour in which twenty happen in a second.
const HOUR: u64 = 72_000;

/// A broker that never answers.
async fn away() -> Value {
    let origin = ScriptedOrigin::start().await.url();
    json!({ "Kafka": { "Brokers": [origin.trim_start_matches("http://")] } })
}

/// Events in the list of this number.
fn size(list: u64) -> u64 {
    1 + list % 20
}

/// A list of events that can be told from every other's.
fn list(number: u64, size: u64) -> Value {
    let event = |part: u64| {
        let number = number * 1000 + part;
        json!({ "action": "Seek", "positionMs": number, "eventId": id(number).to_string() })
    };
    (0..size).map(event).collect()
}

/// `None`: there was no answer.
async fn try_post(client: &Client, body: &Value) -> Option<StatusCode> {
    let request = client.request(http::Method::POST, PATH).bearer_auth(token::of("alice")).json(body);
    request.send().await.ok().map(|response| response.status())
}

/// How often each event arrived in the file of `folder`.
fn arrived(folder: &TempFolder) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (id, ..) in lines(&folder.path().join("events.jsonl")) {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

async fn nothing_waits(gate: &Gate) {
    eventually("nothing waits any more", async || {
        let events = gate.metric("tidegate_events_backlog_events", "").await;
        (events == 0.0 && gate.metric("tidegate_events_backlog_bytes", "").await == 0.0).then_some(())
    })
    .await;
}

/// Each of `sizes`' lists arrived whole if it is among `acknowledged`, and whole or not at all otherwise.
fn all_or_none(arrived: &BTreeMap<String, usize>, lists: impl Iterator<Item = (u64, u64)>, acknowledged: &[u64]) {
    for (number, size) in lists {
        let there = (0..size).filter(|part| arrived.contains_key(&id(number * 1000 + part).to_string())).count() as u64;
        let is_acknowledged = acknowledged.contains(&number);
        assert!(
            there == size || (there == 0 && !is_acknowledged),
            "{there} of the {size} events of list {number} arrived; acknowledged: {is_acknowledged}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_lose_nothing_that_was_acknowledged_and_part_no_list() {
    let folder = TempFolder::new("events");
    let (next, mut acknowledged) = (Arc::new(AtomicU64::new(0)), Vec::new());
    for round in 0..10 {
        let events = if round % 2 == 0 { away().await } else { to_file(&folder) };
        let mut gate = Gate::start(&with_events(events, &folder)).await;
        let answers = Arc::new(AtomicU64::new(0));
        let posters: Vec<_> = (0..4)
            .map(|_| {
                let (client, next, answers) = (gate.client(), Arc::clone(&next), Arc::clone(&answers));
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(status) = try_post(&client, &list(number, size(number))).await else {
                            return acknowledged;
                        };
                        assert_eq!(status, 202);
                        acknowledged.push(number);
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let enough = rand::rng().random_range(1..200);
        eventually("some are acknowledged", async || (answers.load(Ordering::Relaxed) >= enough).then_some(())).await;
        gate.signal("KILL").await;
        gate.ended().await;
        for poster in posters {
            acknowledged.extend(poster.await.expect("nothing was refused"));
        }
    }
    let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    nothing_waits(&gate).await;
    let lists = (0..next.load(Ordering::Relaxed)).map(|number| (number, size(number)));
    all_or_none(&arrived(&folder), lists, &acknowledged);
    assert_eq!(gate.metric("tidegate_events_dropped_total", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_without_kafka_is_delivered_whole_and_in_order() {
    let Some(mut kafka) = tokio::task::spawn_blocking(OwnKafka::start).await.expect("it starts") else { return };
    let topic = kafka.topic("playback.events");
    let mut kafka = tokio::task::spawn_blocking(move || {
        kafka.kill();
        kafka
    })
    .await
    .expect("it is killed");
    let folder = TempFolder::new("events");
    let config = with_events(to_kafka(&topic), &folder);
    let gate = Gate::start(&config).await;
    let before = gate.memory();
    for number in 0..HOUR / 100 {
        post(&gate.client(), "alice", &list(number, 100)).await.is(202);
    }
    let grown = gate.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for what waits on the disk");
    let _kafka = tokio::task::spawn_blocking(move || {
        kafka.restart();
        kafka
    })
    .await
    .expect("it starts again");
    nothing_waits(&gate).await;
    let ids: Vec<_> = topic.read().await.into_iter().map(|one| one.header("event-id").to_owned()).collect();
    assert_eq!(ids.len() as u64, HOUR);
    assert!(ids.is_sorted(), "in their order");
}

/// The outbox as versions before wrote it: segments of lines, and a cursor.
#[tokio::test]
async fn events_in_the_form_of_before_are_taken_over() {
    let line = |number: u64| {
        let event = Event::new(id(number), "playback.events".into(), "alice", &json!({ "n": number })).expect("JSON");
        (event.id.clone(), format!("{}\n", serde_json::to_string(&event).expect("JSON")))
    };
    let lines_of: Vec<_> = (1..=4).map(line).collect();
    let text = |numbers: &[usize]| numbers.iter().map(|number| lines_of[*number].1.as_str()).collect::<String>();
    // The first events that are delivered by what the cursor says: a place that is not there says nothing.
    let second = format!("7 {}", lines_of[0].1.len());
    for (cursor, first) in [("nonsense", 0), ("12 0", 0), ("7 999999", 0), (second.as_str(), 1), ("9 0", 2)] {
        let folder = TempFolder::new("events");
        let outbox = folder.path().join("outbox");
        fs::create_dir_all(&outbox).expect("a folder");
        let segments = [
            ("00000000000000000007.jsonl", format!("{}\0\0broken\n{}", text(&[0]), text(&[1]))),
            ("00000000000000000009.jsonl", format!("{}{}torn", text(&[2]), text(&[3]))),
        ];
        for (name, text) in segments {
            fs::write(outbox.join(name), text).expect("a segment");
        }
        fs::write(outbox.join("cursor"), cursor).expect("a cursor");
        let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
        nothing_waits(&gate).await;
        let arrived: Vec<_> = lines(&folder.path().join("events.jsonl")).into_iter().map(|(id, ..)| id).collect();
        let expected: Vec<_> = lines_of[first..].iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(arrived, expected, "with the cursor at {cursor}");
        let broken = gate.metric("tidegate_events_dropped_total", "reason=\"broken\"").await;
        assert_eq!(broken, if first < 2 { 1.0 } else { 0.0 }, "with the cursor at {cursor}");
        let left: Vec<_> =
            fs::read_dir(&outbox).expect("the folder is there").flatten().map(|e| e.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".jsonl")), "{left:?}");
        assert!(!left.iter().any(|name| name == "cursor"), "{left:?}");
    }
}
