//! Objects that have changed, are stale, denied, absent or purged, and a store that is away.

use super::*;

#[tokio::test]
async fn an_overwrite_is_seen_at_once_where_a_slice_is_missing_and_versions_never_mix() {
    let store = Store::start(&[("a", thing(0, 4 * SLICE))]).await;
    let world = World::new(&store).await;
    world.range("a", "bytes=0-4095").await.is(StatusCode::PARTIAL_CONTENT, &bytes(0, SLICE), CacheStatus::Miss);
    store.put("a", thing(1, 4 * SLICE));
    // Within its time the old version is whole where it is cached, and the new one is whole where it is not.
    world.range("a", "bytes=0-4095").await.is(StatusCode::PARTIAL_CONTENT, &bytes(0, SLICE), CacheStatus::Hit);
    let read = world.range("a", "bytes=4096-8191").await;
    read.is(StatusCode::PARTIAL_CONTENT, &bytes(1, 4 * SLICE)[SLICE..2 * SLICE], CacheStatus::Miss);
    assert_eq!(read.headers[header::ETAG], "\"v1\"");
    world.range("a", "bytes=0-4095").await.is(StatusCode::PARTIAL_CONTENT, &bytes(1, SLICE), CacheStatus::Miss);
}

#[tokio::test]
async fn a_stream_under_way_is_finished_from_the_old_version_or_ends_as_an_error() {
    for whole in [true, false] {
        let store = Store::start(&[("a", thing(0, 4 * SLICE))]).await;
        let world = World::new(&store).await;
        if whole {
            world.get("a").await.is(StatusCode::OK, &bytes(0, 4 * SLICE), CacheStatus::Miss);
        }
        let mut body = world.ask(Method::GET, &[], "a").await.outcome.expect("an answer").body.expect("a body");
        assert!(body.fill(PIECE, false).await.expect("bytes"));
        let mut read = body.available().to_vec();
        store.put("a", thing(1, 4 * SLICE));
        let end = drain(&mut body, &mut read).await;
        assert_eq!(end, if whole { Ok(()) } else { Err(ObjectError::Changed) });
        assert!(bytes(0, 4 * SLICE).starts_with(&read), "only bytes of the version that was begun");
    }
}

#[tokio::test]
async fn what_is_stale_is_revalidated_by_one_head() {
    let policy = CachePolicy { stale_while_revalidate: Duration::ZERO, ..CachePolicy::default() };
    let store = Store::start(&[("a", thing(0, SLICE))]).await;
    let world = World::with(&store, policy, None).await;
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Miss);
    world.clock.advance(Duration::from_secs(11));
    store.seen();
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Revalidated);
    assert_eq!(store.seen(), ["HEAD"]);
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Hit);
    store.put("a", thing(1, SLICE));
    world.clock.advance(Duration::from_secs(11));
    world.get("a").await.is(StatusCode::OK, &bytes(1, SLICE), CacheStatus::Miss);
}

#[tokio::test]
async fn what_is_a_little_stale_is_served_while_the_store_is_asked() {
    let store = Store::start(&[("a", thing(0, SLICE))]).await;
    let world = World::new(&store).await;
    world.get("a").await;
    store.put("a", thing(1, SLICE));
    world.clock.advance(Duration::from_secs(15));
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Stale);
    eventually("the question is put", || {
        world.cache.slice_store.load().usage() > 0 && store.script.seen.lock().contains(&"HEAD".to_owned())
    })
    .await;
    let mut read = world.get("a").await;
    for _ in 0..100 {
        if read.state != Some(CacheStatus::Stale) {
            break;
        }
        read = world.get("a").await;
    }
    read.is(StatusCode::OK, &bytes(1, SLICE), CacheStatus::Miss);
}

