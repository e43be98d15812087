use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, Method};
use url::Url;

use super::*;
use crate::BucketHealth;
use crate::plan::RequestPlan;
use crate::serve::serve_object;
use primitives::clock::{Clock, monotonic_now};
use primitives::secret::Secret;
use s3::credentials::TemporaryKeys;
use s3::settings::{
    CredentialProvider, ProviderKind, SecretSource, StoreCredentials, StoreEndpoint, StoreKeys, StoreSettings,
};
use s3::signer::{SignError, Signer};
use scripted_server::{ScriptedServer, empty_response, unreachable_url};
use upstream::cluster::{Cluster, ClusterFactory};
use upstream::health::HealthState;
use upstream::settings::{self, AvailabilityPolicy, HealthCheckSettings, UpstreamTimeouts};

fn store(endpoint: &Url, credentials: StoreCredentials) -> StoreSettings {
    StoreSettings {
        name: "store".into(),
        endpoint: StoreEndpoint::Remote(endpoint.clone()),
        region: "us-east-1".to_owned(),
        path_style: true,
        credentials,
        presign_expiry: Duration::from_secs(900),
    }
}

/// A signer whose keys are to come from a provider.
fn temporary(endpoint: &Url) -> Arc<Signer> {
    let provider = CredentialProvider { kind: ProviderKind::Container, region: "us-east-1".to_owned() };
    let store = store(endpoint, StoreCredentials::Temporary(Arc::new(provider)));
    Arc::new(Signer::new(store, endpoint.clone(), Clock::system()))
}

fn origin(servers: &[Url], available: AvailabilityPolicy) -> ObjectOrigin {
    let key = || SecretSource { value: Default::default(), file: None };
    let credentials = StoreCredentials::Keys(StoreKeys { access_key: key(), secret_key: key(), session_token: None });
    let store = store(&servers[0], credentials);
    let destination = |(number, address): (usize, &Url)| settings::DestinationSettings {
        id: number.to_string().into(),
        address: address.clone(),
        host: None,
        probe: None,
    };
    let cluster = settings::ClusterSettings {
        id: "store".into(),
        load_balancing: Default::default(),
        destinations: servers.iter().enumerate().map(destination).collect(),
        health: HealthCheckSettings { available, ..HealthCheckSettings::default() },
        http_version: Default::default(),
        affinity: None,
    };
    let cluster: Cluster = ClusterFactory::default().build(&cluster);
    ObjectOrigin {
        store: "store".into(),
        cache: None,
        signer: Arc::new(Signer::new(store, servers[0].clone(), Clock::system())),
        health: Arc::new(BucketHealth::default()),
        cluster: Arc::new(cluster),
        bucket: "audio".into(),
        content_type: None,
        timeouts: UpstreamTimeouts { idle: Duration::from_secs(10), ..UpstreamTimeouts::default() },
        reveal_denied: false,
        clock: Clock::system(),
    }
}

const HEAD: StoreRequest<'_> = StoreRequest { head: true, key: "track.mp3", range: None, if_match: None, room: 0 };

fn state(origin: &ObjectOrigin) -> HealthState {
    origin.cluster.members()[0].destination.health().state(monotonic_now())
}

fn open_breaker(origin: &ObjectOrigin, fault: FailureKind) {
    let destination = &origin.cluster.members()[0].destination;
    for number in 0..5 {
        destination.enter_unconditionally(origin.cluster.identify(&number)).failed(fault, monotonic_now());
    }
}

#[tokio::test]
async fn a_dead_store_is_asked_by_five_requests_and_then_left_alone() {
    let origin = origin(&[unreachable_url().await], AvailabilityPolicy::HealthyAndUnknown);
    let mut tally = AttemptStats::default();
    for _ in 0..5 {
        assert_eq!(query_store(&origin, &HEAD, &mut tally).await.err(), Some(ObjectError::Unreachable));
    }
    // Four of three tries, and one whose first opened the breaker.
    assert_eq!(tally.attempts, 13);
    let begun = monotonic_now();
    for _ in 0..200 {
        assert!(query_store(&origin, &HEAD, &mut tally).await.is_err());
    }
    let trials = 1 + u32::try_from(begun.elapsed().as_secs()).expect("seconds");
    assert!((13..=13 + trials).contains(&tally.attempts), "{tally:?}");
    assert_eq!(state(&origin), HealthState::Open);
}

