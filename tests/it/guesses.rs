//! Credentials that are guessed at: whoever shows a valid one is let in, however many wrong ones came from the same
//! address before; the wrong ones are counted, and over the limit told so.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::catalogue::bearer;
use crate::streaming_urls::{start, url, urls};
use crate::support::gate::{run, write_config};
use crate::support::issuer::{JwksServer, Key};
use crate::support::tools::TempFolder;
use crate::support::{Client, Gate, Redis, ScriptedOrigin, config, eventually, token};
use primitives::clock::monotonic_now;

const TRACK: &str = "/stream/track.mp3";
const SHARE: &str = "a-token-for-sharing";

/// Asks a hundred times with what is wrong: 401 up to the limit, and 429 beyond it.
async fn guess(client: &Client, ask: impl Fn(u32) -> (Method, String, String), at_once: usize) {
    let mut statuses = Vec::new();
    for number in 0..100 {
        let (method, path, authorization) = ask(number);
        let reply = match authorization.as_str() {
            "" => client.send(method, &path, &[]).await,
            shown => client.send(method, &path, &[("authorization", shown)]).await,
        };
        if reply.status == 429 {
            let problem = reply.problem(429);
            assert_eq!(problem["code"], "too_many_bad_tokens");
            assert!(problem["reset_after"].is_i64() && !reply.header("retry-after").is_empty(), "{problem}");
        }
        statuses.push(reply.status.as_u16());
    }
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert!(statuses[..at_once].iter().all(|status| *status == 401), "{statuses:?}");
    // A few more are judged while the test runs.
    assert!((75 - at_once..=100 - at_once).contains(&refused), "{refused}: {statuses:?}");
}

fn bad_jwt(number: u32) -> String {
    let other = "another secret that is long enough to be one";
    format!("Bearer {}", token::signed(&token::claims(&format!("alice{number}")), other))
}

async fn sharing(more: &Value) -> Gate {
    let mut config = config::empty();
    config["Share"] = json!({});
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    Gate::start_with(&config, &[("BEARER_TOKEN", SHARE)]).await
}

