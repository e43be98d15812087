//! What a streaming URL opens and what it does not, and that it counts as its user's own token does.

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{bearer, send};
use crate::streaming_urls::{start, status, url, urls};
use crate::support::tools::{TempFolder, whole_lines};
use crate::support::{Gate, Object, ScriptedOrigin, eventually, token};

const STREAM: &str = "/api/v1/tracks/track/stream";

/// An object route at `path` under the policy `policy`.
fn route(path: &str, policy: &str) -> Value {
    json!({
        "Match": { "Path": path },
        "AuthorizationPolicy": policy,
        "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "{id}.mp3" } }],
    })
}

/// `Authorization` of a user with one more claim.
fn with_claim(user: &str, name: &str, value: &Value) -> String {
    let mut claims = token::claims(user);
    claims[name] = value.clone();
    format!("Bearer {}", token::with(&claims))
}

/// The path of a streaming URL of the track for whoever has this token.
async fn url_by(gate: &Gate, bearer: &str) -> String {
    let reply = send(gate, Method::GET, "/api/v1/tracks/track/stream-url", bearer, None).await;
    let said: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
    said["streamUrl"].as_str().expect("a URL").replace(&gate.url(), "")
}

#[tokio::test]
async fn a_url_opens_only_routes_that_would_be_judged_as_its_own_was() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Policies"]["Authorization"]["vip"] = json!({ "Require": [{ "Claim": "role", "Equals": "vip" }] });
    let routes = &mut config["ReverseProxy"]["Routes"];
    routes["same"] = route("/api/v1/tracks/{id}/part/{**rest}", "Default");
    routes["vip"] = route("/api/v1/tracks/{id}/master", "vip");
    routes["open"] = route("/api/v1/tracks/{id}/cover", "Anonymous");
    routes["elsewhere"] = route("/api/v1/tracks/{id}/stream", "Default");
    routes["elsewhere"]["Match"]["Hosts"] = json!(["other.test"]);
    let gate = start(&config).await;
    let path = url(&gate, "track", "alice").await;
    let below = |name: &str| path.replace("/stream", name);
    assert_eq!((status(&gate, &path).await, status(&gate, &below("/part/1.ts")).await), (200, 200));
    let as_bob = gate.client().get("/api/v1/tracks/track/master", &[("authorization", &bearer("bob"))]).await;
    as_bob.problem(403);
    let refused = gate.client().get(&below("/master"), &[]).await;
    assert_eq!(refused.problem(401)["detail"], "the token is for another path");
    let elsewhere = gate.client().get(&path, &[("host", "other.test")]).await;
    assert_eq!(elsewhere.problem(401)["code"], "unauthorized");
    assert_eq!(status(&gate, &below("/cover")).await, 200, "everybody may");
}

#[tokio::test]
async fn a_url_holds_what_the_rules_saw_in_the_path() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Policies"]["Authorization"]["tiers"] =
        json!({ "Require": [{ "Claim": "tiers", "Contains": "{quality}" }] });
    let mut stream = route("/api/v1/tracks/{id}/{quality}", "tiers");
    // So that the question for a URL, which comes with a header, is the API's.
    stream["Match"]["Headers"] = json!([{ "Name": "authorization", "Mode": "NotExists" }]);
    config["ReverseProxy"]["Routes"]["stream"] = stream;
    let gate = start(&config).await;
    let bearer = with_claim("alice", "tiers", &json!(["stream"]));
    let path = url_by(&gate, &bearer).await;
    assert_eq!(status(&gate, &path).await, 200);
    let token = bearer.trim_start_matches("Bearer ");
    gate.client().get(&format!("/api/v1/tracks/track/lossless?access_token={token}"), &[]).await.problem(403);
    assert_eq!(status(&gate, &path.replace("/stream", "/lossless")).await, 401);
}

#[tokio::test]
async fn a_bad_token_in_a_path_is_refused_wherever_the_path_leads() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = start(&urls_with_pages(&origin)).await;
    let path = url(&gate, "track", "alice").await;
    let token = path.split('/').nth(2).expect("a token").to_owned();
    let bearer = bearer("alice");
    let places = ["/health", "/openapi.json", "/docs/", "/api/v1/usage", "/open/track.mp3", STREAM, "/none", "/", ""];
    for (token, place) in places.iter().flat_map(|place| [("garbage", place), (&token, place)]) {
        if token != "garbage" && *place == STREAM {
            continue;
        }
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
            for who in [&bearer, ""] {
                let path = format!("/t/{token}{place}");
                let reply = gate.client().send(method.clone(), &path, &[("authorization", who)]).await;
                // Of so many the last ones are told that they are too many.
                assert!([401, 429].contains(&reply.status.as_u16()), "{method} /t/…{place}: {}", reply.status);
            }
        }
    }
    // A browser asks without looking at what it asks for.
    let asked = [("origin", "https://app.example"), ("access-control-request-method", "GET")];
    gate.client().send(Method::OPTIONS, &path, &asked).await.is(204);
    assert!(!gate.log().contains(&token), "the token is in the log");
}

