//! Who may stream: tokens from every place, every way to be refused, policies, key sets, and CORS on all of it.

use http::{HeaderValue, Method};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::support::issuer::{JwksServer, Key, write_public};
use crate::support::tools::TempFolder;
use crate::support::{Client, Gate, ScriptedOrigin, config, eventually, nginx, token};

const TRACK: &str = "/stream/track.mp3";

async fn origin() -> ScriptedOrigin {
    ScriptedOrigin::with_track("music").await
}

async fn get(client: &Client, token: &str) -> u16 {
    client.get(TRACK, &[("authorization", &format!("Bearer {token}"))]).await.status.as_u16()
}

#[tokio::test]
async fn a_token_is_found_in_header_cookie_and_query_and_never_handed_on() {
    let origin = origin().await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let client = gate.client();
    let token = token::of("alice");
    let (bearer, lower) = (format!("Bearer {token}"), format!("bearer {token}"));
    let (cookie, among) = (format!("session={token}"), format!("a=b; session={token}; c=d"));
    for headers in
        [[("authorization", bearer.as_str())], [("authorization", &lower)], [("cookie", &cookie)], [("cookie", &among)]]
    {
        client.get(TRACK, &headers).await.is(200);
        client.head(TRACK, &headers).await.is(200);
    }
    client.get(&format!("{TRACK}?access_token={token}"), &[]).await.is(200);
    client.get(&format!("{TRACK}?x=1&access_token={token}&y=2"), &[("range", "bytes=0-1")]).await.is(206);
    for request in origin.seen() {
        let whole = format!("{request:?}");
        assert!(!whole.contains(&token), "the store saw the token: {whole}");
    }
    let log = gate.log();
    let signature = token.rsplit('.').next().expect("a token has parts");
    assert!(!log.contains(signature) && !gate.metrics().await.contains(signature), "the token is in log or metrics");
}

#[tokio::test]
async fn what_a_policy_gives_to_one_user_is_for_no_shared_cache() {
    let origin = origin().await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let client = gate.client();
    let cookie = format!("session={}", token::of("alice"));
    let etag = client.head(TRACK, &[("cookie", &cookie)]).await.is(200).header("etag").to_owned();
    let range = [("cookie", cookie.as_str()), ("range", "bytes=0-1")];
    let known = [("cookie", cookie.as_str()), ("if-none-match", etag.as_str())];
    for (status, answer) in [
        (200, client.get(TRACK, &[("cookie", &cookie)]).await),
        (206, client.get(TRACK, &range).await),
        (304, client.get(TRACK, &known).await),
    ] {
        let answer = answer.is(status);
        assert_eq!(answer.header("cache-control"), "private", "{status}");
        assert_eq!(answer.header("vary"), "Authorization, Cookie", "{status}");
    }
    // nginx keeps whatever it is not told to keep out.
    let Some(cache) = nginx::start(&format!(
        "proxy_cache_path {{folder}}/cache keys_zone=kept:1m;\n  server {{\n    listen 127.0.0.1:{{port}};\n    \
         location / {{ proxy_pass {}; proxy_cache kept; proxy_cache_valid 200 1h; }}\n  }}",
        gate.url()
    )) else {
        return;
    };
    let behind = Client::new(format!("http://{}", cache.address));
    behind.get(TRACK, &[("cookie", &cookie)]).await.is(200);
    behind.get(TRACK, &[]).await.is(401);
    // What everybody may have stays as the store has it.
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let open = gate.client().get(TRACK, &[]).await;
    assert_eq!((open.is(200).header("cache-control"), open.header("vary")), ("", ""));
}

