//! Files that are damaged or removed, and a lock that is.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{lines, post, to_file, with_events};
use super::{all_or_none, arrived, away, list, nothing_waits};
use crate::support::gate::{self, write_config};
use crate::support::tools::TempFolder;
use crate::support::{Gate, eventually};

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