async fn begin(client: &Client) {
    let request = client.request(Method::POST, "/api/share/start").header("authorization", format!("Bearer {SHARE}"));
    let response = request.body(json!({"sessionId": "123456"}).to_string()).send().await.expect("it answers");
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn the_token_of_sharing_opens_after_a_hundred_wrong_ones_from_its_address() {
    let gate = sharing(&json!({})).await;
    let client = gate.client();
    let wrong = |number| (Method::GET, "/api/share/123456/status".to_owned(), format!("Bearer guess-{number}"));
    guess(&client, wrong, 20).await;
    begin(&client).await;
    client.get("/api/share/123456/status", &[("authorization", SHARE)]).await.is(200);
}

#[tokio::test]
async fn a_ticket_opens_after_a_hundred_forged_ones_from_its_address_and_so_does_the_token() {
    let gate = sharing(&json!({})).await;
    let client = gate.client();
    let forged = |number: u32| {
        let bytes = [&number.to_be_bytes()[..], &[7; 41]].concat();
        (Method::GET, format!("/api/v1/share/123456/thumb?ticket={}", URL_SAFE_NO_PAD.encode(bytes)), String::new())
    };
    guess(&client, forged, 20).await;
    begin(&client).await;
    let request = client.request(Method::POST, "/api/v1/share/123456/tickets").header("authorization", SHARE);
    let response = request.body(json!({"count": 1, "ttl": 60}).to_string()).send().await.expect("it answers");
    let issued: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
    let ticket = issued["ticket"].as_str().expect("a ticket");
    // There is no cover, and who has a ticket may know that.
    client.get(&format!("/api/v1/share/123456/thumb?ticket={ticket}"), &[]).await.is(404);
}

#[tokio::test]
async fn who_shows_nothing_valid_uses_up_nobodys_limit() {
    let window = json!({ "FixedWindow": { "PermitLimit": 20, "Window": "1h" } });
    let gate = sharing(&json!({ "Policies": { "RateLimiter": { "share": window, "share-poll": window } } })).await;
    let client = gate.client();
    let wrong = |number| (Method::GET, "/api/share/123456/status".to_owned(), format!("Bearer guess-{number}"));
    guess(&client, wrong, 20).await;
    for path in ["/api/share/123456/status", "/api/v1/share/123456/thumb?v=made-up", "/api/v1/share/123456/statistics"]
    {
        for _ in 0..20 {
            client.get(path, &[]).await.is(401);
            client.send(Method::OPTIONS, path, &[]).await.is(405);
            client.send(Method::PUT, path, &[]).await.is(405);
        }
    }
    begin(&client).await;
    let status = client.get("/api/share/123456/status", &[("authorization", SHARE)]).await;
    assert_eq!(status.is(200).header("ratelimit-remaining"), "19");
}

#[tokio::test]
async fn forged_tickets_do_not_wait_for_a_redis_that_is_away() {
    let Some(mut redis) = Redis::start() else { return };
    let gate = sharing(&json!({ "State": { "Url": redis.url() } })).await;
    let client = gate.client();
    redis.freeze();
    let errors = async || gate.metric("tidegate_share_state_errors_total", "ticket").await;
    eventually("the node notices", async || (errors().await > 0.0).then_some(())).await;
    let (before, began) = (errors().await, monotonic_now());
    for number in 0..100_u32 {
        let ticket = URL_SAFE_NO_PAD.encode([&number.to_be_bytes()[..], &[7; 41]].concat());
        let reply = client.get(&format!("/api/v1/share/123456/thumb?ticket={ticket}"), &[]).await;
        assert!([401, 429].contains(&reply.status.as_u16()));
    }
    let asked = errors().await - before;
    // The node's own rounds, one a second, and as many for all who show tickets: hardly any of the hundred asked, and so
    // hardly any waited.
    assert!(asked <= 4.0 + 2.0 * began.elapsed().as_secs_f64(), "{asked} questions for 100 forged tickets");
}

#[tokio::test]
async fn a_token_opens_a_route_and_the_api_after_a_hundred_wrong_ones_from_its_address() {
    let origin = ScriptedOrigin::with_track("music").await;
    for path in [TRACK, "/api/v1/usage"] {
        let mut config = config::private_objects(&origin.url(), "audio");
        // A class of the API looks at the token before the handler does: one token counts once all the same.
        config["Policies"]["RateLimiter"]["standard"] =
            json!({ "FixedWindow": { "PermitLimit": 1000, "Window": "1h" } });
        let gate = Gate::start(&config).await;
        guess(&gate.client(), |number| (Method::GET, path.to_owned(), bad_jwt(number)), 60).await;
        gate.client().get(path, &[("authorization", &bearer("alice"))]).await.is(200);
        gate.client().get(path, &[]).await.problem(401);
    }
}

#[tokio::test]
async fn tokens_of_published_keys_open_after_a_hundred_that_name_unknown_ones_and_those_fetch_nothing() {
    let origin = ScriptedOrigin::with_track("music").await;
    let one = Key::generate("one", Algorithm::EdDSA);
    let issuer = JwksServer::start(&[&one]).await;
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Auth"]["Jwt"]["Issuers"] =
        json!([{ "Issuer": "https://issuer.test", "Jwks": issuer.url(), "Audience": "tidegate" }]);
    let gate = Gate::start(&config).await;
    let wrong = |number: u32| {
        let unknown = Key::generate(&format!("unknown-{number}"), Algorithm::EdDSA);
        (Method::GET, TRACK.to_owned(), format!("Bearer {}", unknown.sign(&token::claims("alice"))))
    };
    guess(&gate.client(), wrong, 60).await;
    let good = format!("Bearer {}", one.sign(&token::claims("alice")));
    gate.client().get(TRACK, &[("authorization", &good)]).await.is(200);
    assert!(issuer.asked() <= 4, "{} fetches for 100 unknown keys", issuer.asked());
}

#[tokio::test]
async fn a_streaming_url_opens_after_a_hundred_forged_ones_from_its_address() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = start(&urls(&origin.url(), "audio", &["env:OLD_KEY"])).await;
    let path = url(&gate, "track", "alice").await;
    let end = path.match_indices('/').nth(2).expect("the token's end").0;
    let forged = |number: u32| {
        let (mark, token) = (format!("{number:04}"), &path[..end]);
        (Method::GET, format!("{}{mark}{}", &token[..token.len() - 4], &path[end..]), String::new())
    };
    guess(&gate.client(), forged, 60).await;
    gate.client().get(&path, &[]).await.is(200);
}

