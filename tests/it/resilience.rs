//! Stores and servers that are dead, sick or away for a while: fast answers, no storm, and nobody cut who could wait.

use std::time::Duration;

use serde_json::json;

use crate::support::fault::{self, End, Step};
use crate::support::origin::{Object, pattern};
use crate::support::{Gate, ScriptedOrigin, config, eventually};
use primitives::clock::monotonic_now;

const TRACK: &str = "/stream/track.mp3";

/// An address at which nobody listens.
async fn nobody() -> String {
    ScriptedOrigin::start().await.url()
}

#[tokio::test]
async fn a_dead_store_is_a_fast_503_for_everybody() {
    let gate = Gate::start(&config::objects(&nobody().await, "audio")).await;
    let client = gate.client();
    // These find out: that nobody can connect says as much whatever is asked for.
    for _ in 0..5 {
        assert_eq!(client.get(TRACK, &[]).await.problem(503)["code"], "store_unreachable");
    }
    let mut tried = 0;
    for number in 5..55 {
        let reply = client.get(TRACK, &[]).await;
        let line = eventually("the access line", async || gate.access_lines().get(number).cloned()).await;
        // Fast, since nothing is tried; but once a second one is the trial.
        if line["attempts"] != 0 {
            assert_eq!(reply.problem(503)["code"], "store_unreachable");
            tried += 1;
            continue;
        }
        assert_eq!(reply.problem(503)["code"], "destination_unavailable");
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert!(tried <= 25, "{tried} of 50 were tried");
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
    origin.always(Step::Silence(End::Reset));
    let client = gate.client();
    let listener = tokio::spawn(async move { client.get(TRACK, &[]).await });
    eventually("the body breaks off", async || (origin.seen().len() > 1).then_some(())).await;
    for number in 0..5 {
        gate.client().get(&format!("/stream/{number}"), &[]).await;
    }
    assert!(gate.metric("tidegate_breaker_open_total", "").await >= 1.0);
    origin.reset();
    let reply = listener.await.expect("it is answered");
    assert!(reply.is(200).body == body, "the bytes differ");
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
    for number in 0..5 {
        gate.client().get(&format!("/audio/{number}"), &[]).await.problem(502);
    }
    let problem = eventually("the server is left alone", async || {
        let reply = gate.client().get("/audio/track.mp3", &[]).await;
        (reply.status == 503).then(|| reply.problem(503))
    })
    .await;
    assert_eq!(problem["code"], "destination_unavailable");
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

/// `requests` one after the other, each of which the store fails as often as it is asked.
async fn fail(gate: &Gate, origin: &ScriptedOrigin, paths: &[&str]) {
    origin.reset();
    origin.always(fault::INTERNAL_ERROR);
    for path in paths {
        assert_eq!(gate.client().get(path, &[]).await.problem(502)["code"], "store_failed", "{path}");
    }
    origin.reset();
}

#[tokio::test]
async fn one_object_that_fails_takes_the_store_from_nobody() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    fail(&gate, &origin, &["/stream/bad"; 20]).await;
    assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 0.0);
    gate.client().get(TRACK, &[]).await.is(200);
}

#[tokio::test]
async fn a_request_is_one_failure_however_often_it_was_tried() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let paths = ["/stream/1", "/stream/2", "/stream/3", "/stream/4", "/stream/5"];
    fail(&gate, &origin, &paths[..4]).await;
    assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 0.0);
    gate.client().get(TRACK, &[]).await.is(200);
    fail(&gate, &origin, &paths).await;
    assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 1.0);
    let reply = gate.client().get(TRACK, &[]).await;
    if reply.status != 200 {
        // No second has passed since.
        assert_eq!(reply.problem(503)["code"], "destination_unavailable");
    }
}

