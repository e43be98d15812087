use std::sync::Arc;

use url::Url;

use super::*;
use crate::Health;
use primitives::clock::Clock;
use s3::settings::{Credentials, Endpoint, SecretSource, Store};
use s3::signer::Signer;
use scripted_server::{Server, empty, nobody};
use upstream::cluster::{Cluster, Factory};
use upstream::health::State;
use upstream::settings::{self, Available, HealthCheck, Timeouts};

fn origin(servers: &[Url], available: Available) -> Origin {
    let key = || SecretSource { value: Default::default(), file: None };
    let credentials = Credentials { access_key: key(), secret_key: key(), session_token: None };
    let store = Store {
        name: "store".into(),
        endpoint: Endpoint::Remote(servers[0].clone()),
        region: "us-east-1".to_owned(),
        path_style: true,
        credentials,
        presign_expiry: Duration::from_secs(900),
    };
    let destination = |(number, address): (usize, &Url)| settings::Destination {
        id: number.to_string().into(),
        address: address.clone(),
        host: None,
        probe: None,
    };
    let cluster = settings::Cluster {
        id: "store".into(),
        load_balancing: Default::default(),
        destinations: servers.iter().enumerate().map(destination).collect(),
        health: HealthCheck { available, ..HealthCheck::default() },
    };
    let cluster: Cluster = Factory::default().cluster(&cluster);
    Origin {
        store: "store".into(),
        cache: None,
        signer: Arc::new(Signer::new(store, servers[0].clone(), Clock::system())),
        health: Arc::new(Health::default()),
        cluster: Arc::new(cluster),
        bucket: "audio".into(),
        content_type: None,
        timeouts: Timeouts { idle: Duration::from_secs(10), ..Timeouts::default() },
        reveal_denied: false,
        clock: Clock::system(),
    }
}

const HEAD: Question<'_> = Question { head: true, key: "track.mp3", range: None, if_match: None, room: 0 };

fn state(origin: &Origin) -> State {
    origin.cluster.members()[0].destination.health().state(Instant::now())
}

fn open_breaker(origin: &Origin, fault: Fault) {
    let destination = &origin.cluster.members()[0].destination;
    for number in 0..5 {
        destination.enter_anyway(origin.cluster.identify(&number)).failed(fault, Instant::now());
    }
}

#[tokio::test]
async fn a_dead_store_is_asked_by_five_requests_and_then_left_alone() {
    let origin = origin(&[nobody().await], Available::HealthyAndUnknown);
    let mut tally = Tally::default();
    for _ in 0..5 {
        assert_eq!(ask(&origin, &HEAD, &mut tally).await.err(), Some(Failure::Unreachable));
    }
    // Four of three tries, and one whose first opened the breaker.
    assert_eq!(tally.attempts, 13);
    let begun = Instant::now();
    for _ in 0..200 {
        assert!(ask(&origin, &HEAD, &mut tally).await.is_err());
    }
    let trials = 1 + u32::try_from(begun.elapsed().as_secs()).expect("seconds");
    assert!((13..=13 + trials).contains(&tally.attempts), "{tally:?}");
    assert_eq!(state(&origin), State::Open);
}

#[tokio::test]
async fn a_failing_store_gets_a_tenth_more_requests_and_the_first_failure_stands() {
    let server = Server::start(|_, _| empty(500)).await;
    let origin = origin(&[server.url()], Available::HealthyOrPanic);
    for _ in 0..300 {
        assert_eq!(ask(&origin, &HEAD, &mut Tally::default()).await.err(), Some(Failure::StoreBroken));
    }
    // 30 that are free, a tenth of 300, and what the ten seconds forgot if this took longer.
    let retries = server.seen().len() - 300;
    assert!((60..150).contains(&retries), "{retries}");
    assert_eq!(origin.cluster.budget().exhausted(), 300 - retries as u64);
}

