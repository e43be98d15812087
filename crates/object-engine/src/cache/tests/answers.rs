//! Answers from the cache, and the requests to the store that each costs.

use super::*;

/// A caller that looked into the cache before the reply was kept finds the table of requests empty.
#[tokio::test]
async fn a_question_that_was_just_answered_is_not_asked_again() {
    let store = Store::start(&[("a", thing(0, 3 * SLICE))]).await;
    let world = World::new(&store).await;
    world.range("a", "bytes=0-9").await.is(StatusCode::PARTIAL_CONTENT, &bytes(0, 10), CacheStatus::Miss);
    store.seen();
    let Some(RouteCache { cache, policy }) = &world.origin.cache else { unreachable!("it has a cache") };
    let topic = cache.metadata_key(&world.origin, "a");
    let said = metadata_fetch::fetch_metadata(
        cache,
        &world.origin,
        policy,
        topic,
        MetadataRequest::Slice(0),
        &mut AttemptStats::default(),
    )
    .await;
    assert!(matches!(said, Ok(MetadataOutcome::Object(_, None))));
    assert!(store.seen().is_empty());
}

#[tokio::test]
async fn a_cold_object_costs_one_request_per_slice_and_a_warm_one_none() {
    let store = Store::start(&[("a", thing(0, 3 * SLICE + 10))]).await;
    let world = World::new(&store).await;
    let all = bytes(0, 3 * SLICE + 10);
    world.get("a").await.is(StatusCode::OK, &all, CacheStatus::Miss);
    assert_eq!(
        store.seen(),
        ["GET bytes=0-4095", "GET bytes=4096-8191", "GET bytes=8192-12287", "GET bytes=12288-12297"]
    );
    world.get("a").await.is(StatusCode::OK, &all, CacheStatus::Hit);
    assert!(store.seen().is_empty());
    let stats = world.cache.stats();
    assert_eq!((stats.store_bytes.get(), stats.memory_bytes.get()), (all.len() as u64, all.len() as u64));
    assert_eq!((stats.fills.get(), stats.filled.get(), stats.failed.get()), (4, 4, 0));
}

#[tokio::test]
async fn ranges_and_heads_are_answered_from_what_is_known() {
    let total = 2 * SLICE + 100;
    let store = Store::start(&[("a", thing(0, total)), ("empty", thing(0, 0))]).await;
    let world = World::new(&store).await;
    let all = bytes(0, total);
    let first = world.range("a", "bytes=5000-5009").await;
    first.is(StatusCode::PARTIAL_CONTENT, &all[5000..5010], CacheStatus::Miss);
    assert_eq!(first.headers[header::CONTENT_RANGE], "bytes 5000-5009/8292");
    assert_eq!(store.seen(), ["GET bytes=4096-8191"], "one round trip, of the aligned slice");
    world.range("a", "bytes=4096-4096").await.is(StatusCode::PARTIAL_CONTENT, &all[4096..4097], CacheStatus::Hit);
    world.range("a", "bytes=4090-4100").await.is(StatusCode::PARTIAL_CONTENT, &all[4090..4101], CacheStatus::Partial);
    world.range("a", "bytes=-200").await.is(StatusCode::PARTIAL_CONTENT, &all[total - 200..], CacheStatus::Partial);
    assert_eq!(world.range("a", "bytes=9000-").await.status, Err(ObjectError::RangeNotSatisfiable { size: 8292 }));
    store.seen();
    let head = world.ask(Method::HEAD, &[], "a").await.read().await;
    head.is(StatusCode::OK, b"", CacheStatus::Hit);
    assert_eq!(head.headers[header::CONTENT_LENGTH], "8292");
    assert_eq!(head.headers[header::AGE], "0");
    let same = world.ask(Method::GET, &[(header::IF_NONE_MATCH, "\"x\", \"v0\"")], "a").await.read().await;
    same.is(StatusCode::NOT_MODIFIED, b"", CacheStatus::Hit);
    let other = world.ask(Method::GET, &[(header::IF_MATCH, "\"x\"")], "a").await.read().await;
    assert_eq!(other.status, Err(ObjectError::PreconditionFailed));
    let changed = [(header::RANGE, "bytes=0-9"), (header::IF_RANGE, "\"x\"")];
    world.ask(Method::GET, &changed, "a").await.read().await.is(StatusCode::OK, &all, CacheStatus::Hit);
    assert!(store.seen().is_empty());
    world.get("empty").await.is(StatusCode::OK, b"", CacheStatus::Miss);
    assert_eq!(world.range("empty", "bytes=0-").await.status, Err(ObjectError::RangeNotSatisfiable { size: 0 }));
}

#[tokio::test]
async fn age_is_of_what_the_store_neither_sent_nor_confirmed() {
    let store = Store::start(&[("a", thing(0, 3 * SLICE))]).await;
    let world = World::new(&store).await;
    let age = |read: &Read| read.headers.get(header::AGE).map(|age| age.to_str().expect("a number").to_owned());
    let seconds = |seconds| world.clock.advance(Duration::from_secs(seconds));
    let first = "bytes=0-9";
    for (passed, range, state, expected) in [
        (0, first, CacheStatus::Miss, None),
        (5, first, CacheStatus::Hit, Some("5")),
        // The store has confirmed the version with the bytes that were missing.
        (0, "bytes=8192-8192", CacheStatus::Miss, None),
        (0, "bytes=0-8000", CacheStatus::Partial, Some("5")),
        (10, first, CacheStatus::Stale, Some("15")),
        (100, first, CacheStatus::Revalidated, None),
        (3, first, CacheStatus::Hit, Some("3")),
    ] {
        seconds(passed);
        let read = world.range("a", range).await;
        assert_eq!((read.state, age(&read).as_deref()), (Some(state), expected), "{passed} s later, {range}");
        eventually("nothing is under way", || world.cache.metadata_flights.is_idle() && world.cache.fills.is_idle())
            .await;
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_told_apart_or_must_not_be_kept_goes_past_the_cache() {
    let weak = Thing { etag: "W/\"v0\"", ..thing(0, SLICE) };
    let private = Thing { headers: "Cache-Control: private\r\n", ..thing(0, SLICE) };
    let store = Store::start(&[("weak", weak), ("private", private)]).await;
    let policy = CachePolicy { honour_cache_control: true, ..CachePolicy::default() };
    let world = World::with(&store, policy, None).await;
    for key in ["weak", "private"] {
        for _ in 0..2 {
            world.get(key).await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Bypass);
        }
        assert_eq!(world.cache.stats().memory_bytes.get(), 0, "{key}");
        assert_eq!(world.cache.slice_store.load().usage(), 0, "{key}");
    }
}