#[tokio::test]
async fn every_bad_token_is_a_401_that_says_why_and_reaches_no_store() {
    let origin = origin().await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let with = |name: &str, value: Value| {
        let mut claims = token::claims("alice");
        claims[name] = value;
        token::with(&claims)
    };
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSJ9.";
    let no_expiry = token::with(&json!({ "sub": "alice", "iss": "https://issuer.test", "aud": "tidegate" }));
    let table = [
        ("expired", with("exp", json!(token::now() - 3600))),
        ("no expiry", no_expiry),
        ("not yet valid", with("nbf", json!(token::now() + 3600))),
        ("another issuer", with("iss", json!("https://evil.test"))),
        ("another audience", with("aud", json!("another"))),
        ("no subject", with("sub", json!(""))),
        ("another secret", token::signed(&token::claims("alice"), "another secret that is long enough to be one")),
        ("unsigned", unsigned.to_owned()),
        ("not a token", "abc".to_owned()),
        ("empty parts", "..".to_owned()),
        ("huge", "a".repeat(20_000)),
    ];
    for (name, token) in table {
        let reply = gate.client().get(TRACK, &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!((name, reply.status.as_u16()), (name, 401));
        reply.problem(401);
        let challenge = reply.header("www-authenticate");
        assert!(
            challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""),
            "{name}: {challenge}"
        );
    }
    let missing = gate.client().get(TRACK, &[]).await;
    missing.problem(401);
    let challenge = missing.header("www-authenticate");
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error="), "{challenge}");
    gate.client().get(TRACK, &[("authorization", "Basic YTpi")]).await.problem(401);
    gate.client().head(TRACK, &[]).await.is(401);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_clock_that_differs_a_little_is_forgiven() {
    let origin = origin().await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let mut claims = token::claims("alice");
    claims["exp"] = json!(token::now() - 5);
    assert_eq!(get(&gate.client(), &token::with(&claims)).await, 200);
}

/// Routes under policies, one path each.
fn policies(endpoint: &str) -> Value {
    let mut config = config::private_objects(endpoint, "audio");
    config["Policies"]["Authorization"] = json!({
        "owner": { "Require": [{ "Claim": "sub", "Equals": "{user}" }] },
        "vip": { "Require": [{ "Claim": "role", "In": ["vip", "admin"] }] },
        "scoped": { "Require": [{ "Claim": "scope", "Contains": "stream:read" }] },
        "mailed": { "Require": [{ "Claim": "email", "Exists": true }] },
        "either": { "Require": [{ "AnyOf": [
            { "Claim": "sub", "Equals": "{user}" },
            { "Claim": "role", "In": ["admin"] },
        ] }] },
    });
    for name in ["owner", "vip", "scoped", "mailed", "either"] {
        let path = format!("/{name}/{{user}}/{{**key}}");
        let mut route = config::object_route(&path, "main", "audio", "{**key}");
        route["AuthorizationPolicy"] = json!(name);
        config["ReverseProxy"]["Routes"][name] = route;
    }
    let mut hidden = config["ReverseProxy"]["Routes"]["owner"].clone();
    hidden["Match"]["Path"] = json!("/hidden/{user}/{**key}");
    hidden["HideExistence"] = json!(true);
    config["ReverseProxy"]["Routes"]["hidden"] = hidden;
    config
}

#[tokio::test]
async fn policies_decide_over_claims_and_captured_values() {
    let origin = origin().await;
    let gate = Gate::start(&policies(&origin.url())).await;
    let claims = |changes: Value| {
        let mut claims = token::claims("alice");
        for (name, value) in changes.as_object().expect("changes are an object") {
            claims[name] = value.clone();
        }
        format!("Bearer {}", token::with(&claims))
    };
    let table = [
        ("/owner/alice/track.mp3", json!({}), 200),
        ("/owner/%61lice/track.mp3", json!({}), 200),
        ("/owner/bob/track.mp3", json!({}), 403),
        ("/owner/Alice/track.mp3", json!({}), 403),
        ("/hidden/alice/track.mp3", json!({}), 200),
        ("/hidden/bob/track.mp3", json!({}), 404),
        ("/vip/x/track.mp3", json!({}), 403),
        ("/vip/x/track.mp3", json!({ "role": "user" }), 403),
        ("/vip/x/track.mp3", json!({ "role": "vip" }), 200),
        ("/vip/x/track.mp3", json!({ "role": ["user", "admin"] }), 200),
        ("/scoped/x/track.mp3", json!({ "scope": "profile stream:read" }), 200),
        ("/scoped/x/track.mp3", json!({ "scope": "stream:readable" }), 403),
        ("/scoped/x/track.mp3", json!({ "scope": ["stream:read"] }), 200),
        ("/mailed/x/track.mp3", json!({ "email": "a@b.test" }), 200),
        ("/mailed/x/track.mp3", json!({ "email": null }), 403),
        ("/either/alice/track.mp3", json!({}), 200),
        ("/either/bob/track.mp3", json!({}), 403),
        ("/either/bob/track.mp3", json!({ "role": "admin" }), 200),
    ];
    for (path, changes, status) in table {
        origin.reset();
        let reply = gate.client().get(path, &[("authorization", &claims(changes.clone()))]).await;
        assert_eq!((path, &changes, reply.status.as_u16()), (path, &changes, status));
        if status != 200 {
            reply.problem(status);
            assert!(origin.seen().is_empty(), "{path}: a refused request reached the store");
        }
    }
    // Whoever has no token at all is asked for one, on every route.
    for path in ["/owner/bob/track.mp3", "/vip/x/track.mp3"] {
        gate.client().get(path, &[]).await.problem(401);
    }
}

#[tokio::test]
async fn cors_headers_stand_on_every_answer_errors_included() {
    let origin = origin().await;
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Policies"]["Cors"]["app"] = json!({
        "Origins": ["https://app.test", "https://other.test"],
        "ExposedHeaders": ["Content-Range", "Accept-Ranges", "Content-Length"],
    });
    config["ReverseProxy"]["Routes"]["stream"]["CorsPolicy"] = json!("app");
    let gate = Gate::start(&config).await;
    let client = gate.client();
    let bearer = format!("Bearer {}", token::of("alice"));
    let from = ("origin", "https://app.test");
    let authorised = [from, ("authorization", bearer.as_str())];
    let replies = [
        ("200", client.get(TRACK, &authorised).await),
        ("401", client.get(TRACK, &[from]).await),
        ("404", client.get("/stream/none.mp3", &authorised).await),
        ("416", client.get(TRACK, &[authorised[0], authorised[1], ("range", "bytes=99-")]).await),
        ("405", client.send(Method::DELETE, TRACK, &authorised).await),
    ];
    for (status, reply) in &replies {
        assert_eq!(reply.status.as_str(), *status);
        assert_eq!(reply.header("access-control-allow-origin"), "https://app.test", "{status}");
        assert!(reply.header("access-control-expose-headers").to_ascii_lowercase().contains("content-range"));
        let vary: Vec<_> = reply.headers.get_all("vary").iter().collect();
        assert!(vary.contains(&&HeaderValue::from_static("Origin")), "{status}: {vary:?}");
    }
    let preflight =
        [from, ("access-control-request-method", "GET"), ("access-control-request-headers", "authorization, range")];
    let reply = client.send(Method::OPTIONS, TRACK, &preflight).await;
    assert!(matches!(reply.status.as_u16(), 200 | 204), "{}", reply.status);
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.test");
    assert!(reply.header("access-control-allow-methods").contains("GET"));
    assert!(reply.header("access-control-allow-headers").to_ascii_lowercase().contains("range"));
    let stranger = client.get(TRACK, &[("origin", "https://evil.test"), authorised[1]]).await;
    assert_eq!(stranger.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn static_public_keys_verify_rs256_es256_and_eddsa_and_nothing_else() {
    let origin = origin().await;
    let folder = TempFolder::new("keys");
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = Key::generate("static", algorithm);
        let mut config = config::private_objects(&origin.url(), "audio");
        config["Auth"]["Jwt"]["Issuers"] =
            json!([{ "Issuer": "https://issuer.test", "PublicKey": write_public(&key, folder.path()) }]);
        let gate = Gate::start(&config).await;
        let claims = token::claims("alice");
        assert_eq!(get(&gate.client(), &key.sign(&claims)).await, 200, "{algorithm:?}");
        let other = Key::generate("static", algorithm);
        assert_eq!(get(&gate.client(), &other.sign(&claims)).await, 401, "{algorithm:?}");
        // The old confusion: the public key taken as the secret of HS256.
        assert_eq!(get(&gate.client(), &token::signed(&claims, &key.public_pem)).await, 401, "{algorithm:?}");
    }
}