#[tokio::test]
async fn the_operators_token_opens_after_a_hundred_wrong_ones_from_its_address() {
    let mut config = config::empty();
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    config["Share"] = json!({});
    let environment = [("BEARER_TOKEN", SHARE), ("ADMIN_TOKEN", "the admin's own token")];
    let gate = Gate::start_with(&config, &environment).await;
    let wrong = |number| (Method::GET, "/metrics".to_owned(), format!("Bearer guess-{number}"));
    guess(&gate.admin(), wrong, 60).await;
    gate.admin().get("/metrics", &[("authorization", "Bearer the admin's own token")]).await.is(200);
    gate.admin().get("/livez", &[]).await.is(200);
}

#[tokio::test]
async fn secrets_that_could_be_found_by_trying_are_refused_before_the_start() {
    let folder = TempFolder::new("secrets");
    let mut config = config::empty();
    config["Server"]["Admin"]["Token"] = json!("file:secret");
    config["Share"] = json!({ "Token": "file:secret" });
    config["Auth"] = config::jwt();
    config["Auth"]["Jwt"]["Issuers"][0]["Secret"] = json!("file:secret");
    config["Auth"]["PathToken"] = json!({ "Keys": ["file:secret"] });
    let file = write_config(&folder, &config);
    let file = file.to_str().expect("text");
    for (secret, refused) in [
        ("fifteen-letters", &["Server.Admin.Token", "Share.Token", "Issuers[0].Secret", "PathToken.Keys[0]"][..]),
        ("sixteen-letters-", &["Issuers[0].Secret", "PathToken.Keys[0]"]),
        ("thirty-two-letters-or-a-few-more-", &[]),
    ] {
        std::fs::write(folder.path().join("secret"), secret).expect("it can be written");
        for command in [&["check", file][..], &["serve", "-c", file]] {
            if command[0] == "serve" && refused.is_empty() {
                continue;
            }
            let ended = run(command, &folder).await;
            assert_eq!(ended.code == Some(0), refused.is_empty(), "{command:?} {secret}: {}", ended.stderr);
            for key in refused {
                assert!(ended.stderr.contains(key), "{command:?} {secret}, {key}: {}", ended.stderr);
            }
            assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn guesses_of_the_operators_token_by_the_debug_header_are_counted_and_their_requests_served() {
    const ADMIN: &str = "the admin's own token";
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::private_objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    config["Server"]["TrustedProxies"] = json!(["127.0.0.1"]);
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    let gate = Gate::start_with(&config, &[("ADMIN_TOKEN", ADMIN)]).await;
    let alice = bearer("alice");
    let debugged = async |shown: &str, address: &str| {
        let headers = [("authorization", &*alice), ("x-tidegate-debug", shown), ("x-forwarded-for", address)];
        let reply = gate.client().get(TRACK, &headers).await;
        reply.is(200).header("x-tidegate-cache").to_owned()
    };
    assert_eq!(debugged(ADMIN, "192.0.2.1").await, "miss");
    for number in 0..60 {
        assert_eq!(debugged(&format!("guess-{number}"), "192.0.2.1").await, "");
    }
    // One more is judged each second: a guess uses that up.
    let blind = async || {
        assert_eq!(debugged("guess", "192.0.2.1").await, "");
        (debugged(ADMIN, "192.0.2.1").await.is_empty()).then_some(())
    };
    eventually("a network that guesses is told nothing", blind).await;
    assert_eq!(debugged(ADMIN, "192.0.2.2").await, "hit");
    let headers = [("authorization", "Bearer x.y.z"), ("x-forwarded-for", "192.0.2.1")];
    let counted = async || {
        let reply = gate.client().get(TRACK, &headers).await;
        (reply.status == 429).then(|| assert_eq!(reply.problem(429)["code"], "too_many_bad_tokens"))
    };
    eventually("its other guesses are counted with them", counted).await;
}
