//! Tests of the cache before a store on a real socket.

mod answers;
mod chaos;
mod disk;
mod fills;
mod freshness;
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
use primitives::secret::Secret;
use s3::credentials::TemporaryKeys;
use s3::settings::{
    CredentialProvider, ProviderKind, SecretSource, StoreCredentials, StoreEndpoint, StoreKeys, StoreSettings,
};
use s3::signer::{SignError, Signer};
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

fn store_settings(store: &Store, credentials: StoreCredentials) -> StoreSettings {
    StoreSettings {
        name: "store".into(),
        endpoint: StoreEndpoint::Remote(store.url.clone()),
        region: "us-east-1".into(),
        path_style: true,
        credentials,
        presign_expiry: Duration::from_secs(900),
    }
}

fn origin_of(store: &Store, cache: Option<RouteCache>, clock: &Clock) -> Arc<ObjectOrigin> {
    let secret = || SecretSource { value: Default::default(), file: None };
    let keys = StoreKeys { access_key: secret(), secret_key: secret(), session_token: None };
    let settings = store_settings(store, StoreCredentials::Keys(keys));
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
        http_version: Default::default(),
        affinity: None,
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