async fn jwks_gate(origin: &ScriptedOrigin, server: &JwksServer) -> Gate {
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Auth"]["Jwt"]["Issuers"] = json!([{ "Issuer": "https://issuer.test", "Jwks": server.url() }]);
    Gate::start(&config).await
}

#[tokio::test]
async fn a_key_set_rotates_and_outlives_its_issuer() {
    let origin = origin().await;
    let (old, new) = (Key::generate("old", Algorithm::ES256), Key::generate("new", Algorithm::EdDSA));
    let server = JwksServer::start(&[&old]).await;
    let gate = jwks_gate(&origin, &server).await;
    let client = gate.client();
    let claims = token::claims("alice");
    assert_eq!(get(&client, &old.sign(&claims)).await, 200);
    assert_eq!(get(&client, &old.sign(&token::claims("bob"))).await, 200);
    assert_eq!(server.asked(), 1, "one fetch serves many tokens");
    server.publish(&[&old, &new]);
    let token = new.sign(&claims);
    eventually("the new key is known", async || (get(&client, &token).await == 200).then_some(())).await;
    server.set_down(true);
    for subject in ["carol", "dave"] {
        assert_eq!(
            get(&client, &new.sign(&token::claims(subject))).await,
            200,
            "served stale while the issuer is down"
        );
    }
}

