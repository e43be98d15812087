//! What counts, for whom, and what the answers say of it.

use serde_json::json;

use super::{TRACK, bearer, limited};
use crate::support::{Gate, ScriptedOrigin, config, in_time, token};

#[tokio::test]
async fn every_answer_of_a_limited_route_tells_how_the_caller_stands() {
    let origin = ScriptedOrigin::with_track("music").await;
    let rule = json!({ "FixedWindow": { "PermitLimit": 2, "Window": "1h" } });
    let gate = Gate::start(&limited(&origin, rule)).await;
    let alice = bearer("alice");
    for left in ["1", "0"] {
        let reply = gate.client().get(TRACK, &[("authorization", &alice)]).await;
        reply.is(200);
        assert_eq!((reply.header("ratelimit-limit"), reply.header("ratelimit-remaining")), ("2", left));
    }
    let seen = origin.seen().len();
    let refused = gate.client().get(TRACK, &[("authorization", &alice)]).await;
    let problem = refused.problem(429);
    assert_eq!((&problem["code"], refused.header("ratelimit-remaining")), (&json!("too_many_requests"), "0"));
    let (wait, reset) = (refused.header("retry-after"), refused.header("ratelimit-reset"));
    assert!(wait == reset && wait.parse::<i64>().is_ok_and(|wait| (1..=3600).contains(&wait)), "{wait} {reset}");
    let until = problem["reset_after"].as_i64().expect("a Unix second");
    assert!((until - token::now() - wait.parse::<i64>().expect("a number")).abs() <= 2, "{problem}");
    assert_eq!(origin.seen().len(), seen, "no store was asked");
    gate.client().get(TRACK, &[("authorization", &bearer("bob"))]).await.is(200);
    let unlimited = gate.client().get("/openapi.json", &[]).await;
    assert_eq!(unlimited.header("ratelimit-limit"), "");
}

#[tokio::test]
async fn who_guesses_tokens_is_told_so_and_keeps_nobody_out() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let (client, alice) = (gate.client(), bearer("alice"));
    client.get(TRACK, &[("authorization", &alice)]).await.is(200);
    let guess =
        format!("Bearer {}", token::signed(&token::claims("alice"), "another secret that is long enough to be one"));
    for path in [TRACK, "/api/v1/usage"] {
        // One more is looked at each second, which is what a busy machine may need for these.
        let mut looked_at = 0;
        let guessing = async {
            loop {
                let reply = client.get(path, &[("authorization", &guess)]).await;
                if reply.status != 401 {
                    return reply;
                }
                looked_at += 1;
            }
        };
        let refused = in_time("guesses are refused", guessing).await;
        assert!(path != TRACK || (60..90).contains(&looked_at), "{looked_at}");
        assert_eq!(refused.problem(429)["code"], "too_many_bad_tokens");
        assert_eq!(refused.header("retry-after"), "1");
    }
    client.get(TRACK, &[("authorization", &alice)]).await.is(200);
    client.get(TRACK, &[]).await.is(401);
}

#[tokio::test]
async fn an_expired_token_is_no_guess() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let mut claims = token::claims("alice");
    claims["exp"] = json!(token::now() - 3600);
    let expired = format!("Bearer {}", token::with(&claims));
    for _ in 0..150 {
        gate.client().get(TRACK, &[("authorization", &expired)]).await.is(401);
    }
    gate.client().get(TRACK, &[("authorization", &bearer("alice"))]).await.is(200);
}

#[tokio::test]
async fn a_token_comes_before_the_limit_and_the_limit_before_authorisation() {
    let origin = ScriptedOrigin::with_track("music").await;
    let rule = json!({ "FixedWindow": { "PermitLimit": 1, "Window": "1d" }, "PartitionBy": "Route" });
    let mut config = limited(&origin, rule);
    config["Policies"]["Authorization"]["nobody"] = json!({ "Require": [{ "Claim": "sub", "Equals": "nobody" }] });
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("nobody");
    let gate = Gate::start(&config).await;
    let alice = bearer("alice");
    gate.client().get(TRACK, &[]).await.problem(401);
    gate.client().get(TRACK, &[("authorization", &alice)]).await.problem(403);
    gate.client().get(TRACK, &[("authorization", &alice)]).await.problem(429);
    gate.client().get(TRACK, &[]).await.problem(401);
}

#[tokio::test]
async fn a_request_counts_whatever_it_is_answered_with_and_a_preflight_does_not() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = limited(&origin, json!({ "FixedWindow": { "PermitLimit": 4, "Window": "1d" } }));
    config["Policies"]["Cors"]["app"] = json!({ "Origins": ["https://app.test"] });
    config["ReverseProxy"]["Routes"]["stream"]["CorsPolicy"] = json!("app");
    let gate = Gate::start(&config).await;
    let (client, alice) = (gate.client(), bearer("alice"));
    let alice = ("authorization", alice.as_str());
    let asked = [("origin", "https://app.test"), ("access-control-request-method", "GET")];
    for _ in 0..5 {
        client.send(http::Method::OPTIONS, TRACK, &asked).await.is(204);
    }
    for (path, header, status) in [
        (TRACK, ("range", "bytes=0-1"), 206),
        (TRACK, ("if-none-match", "*"), 304),
        ("/stream/none.mp3", ("accept", "*/*"), 404),
        (TRACK, ("range", "bytes=99-"), 416),
        (TRACK, ("range", "bytes=0-1"), 429),
    ] {
        client.get(path, &[alice, header]).await.is(status);
    }
}