#[tokio::test]
async fn a_failing_store_gets_a_tenth_more_requests_and_the_first_failure_stands() {
    let server = ScriptedServer::start(|_, _| empty_response(500)).await;
    let origin = origin(&[server.url()], AvailabilityPolicy::HealthyOrPanic);
    for _ in 0..300 {
        assert_eq!(
            query_store(&origin, &HEAD, &mut AttemptStats::default()).await.err(),
            Some(ObjectError::StoreBroken)
        );
    }
    // 30 that are free, a tenth of 300, and what the ten seconds forgot if this took longer.
    let retries = server.received_heads().len() - 300;
    assert!((60..150).contains(&retries), "{retries}");
    assert_eq!(origin.cluster.retry_budget().exhausted(), 300 - retries as u64);
}

#[tokio::test]
async fn refusals_and_calls_for_patience_leave_the_breaker_closed() {
    for (status, failure) in [
        (404, ObjectError::NotFound),
        (403, ObjectError::Denied { hidden: true }),
        (503, ObjectError::Throttled { retry_after: None }),
    ] {
        let server = ScriptedServer::start(move |_, _| empty_response(status)).await;
        let origin = origin(&[server.url()], AvailabilityPolicy::HealthyAndUnknown);
        for _ in 0..3 {
            assert_eq!(query_store(&origin, &HEAD, &mut AttemptStats::default()).await.err(), Some(failure));
        }
        assert!(server.received_heads().len() >= 3);
        assert_eq!(state(&origin), HealthState::Healthy, "{status}");
    }
}

#[tokio::test]
async fn answers_of_500_open_the_breaker_unless_one_object_is_all_that_fails() {
    let server = ScriptedServer::start(|_, _| empty_response(500)).await;
    let origin = origin(&[server.url()], AvailabilityPolicy::HealthyAndUnknown);
    for _ in 0..10 {
        assert_eq!(
            query_store(&origin, &HEAD, &mut AttemptStats::default()).await.err(),
            Some(ObjectError::StoreBroken)
        );
    }
    assert_eq!(state(&origin), HealthState::Healthy);
    let other = StoreRequest { key: "other.mp3", ..HEAD };
    assert_eq!(query_store(&origin, &other, &mut AttemptStats::default()).await.err(), Some(ObjectError::StoreBroken));
    let asked = server.received_heads().len();
    assert_eq!(query_store(&origin, &HEAD, &mut AttemptStats::default()).await.err(), Some(ObjectError::Unavailable));
    assert_eq!((server.received_heads().len(), state(&origin)), (asked, HealthState::Open));
}

#[tokio::test]
async fn a_connection_closed_for_idleness_costs_neither_budget_nor_health() {
    let server = ScriptedServer::start(|_, number| if number == 0 { empty_response(200) } else { None }).await;
    let origin = origin(&[server.url()], AvailabilityPolicy::HealthyAndUnknown);
    for _ in 0..60 {
        let reply = query_store(&origin, &HEAD, &mut AttemptStats::default()).await;
        assert!(matches!(reply, Ok(StoreReply::Object(..))));
    }
    assert!(server.received_heads().len() > 100, "connections were not used again");
    assert_eq!((origin.cluster.retry_budget().exhausted(), state(&origin)), (0, HealthState::Healthy));
}

#[tokio::test]
async fn another_destination_answers_where_the_first_is_dead() {
    let server = ScriptedServer::start(|_, _| empty_response(200)).await;
    let origin = origin(&[unreachable_url().await, server.url()], AvailabilityPolicy::HealthyAndUnknown);
    let mut tally = AttemptStats::default();
    for _ in 0..30 {
        assert!(query_store(&origin, &HEAD, &mut tally).await.is_ok());
    }
    assert!(tally.attempts <= 36, "the dead one is passed over after five failures: {tally:?}");
}

#[tokio::test]
async fn the_rest_of_a_body_waits_for_a_store_that_is_left_alone_and_a_new_request_does_not() {
    let server = ScriptedServer::start(|_, _| empty_response(200)).await;
    let origin = origin(&[server.url()], AvailabilityPolicy::HealthyAndUnknown);
    open_breaker(&origin, FailureKind::Broken);
    assert_eq!(query_store(&origin, &HEAD, &mut AttemptStats::default()).await.err(), Some(ObjectError::Unavailable));
    let broken = origin.cluster.members()[0].destination.enter_unconditionally(origin.cluster.identify(&()));
    assert!(query_rest(&origin, &HEAD, &broken, &mut AttemptStats::default()).await.is_ok());
    assert_eq!((server.received_heads().len(), state(&origin)), (1, HealthState::Healthy));
}

