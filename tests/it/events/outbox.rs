//! The outbox: what was acknowledged is delivered, after kills, with its disk full, its file damaged or removed; and a list is
//! taken whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use events::Event;
use http::StatusCode;
use rand::Rng;
use serde_json::{Value, json};

use super::{ARRIVAL, PATH, id, lines, post, to_file, to_kafka, with_events};
use crate::support::client::Client;
use crate::support::eventually::within;
use crate::support::gate::{self, write_config};
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
    within(ARRIVAL, "nothing waits any more", async || {
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
        within(ARRIVAL, "some are acknowledged", async || (answers.load(Ordering::Relaxed) >= enough).then_some(()))
            .await;
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

/// A disk of a few MiB; to make one takes root.
struct SmallDisk(TempFolder);

impl SmallDisk {
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
    fn mount(size: &str) -> Option<Self> {
        let folder = TempFolder::new("disk");
        let option = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("\n*** SKIPPED: no disk of its own can be mounted; that takes root ***\n");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no byte to anybody else.
    fn fill(&self) {
        let mut file = fs::File::create(self.path().join("other")).expect("a file");
        while std::io::Write::write_all(&mut file, &[0; 1024]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_whole_lists_and_what_it_has_is_delivered_once_and_makes_room() {
    let Some(disk) = SmallDisk::mount("3m") else { return };
    let folder = TempFolder::new("events");
    let outbox = json!({ "Path": disk.path().join("outbox"), "Size": "64MiB" });
    let on_disk = |events: Value| {
        let mut config = with_events(events, &folder);
        config["Events"]["Outbox"] = outbox.clone();
        config
    };
    let mut gate = Gate::start(&on_disk(away().await)).await;
    let (mut acknowledged, mut number, mut refused) = (Vec::new(), 0, 0);
    while refused < 20 {
        match try_post(&gate.client(), &list(number, 100)).await.map(|status| status.as_u16()) {
            Some(202) => acknowledged.push(number),
            Some(503) => refused += 1,
            other => panic!("{other:?}"),
        }
        number += 1;
    }
    assert!(acknowledged.len() > 20, "only {} lists are 3 MiB", acknowledged.len());
    gate.signal("KILL").await;
    gate.ended().await;
    disk.fill();

    let mut gate = Gate::start(&on_disk(to_file(&folder))).await;
    nothing_waits(&gate).await;
    let once = arrived(&folder);
    all_or_none(&once, (0..number).map(|number| (number, 100)), &acknowledged);
    assert!(once.values().all(|count| *count == 1), "something arrived twice");
    within(ARRIVAL, "there is room again", async || {
        number += 1;
        (try_post(&gate.client(), &list(number, 100)).await? == 202).then_some(())
    })
    .await;
    nothing_waits(&gate).await;
    gate.stop().await;
    let before = arrived(&folder);
    assert!(before.contains_key(&id(number * 1000).to_string()), "what was taken on the full disk arrived");
    let files = fs::read_dir(disk.path().join("outbox")).expect("the folder is there").count();
    assert!(files <= 4, "{files} files are left");
    for _ in 0..2 {
        let mut gate = Gate::start(&on_disk(to_file(&folder))).await;
        post(&gate.client(), "alice", &json!({ "action": "Start", "positionMs": 0 })).await;
        nothing_waits(&gate).await;
        gate.stop().await;
    }
    let after = arrived(&folder);
    assert!(before.keys().all(|id| after[id] == 1), "a restart delivered something again");
}

#[tokio::test]
async fn a_full_outbox_refuses_and_keeps_what_it_has() {
    let folder = TempFolder::new("events");
    let mut events = away().await;
    events["Outbox"] = json!({ "Size": "1MiB" });
    let mut gate = Gate::start(&with_events(events, &folder)).await;
    let client = gate.client();
    let (mut taken, mut number) = (0, 0);
    let refused = loop {
        let reply = post(&client, "alice", &list(number, 100)).await;
        if reply.status != 202 {
            break reply;
        }
        (taken, number) = (taken + 100, number + 1);
    };
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "1");
    assert!(taken >= 3000, "{taken} events are less than a MiB");
    assert_eq!(gate.metric("tidegate_events_backlog_events", "").await, f64::from(taken));
    post(&client, "alice", &list(number, 100)).await.problem(503);
    let said = gate.log().matches("new events are refused").count();
    assert_eq!(said, 1, "once is enough");
    gate.stop().await;

    let mut gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    nothing_waits(&gate).await;
    assert_eq!(arrived(&folder).len(), usize::try_from(taken).expect("a few thousand"));
    post(&gate.client(), "alice", &list(number, 100)).await.is(202);
    gate.stop().await;
}

/// Lists 0 to `count`, of 100 events each, in the outbox of `folder`, by a process that has ended cleanly.
async fn leave(folder: &TempFolder, count: u64) {
    let mut gate = Gate::start(&with_events(away().await, folder)).await;
    for number in 0..count {
        post(&gate.client(), "alice", &list(number, 100)).await.is(202);
    }
    gate.stop().await;
}

/// The files of the outbox in `folder` that were set aside.
fn set_aside(folder: &TempFolder) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path().join("outbox")).expect("the folder is there").flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().contains("outbox.damaged")).collect()
}

fn overwrite(path: &Path, from: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the file is there");
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, from).expect("it is writable");
}

#[tokio::test]
async fn what_a_damaged_file_still_says_is_delivered_and_the_rest_is_counted() {
    let folder = TempFolder::new("events");
    leave(&folder, 30).await;
    let path = folder.path().join("outbox/outbox.db");
    let middle = fs::metadata(&path).expect("the file is there").len() / 2 / 4096 * 4096;
    overwrite(&path, middle, &[0xa5; 8192]);

    let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    nothing_waits(&gate).await;
    let there: Vec<_> = lines(&folder.path().join("events.jsonl")).into_iter().map(|(id, ..)| id).collect();
    let missing = 3000 - there.len();
    assert!((1..300).contains(&missing), "{missing} events are missing");
    assert!(there.is_sorted(), "they come in their order, and once");
    let counted = gate.metric("tidegate_events_dropped_total", "reason=\"broken\"").await;
    assert_eq!(counted, f64::from(u32::try_from(missing).expect("a few")));
    assert_eq!(set_aside(&folder).len(), 1, "the damaged file is kept");
    assert!(gate.log().contains("damaged"));
    post(&gate.client(), "alice", &list(100, 100)).await.is(202);
}

#[tokio::test]
async fn a_file_that_is_no_outbox_any_more_is_kept_aside_and_new_events_are_taken() {
    let folder = TempFolder::new("events");
    leave(&folder, 3).await;
    let path = folder.path().join("outbox/outbox.db");
    let length = fs::metadata(&path).expect("the file is there").len();
    overwrite(&path, 0, &[0xa5; 4096]);

    let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    post(&gate.client(), "alice", &list(100, 100)).await.is(202);
    nothing_waits(&gate).await;
    assert_eq!(arrived(&folder).len(), 100);
    let aside = set_aside(&folder);
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::metadata(&aside[0]).expect("it is there").len(), length);
    assert!(gate.log().contains("damaged"));
    assert!(gate.metric("tidegate_events_dropped_total", "reason=\"broken\"").await >= 1.0);
}