#[tokio::test]
async fn a_dead_store_keeps_serving_what_is_cached_until_its_time_is_over() {
    let policy = CachePolicy { stale_if_error: Duration::from_secs(100), ..CachePolicy::default() };
    let store = Store::start(&[("a", thing(0, 2 * SLICE))]).await;
    let world = World::with(&store, policy, None).await;
    world.range("a", "bytes=0-9").await;
    store.script.broken.store(true, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(60));
    world.range("a", "bytes=0-9").await.is(StatusCode::PARTIAL_CONTENT, &bytes(0, 10), CacheStatus::Stale);
    store.seen();
    world.range("a", "bytes=0-9").await.is(StatusCode::PARTIAL_CONTENT, &bytes(0, 10), CacheStatus::Stale);
    assert!(store.seen().is_empty(), "a store in trouble is not asked by every request");
    let missing = world.range("a", "bytes=5000-5009").await;
    assert_eq!(missing.status, Err(ObjectError::StoreBroken), "what is not cached fails before its header");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.range("a", "bytes=0-9").await.status, Err(ObjectError::StoreBroken));
    store.script.broken.store(false, Ordering::SeqCst);
    world.range("a", "bytes=0-9").await.is(StatusCode::PARTIAL_CONTENT, &bytes(0, 10), CacheStatus::Revalidated);
}

#[tokio::test]
async fn a_store_that_is_waited_for_does_not_delay_what_the_cache_may_serve() {
    let policy = CachePolicy { stale_if_error: Duration::from_secs(100), ..CachePolicy::default() };
    let store = Store::start(&[("a", thing(0, SLICE))]).await;
    let mut world = World::with(&store, policy, None).await;
    Arc::get_mut(&mut world.origin).expect("nobody shares it").timeouts.unavailable = Duration::from_secs(3600);
    world.get("a").await;
    store.script.broken.store(true, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(60));
    store.seen();
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Stale);
    assert!(store.seen().len() <= 2, "asked once, and once more");
    store.script.broken.store(false, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(60));
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Revalidated);
}

#[tokio::test]
async fn a_store_that_comes_back_in_time_costs_a_stream_a_pause() {
    let store = Store::start(&[("a", thing(0, 6 * SLICE))]).await;
    let world = World::new(&store).await;
    let mut body = world.ask(Method::GET, &[], "a").await.outcome.expect("an answer").body.expect("a body");
    assert!(body.fill(PIECE, false).await.expect("bytes"));
    let mut read = body.available().to_vec();
    store.script.broken.store(true, Ordering::SeqCst);
    let comes_back = async {
        eventually("a slice could not be had", || world.cache.stats().failed.get() > 0).await;
        store.script.broken.store(false, Ordering::SeqCst);
    };
    let (end, ()) = futures::join!(drain(&mut body, &mut read), comes_back);
    assert_eq!(end, Ok(()));
    assert!(read == bytes(0, 6 * SLICE));
}

#[tokio::test]
async fn a_denial_ends_what_is_cached_and_is_not_kept() {
    let store = Store::start(&[("a", thing(0, 10))]).await;
    let world = World::new(&store).await;
    let denied = Err(ObjectError::Denied { hidden: true });
    // First of an object of which nothing is known, then of one that is cached.
    for _ in 0..2 {
        store.script.denied.store(true, Ordering::SeqCst);
        assert_eq!(world.get("a").await.status, denied);
        let asked = store.seen().len();
        assert_eq!(world.get("a").await.status, denied);
        assert!(asked > 0 && !store.seen().is_empty(), "each one asks for itself");
        store.script.denied.store(false, Ordering::SeqCst);
        world.get("a").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Miss);
        world.get("a").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Hit);
        world.clock.advance(Duration::from_secs(30));
    }
    world.get("a").await;
    store.script.denied.store(true, Ordering::SeqCst);
    assert_eq!(world.cache.refresh(&world.origin, "a").await, Err(ObjectError::Denied { hidden: true }));
    assert_eq!(world.get("a").await.status, denied);
}

#[tokio::test]
async fn absence_is_remembered_for_seconds() {
    let store = Store::start(&[]).await;
    let world = World::new(&store).await;
    let absent = world.get("a").await;
    assert_eq!((absent.status, absent.state), (Err(ObjectError::NotFound), Some(CacheStatus::Miss)));
    let again = world.get("a").await;
    assert_eq!((again.status, again.state), (Err(ObjectError::NotFound), Some(CacheStatus::Negative)));
    assert_eq!(store.seen().len(), 1);
    store.put("a", thing(0, 10));
    world.clock.advance(Duration::from_secs(3));
    world.get("a").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Miss);
}