#[tokio::test]
async fn forged_key_ids_cause_no_storm_on_the_issuer() {
    let origin = origin().await;
    let key = Key::generate("real", Algorithm::EdDSA);
    let server = JwksServer::start(&[&key]).await;
    let gate = jwks_gate(&origin, &server).await;
    assert_eq!(get(&gate.client(), &key.sign(&token::claims("alice"))).await, 200);
    for number in 0..30 {
        let forged = Key::generate(&format!("forged-{number}"), Algorithm::EdDSA);
        assert_eq!(get(&gate.client(), &forged.sign(&token::claims("alice"))).await, 401);
    }
    assert!(server.asked() <= 3, "30 forged ids caused {} fetches", server.asked());
}

#[tokio::test]
async fn an_issuer_that_is_down_from_the_start_is_a_503_until_it_comes_back() {
    let origin = origin().await;
    let key = Key::generate("real", Algorithm::EdDSA);
    let server = JwksServer::start(&[&key]).await;
    server.set_down(true);
    let gate = jwks_gate(&origin, &server).await;
    let client = gate.client();
    let bearer = format!("Bearer {}", key.sign(&token::claims("alice")));
    let reply = client.get(TRACK, &[("authorization", &bearer)]).await;
    reply.problem(503);
    assert!(!reply.header("retry-after").is_empty());
    server.set_down(false);
    let token = key.sign(&token::claims("alice"));
    eventually("the key set is fetched", async || (get(&client, &token).await == 200).then_some(())).await;
}

#[tokio::test]
async fn a_new_key_of_an_issuer_that_hangs_is_a_503_and_soon() {
    let origin = origin().await;
    let (old, new) = (Key::generate("old", Algorithm::ES256), Key::generate("new", Algorithm::EdDSA));
    let server = JwksServer::start(&[&old]).await;
    let gate = jwks_gate(&origin, &server).await;
    let client = gate.client();
    assert_eq!(get(&client, &old.sign(&token::claims("alice"))).await, 200);
    server.set_hung(true);
    let bearer = format!("Bearer {}", new.sign(&token::claims("alice")));
    for number in 0..2 {
        let reply = client.get(TRACK, &[("authorization", &bearer)]).await;
        assert!(number > 0 || server.is_waited_for(), "it was answered before the issuer's five seconds were over");
        assert_eq!(reply.problem(503)["code"], "keys_unavailable");
        assert!(!reply.header("retry-after").is_empty());
    }
    assert_eq!(server.asked(), 2, "one fetch for both");
    assert_eq!(get(&client, &old.sign(&token::claims("bob"))).await, 200, "keys that are known go on");
}

#[tokio::test]
async fn a_refusal_of_a_token_gives_the_reason_of_the_page() {
    let page = include_str!("../../docs/authentication.md");
    let origin = origin().await;
    let key = Key::generate("real", Algorithm::EdDSA);
    let server = JwksServer::start(&[&key]).await;
    let mut config = config::private_objects(&origin.url(), "audio");
    let published = json!({ "Issuer": "https://published.test", "Jwks": server.url() });
    config["Auth"]["Jwt"]["Issuers"].as_array_mut().expect("a list").push(published);
    let gate = Gate::start(&config).await;
    let claims = |name: &str, value: Value| {
        let mut claims = token::claims("alice");
        claims[name] = value;
        claims
    };
    let with = |name: &str, value: Value| token::with(&claims(name, value));
    let unknown = Key::generate("unknown", Algorithm::EdDSA);
    let table = [
        ("the token is malformed", "a.b".to_owned()),
        ("the token is from another issuer", with("iss", json!("https://evil.test"))),
        ("the algorithm is not accepted", key.sign(&token::claims("alice"))),
        ("the key is unknown", unknown.sign(&claims("iss", json!("https://published.test")))),
        (
            "the signature is wrong",
            token::signed(&token::claims("alice"), "another secret that is long enough to be one"),
        ),
        ("the token names no subject", with("sub", json!(""))),
        ("the token's subject cannot be a user's id", with("sub", json!(".."))),
        ("the token is for another audience", with("aud", json!("another"))),
        ("the token is not valid yet", with("nbf", json!(token::now() + 3600))),
        ("the token has expired", with("exp", json!(token::now() - 3600))),
    ];
    for (reason, token) in &table {
        let reply = gate.client().get(TRACK, &[("authorization", &format!("Bearer {token}"))]).await;
        reply.problem(401);
        let challenge = format!("Bearer realm=\"tidegate\", error=\"invalid_token\", error_description=\"{reason}\"");
        assert_eq!(reply.header("www-authenticate"), challenge);
        // The page has the last two in one row.
        let has_row = page.contains(&format!("| 401 | {reason}"));
        assert!(has_row || *reason == "the token has expired", "docs/authentication.md has no row for {reason:?}");
    }
}