#[tokio::test]
async fn the_rest_of_a_body_is_given_up_when_it_stood_still_for_too_long() {
    let timeouts = UpstreamTimeouts { idle: Duration::from_millis(300), ..UpstreamTimeouts::default() };
    let origin = ObjectOrigin { timeouts, ..origin(&[unreachable_url().await], AvailabilityPolicy::HealthyAndUnknown) };
    let broken = origin.cluster.members()[0].destination.enter_unconditionally(origin.cluster.identify(&()));
    let mut tally = AttemptStats::default();
    assert_eq!(query_rest(&origin, &HEAD, &broken, &mut tally).await.err(), Some(ObjectError::Unreachable));
    assert!((1..=3).contains(&tally.attempts), "{tally:?}");
}

#[tokio::test]
async fn a_request_waits_for_a_store_that_is_away_as_long_as_the_route_says() {
    let plan = RequestPlan::from_request(&Method::GET, &HeaderMap::new(), 1 << 10);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    // MinIO that starts asks for a minute; a load balancer in front of a store that is away answers for it.
    let starting = "HTTP/1.1 503 Scripted\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
    let server = ScriptedServer::start(move |_, _| match counted.fetch_add(1, Ordering::Relaxed) {
        0..3 => Some(starting.to_owned()),
        3..5 => empty_response(502),
        _ => empty_response(200),
    });
    let server = server.await;
    let patient = |unavailable: u64, server: Url| ObjectOrigin {
        timeouts: UpstreamTimeouts { unavailable: Duration::from_millis(unavailable), ..UpstreamTimeouts::default() },
        ..origin(&[server], AvailabilityPolicy::HealthyAndUnknown)
    };
    let mut tally = AttemptStats::default();
    let served = serve_object(&Arc::new(patient(20_000, server.url())), &plan, "track.mp3", &mut tally).await;
    assert_eq!(served.expect("it is back").status, 200);
    assert_eq!((asked.load(Ordering::Relaxed), tally.attempts, tally.retries), (6, 6, 5));
    let away = Arc::new(patient(1000, unreachable_url().await));
    assert_eq!(serve_object(&away, &plan, "track.mp3", &mut tally).await.err(), Some(ObjectError::Unreachable));
    // What the store says of the object is an answer, and a store that fails with it is there.
    for (status, failure, asked) in [(404, ObjectError::NotFound, 1), (500, ObjectError::StoreBroken, 2)] {
        let server = ScriptedServer::start(move |_, _| empty_response(status)).await;
        let origin = Arc::new(patient(20_000, server.url()));
        assert_eq!(serve_object(&origin, &plan, "track.mp3", &mut tally).await.err(), Some(failure));
        assert_eq!(server.received_heads().len(), asked);
    }
}

#[tokio::test]
async fn keys_that_come_continue_a_body_and_serve_who_waits_as_a_store_does_that_comes_back() {
    let server = ScriptedServer::start(|_, _| empty_response(200)).await;
    let give = async |signer: &Signer| {
        let (access_key, secret_key) = (Secret::new("KEY"), Secret::new("secret"));
        signer.set_credentials(&TemporaryKeys { access_key, secret_key, session_token: None, expires_at: None });
    };
    let missing = Some(ObjectError::Unsignable(SignError::NoCredentials));
    let keyless = || ObjectOrigin {
        signer: temporary(&server.url()),
        timeouts: UpstreamTimeouts {
            idle: Duration::from_secs(10),
            unavailable: Duration::from_secs(10),
            ..UpstreamTimeouts::default()
        },
        ..origin(&[server.url()], AvailabilityPolicy::HealthyAndUnknown)
    };
    let rest = keyless();
    assert_eq!(query_store(&rest, &HEAD, &mut AttemptStats::default()).await.err(), missing);
    let broken = rest.cluster.members()[0].destination.enter_unconditionally(rest.cluster.identify(&()));
    let mut tally = AttemptStats::default();
    // The first attempt has been made when the keys come.
    let (reply, ()) = tokio::join!(query_rest(&rest, &HEAD, &broken, &mut tally), give(&rest.signer));
    assert!(reply.is_ok() && tally.retries == 1, "{tally:?}");
    let waiting = Arc::new(keyless());
    let plan = RequestPlan::from_request(&Method::GET, &HeaderMap::new(), 1 << 10);
    let mut tally = AttemptStats::default();
    let (served, ()) = tokio::join!(serve_object(&waiting, &plan, "track.mp3", &mut tally), give(&waiting.signer));
    assert_eq!(served.expect("the keys are there").status, 200);
}