#[tokio::test]
async fn what_was_purged_is_fetched_anew() {
    let store = Store::start(&[("a/1", thing(0, 10)), ("b", thing(0, 10))]).await;
    let world = World::new(&store).await;
    let bucket =
        PurgeScope::Bucket { store: format!("store {}", store.url), bucket: "bucket".into(), prefix: String::new() };
    for scope in [PurgeScope::Key("a/1".into()), PurgeScope::Prefix("a/".into()), bucket, PurgeScope::All] {
        world.get("a/1").await;
        world.get("b").await;
        world.get("a/1").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Hit);
        world.cache.purge(scope.clone()).expect("nothing is written");
        world.get("a/1").await.is(StatusCode::OK, &bytes(0, 10), CacheStatus::Miss);
        let kept = matches!(scope, PurgeScope::Key(_) | PurgeScope::Prefix(_));
        world.get("b").await.is(StatusCode::OK, &bytes(0, 10), if kept { CacheStatus::Hit } else { CacheStatus::Miss });
    }
}

#[tokio::test]
async fn a_refresh_asks_the_store_and_says_what_came_of_it() {
    let store = Store::start(&[("a", thing(0, 10))]).await;
    let world = World::new(&store).await;
    let refresh = || world.cache.refresh(&world.origin, "a");
    assert_eq!(refresh().await, Ok(RefreshOutcome::Unknown));
    world.get("a").await;
    assert_eq!(refresh().await, Ok(RefreshOutcome::Same));
    store.put("a", thing(1, 10));
    assert_eq!(refresh().await, Ok(RefreshOutcome::Changed));
    world.get("a").await.is(StatusCode::OK, &bytes(1, 10), CacheStatus::Miss);
    store.script.things.lock().clear();
    assert_eq!(refresh().await, Ok(RefreshOutcome::Gone));
    assert_eq!(world.get("a").await.state, Some(CacheStatus::Negative));
}

#[tokio::test]
async fn a_purge_holds_against_stale_answers_and_lets_streams_under_way_go_on() {
    let store = Store::start(&[("a", thing(0, 4 * SLICE))]).await;
    let world = World::new(&store).await;
    world.get("a").await.is(StatusCode::OK, &bytes(0, 4 * SLICE), CacheStatus::Miss);
    let mut body = world.ask(Method::GET, &[], "a").await.outcome.expect("an answer").body.expect("a body");
    assert!(body.fill(PIECE, false).await.expect("bytes"));
    let mut read = body.available().to_vec();
    world.cache.purge(PurgeScope::All).expect("nothing is written");
    assert_eq!(drain(&mut body, &mut read).await, Ok(()));
    assert!(read == bytes(0, 4 * SLICE));
    store.script.broken.store(true, Ordering::SeqCst);
    assert_eq!(world.get("a").await.status, Err(ObjectError::StoreBroken), "nothing old is left to serve");
}

#[tokio::test]
async fn what_is_cached_serves_on_while_the_stores_credentials_have_ended() {
    let policy = CachePolicy { stale_while_revalidate: Duration::ZERO, ..CachePolicy::default() };
    let store = Store::start(&[("a", thing(0, SLICE)), ("b", thing(0, SLICE))]).await;
    let mut world = World::with(&store, policy, None).await;
    let provider = CredentialProvider { kind: ProviderKind::Container, region: "us-east-1".into() };
    let settings = store_settings(&store, StoreCredentials::Temporary(Arc::new(provider)));
    let signer = Arc::new(Signer::new(settings, store.url.clone(), world.clock.clone()));
    Arc::get_mut(&mut world.origin).expect("nobody else has it").signer = Arc::clone(&signer);
    let keys = |seconds: u64| TemporaryKeys {
        access_key: Secret::new("KEY"),
        secret_key: Secret::new("secret"),
        session_token: None,
        expires_at: Some(world.clock.unix() + seconds),
    };
    signer.set_credentials(&keys(5));
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Miss);
    world.clock.advance(Duration::from_secs(11));
    store.seen();
    world.get("a").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Stale);
    assert_eq!(world.get("b").await.status, Err(ObjectError::Unsignable(SignError::ExpiredCredentials)));
    assert_eq!(store.seen(), [""; 0]);
    // Others are there, and the store is asked again.
    signer.set_credentials(&keys(3600));
    world.get("b").await.is(StatusCode::OK, &bytes(0, SLICE), CacheStatus::Miss);
}
