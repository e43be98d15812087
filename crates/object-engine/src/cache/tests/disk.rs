//! Disk cache: it keeps its data over a restart, and a broken one costs nothing but misses.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Number of slices of the object that the tests keep.
const SLICES: usize = 40;
const TOTAL: usize = SLICES * SLICE - 100;

fn disk(folder: &Path) -> Option<DiskCacheSettings> {
    Some(DiskCacheSettings { path: folder.join("cache"), size: 64 << 20 })
}

/// Returns a store with one object, and a folder that has the object cached.
async fn kept() -> (Store, tempfile::TempDir) {
    let (store, folder) = (Store::start(&[("a", thing(0, TOTAL))]).await, tempfile::tempdir().expect("a folder"));
    let world = World::with(&store, CachePolicy::default(), disk(folder.path())).await;
    world.get("a").await.is(StatusCode::OK, &bytes(0, TOTAL), CacheStatus::Miss);
    world.cache.close().await;
    store.seen();
    (store, folder)
}

async fn reopened(store: &Store, folder: &Path) -> World {
    let world = World::with(store, CachePolicy::default(), disk(folder)).await;
    world.clock.advance(Duration::from_secs(60));
    world
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let parts = ["slices", "objects"].map(|part| folder.join("cache").join(part));
    let found = parts.iter().flat_map(|part| fs::read_dir(part).expect("a part of the cache"));
    found.map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test]
async fn a_restart_before_a_dead_store_still_serves() {
    let (store, folder) = kept().await;
    store.script.broken.store(true, Ordering::SeqCst);
    let world = reopened(&store, folder.path()).await;
    world.get("a").await.is(StatusCode::OK, &bytes(0, TOTAL), CacheStatus::Stale);
    let stats = world.cache.stats();
    assert_eq!((stats.disk_bytes.get(), stats.disk_errors.get()), (TOTAL as u64, 0));
}

#[tokio::test]
async fn a_purge_outlives_a_restart() {
    let (store, folder) = kept().await;
    let world = World::with(&store, CachePolicy::default(), disk(folder.path())).await;
    world.cache.purge(PurgeScope::All).expect("the folder can be written");
    drop(world);
    let world = reopened(&store, folder.path()).await;
    world.get("a").await.is(StatusCode::OK, &bytes(0, TOTAL), CacheStatus::Miss);
    assert_eq!(world.cache.stats().disk_bytes.get(), 0);
}

#[tokio::test]
async fn a_folder_as_a_killed_process_leaves_it_gives_right_bytes_or_none() {
    let (store, folder) = (Store::start(&[("a", thing(0, TOTAL))]).await, tempfile::tempdir().expect("a folder"));
    let world = World::with(&store, CachePolicy::default(), disk(folder.path())).await;
    for round in 0..4 {
        // In the midst of its writing, without a word to the process.
        world.range("a", &format!("bytes={}-{}", round * 10 * SLICE, (round + 1) * 10 * SLICE)).await;
        let copy = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(copy.path().join("cache/slices")).expect("a folder");
        fs::create_dir_all(copy.path().join("cache/objects")).expect("a folder");
        for file in files(folder.path()) {
            let name = file.strip_prefix(folder.path()).expect("it is in there");
            fs::copy(&file, copy.path().join(name)).expect("a copy");
        }
        let again = reopened(&store, copy.path()).await;
        let read = again.get("a").await;
        assert_eq!((read.status, read.end), (Ok(StatusCode::OK), Ok(())));
        assert!(read.body == bytes(0, TOTAL));
    }
}

#[tokio::test]
async fn flipped_bytes_are_misses_and_never_served() {
    let (store, folder) = kept().await;
    let mut random = StdRng::seed_from_u64(7);
    for file in files(folder.path()) {
        let file = fs::File::options().read(true).write(true).open(file).expect("it can be opened");
        let length = file.metadata().expect("metadata").len();
        // What was written is at the front; every few kilobytes of it, a byte.
        for _ in 0..400 {
            let (at, mut byte) = (random.random_range(0..length.min(1 << 20)), [0]);
            file.read_exact_at(&mut byte, at).expect("it is in there");
            file.write_all_at(&[byte[0] ^ 1 << random.random_range(0..8)], at).expect("it can be written");
        }
    }
    let world = reopened(&store, folder.path()).await;
    for _ in 0..2 {
        let read = world.get("a").await;
        assert_eq!((read.status, read.end), (Ok(StatusCode::OK), Ok(())));
        assert!(read.body == bytes(0, TOTAL));
    }
    assert!(!store.seen().is_empty(), "something was missing");
}

