//! Who may do what at the share relay, and how much one caller can take of it, through the shipped binary.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::client::Reply;
use crate::support::gate::{run, write_config};
use crate::support::tools::TempFolder;
use crate::support::{Client, Gate, config};
use primitives::clock::monotonic_now;

const TOKEN: &str = "Bearer a-token-for-sharing";

/// A gate that shares, with `more` in its configuration.
async fn gate(more: Value) -> Gate {
    let mut config = config::empty();
    config["Share"] = json!({});
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&["http://127.0.0.1:9".to_owned()]);
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN)]).await
}

async fn ask(client: &Client, method: Method, path: &str, token: &str, body: &Value) -> Reply {
    let request = client.request(method, path).header("authorization", token).body(body.to_string());
    let response = request.send().await.expect("it answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

async fn post(client: &Client, path: &str, body: Value) -> Reply {
    ask(client, Method::POST, path, TOKEN, &body).await
}

async fn get(client: &Client, path: &str) -> Reply {
    ask(client, Method::GET, path, TOKEN, &Value::Null).await
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("not JSON: {}", reply.text()))
}

async fn start(client: &Client) {
    post(client, "/api/share/start", json!({"sessionId": "123456"})).await.is(200);
}

async fn send(client: &Client, sequence: i64) -> Reply {
    let body = json!({"data": STANDARD.encode(vec![0; 4096 * 8]), "sampleRate": 44100, "channels": 2,
        "timestamp": 1_700_000_000_000_i64 + sequence * 93, "sequenceNumber": sequence});
    post(client, "/api/share/123456/audio", body).await
}

async fn ticket(client: &Client) -> String {
    let issued = json_of(post(client, "/api/v1/share/123456/tickets", json!({"count": 5, "ttl": 60})).await.is(200));
    issued["ticket"].as_str().expect("a ticket").to_owned()
}

#[tokio::test]
async fn requests_without_a_token_learn_nothing_and_silence_nobody() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    start(&client).await;
    let cover = json!({"title": "Song", "thumbnailData": "/9j/4AAQ"});
    post(&client, "/api/share/123456/metadata", cover).await.is(200);
    let said = |reply: &Reply| (reply.status.as_u16(), json_of(reply)["detail"].clone());
    let here = said(&client.get("/api/v1/share/123456/thumb", &[]).await);
    assert_eq!(here.0, 401);
    for id in 0..40 {
        for path in ["thumb", "thumb?v=made-up", "status", "audio", "events?ticket=made-up", "ws?ticket=made-up"] {
            let reply = client.get(&format!("/api/v1/share/{id:06}/{path}"), &[]).await;
            assert!([401, 429].contains(&reply.status.as_u16()), "{path}: {}", reply.status);
        }
        assert_eq!(
            said(&client.get(&format!("/api/v1/share/{id:06}/thumb"), &[]).await),
            here,
            "as where there is one"
        );
    }
    send(&client, 0).await.is(200);
    get(&client, "/api/share/123456/status").await.is(200);
}

#[tokio::test]
async fn wrong_tokens_are_limited_and_who_has_the_right_one_is_not() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    start(&client).await;
    let ticket = ticket(&client).await;
    let mut statuses = Vec::new();
    for number in 0..100 {
        let token = format!("Bearer guess-{number}");
        let reply = ask(&client, Method::GET, "/api/share/123456/status", &token, &Value::Null).await;
        if reply.status == 429 {
            assert_ne!(reply.header("retry-after"), "");
        }
        statuses.push(reply.status.as_u16());
    }
    assert!(statuses[..20].iter().all(|status| *status == 401), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status == 429).count() >= 70, "{statuses:?}");
    send(&client, 0).await.is(200);
    let line = json!({"text": "hi"}).to_string();
    let path = format!("/api/v1/share/123456/chat?ticket={ticket}");
    let said = client.request(Method::POST, &path).body(line).send().await.expect("it answers");
    assert_eq!(said.status(), 200, "a ticket that is good");
    let elsewhere = gate.client();
    get(&elsewhere, "/api/share/123456/status").await.is(200);
}

#[tokio::test]
async fn a_host_is_not_silenced_by_ids_that_others_guess() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    start(&client).await;
    let ticket = ticket(&client).await;
    for id in 0..30 {
        let reply = get(&client, &format!("/api/share/{id:06}/status")).await;
        assert!([404, 429].contains(&reply.status.as_u16()));
    }
    get(&client, "/api/share/000099/status").await.is(429);
    send(&client, 0).await.is(200);
    let events = client.get(&format!("/api/v1/share/123456/thumb?ticket={ticket}"), &[]).await;
    assert_eq!(events.status, 404, "there is no cover, and who has a ticket may know that");
}

#[tokio::test]
async fn a_ticket_tells_nothing_of_the_token() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    start(&client).await;
    let ticket = URL_SAFE_NO_PAD.decode(ticket(&client).await).expect("Base64");
    let (said, signature) = ticket.split_at(ticket.len() - 16);
    let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("any key");
    // What is known of how tickets are signed, but for what is secret: the token is the only unknown.
    for token in [TOKEN, TOKEN.trim_start_matches("Bearer ")] {
        for purpose in [&b"tidegate share tickets 1"[..], b"tidegate share tickets 2", b""] {
            let key = keyed(token.as_bytes()).chain_update(purpose).finalize().into_bytes();
            let mac = keyed(&key).chain_update("123456").chain_update(said).finalize().into_bytes();
            assert_ne!(&mac[..16], signature, "a guessed token can be tried without asking the server");
        }
    }
    let other = self::gate(json!({})).await;
    start(&other.client()).await;
    let path = format!("/api/v1/share/123456/thumb?ticket={}", URL_SAFE_NO_PAD.encode(&ticket));
    other.client().get(&path, &[]).await.problem(401);
}

