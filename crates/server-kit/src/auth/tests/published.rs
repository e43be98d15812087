//! Published keys: a JWKS server of the test's own, rotation, outages and storms.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::CACHE_CONTROL;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// A JWKS server whose document, status and speed a test sets.
struct Publisher {
    document: ArcSwap<String>,
    cache_control: &'static str,
    down: AtomicBool,
    asked: AtomicUsize,
    /// A fetch is answered with one permit; none are taken while the gate is open.
    gate: Semaphore,
    gated: AtomicBool,
}

impl Publisher {
    async fn start(keys: &[Value]) -> (Arc<Self>, KeySource) {
        Self::start_with("", keys).await
    }

    async fn start_with(cache_control: &'static str, keys: &[Value]) -> (Arc<Self>, KeySource) {
        let publisher = Arc::new(Self {
            document: ArcSwap::default(),
            cache_control,
            down: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
        });
        publisher.publish(keys);
        let router = Router::new()
            .route("/jwks", get(Self::answer))
            .route("/moved", get(|| async { Redirect::temporary("/jwks") }))
            .with_state(publisher.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        Handle::current().spawn(async move { axum::serve(listener, router).await });
        (publisher, KeySource::Jwks(format!("http://{address}/jwks").parse().expect("a URL")))
    }

    async fn answer(State(publisher): State<Arc<Self>>) -> Response {
        publisher.asked.fetch_add(1, Ordering::SeqCst);
        if publisher.gated.load(Ordering::SeqCst) {
            publisher.gate.acquire().await.expect("an open gate").forget();
        }
        if publisher.down.load(Ordering::SeqCst) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        ([(CACHE_CONTROL, publisher.cache_control)], publisher.document.load().to_string()).into_response()
    }

    fn publish(&self, keys: &[Value]) {
        self.document.store(Arc::new(json!({"keys": keys}).to_string()));
    }

    fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn set_gated(&self, gated: bool) {
        self.gated.store(gated, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until the publisher was asked that often.
    async fn asked_at_least(&self, times: usize) {
        eventually(async || self.asked() >= times).await;
    }
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it never holds");
}

#[tokio::test]
async fn published_keys_verify_by_name_and_are_fetched_once_at_first_need() {
    let signers = [("rsa", Signer::rs256()), ("ec", Signer::es256()), ("ed", Signer::eddsa())];
    let keys: Vec<Value> = signers.iter().map(|(name, signer)| signer.jwk(name)).collect();
    let (publisher, source) = Publisher::start(&keys).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    assert_eq!(publisher.asked(), 0);
    for (name, signer) in &signers {
        assert_eq!(ask(&authenticator, &signer.sign(Some(name), &good())).await, ok(), "{name}");
        assert_eq!(ask(&authenticator, &signer.sign(None, &good())).await, ok(), "{name} without its name");
    }
    let (_, ec) = &signers[1];
    assert_eq!(
        ask(&authenticator, &ec.sign(Some("rsa"), &good())).await,
        Err(AuthenticationError::UnsupportedAlgorithm)
    );
    assert_eq!(
        ask(&authenticator, &Signer::es256().sign(Some("ec"), &good())).await,
        Err(AuthenticationError::BadSignature)
    );
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn keys_for_something_else_are_left_out_of_a_set() {
    let signer = Signer::es256();
    let changed = |name: &str, member: &str, value: Value| {
        let mut jwk = signer.jwk(name);
        jwk[member] = value;
        jwk
    };
    let mut good_one = signer.jwk("good");
    good_one["use"] = json!("sig");
    good_one["key_ops"] = json!(["verify"]);
    let keys = [
        changed("use", "use", json!("enc")),
        changed("ops", "key_ops", json!(["sign"])),
        changed("alg", "alg", json!("ES384")),
        changed("crv", "crv", json!("P-384")),
        changed("kty", "kty", json!("oct")),
        changed("x", "x", json!("AAAA")),
        changed("kid", "kid", json!(7)),
        json!({"kty": "oct", "kid": "oct", "k": encode(&json!(SECRET))}),
        json!("no key at all"),
        good_one,
    ];
    let (_publisher, source) = Publisher::start(&keys).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    for name in ["use", "ops", "alg", "crv", "kty", "x", "kid", "oct"] {
        assert_eq!(
            ask(&authenticator, &signer.sign(Some(name), &good())).await,
            Err(AuthenticationError::UnknownKey),
            "{name}"
        );
    }
    assert_eq!(ask(&authenticator, &signer.sign(Some("good"), &good())).await, ok());
}

#[tokio::test]
async fn a_shared_secret_is_never_taken_from_a_set_and_causes_no_fetch() {
    let (publisher, source) = Publisher::start(&[json!({"kty": "oct", "kid": "k", "k": encode(&json!(SECRET))})]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    let token = Signer::hs256(json!(SECRET).to_string().as_bytes()).sign(Some("k"), &good());
    assert_eq!(ask(&authenticator, &token).await, Err(AuthenticationError::UnsupportedAlgorithm));
    assert_eq!(publisher.asked(), 0);
}

#[tokio::test]
async fn many_first_requests_share_one_fetch() {
    let signer = Signer::es256();
    let (publisher, source) = Publisher::start(&[signer.jwk("a")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    publisher.set_gated(true);
    let tokens: Vec<String> = (0..50).map(|count| signer.sign(Some("a"), &with("jti", json!(count)))).collect();
    let asking = futures::future::join_all(tokens.iter().map(|token| ask(&authenticator, token)));
    let opening = async {
        publisher.asked_at_least(1).await;
        publisher.gate.add_permits(100);
    };
    let (answers, ()) = tokio::join!(asking, opening);
    assert!(answers.into_iter().all(|answer| answer == ok()));
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_no_longer_counts() {
    let (old, new) = (Signer::es256(), Signer::eddsa());
    let (publisher, source) = Publisher::start(&[old.jwk("old")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    let (old_token, new_token) = (old.sign(Some("old"), &good()), new.sign(Some("new"), &good()));
    assert_eq!(ask(&authenticator, &old_token).await, ok());

    publisher.publish(&[old.jwk("old"), new.jwk("new")]);
    assert_eq!(ask(&authenticator, &new_token).await, ok());
    assert_eq!(ask(&authenticator, &old_token).await, ok());
    assert_eq!(publisher.asked(), 2);

    publisher.publish(&[new.jwk("new")]);
    authenticator.clock.advance(seconds(599));
    assert_eq!(ask(&authenticator, &old_token).await, ok(), "remembered, and the keys are not due yet");
    assert_eq!(publisher.asked(), 2);
    authenticator.clock.advance(seconds(1));
    eventually(async || ask(&authenticator, &old_token).await != ok()).await;
    assert_eq!(ask(&authenticator, &old_token).await, Err(AuthenticationError::UnknownKey));
}

#[tokio::test]
async fn a_token_without_a_key_name_is_worth_a_fetch_too() {
    let (old, new) = (Signer::es256(), Signer::es256());
    let (publisher, source) = Publisher::start(&[old.jwk("old")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    assert_eq!(ask(&authenticator, &old.sign(None, &good())).await, ok());
    publisher.publish(&[new.jwk("new")]);
    assert_eq!(ask(&authenticator, &new.sign(None, &good())).await, ok());
    assert_eq!(ask(&authenticator, &old.sign(None, &good())).await, Err(AuthenticationError::UnknownKey));
}

#[tokio::test]
async fn a_storm_of_forged_key_names_causes_one_fetch_in_ten_seconds() {
    let (signer, forger) = (Signer::es256(), Signer::es256());
    let (publisher, source) = Publisher::start(&[signer.jwk("a")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    assert_eq!(ask(&authenticator, &signer.sign(Some("a"), &good())).await, ok());
    let forged: Vec<String> = (0..200).map(|count| forger.sign(Some(&format!("forged-{count}")), &good())).collect();
    for round in 1..=3 {
        let answers = futures::future::join_all(forged.iter().map(|token| ask(&authenticator, token))).await;
        assert!(answers.into_iter().all(|answer| answer == Err(AuthenticationError::UnknownKey)));
        assert_eq!(publisher.asked(), 1 + round);
        authenticator.clock.advance(seconds(9));
        assert_eq!(ask(&authenticator, &forged[0]).await, Err(AuthenticationError::UnknownKey));
        assert_eq!(publisher.asked(), 1 + round, "nine seconds are too early");
        authenticator.clock.advance(seconds(1));
    }
}

#[tokio::test]
async fn renewal_does_not_keep_a_request_waiting() {
    let signer = Signer::es256();
    let (publisher, source) = Publisher::start_with("max-age=60", &[signer.jwk("a")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    let token = signer.sign(Some("a"), &good());
    assert_eq!(ask(&authenticator, &token).await, ok());
    publisher.set_gated(true);
    authenticator.clock.advance(seconds(60));
    // The publisher answers nothing now, and yet both a remembered and a new token are answered, by one fetch.
    assert_eq!(ask(&authenticator, &token).await, ok());
    publisher.asked_at_least(2).await;
    assert_eq!(ask(&authenticator, &signer.sign(Some("a"), &with("jti", json!(1)))).await, ok());
    assert_eq!(publisher.asked(), 2);
}

#[tokio::test]
async fn the_last_good_keys_are_kept_while_the_issuer_is_down() {
    let signer = Signer::es256();
    let (publisher, source) = Publisher::start_with("max-age=60", &[signer.jwk("a")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    let lasting = |count: u64| {
        signer.sign(
            Some("a"),
            &json!({
        "sub": "user-1", "iss": "https://auth.example", "aud": "tidegate", "exp": u64::MAX, "jti": count}),
        )
    };
    assert_eq!(ask(&authenticator, &lasting(0)).await, ok());
    publisher.set_down(true);
    for round in 1..5 {
        let asked = publisher.asked();
        let token = lasting(round);
        eventually(async || {
            authenticator.clock.advance(seconds(3600));
            assert_eq!(ask(&authenticator, &token).await, ok());
            publisher.asked() > asked
        })
        .await;
    }
    publisher.set_down(false);
    publisher.publish(&[]);
    eventually(async || {
        authenticator.clock.advance(seconds(3600));
        ask(&authenticator, &lasting(0)).await == Err(AuthenticationError::UnknownKey)
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_asked_again_by_back_off() {
    let signer = Signer::es256();
    let (publisher, source) = Publisher::start(&[signer.jwk("a")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    let token = signer.sign(Some("a"), &good());
    publisher.set_down(true);
    for (failures, wait) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        for _ in 0..5 {
            assert_eq!(ask(&authenticator, &token).await, Err(AuthenticationError::KeysUnavailable));
        }
        assert_eq!(publisher.asked(), failures);
        authenticator.clock.advance(seconds(wait));
    }
    publisher.set_down(false);
    assert_eq!(ask(&authenticator, &token).await, ok());
}

/// Counts the warnings of this module.
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() == tracing::Level::WARN && metadata.target().starts_with("server_kit::auth") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn an_outage_is_logged_once() {
    let warnings = Arc::new(AtomicUsize::new(0));
    let subscriber = tracing_subscriber::registry().with(Warnings(warnings.clone()));
    let _guard = tracing::subscriber::set_default(subscriber);
    // With one dispatcher alone, tracing asks the thread that first comes by an event whether anybody listens to it,
    // and that may be another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let signer = Signer::es256();
    let (publisher, source) = Publisher::start(&[signer.jwk("a")]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    let token = signer.sign(Some("a"), &good());
    for outage in 1..=2 {
        publisher.set_down(true);
        for round in 0..3 {
            let unknown = signer.sign(Some("b"), &with("jti", json!([outage, round])));
            assert_ne!(ask(&authenticator, &unknown).await, ok());
            authenticator.clock.advance(seconds(60));
        }
        assert_eq!(warnings.load(Ordering::SeqCst), outage);
        publisher.set_down(false);
        assert_eq!(ask(&authenticator, &token).await, ok());
        let unknown = signer.sign(Some("b"), &with("jti", json!(outage)));
        assert_eq!(ask(&authenticator, &unknown).await, Err(AuthenticationError::UnknownKey));
        authenticator.clock.advance(seconds(60));
    }
}

#[tokio::test]
async fn an_issuer_that_nobody_can_reach_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/jwks", listener.local_addr().expect("its address"));
    drop(listener);
    let authenticator = authenticator(vec![issuer(KeySource::Jwks(url.parse().expect("a URL")))], &clock());
    let token = Signer::es256().sign(Some("a"), &good());
    assert_eq!(ask(&authenticator, &token).await, Err(AuthenticationError::KeysUnavailable));
}

#[tokio::test]
async fn what_is_no_key_set_is_not_taken_for_one() {
    let signer = Signer::es256();
    let (publisher, source) = Publisher::start(&[]).await;
    let authenticator = authenticator(vec![issuer(source)], &clock());
    let token = signer.sign(Some("a"), &good());
    let jwk = signer.jwk("a");
    let too_large = json!({"keys": [jwk], "filling": "x".repeat(1024 * 1024)}).to_string();
    for document in ["", "<html>", "[]", "{}", r#"{"keys": {}}"#, &too_large] {
        publisher.document.store(Arc::new(document.to_owned()));
        assert_eq!(ask(&authenticator, &token).await, Err(AuthenticationError::KeysUnavailable), "{:.20}", document);
        authenticator.clock.advance(seconds(60));
    }
    publisher.publish(&[jwk]);
    assert_eq!(ask(&authenticator, &token).await, ok());
}

#[tokio::test]
async fn a_redirect_is_not_an_answer() {
    let signer = Signer::es256();
    let (_publisher, source) = Publisher::start(&[signer.jwk("a")]).await;
    let KeySource::Jwks(url) = source else { unreachable!("a publisher has an address") };
    let moved = KeySource::Jwks(url.join("/moved").expect("a URL"));
    let authenticator = authenticator(vec![issuer(moved)], &clock());
    assert_eq!(ask(&authenticator, &signer.sign(Some("a"), &good())).await, Err(AuthenticationError::KeysUnavailable));
}