/// Streaming URLs, an open route, and pages that may ask.
fn urls_with_pages(origin: &ScriptedOrigin) -> Value {
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Policies"]["Cors"]["page"] = json!({ "Origins": ["https://app.example"] });
    config["ReverseProxy"]["Routes"]["stream"]["CorsPolicy"] = json!("page");
    config["ReverseProxy"]["Routes"]["open"] =
        crate::support::config::object_route("/open/{**key}", "main", "audio", "{**key}");
    config
}

/// Five requests in an hour for whoever `partition` says shares a count.
fn five_for(origin: &ScriptedOrigin, partition: &str) -> Value {
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Policies"]["RateLimiter"]["five"] =
        json!({ "FixedWindow": { "PermitLimit": 5, "Window": "1d" }, "PartitionBy": partition });
    config["ReverseProxy"]["Routes"]["stream"]["RateLimiterPolicy"] = json!("five");
    config
}

/// Of ten requests in turn by a header and by a URL, so many pass.
async fn passed(gate: &Gate, bearer: &str) -> usize {
    let path = url_by(gate, bearer).await;
    let mut passed = 0;
    for _ in 0..5 {
        let by_header = gate.client().get(STREAM, &[("authorization", bearer)]).await.status;
        let by_url = gate.client().get(&path, &[]).await.status;
        passed += [by_header, by_url].iter().filter(|status| **status == 200).count();
    }
    passed
}

#[tokio::test]
async fn a_url_counts_for_its_users_tenant_and_for_no_other() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = start(&five_for(&origin, "Claim:tenant")).await;
    let long = "a tenant whose name is longer than any token has room for, and longer still";
    for (user, tenant) in [("alice", json!("acme")), ("bob", json!(long)), ("carol", json!(7)), ("dave", json!(null))] {
        assert_eq!(passed(&gate, &with_claim(user, "tenant", &tenant)).await, 5, "{tenant}");
        assert_eq!(passed(&gate, &with_claim("another", "tenant", &tenant)).await, 0, "{tenant} has had its five");
    }
    let nested = start(&five_for(&origin, "Claim:org.id")).await;
    assert_eq!(passed(&nested, &with_claim("alice", "org", &json!({ "id": "acme" }))).await, 5);
}