#[tokio::test]
async fn refusals_and_calls_for_patience_leave_the_breaker_closed() {
    for (status, failure) in [
        (404, Failure::NotFound),
        (403, Failure::Denied { hidden: true }),
        (503, Failure::Throttled { retry_after: None }),
    ] {
        let server = Server::start(move |_, _| empty(status)).await;
        let origin = origin(&[server.url()], Available::HealthyAndUnknown);
        for _ in 0..3 {
            assert_eq!(ask(&origin, &HEAD, &mut Tally::default()).await.err(), Some(failure));
        }
        assert!(server.seen().len() >= 3);
        assert_eq!(state(&origin), State::Healthy, "{status}");
    }
}

#[tokio::test]
async fn answers_of_500_open_the_breaker_unless_one_object_is_all_that_fails() {
    let server = Server::start(|_, _| empty(500)).await;
    let origin = origin(&[server.url()], Available::HealthyAndUnknown);
    for _ in 0..10 {
        assert_eq!(ask(&origin, &HEAD, &mut Tally::default()).await.err(), Some(Failure::StoreBroken));
    }
    assert_eq!(state(&origin), State::Healthy);
    let other = Question { key: "other.mp3", ..HEAD };
    assert_eq!(ask(&origin, &other, &mut Tally::default()).await.err(), Some(Failure::StoreBroken));
    let asked = server.seen().len();
    assert_eq!(ask(&origin, &HEAD, &mut Tally::default()).await.err(), Some(Failure::Unavailable));
    assert_eq!((server.seen().len(), state(&origin)), (asked, State::Open));
}

#[tokio::test]
async fn a_connection_closed_for_idleness_costs_neither_budget_nor_health() {
    let server = Server::start(|_, number| if number == 0 { empty(200) } else { None }).await;
    let origin = origin(&[server.url()], Available::HealthyAndUnknown);
    for _ in 0..60 {
        let reply = ask(&origin, &HEAD, &mut Tally::default()).await;
        assert!(matches!(reply, Ok(Reply::Object(..))));
    }
    assert!(server.seen().len() > 100, "connections were not used again");
    assert_eq!((origin.cluster.budget().exhausted(), state(&origin)), (0, State::Healthy));
}

#[tokio::test]
async fn another_destination_answers_where_the_first_is_dead() {
    let server = Server::start(|_, _| empty(200)).await;
    let origin = origin(&[nobody().await, server.url()], Available::HealthyAndUnknown);
    let mut tally = Tally::default();
    for _ in 0..30 {
        assert!(ask(&origin, &HEAD, &mut tally).await.is_ok());
    }
    assert!(tally.attempts <= 36, "the dead one is passed over after five failures: {tally:?}");
}

#[tokio::test]
async fn the_rest_of_a_body_waits_for_a_store_that_is_left_alone_and_a_new_request_does_not() {
    let server = Server::start(|_, _| empty(200)).await;
    let origin = origin(&[server.url()], Available::HealthyAndUnknown);
    open_breaker(&origin, Fault::Broken);
    assert_eq!(ask(&origin, &HEAD, &mut Tally::default()).await.err(), Some(Failure::Unavailable));
    let broken = origin.cluster.members()[0].destination.enter_anyway(origin.cluster.identify(&()));
    assert!(ask_rest(&origin, &HEAD, &broken, &mut Tally::default()).await.is_ok());
    assert_eq!((server.seen().len(), state(&origin)), (1, State::Healthy));
}

#[tokio::test]
async fn the_rest_of_a_body_is_given_up_when_it_stood_still_for_too_long() {
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..Timeouts::default() };
    let origin = Origin { timeouts, ..origin(&[nobody().await], Available::HealthyAndUnknown) };
    let broken = origin.cluster.members()[0].destination.enter_anyway(origin.cluster.identify(&()));
    let mut tally = Tally::default();
    assert_eq!(ask_rest(&origin, &HEAD, &broken, &mut tally).await.err(), Some(Failure::Unreachable));
    assert!((1..=3).contains(&tally.attempts), "{tally:?}");
}
