//! Two nodes on one Redis and one PostgreSQL: after a change on one of them the other does as it does. How soon is a matter of
//! what each believes for how long, which unit tests hold with a paused clock (`revocation`, `loading_cache`, `egress`).
//! Positions have theirs in `positions`, counts of requests in `limits`.

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, send};
use crate::streaming_urls::{log_out, start, status, url, urls};
use crate::support::{Gate, Postgres, Redis, ScriptedOrigin, eventually, in_time};

/// The nodes, and what they share.
struct Pair {
    one: Gate,
    two: Gate,
    origin: ScriptedOrigin,
    _redis: Redis,
}

/// Two nodes with `configure`d settings; `None` where a server is missing and not required.
async fn pair(configure: impl FnOnce(&mut Value)) -> Option<Pair> {
    let (database, redis) = (Postgres::database().await?, Redis::start()?);
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Database"]["Url"] = json!(database);
    config["State"]["Url"] = json!(redis.url());
    configure(&mut config);
    let (one, two) = tokio::join!(start(&config), start(&config));
    Some(Pair { one, two, origin, _redis: redis })
}

/// Waits until `follows`.
async fn until(what: &str, mut follows: impl AsyncFnMut() -> bool) {
    eventually(what, async || follows().await.then_some(())).await;
}

async fn stream(gate: &Gate, track: &str, user: &str) -> u16 {
    let path = format!("/api/v1/tracks/{track}/stream");
    gate.client().get(&path, &[("authorization", &bearer(user))]).await.status.as_u16()
}

/// Waits until a stream of `user` at `gate` has this status.
async fn streams(gate: &Gate, track: &str, user: &str, expected: u16) {
    until(&format!("the other node answers {expected}"), async || stream(gate, track, user).await == expected).await;
}

#[tokio::test]
async fn a_logout_is_one_everywhere() {
    let Some(Pair { one, two, .. }) = &pair(|_| {}).await else { return };
    for (user, here, there) in [("alice", one, two), ("bob", two, one)] {
        let path = url(here, "track", user).await;
        assert_eq!((status(here, &path).await, status(there, &path).await), (200, 200));
        log_out(here, user).await;
        assert_eq!(status(here, &path).await, 401);
        until("the other node refuses it", async || status(there, &path).await == 401).await;
        let fresh = url(there, "track", user).await;
        assert_eq!((status(here, &fresh).await, status(there, &fresh).await), (200, 200));
    }
}

#[tokio::test]
async fn a_streaming_url_that_was_dropped_is_made_anew_everywhere() {
    let Some(Pair { one, two, origin, .. }) = &pair(|_| {}).await else { return };
    let first = url(one, "track", "alice").await;
    assert_eq!(url(two, "track", "alice").await, first);
    origin.take_seen();
    let path = "/api/v1/admin/stream-cache?user_id=alice&track_id=track";
    send(one, Method::DELETE, path, &admin(), None).await.is(204);
    url(two, "track", "alice").await;
    assert!(!origin.take_seen().is_empty(), "the other node did not ask the store again");
    assert_eq!(status(two, &first).await, 200, "it was forgotten, not revoked");
}

#[tokio::test]
async fn tracks_and_grants_come_and_go_everywhere() {
    let configured = |config: &mut Value| {
        config["Policies"]["Authorization"]["granted"] = json!({ "Grants": true });
        let route = &mut config["ReverseProxy"]["Routes"]["stream"];
        route["AuthorizationPolicy"] = json!("granted");
        route["Transforms"] = json!([{ "PresignedUrl": { "Track": "{id}" } }]);
    };
    let Some(Pair { one, two, .. }) = &pair(configured).await else { return };
    let tracks = "/api/v1/admin/tracks";
    for (id, here, there) in [("here", one, two), ("there", two, one)] {
        assert_eq!(stream(there, id, "alice").await, 403, "nobody has any right to what is not there");
        let track = json!({ "id": id, "store": "main", "bucket": "audio", "key": "track.mp3", "ownerId": "alice" });
        send(here, Method::POST, tracks, &admin(), Some(track)).await.is(201);
        streams(there, id, "alice", 200).await;
        streams(there, id, "bob", 403).await;
        let grant = json!({ "userId": "bob", "trackId": id });
        send(here, Method::POST, "/api/v1/admin/grants", &admin(), Some(grant)).await.is(201);
        streams(there, id, "bob", 200).await;
        let given = format!("/api/v1/admin/grants?user_id=bob&track_id={id}");
        send(here, Method::DELETE, &given, &admin(), None).await.is(204);
        streams(there, id, "bob", 403).await;
        send(here, Method::DELETE, &format!("{tracks}/{id}"), &admin(), None).await.is(204);
        streams(there, id, "alice", 410).await;
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_on_one_node_is_used_up_on_the_other() {
    let configured = |config: &mut Value| {
        config["Policies"]["RateLimiter"]["quota"] = json!({ "EgressQuota": { "Bytes": 100, "Window": "30d" } });
        config["ReverseProxy"]["Routes"]["stream"]["RateLimiterPolicy"] = json!("quota");
    };
    let Some(Pair { one, two, .. }) = &pair(configured).await else { return };
    let used = async |gate: &Gate, user: &str| {
        let usage = gate.client().get("/api/v1/usage", &[("authorization", &bearer(user))]).await;
        let usage: Value = serde_json::from_slice(&usage.is(200).body).expect("JSON");
        usage["policies"][0]["egress"]["used"].as_u64().expect("a number")
    };
    // Both nodes know the user: none of them learns of it by its first question.
    for (count, here, there) in [(1, one, two), (2, two, one)] {
        assert_eq!(stream(here, "track", "alice").await, 200);
        until("both have counted it", async || used(there, "alice").await == count * 5).await;
    }
    let using = async {
        while used(one, "alice").await < 100 {
            assert_eq!(stream(one, "track", "alice").await, 200);
        }
    };
    in_time("the quota is used up", using).await;
    streams(two, "track", "alice", 429).await;
    let refused = two.client().get("/api/v1/tracks/track/stream", &[("authorization", &bearer("alice"))]).await;
    assert_eq!(refused.problem(429)["code"], "quota_used_up");
}
