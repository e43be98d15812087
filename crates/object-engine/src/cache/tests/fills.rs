//! Slices while they fill: shared, read ahead, given up, broken.

use super::*;

#[tokio::test]
async fn a_stampede_on_a_cold_range_is_one_request_per_slice() {
    let store = Store::start(&[("a", thing(0, 20 * SLICE))]).await;
    let world = Arc::new(World::new(&store).await);
    let all = bytes(0, 20 * SLICE);
    let players = (0..500).map(|_| {
        let world = Arc::clone(&world);
        async move { world.range("a", "bytes=10000-20000").await }
    });
    for read in futures::future::join_all(players).await {
        assert_eq!((read.status, read.end), (Ok(StatusCode::PARTIAL_CONTENT), Ok(())));
        assert!(read.body == all[10_000..=20_000]);
    }
    let mut seen = store.seen();
    seen.sort();
    assert_eq!(seen, ["GET bytes=12288-16383", "GET bytes=16384-20479", "GET bytes=8192-12287"]);
}

#[tokio::test]
async fn the_first_byte_goes_out_while_the_slice_fills() {
    let store = Store::start(&[("a", thing(0, SLICE))]).await;
    store.script.gated.store(true, Ordering::SeqCst);
    let world = World::new(&store).await;
    let got = world.ask(Method::GET, &[], "a").await;
    let mut body = got.outcome.expect("an answer").body.expect("a body");
    assert!(body.fill(PIECE, false).await.expect("the first half is there"));
    assert_eq!(body.available(), &bytes(0, SLICE)[..SLICE / 2]);
    store.script.gate.add_permits(1);
    let mut rest = Vec::new();
    drain(&mut body, &mut rest).await.expect("the other half");
    assert!(rest == bytes(0, SLICE)[SLICE / 2..]);
}

#[tokio::test]
async fn a_slow_reader_holds_its_slice_once_when_it_is_whole() {
    let store = Store::start(&[("a", thing(0, SLICE))]).await;
    store.script.gated.store(true, Ordering::SeqCst);
    let world = World::new(&store).await;
    let answer = world.ask(Method::GET, &[], "a").await.outcome.expect("an answer");
    let Some(ObjectBody::Cached(mut reader)) = answer.body else { panic!("it is cached") };
    assert!(reader.fill(PIECE).await.expect("its first half"));
    assert_eq!(reader.held_bytes(), SLICE / 2 + SLICE / 2, "the piece that it reads, which is all that has come");
    store.script.gate.add_permits(1);
    eventually("the slice is whole, and its pieces are dropped", || reader.held_bytes() == SLICE / 2 + SLICE).await;
    assert!(reader.fill(PIECE).await.expect("its second half"));
    assert_eq!(reader.held_bytes(), SLICE);
}

#[tokio::test]
async fn a_fill_ends_with_its_last_reader_and_not_before() {
    let store = Store::start(&[("a", thing(0, 2 * SLICE))]).await;
    store.script.gated.store(true, Ordering::SeqCst);
    let world = World::new(&store).await;
    let second_slice = [(header::RANGE, "bytes=4096-8191")];
    let first = world.ask(Method::GET, &second_slice, "a").await.outcome.expect("an answer");
    let second = world.ask(Method::GET, &second_slice, "a").await.outcome.expect("an answer");
    drop(first);
    assert_eq!(world.cache.stats().cancelled.get(), 0);
    drop(second);
    eventually("the fill is cancelled", || world.cache.stats().cancelled.get() == 1).await;
    eventually("the store sees it", || *store.script.left.borrow() == 1).await;
    store.script.gated.store(false, Ordering::SeqCst);
    world.get("a").await.is(StatusCode::OK, &bytes(0, 2 * SLICE), CacheStatus::Miss);
}

#[tokio::test]
async fn a_fill_of_the_first_slice_goes_on_without_readers_and_takes_new_ones_but_not_for_ever() {
    let store = Store::start(&[("a", thing(0, SLICE)), ("b", thing(0, SLICE))]).await;
    store.script.gated.store(true, Ordering::SeqCst);
    let world = World::new(&store).await;
    drop(world.ask(Method::GET, &[], "a").await.outcome.expect("an answer"));
    let again = world.ask(Method::GET, &[], "a").await;
    store.script.gate.add_permits(1);
    again.read().await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Miss);
    assert_eq!((store.seen().len(), world.cache.stats().cancelled.get()), (1, 0));
    drop(world.ask(Method::GET, &[], "b").await.outcome.expect("an answer"));
    eventually("a store that stands still is left", || world.cache.stats().cancelled.get() == 1).await;
}

#[tokio::test]
async fn a_reader_that_reads_on_has_the_next_slice_fetched_ahead() {
    let store = Store::start(&[("a", thing(0, 10 * SLICE))]).await;
    let world = World::new(&store).await;
    let mut body = world.ask(Method::GET, &[], "a").await.outcome.expect("an answer").body.expect("a body");
    let mut taken = 0;
    while taken <= SLICE {
        assert!(body.fill(PIECE, false).await.expect("bytes"));
        taken += body.available().len();
    }
    eventually("the third slice is asked for", || world.cache.stats().fills.get() == 3).await;
    assert_eq!(world.cache.stats().read_aheads.get(), 1);
    assert_eq!(store.seen().last().expect("a request"), "GET bytes=8192-12287");
}

#[tokio::test]
async fn a_fill_that_breaks_goes_on_where_it_broke() {
    let store = Store::start(&[("a", thing(0, 2 * SLICE))]).await;
    store.script.cuts.store(2, Ordering::SeqCst);
    let world = World::new(&store).await;
    world.get("a").await.is(StatusCode::OK, &bytes(0, 2 * SLICE), CacheStatus::Miss);
    let seen = store.seen();
    assert_eq!(seen[..3], ["GET bytes=0-4095", "GET bytes=2048-4095", "GET bytes=3072-4095"]);
}

#[tokio::test]
async fn no_more_than_four_slices_of_an_object_are_asked_for_at_once() {
    const SLICES: usize = 12;
    let store = Store::start(&[("a", thing(0, SLICES * SLICE))]).await;
    let world = World::new(&store).await;
    world.range("a", "bytes=0-0").await;
    store.seen();
    store.script.gated.store(true, Ordering::SeqCst);
    // The last byte of each slice, which comes only when the store is let go on.
    let ranges: Vec<String> =
        (2..=SLICES).map(|end| format!("bytes={}-{}", end * SLICE - 1, end * SLICE - 1)).collect();
    let players = futures::future::join_all(ranges.iter().map(|range| world.range("a", range)));
    let letting_go = async {
        for done in 0..SLICES - 1 {
            let expected = (done + 4).min(SLICES - 1);
            eventually("the next one is asked for", || store.script.seen.lock().len() >= expected).await;
            assert_eq!(store.script.seen.lock().len(), expected, "{done} are done");
            store.script.gate.add_permits(1);
        }
    };
    let (answers, ()) = futures::join!(players, letting_go);
    assert!(answers.iter().all(|read| read.status == Ok(StatusCode::PARTIAL_CONTENT) && read.end == Ok(())));
}