#[tokio::test]
async fn a_token_that_can_be_guessed_is_refused_before_the_start() {
    let folder = TempFolder::new("token");
    let mut config = config::empty();
    config["Share"] = json!({"Token": "file:token"});
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&["http://127.0.0.1:9".to_owned()]);
    let file = write_config(&folder, &config);
    let file = file.to_str().expect("text");
    for (token, code) in
        [("x", 64), ("Bearer fifteen-letters", 64), ("Bearer          x       ", 64), ("Bearer sixteen-letters-", 0)]
    {
        std::fs::write(folder.path().join("token"), token).expect("it can be written");
        let ended = run(&["check", file], &folder).await;
        assert_eq!(ended.code, Some(code), "{token:?}: {}", ended.stderr);
        if code != 0 {
            assert!(ended.stderr.contains("Share.Token") && ended.stderr.contains("16"), "{}", ended.stderr);
            assert!(!ended.stderr.contains(token) || token == "x", "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn fields_of_the_song_are_bounded() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    start(&client).await;
    let kib = |count: usize| "ü".repeat(count * 512);
    let over = |count: usize| kib(count) + "x";
    let path = "/api/share/123456/metadata";
    let good = json!({"title": kib(1), "artist": kib(1), "lyrics": kib(256)});
    post(&client, path, good.clone()).await.is(200);
    assert_eq!(json_of(&get(&client, path).await)["lyrics"], good["lyrics"]);
    for (field, value) in [("title", over(1)), ("artist", over(1)), ("lyrics", over(256))] {
        let reply = post(&client, path, json!({ field: value })).await;
        let said = reply.problem(400)["detail"].clone();
        assert!(said.as_str().is_some_and(|said| said.contains(field) && said.contains("KiB")), "{said}");
    }
}

#[tokio::test]
async fn a_client_that_varies_its_position_is_one_listener_with_one_limit() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    start(&client).await;
    for sequence in 0..40 {
        send(&client, sequence).await.is(200);
    }
    let began = monotonic_now();
    let mut answered = 0;
    for number in 0..120_i64 {
        let since = [number % 39, -1, 1_000_000 + number][usize::try_from(number % 3).expect("small")];
        let reply = get(&client, &format!("/api/share/123456/audio?since={since}")).await;
        answered += u32::from(reply.status == 200);
    }
    let allowed = 25.0 + 12.0 * began.elapsed().as_secs_f64();
    assert!(f64::from(answered) <= allowed, "{answered} of 120 polls, {allowed} are one listener's");
    assert_eq!(json_of(get(&client, "/api/share/123456/status").await.is(200))["listenerCount"], 1);
}

#[tokio::test]
async fn sharing_alone_starts_without_any_route() {
    for section in [None, Some(json!({})), Some(json!({"Routes": {}}))] {
        let mut config = config::empty();
        config["Share"] = json!({});
        section.into_iter().for_each(|section| config["ReverseProxy"] = section);
        let gate = Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN)]).await;
        start(&gate.client()).await;
        gate.client().get("/anything", &[]).await.problem(404);
        gate.client().get("/health", &[]).await.is(200);
    }
}

#[tokio::test]
async fn sharing_has_limit_classes_of_its_own() {
    let window = |permits: u32| json!({"FixedWindow": {"PermitLimit": permits, "Window": "1h"}});
    let limits = json!({"RateLimiter": {"share": window(5), "share-poll": window(8)}});
    let gate = gate(json!({ "Policies": limits })).await;
    let client = gate.client();
    start(&client).await;
    for _ in 0..4 {
        let reply = post(&client, "/api/share/123456/metadata", json!({"title": "x"})).await;
        assert_eq!(reply.header("ratelimit-limit"), "5", "{}", reply.status);
    }
    post(&client, "/api/v1/share/123456/metadata", json!({"title": "x"})).await.problem(429);
    send(&client, 0).await.problem(429);
    for _ in 0..8 {
        let reply = get(&client, "/api/share/123456/audio?since=-1").await;
        assert_eq!((reply.status.as_u16(), reply.header("ratelimit-limit")), (204, "8"));
    }
    get(&client, "/api/v1/share/123456/status").await.problem(429);
    // The token of sharing is none of an issuer's.
    assert_eq!(gate.metric("tidegate_limit_decisions_total", "share-poll").await, 9.0);
}

#[tokio::test]
async fn a_session_id_under_another_name_is_refused() {
    let gate = gate(json!({})).await;
    let client = gate.client();
    for name in ["SessionId", "sessionid", "SESSIONID", "session_id", "id"] {
        let reply = post(&client, "/api/share/start", json!({ name: "123456" })).await;
        let said = reply.problem(400)["detail"].clone();
        assert!(said.as_str().is_some_and(|said| said.contains("sessionId")), "{name}: {said}");
    }
    start(&client).await;
}

#[tokio::test]
async fn sharing_counts_by_address_where_a_policy_says_user() {
    let mut more = json!({ "Policies": { "RateLimiter": {
        "share-poll": { "FixedWindow": { "PermitLimit": 3, "Window": "1d" }, "PartitionBy": "User" } } } });
    more["Server"] = config::empty()["Server"].clone();
    more["Server"]["TrustedProxies"] = json!(["127.0.0.0/8"]);
    let gate = gate(more).await;
    start(&gate.client()).await;
    for address in ["192.0.2.1", "192.0.2.2"] {
        let headers = [("authorization", TOKEN), ("x-forwarded-for", address)];
        for status in [200, 200, 200, 429] {
            let reply = gate.client().get("/api/share/123456/status", &headers).await;
            assert_eq!(reply.status, status, "{address}");
        }
    }
}