#[tokio::test]
async fn a_policy_holds_on_plain_routes_and_for_who_has_no_token() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::empty();
    config["Policies"]["RateLimiter"]["Default"] = json!({ "FixedWindow": { "PermitLimit": 1, "Window": "1h" } });
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    let mut free = config::plain_route("/free/{**rest}", "web");
    free["RateLimiterPolicy"] = json!("Disable");
    config["ReverseProxy"]["Routes"]["free"] = free;
    let gate = Gate::start(&config).await;
    assert_eq!(gate.client().get("/web/a", &[]).await.header("ratelimit-remaining"), "0");
    gate.client().get("/web/a", &[]).await.problem(429);
    assert_eq!(gate.client().get("/free/a", &[]).await.header("ratelimit-limit"), "");
}

#[tokio::test]
async fn addresses_of_one_ipv6_network_are_limited_as_one() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config =
        limited(&origin, json!({ "FixedWindow": { "PermitLimit": 1, "Window": "1h" }, "PartitionBy": "Address" }));
    config["Server"]["TrustedProxies"] = json!(["127.0.0.1"]);
    config["Share"] = json!({ "Token": "env:BEARER_TOKEN" });
    let gate = Gate::start_with(&config, &[("BEARER_TOKEN", "a token of the share relay")]).await;
    let from = async |path: &str, bearer: &str, address: &str| {
        gate.client().get(path, &[("authorization", bearer), ("x-forwarded-for", address)]).await
    };
    let alice = bearer("alice");
    from(TRACK, &alice, "2001:db8:1:2::1").await.is(200);
    from(TRACK, &alice, "2001:db8:1:2:ffff::2").await.problem(429);
    from(TRACK, &alice, "2001:db8:1:3::1").await.is(200);
    // Guesses: of session ids, and of tokens. How many are answered before one is told that they are too many.
    let guesses = async |path: &str, bearer: &str, network: u32| {
        for number in 0..100 {
            let address = format!("2001:db8:1:{network:x}::{number:x}");
            if from(&path.replace("{number}", &(100_000 + number).to_string()), bearer, &address).await.status == 429 {
                return number;
            }
        }
        panic!("an IPv6 network may guess as often as it likes")
    };
    let bad =
        format!("Bearer {}", token::signed(&token::claims("alice"), "another secret that is long enough to be one"));
    let (ids, known) = ("/api/share/{number}/status", "Bearer a token of the share relay");
    assert!((20..30).contains(&guesses(ids, known, 2).await));
    from("/api/share/200000/status", known, "2001:db8:1:3::1").await.is(404);
    assert!((60..90).contains(&guesses(TRACK, &bad, 2).await));
    from(TRACK, &bad, "2001:db8:1:3::1").await.is(401);
}

#[tokio::test]
async fn a_policy_that_several_routes_name_counts_them_together() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = limited(&origin, json!({ "FixedWindow": { "PermitLimit": 2, "Window": "1d" } }));
    config["Policies"]["RateLimiter"]["speed"] = json!({ "Bandwidth": { "BytesPerSecond": "10MiB" } });
    config["Policies"]["Cors"]["shown"] =
        json!({ "Origins": ["https://app.test"], "ExposedHeaders": ["RateLimit-Remaining"] });
    config["Policies"]["Cors"]["hidden"] = json!({ "Origins": ["https://app.test"] });
    for (name, limiter) in [("again", Some("streaming")), ("paced", Some("speed")), ("free", None)] {
        let mut route = config::object_route(&format!("/{name}/{{**key}}"), "main", "audio", "{**key}");
        route["AuthorizationPolicy"] = json!("Default");
        route["CorsPolicy"] = json!("hidden");
        if let Some(limiter) = limiter {
            route["RateLimiterPolicy"] = json!(limiter);
        }
        config["ReverseProxy"]["Routes"][name] = route;
    }
    config["ReverseProxy"]["Routes"]["stream"]["CorsPolicy"] = json!("shown");
    let gate = Gate::start(&config).await;
    let alice = bearer("alice");
    // The fields of a policy of bandwidth alone, and of none; then of one that two routes name.
    for (path, status, left, exposed) in [
        ("/free/track.mp3", 200, "", ""),
        ("/paced/track.mp3", 200, "", ""),
        (TRACK, 200, "1", "RateLimit-Remaining"),
        ("/again/track.mp3", 200, "0", ""),
        (TRACK, 429, "0", "RateLimit-Remaining"),
        ("/again/track.mp3", 429, "0", ""),
    ] {
        let headers = [("authorization", alice.as_str()), ("origin", "https://app.test")];
        let reply = gate.client().get(path, &headers).await;
        let shown = reply.header("access-control-expose-headers").eq_ignore_ascii_case(exposed);
        assert_eq!((reply.status.as_u16(), reply.header("ratelimit-remaining")), (status, left), "{path}");
        assert!(shown, "{path}: {:?}", reply.headers);
    }
}