#[tokio::test]
async fn a_read_that_fails_is_a_miss_and_counted() {
    let (store, folder) = kept().await;
    let world = reopened(&store, folder.path()).await;
    for file in files(folder.path()) {
        fs::File::options().write(true).open(file).expect("it can be opened").set_len(0).expect("it can be cut");
    }
    world.get("a").await.is(StatusCode::OK, &bytes(0, TOTAL), CacheStatus::Miss);
    assert!(world.cache.stats().disk_errors.get() > 0);
    world.get("a").await.is(StatusCode::OK, &bytes(0, TOTAL), CacheStatus::Hit);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_done_without() {
    let (store, folder) = (Store::start(&[("a", thing(0, 10))]).await, tempfile::tempdir().expect("a folder"));
    fs::write(folder.path().join("cache"), b"a file").expect("it can be written");
    let world = World::with(&store, CachePolicy::default(), disk(folder.path())).await;
    assert_eq!(world.cache.stats().disk_errors.get(), 1);
    world.get("a").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Miss);
    world.get("a").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Hit);
}

#[tokio::test]
async fn a_disk_without_room_is_done_without() {
    let (store, folder) = (Store::start(&[("a", thing(0, 10))]).await, tempfile::tempdir().expect("a folder"));
    let more = DiskCacheSettings { path: folder.path().join("cache"), size: 1 << 50 };
    let world = World::with(&store, CachePolicy::default(), Some(more)).await;
    assert_eq!(world.cache.stats().disk_errors.get(), 1);
    assert_eq!(fs::read_dir(folder.path().join("cache")).expect("a folder").count(), 1, "the lock alone");
    world.get("a").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Miss);
}

#[tokio::test]
async fn a_folder_belongs_to_one_at_a_time() {
    let (store, folder) = (Store::start(&[("a", thing(0, 10))]).await, tempfile::tempdir().expect("a folder"));
    let first = World::with(&store, CachePolicy::default(), disk(folder.path())).await;
    let second = World::with(&store, CachePolicy::default(), disk(folder.path())).await;
    // No error of the disk: the other process may be one that this one replaces.
    assert_eq!((first.cache.stats().disk_errors.get(), second.cache.stats().disk_errors.get()), (0, 0));
    assert_eq!((first.cache.awaits_disk(), second.cache.awaits_disk()), (false, true));
    second.get("a").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Miss);
}

#[tokio::test]
async fn a_folder_takes_its_size_at_once_and_a_smaller_one_gives_some_back() {
    use std::os::unix::fs::MetadataExt;
    let (store, folder) = (Store::start(&[]).await, tempfile::tempdir().expect("a folder"));
    let taken =
        || files(folder.path()).iter().map(|file| fs::metadata(file).expect("a file").blocks() * 512).sum::<u64>();
    for size in [128_u64 << 20, 64 << 20] {
        let path = folder.path().join("cache");
        let world = World::with(&store, CachePolicy::default(), Some(DiskCacheSettings { path, size })).await;
        assert_eq!(world.cache.stats().disk_errors.get(), 0);
        assert!((size * 9 / 10..=size).contains(&taken()), "{} of {size}", taken());
    }
}

#[tokio::test]
async fn a_folder_that_was_deleted_while_nothing_ran_is_begun_anew() {
    let (store, folder) = kept().await;
    fs::remove_dir_all(folder.path().join("cache")).expect("it is there");
    let world = reopened(&store, folder.path()).await;
    world.get("a").await.is(StatusCode::OK, &bytes(0, TOTAL), CacheStatus::Miss);
    world.get("a").await.is(StatusCode::OK, &bytes(0, TOTAL), CacheStatus::Hit);
    assert_eq!(world.cache.stats().disk_errors.get(), 0);
}