#[tokio::test]
async fn a_url_counts_for_its_user_and_has_none_where_the_id_has_no_room() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = start(&five_for(&origin, "User")).await;
    let user = "u".repeat(54);
    assert_eq!(passed(&gate, &bearer(&user)).await, 5);
    let path = "/api/v1/tracks/track/stream-url";
    for longer in [format!("{user}u"), "u".repeat(200)] {
        let refused = send(&gate, Method::GET, path, &bearer(&longer), None).await;
        let said = refused.problem(422);
        assert!(
            said["detail"].as_str().is_some_and(|detail| detail.contains("too long for a streaming URL")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn events_of_a_url_name_its_user() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/track.mp3", Object::new("music"));
    let folder = TempFolder::new("path-tokens");
    let file = folder.path().join("events.jsonl");
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Events"] = json!({ "File": file, "FromStreams": true, "Outbox": { "Path": folder.path().join("outbox") } });
    let gate = start(&config).await;
    let user = format!("~auth0|{}", "5".repeat(40));
    let path = url(&gate, "track", &user).await;
    gate.client().range(&path, "bytes=0-1").await.is(206);
    let told = async || whole_lines(&file).into_iter().find(|line| line.contains("Start"));
    let told = eventually("it is told of", told).await;
    assert!(told.contains(&user), "{told}");
}

#[tokio::test]
async fn an_answer_that_was_kept_is_not_given_for_another_leave() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = start(&five_for(&origin, "Claim:tenant")).await;
    let (one, other) = (with_claim("alice", "tenant", &json!("one")), with_claim("alice", "tenant", &json!("two")));
    assert_eq!((passed(&gate, &one).await, passed(&gate, &other).await), (5, 5));
}

#[tokio::test]
async fn a_service_that_must_see_the_token_is_not_asked_for_a_streaming_url() {
    let (origin, (service, asked)) = (ScriptedOrigin::start().await, crate::hostile_tokens::service().await);
    origin.put("/audio/t1.mp3", Object::new("music"));
    for sees_token in [false, true] {
        let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
        config["Policies"]["Authorization"]["asked"] = json!({ "Http":
            { "Url": format!("{service}/{{trackId}}"), "CacheFor": "0s", "ForwardToken": sees_token } });
        config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("asked");
        let gate = start(&config).await;
        let path = url(&gate, "t1", "alice").await;
        asked.lock().clear();
        assert_eq!(status(&gate, &path).await, 200);
        assert_eq!(asked.lock().is_empty(), sees_token, "ForwardToken: {sees_token}");
    }
}

#[tokio::test]
async fn a_refused_streaming_url_tells_its_cause_in_the_access_log() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Policies"]["Authorization"]["vip"] = json!({ "Require": [{ "Claim": "role", "Equals": "vip" }] });
    config["ReverseProxy"]["Routes"]["vip"] = route("/api/v1/tracks/{id}/master", "vip");
    let gate = start(&config).await;
    let other = start(&urls(&origin.url(), "audio", &["env:NEW_KEY"])).await;
    let path = url(&gate, "track", "alice").await;
    let before =
        eventually("the line of the question", async || Some(gate.access_lines().len()).filter(|lines| *lines == 1));
    before.await;
    let table = [
        ("/t/garbage/api/v1/tracks/track/stream".to_owned(), "malformed"),
        (url(&other, "track", "alice").await, "unknown_key"),
        (path.replace("tracks/track", "tracks/other"), "bad_signature"),
        (path.replace("/stream", "/master"), "wrong_path"),
    ];
    for (number, (path, cause)) in table.iter().enumerate() {
        assert_eq!(status(&gate, path).await, 401, "{cause}");
        let line = eventually("its line", async || gate.access_lines().get(number + 1).cloned()).await;
        assert_eq!(line["cause"], *cause, "{line}");
    }
    crate::streaming_urls::log_out(&gate, "alice").await;
    assert_eq!(status(&gate, &path).await, 401);
    eventually("it was revoked", async || {
        gate.access_lines().iter().any(|line| line["cause"] == "revoked").then_some(())
    })
    .await;
}

#[tokio::test]
async fn all_that_a_policy_asks_must_allow_it() {
    let (origin, (service, asked)) =
        (ScriptedOrigin::with_track("music").await, crate::hostile_tokens::service().await);
    let folder = TempFolder::new("policies");
    let mut config = crate::support::config::private_objects(&origin.url(), "audio");
    config["Database"] = json!({ "Url": crate::catalogue::sqlite(&folder) });
    config["Policies"]["Authorization"]["all"] = json!({
        "Require": [{ "Claim": "role", "Equals": "vip" }],
        "Grants": true,
        "Http": { "Url": format!("{service}/{{trackId}}"), "CacheFor": "0s" },
    });
    config["ReverseProxy"]["Routes"]["stream"] = route("/stream/{id}", "all");
    config["ReverseProxy"]["Routes"]["stream"]["Transforms"][0]["PresignedUrl"]["Key"] = json!("track.mp3");
    let gate = Gate::start(&config).await;
    for track in ["t1", "t2"] {
        let (admin, grant) = (crate::catalogue::admin(), json!({ "userId": "alice", "trackId": track }));
        send(&gate, Method::POST, "/api/v1/admin/grants", &admin, Some(grant)).await.is(201);
    }
    // The user, the role, the track: who has the grant, the role, and whom the service allows (t1 alone).
    for (user, role, track, status) in [
        ("alice", "vip", "t1", 200),
        ("alice", "user", "t1", 403),
        ("bob", "vip", "t1", 403),
        ("alice", "vip", "t2", 403),
    ] {
        asked.lock().clear();
        let bearer = with_claim(user, "role", &json!(role));
        let reply = gate.client().get(&format!("/stream/{track}"), &[("authorization", &bearer)]).await;
        assert_eq!(reply.status, status, "{user} {role} {track}");
        // Rules over claims come first, and nobody is asked about whom they refuse.
        assert!(role == "vip" || asked.lock().is_empty(), "{:?}", asked.lock());
    }
}