#[tokio::test]
async fn with_an_active_check_no_player_is_the_trial() {
    let (origin, checked) = (ScriptedOrigin::with_track(pattern(10)).await, ScriptedOrigin::start().await);
    checked.put("/minio/health/live", Object::new(*b"ok"));
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Clusters"]["store"]["Destinations"]["d0"]["Health"] = json!(checked.url());
    config["ReverseProxy"]["Clusters"]["store"]["HealthCheck"]["Active"] =
        json!({ "Enabled": true, "Interval": "100ms", "Timeout": "5s" });
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
    let gate = Gate::start(&config).await;
    checked.take_seen();
    checked.always(Step::Silence(End::Stall));
    eventually("a check waits for its answer", async || (!checked.seen().is_empty()).then_some(())).await;
    fail(&gate, &origin, &["/stream/1", "/stream/2", "/stream/3", "/stream/4", "/stream/5"]).await;
    let begun = monotonic_now();
    while begun.elapsed() < Duration::from_millis(2500) {
        assert_eq!(gate.client().get(TRACK, &[]).await.problem(503)["code"], "destination_unavailable");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    checked.reset();
    eventually("a check succeeds", async || (gate.client().get(TRACK, &[]).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn an_active_check_looks_at_once_when_the_breaker_opens() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    origin.put("/minio/health/live", Object::new(*b"ok"));
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Clusters"]["store"]["HealthCheck"]["Active"] =
        json!({ "Enabled": true, "Interval": "10m" });
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
    let gate = Gate::start(&config).await;
    fail(&gate, &origin, &["/stream/1", "/stream/2", "/stream/3", "/stream/4", "/stream/5"]).await;
    eventually("the check closes the breaker", async || {
        (gate.client().get(TRACK, &[]).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_bad_object_does_not_fail_the_passive_check() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Clusters"]["store"]["HealthCheck"]["Passive"] = json!({ "Enabled": true });
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
    let gate = Gate::start(&config).await;
    fail(&gate, &origin, &["/stream/bad"; 20]).await;
    gate.client().get(TRACK, &[]).await.is(200);
    // Three that fail are few among the others, however often each was tried.
    for _ in 0..20 {
        gate.client().get(TRACK, &[]).await.is(200);
    }
    fail(&gate, &origin, &["/stream/1", "/stream/2", "/stream/3"]).await;
    gate.client().get(TRACK, &[]).await.is(200);
}

#[tokio::test]
async fn one_slow_path_takes_the_server_from_no_other() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/{**path}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Clusters"]["web"]["HealthCheck"]["Passive"] = json!({ "Enabled": true });
    config["Policies"]["Timeout"]["short"] = json!({ "FirstByte": "1s" });
    config["ReverseProxy"]["Routes"]["web"]["TimeoutPolicy"] = json!("short");
    let gate = Gate::start(&config).await;
    origin.always(Step::Silence(End::Stall));
    let slow = (0..12).map(|_| {
        let client = gate.client();
        async move { client.get("/slow", &[]).await.status.as_u16() }
    });
    assert_eq!(futures::future::join_all(slow).await, [504; 12]);
    origin.reset();
    gate.client().get("/audio/track.mp3", &[]).await.is(200);
}

#[tokio::test]
async fn a_trial_of_a_bad_object_keeps_the_store_from_nobody() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    fail(&gate, &origin, &["/stream/bad", "/stream/worse", "/stream/bad", "/stream/worse", "/stream/bad"]).await;
    assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 1.0);
    origin.always(fault::INTERNAL_ERROR);
    eventually("a bad object is the trial", async || {
        (gate.client().get("/stream/bad", &[]).await.status == 502).then_some(())
    })
    .await;
    origin.reset();
    gate.client().get(TRACK, &[]).await.is(200);
    assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 1.0);
}

#[tokio::test]
async fn a_store_that_sends_interim_answers_for_ever_is_given_up_and_keeps_nobody_waiting() {
    let (endless, well) = (ScriptedOrigin::start().await, ScriptedOrigin::with_track(pattern(1000)).await);
    let mut config = config::objects_both_ways(&endless.url(), "audio");
    config["ObjectStores"]["well"] = config::store(&well.url());
    config["ReverseProxy"]["Routes"]["well"] = config::object_route("/well/{**key}", "well", "audio", "{**key}");
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**path}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[endless.url()]);
    // No timeout gives it up: only what it sends.
    config["Policies"]["Timeout"]["patient"] = config::patient();
    for route in ["cached", "stream", "plain"] {
        config["ReverseProxy"]["Routes"][route]["TimeoutPolicy"] = json!("patient");
    }
    let gate = Gate::start(&config).await;
    for interim in [
        Step::Endless(b"HTTP/1.1 100 Continue\r\n\r\n"),
        Step::Endless(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        Step::Endless(b"\r\n"),
    ] {
        endless.always(interim);
        let (one, other, plain) = (gate.client(), gate.client(), gate.client());
        let asking = async {
            futures::join!(one.get("/cached/a", &[]), other.get("/stream/b", &[]), plain.get("/plain/c", &[]))
        };
        let others = async {
            for _ in 0..20 {
                gate.client().get("/well/track.mp3", &[]).await.is(200);
                assert_eq!(gate.admin().get("/livez", &[]).await.status, 200);
            }
        };
        let ((one, other, plain), ()) = futures::join!(asking, others);
        for reply in [one, other, plain] {
            assert!(reply.status.is_server_error(), "{reply:?}");
        }
    }
    // As many as any server sends are nothing.
    well.always(Step::Raw(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\nmusic",
    ));
    assert_eq!(gate.client().get("/well/track.mp3", &[]).await.is(200).text(), "music");
}

#[tokio::test]
async fn every_way_to_give_no_answer_opens_the_breaker_of_both_kinds_of_routes() {
    let ways = [Step::Silence(End::Reset), Step::Silence(End::Close), Step::Silence(End::Stall), fault::GARBAGE];
    for (way, prefix) in ways.iter().flat_map(|way| [(way, "/stream"), (way, "/plain")]) {
        let origin = ScriptedOrigin::with_track(pattern(10)).await;
        let mut config = config::objects(&origin.url(), "audio");
        config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**path}", "web");
        config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[origin.url()]);
        config["Policies"]["Timeout"]["short"] = json!({ "FirstByte": "100ms" });
        for route in ["stream", "plain"] {
            config["ReverseProxy"]["Routes"][route]["TimeoutPolicy"] = json!("short");
        }
        let gate = Gate::start(&config).await;
        origin.always(way.clone());
        for number in 0..5 {
            let status = gate.client().get(&format!("{prefix}/{number}"), &[]).await.status;
            assert!([502, 504].contains(&status.as_u16()), "{way:?} {prefix}: {status}");
        }
        assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 1.0, "{way:?} {prefix}");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_opens_the_breaker_of_both_kinds_of_routes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("https://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // It speaks no TLS.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for prefix in ["/stream", "/plain"] {
        let mut config = config::objects(&address, "audio");
        config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**path}", "web");
        config["ReverseProxy"]["Clusters"]["web"] = config::cluster(std::slice::from_ref(&address));
        let gate = Gate::start(&config).await;
        for number in 0..5 {
            gate.client().get(&format!("{prefix}/{number}"), &[]).await.problem(502);
        }
        assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 1.0, "{prefix}");
    }
}