#[tokio::test]
async fn what_was_removed_under_a_running_process_is_written_again() {
    for gone in ["outbox.db", "outbox.db-wal", "lock", ""] {
        let folder = TempFolder::new("events");
        let mut gate = Gate::start(&with_events(away().await, &folder)).await;
        for number in 0..20 {
            post(&gate.client(), "alice", &list(number, 100)).await.is(202);
        }
        let outbox = folder.path().join("outbox");
        match gone {
            "" => fs::remove_dir_all(&outbox).expect("it is there"),
            file => fs::remove_file(outbox.join(file)).expect("it is there"),
        }
        let all = ["outbox.db", "outbox.db-wal", "lock"].map(|file| outbox.join(file));
        eventually("it is there again", async || all.iter().all(|path| path.exists()).then_some(())).await;
        for number in 20..40 {
            post(&gate.client(), "alice", &list(number, 100)).await.is(202);
        }
        gate.signal("KILL").await;
        gate.ended().await;
        let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
        nothing_waits(&gate).await;
        let all = (0..40).collect::<Vec<_>>();
        all_or_none(&arrived(&folder), all.iter().map(|number| (*number, 100)), &all);
        assert_eq!(gate.metric("tidegate_events_dropped_total", "").await, 0.0, "{gone:?}");
    }
}

#[tokio::test]
async fn one_process_has_an_outbox_also_where_its_lock_was_removed() {
    let folder = TempFolder::new("events");
    let config = with_events(to_file(&folder), &folder);
    let gate = Gate::start(&config).await;
    let other = TempFolder::new("gate");
    let file = write_config(&other, &config);
    for lock in [true, false] {
        if !lock {
            fs::remove_file(folder.path().join("outbox/lock")).expect("it is there");
        }
        let ended = gate::run(&["serve", "-c", &file.to_string_lossy()], &other).await;
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("another process uses it"), "{}", ended.stderr);
    }
    post(&gate.client(), "alice", &list(0, 100)).await.is(202);
    nothing_waits(&gate).await;
    assert_eq!(arrived(&folder).len(), 100);
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
