//! The outbox by itself: order, restarts, and what happens to its files.

use std::path::Path;

use prometheus::Registry;
use uuid::Uuid;

use super::*;

fn event(number: u128, bytes: usize) -> String {
    let event = Event::new(Uuid::from_u128(number), "topic".into(), "alice", &"x".repeat(bytes));
    event.expect("a text is JSON").to_json_line()
}

fn events(numbers: std::ops::Range<u128>) -> Vec<String> {
    numbers.map(|number| event(number, 1000)).collect()
}

async fn open(folder: &Path) -> Outbox {
    let numbers = EventMetrics::new(&Registry::new(), "file").expect("an empty registry");
    let settings = settings::OutboxSettings { path: folder.to_owned(), size: 64 << 20 };
    Outbox::open(&settings, numbers).await.expect("the outbox opens")
}

/// The numbers of the next events, of which the first `count` are done with.
async fn take(outbox: &Outbox, count: usize) -> Vec<u128> {
    let batch = outbox.read().await.expect("it is readable");
    let count = count.min(batch.events.len());
    outbox.mark_done(&batch, 0..count).await.expect("there is room");
    batch.events.iter().map(|event| Uuid::parse_str(&event.id).expect("a UUID").as_u128()).collect()
}

async fn waiting(outbox: &Outbox) -> u64 {
    outbox.state.lock().await.waiting.0
}

#[tokio::test]
async fn events_come_in_their_order_while_others_are_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = open(folder.path()).await;
    let mut read = Vec::new();
    for round in 0..10 {
        outbox.append(&events(round * 500..(round + 1) * 500)).await.expect("there is room");
        let numbers = take(&outbox, 300).await;
        read.extend(&numbers[..300]);
    }
    while waiting(&outbox).await > 0 {
        read.extend(take(&outbox, usize::MAX).await);
    }
    assert_eq!(read, (0..5000).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_a_restart_reading_goes_on_behind_what_was_done_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = open(folder.path()).await;
    outbox.append(&events(0..10)).await.expect("there is room");
    take(&outbox, 4).await;
    outbox.close().await;
    drop(outbox);
    let outbox = open(folder.path()).await;
    assert_eq!(waiting(&outbox).await, 6);
    assert_eq!(take(&outbox, usize::MAX).await, (4..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_file_that_was_large_goes_when_nothing_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = open(folder.path()).await;
    let length = || fs::metadata(folder.path().join("outbox.db")).map_or(0, |metadata| metadata.len());
    for number in 0..20 {
        outbox.append(&events(number * 1000..(number + 1) * 1000)).await.expect("there is room");
    }
    assert!(length() > LARGE_FILE_BYTES);
    while !take(&outbox, usize::MAX).await.is_empty() {}
    assert!(length() < 100_000, "{} bytes are left", length());
    outbox.append(&events(0..10)).await.expect("there is room");
    assert_eq!(take(&outbox, usize::MAX).await.len(), 10);
}

#[tokio::test]
async fn a_rebuild_that_a_kill_broke_off_is_ended_or_begun_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let named = |name: &str| folder.path().join(name);
    let outbox = open(folder.path()).await;
    outbox.append(&events(0..10)).await.expect("there is room");
    outbox.close().await;
    drop(outbox);
    // The old file is gone, and with its log the new one is not yet in its place.
    fs::rename(named("outbox.db"), named("outbox.new")).expect("it is there");
    fs::write(named("outbox.db-wal"), "another file's log").expect("it is writable");
    let outbox = open(folder.path()).await;
    assert_eq!(waiting(&outbox).await, 10);
    outbox.close().await;
    drop(outbox);
    // The new file is not whole, and the old one is there.
    fs::write(named("outbox.new"), "half a file").expect("it is writable");
    let outbox = open(folder.path()).await;
    assert_eq!(waiting(&outbox).await, 10);
    outbox.state.lock().await.rebuild(false).await.expect("there is room");
    assert_eq!(take(&outbox, usize::MAX).await, (0..10).collect::<Vec<_>>());
    assert!(!named("outbox.new").exists());
}

#[tokio::test]
async fn what_comes_after_a_loss_is_not_removed_with_a_batch_from_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = open(folder.path()).await;
    outbox.append(&events(0..10)).await.expect("there is room");
    let batch = outbox.read().await.expect("it is readable");
    // As if no row could be read any more.
    let mut state = outbox.state.lock().await;
    state.table.take().expect("it is open").close().await;
    state.rebuild(true).await.expect("there is room");
    drop(state);
    outbox.append(&events(10..20)).await.expect("there is room");
    outbox.mark_done(&batch, 0..10).await.expect("there is room");
    assert_eq!(take(&outbox, usize::MAX).await, (10..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_that_was_read_before_a_rebuild_is_done_with_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = open(folder.path()).await;
    outbox.append(&events(0..10)).await.expect("there is room");
    let batch = outbox.read().await.expect("it is readable");
    outbox.mark_done(&batch, 0..3).await.expect("there is room");
    outbox.state.lock().await.rebuild(false).await.expect("there is room");
    outbox.append(&events(10..12)).await.expect("there is room");
    outbox.mark_done(&batch, 3..10).await.expect("there is room");
    assert_eq!(waiting(&outbox).await, 2);
    assert_eq!(take(&outbox, usize::MAX).await, [10, 11]);
}
