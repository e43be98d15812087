//! Clients at random places while the store cuts, fails and is overwritten, and the cache evicts and is purged: a
//! client gets bytes of one version, at their place, and whole, or an error.

use std::sync::atomic::AtomicU32;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Number of ranges that must come whole before the test ends.
const ENOUGH: u32 = 150;
const TOTAL: usize = 30 * SLICE + 77;

/// Reads a random range of the object; returns true if it came whole.
async fn play(world: &World, random: &mut StdRng) -> bool {
    let first = random.random_range(0..TOTAL);
    let last = (first + random.random_range(0..8 * SLICE)).min(TOTAL - 1);
    let read = world.range("a", &format!("bytes={first}-{last}")).await;
    let Ok(status) = read.status else { return false };
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    let version = read.headers[header::ETAG].as_bytes()[2] - b'0';
    let expected = &bytes(version, TOTAL)[first..=last];
    assert!(expected.starts_with(&read.body), "version {version}, {first}-{last}: wrong bytes");
    assert_eq!(read.end.is_ok(), read.body.len() == expected.len(), "whole, or an error");
    read.end.is_ok()
}

async fn disturb(store: &Store, world: &World, random: &mut StdRng) {
    match random.random_range(0..12) {
        0 => store.put("a", thing(random.random_range(0..3), TOTAL)),
        1 => world.cache.purge(PurgeScope::Key("a".into())).expect("nothing is written"),
        2 => world.cache.purge(PurgeScope::All).expect("nothing is written"),
        3 => store.script.broken.store(true, Ordering::SeqCst),
        4..7 => store.script.broken.store(false, Ordering::SeqCst),
        7..9 => world.clock.advance(Duration::from_secs(7)),
        _ => store.script.cuts.store(random.random_range(0..3), Ordering::SeqCst),
    }
    tokio::task::yield_now().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_player_ever_gets_a_wrong_byte() {
    let store = Store::start(&[("a", thing(0, TOTAL))]).await;
    let timeouts = UpstreamTimeouts { idle: Duration::from_millis(300), ..UpstreamTimeouts::default() };
    let mut world = World::new(&store).await;
    Arc::get_mut(&mut world.origin).expect("nobody else has it").timeouts = timeouts;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let whole = AtomicU32::new(0);
    let over = || whole.load(Ordering::SeqCst) >= ENOUGH || tokio::time::Instant::now() > deadline;
    let (world, whole, over) = (&world, &whole, &over);
    let players = (0..24).map(|seed| async move {
        let mut random = StdRng::seed_from_u64(seed);
        while !over() {
            whole.fetch_add(u32::from(play(world, &mut random).await), Ordering::SeqCst);
        }
    });
    let trouble = async {
        let mut random = StdRng::seed_from_u64(99);
        let mut pace = tokio::time::interval(Duration::from_millis(3));
        while !over() {
            disturb(&store, world, &mut random).await;
            pace.tick().await;
        }
        store.script.broken.store(false, Ordering::SeqCst);
    };
    futures::join!(futures::future::join_all(players), trouble);
    assert!(whole.load(Ordering::SeqCst) >= ENOUGH);
    eventually("no fill is left behind", || {
        let stats = world.cache.stats();
        let ended = stats.filled.get() + stats.failed.get() + stats.cancelled.get();
        ended >= 1 && world.cache.fills.is_idle() && world.cache.metadata_flights.is_idle()
    })
    .await;
}
