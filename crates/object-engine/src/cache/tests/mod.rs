//! Tests of the cache before a store on a real socket.

mod chaos;
mod disk;
mod origin;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use self::origin::{Store, Thing, eventually};
use super::metadata_fetch::{self, MetadataOutcome, MetadataRequest};
use super::settings::DiskCacheSettings;
use super::{CachePolicy, CacheStatus, PurgeScope, RefreshOutcome, RouteCache, Settings, SliceCache};
use crate::AttemptStats;
use crate::BucketHealth;
use crate::ObjectBody;
use crate::ObjectError;
use crate::ObjectOrigin;
use crate::RequestPlan;
use crate::serve_object;
use primitives::clock::Clock;
use s3::settings::{SecretSource, StoreCredentials, StoreEndpoint, StoreSettings};
use s3::signer::Signer;
use upstream::cluster::ClusterFactory;
use upstream::settings::{self, AvailabilityPolicy, HealthCheckSettings, UpstreamTimeouts};

/// Bytes that a client takes at once.
const PIECE: usize = 64 * 1024;
const SLICE: usize = 4096;

/// Returns bytes that tell their version and their position.
fn bytes(version: u8, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place / 256 + place % 251) as u8 ^ version).collect()
}

fn thing(version: u8, length: usize) -> Thing {
    Thing { bytes: bytes(version, length), etag: ["\"v0\"", "\"v1\"", "\"v2\""][usize::from(version)], headers: "" }
}

/// A proxy with a cache before `store`.
struct World {
    cache: Arc<SliceCache>,
    origin: Arc<ObjectOrigin>,
    clock: Clock,
}

impl World {
    async fn new(store: &Store) -> Self {
        Self::with(store, CachePolicy::default(), None).await
    }

    async fn with(store: &Store, policy: CachePolicy, disk: Option<DiskCacheSettings>) -> Self {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let settings = Settings { slice_size: SLICE as u32, memory: 1 << 20, disk };
        let handle = tokio::runtime::Handle::current();
        let spawner = Arc::new(move |task| drop(handle.spawn(task)));
        let cache = SliceCache::open(&settings, clock.clone(), spawner).await.expect("it opens");
        let origin = origin_of(store, Some(RouteCache { cache: Arc::clone(&cache), policy }), &clock);
        Self { cache, origin, clock }
    }

    async fn ask(&self, method: Method, headers: &[(header::HeaderName, &str)], key: &str) -> Got {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let plan = RequestPlan::from_request(&method, &map, 64 * 1024);
        let mut tally = AttemptStats::default();
        let outcome = serve_object(&self.origin, &plan, key, &mut tally).await;
        Got { outcome, tally }
    }

    async fn get(&self, key: &str) -> Read {
        self.ask(Method::GET, &[], key).await.read().await
    }

    async fn range(&self, key: &str, range: &str) -> Read {
        self.ask(Method::GET, &[(header::RANGE, range)], key).await.read().await
    }
}

fn origin_of(store: &Store, cache: Option<RouteCache>, clock: &Clock) -> Arc<ObjectOrigin> {
    let secret = || SecretSource { value: Default::default(), file: None };
    let settings = StoreSettings {
        name: "store".into(),
        endpoint: StoreEndpoint::Remote(store.url.clone()),
        region: "us-east-1".into(),
        path_style: true,
        credentials: StoreCredentials { access_key: secret(), secret_key: secret(), session_token: None },
        presign_expiry: Duration::from_secs(900),
    };
    // A store that failed and is well again is used at once: the breaker has tests of its own.
    let health =
        HealthCheckSettings { available: AvailabilityPolicy::HealthyOrPanic, ..HealthCheckSettings::default() };
    let destination =
        settings::DestinationSettings { id: "store".into(), address: store.url.clone(), host: None, probe: None };
    let cluster = settings::ClusterSettings {
        id: "store".into(),
        load_balancing: Default::default(),
        destinations: vec![destination],
        health,
    };
    Arc::new(ObjectOrigin {
        store: "store".into(),
        cluster: Arc::new(ClusterFactory::default().build(&cluster)),
        signer: Arc::new(Signer::new(settings, store.url.clone(), clock.clone())),
        health: Arc::new(BucketHealth::default()),
        bucket: "bucket".into(),
        content_type: None,
        timeouts: UpstreamTimeouts { idle: Duration::from_secs(5), ..UpstreamTimeouts::default() },
        reveal_denied: false,
        clock: clock.clone(),
        cache,
    })
}

/// Response whose body has not been read.
struct Got {
    outcome: Result<crate::ObjectResponse, ObjectError>,
    tally: AttemptStats,
}

/// Response with its body, read to the end.
#[derive(Debug)]
struct Read {
    status: Result<StatusCode, ObjectError>,
    headers: HeaderMap,
    body: Vec<u8>,
    end: Result<(), ObjectError>,
    state: Option<CacheStatus>,
}

impl Got {
    async fn read(self) -> Read {
        let Self { outcome, tally } = self;
        let answer = match outcome {
            Ok(answer) => answer,
            Err(failure) => {
                let (headers, body) = (HeaderMap::new(), Vec::new());
                return Read { status: Err(failure), headers, body, end: Ok(()), state: tally.cache };
            }
        };
        let (status, headers) = (Ok(answer.status), answer.headers);
        let Some(mut from) = answer.body else {
            return Read { status, headers, body: Vec::new(), end: Ok(()), state: tally.cache };
        };
        let mut body = Vec::new();
        let end = drain(&mut from, &mut body).await;
        Read { status, headers, body, end, state: tally.merged_with(from.attempt_stats()).cache }
    }
}

async fn drain(from: &mut ObjectBody, into: &mut Vec<u8>) -> Result<(), ObjectError> {
    while from.fill(PIECE, false).await? {
        assert_eq!(from.to_bytes(), from.available());
        into.extend_from_slice(from.available());
    }
    Ok(())
}

impl Read {
    fn is(&self, status: StatusCode, body: &[u8], state: CacheStatus) {
        assert_eq!((self.status, self.end), (Ok(status), Ok(())));
        assert!(self.body == body, "{} bytes, {} expected", self.body.len(), body.len());
        assert_eq!(self.state, Some(state));
    }
}

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
        world.cache.slice_store.usage() > 0 && store.script.seen.lock().contains(&"HEAD".to_owned())
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
        assert_eq!(world.cache.slice_store.usage(), 0, "{key}");
    }
}

#[tokio::test]
async fn what_was_purged_is_fetched_anew() {
    let store = Store::start(&[("a/1", thing(0, 10)), ("b", thing(0, 10))]).await;
    let world = World::new(&store).await;
    let bucket = PurgeScope::Bucket { store: "store".into(), bucket: "bucket".into(), prefix: String::new() };
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
