//! Stores and servers that are dead, sick or away for a while: fast answers, no storm, and nobody cut who could wait.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::eventually::eventually;
use crate::support::fault::{self, End, Step};
use crate::support::origin::{Object, pattern};
use crate::support::{Gate, ScriptedOrigin, config};

const TRACK: &str = "/stream/track.mp3";

/// An address at which nobody listens.
async fn nobody() -> String {
    ScriptedOrigin::start().await.url()
}

#[tokio::test]
async fn a_dead_store_is_a_fast_503_for_everybody() {
    let gate = Gate::start(&config::objects(&nobody().await, "audio")).await;
    let client = gate.client();
    // These find out.
    for _ in 0..3 {
        client.get(TRACK, &[]).await.problem(503);
    }
    let begun = Instant::now();
    for _ in 0..50 {
        let reply = client.get(TRACK, &[]).await;
        reply.problem(503);
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let out = |state| format!("cluster=\"main\",destination=\"main\",state=\"{state}\"");
    assert!(gate.metric("tidegate_breaker_open_total", "cluster=\"main\"").await >= 1.0);
    assert_eq!(gate.metric("tidegate_destination_state", &out("healthy")).await, 0.0);
    assert_eq!(gate.metric("tidegate_destination_state", "cluster=\"main\"").await, 1.0, "one state at a time");
    assert_eq!(gate.metric("tidegate_retry_budget_exhausted_total", "cluster=\"main\"").await, 0.0);
}

#[tokio::test]
async fn connections_that_the_store_closed_for_idleness_are_closed_without_a_further_request() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    origin.always(Step::Trickle { pieces: 2, pause: Duration::from_millis(100) });
    let mut players = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let client = gate.client();
        players.spawn(async move {
            client.get(TRACK, &[]).await.is(200);
        });
    }
    while let Some(player) = players.join_next().await {
        player.expect("every player is served");
    }
    assert!(origin.open_connections() >= 5, "{} are kept", origin.open_connections());
    eventually("both sides have closed all of them", async || {
        origin.hang_up();
        (origin.open_connections() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failing_store_that_must_be_used_gets_few_retries() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    origin.always(fault::INTERNAL_ERROR);
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Clusters"]["store"]["HealthCheck"]["AvailableDestinationsPolicy"] = json!("HealthyOrPanic");
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
    let gate = Gate::start(&config).await;
    for _ in 0..200 {
        gate.client().get(TRACK, &[]).await.problem(502);
    }
    let refused = gate.metric("tidegate_retry_budget_exhausted_total", "cluster=\"store\"").await;
    assert_eq!(origin.seen().len() as f64, 400.0 - refused);
    assert!(refused >= 100.0, "{refused}");
}

#[tokio::test]
async fn a_body_goes_on_after_its_store_was_away_for_longer_than_the_breaker_waits() {
    let body = pattern(500_000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    origin.script([Step::Body { send: 100_000, end: End::Reset }]);
    origin.script(vec![Step::Silence(End::Reset); 5]);
    let reply = gate.client().get(TRACK, &[]).await;
    assert!(reply.is(200).body == body, "the bytes differ");
    assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 1.0);
    eventually("the destination is healthy again", async || {
        (gate.metric("tidegate_destination_state", "state=\"healthy\"").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_plain_cluster_goes_on_with_the_destination_that_lives() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/{**path}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[nobody().await, origin.url()]);
    let gate = Gate::start(&config).await;
    for _ in 0..30 {
        gate.client().get("/audio/track.mp3", &[]).await.is(200);
    }
    assert_eq!(origin.seen().len(), 30);
    assert!(gate.metric("tidegate_breaker_open_total", "destination=\"d0\"").await >= 1.0);
    assert_eq!(gate.metric("tidegate_destination_state", "destination=\"d1\",state=\"healthy\"").await, 1.0);
}

#[tokio::test]
async fn a_plain_cluster_that_answers_nothing_is_left_alone_until_a_trial_succeeds() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/{**path}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[origin.url()]);
    let gate = Gate::start(&config).await;
    origin.always(Step::Silence(End::Reset));
    for _ in 0..5 {
        gate.client().get("/audio/track.mp3", &[]).await.problem(502);
    }
    let problem = eventually("the server is left alone", async || {
        let reply = gate.client().get("/audio/track.mp3", &[]).await;
        (reply.status == 503).then(|| reply.problem(503))
    })
    .await;
    assert_eq!(problem["code"], "no_destination");
    // Asked five times, and once more where the wait was over before this looked.
    assert!((5..=6).contains(&origin.seen().len()), "{}", origin.seen().len());
    // A server's own 5xx is its answer and no failure of the way.
    origin.always(fault::INTERNAL_ERROR);
    eventually("a trial succeeds", async || {
        (gate.client().get("/audio/track.mp3", &[]).await.status == 500).then_some(())
    })
    .await;
    for _ in 0..10 {
        gate.client().get("/audio/track.mp3", &[]).await.is(500);
    }
}

#[tokio::test]
async fn an_active_check_takes_a_store_out_and_brings_it_back() {
    let (origin, checked) = (ScriptedOrigin::with_track(pattern(10)).await, ScriptedOrigin::start().await);
    let alive = || checked.put("/minio/health/live", Object::new(*b"ok"));
    alive();
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Clusters"]["store"]["Destinations"]["d0"]["Health"] = json!(checked.url());
    config["ReverseProxy"]["Clusters"]["store"]["HealthCheck"]["Active"] =
        json!({ "Enabled": true, "Interval": "100ms" });
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
    let gate = Gate::start(&config).await;
    gate.client().get(TRACK, &[]).await.is(200);
    for (healthy, status) in [(false, 503), (true, 200), (false, 503)] {
        checked.reset();
        if !healthy {
            checked.always(fault::NO_SUCH_KEY);
        }
        eventually("the check is heeded", async || {
            (gate.client().get(TRACK, &[]).await.status == status).then_some(())
        })
        .await;
        assert_eq!(gate.admin().get("/readyz", &[]).await.status, status);
    }
    let seen = checked.seen();
    assert!(!seen.is_empty() && seen.iter().all(|probe| probe.target == "/minio/health/live"), "{seen:?}");
    assert!(origin.seen().iter().all(|request| request.target.starts_with("/audio/track.mp3?")));
}
