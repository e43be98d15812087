//! Which class of limits a path is of, and what a spent one says.

use http::Method;
use serde_json::json;

use super::{everything, get, start};
use crate::catalogue::{admin, bearer, send};
use crate::support::tools::TempFolder;
use crate::support::{Gate, ScriptedOrigin, config};

#[tokio::test]
async fn a_spent_limit_has_the_same_code_on_a_route_and_on_the_api() {
    let origin = ScriptedOrigin::with_track("music").await;
    for (limit, code) in [
        (json!({ "FixedWindow": { "PermitLimit": 1, "Window": "1d" } }), "too_many_requests"),
        (json!({ "EgressQuota": { "Bytes": "1KiB" } }), "quota_used_up"),
    ] {
        let mut config = config::private_objects(&origin.url(), "audio");
        config["Policies"]["RateLimiter"] = json!({ "standard": limit, "streams": limit });
        config["ReverseProxy"]["Routes"]["stream"]["RateLimiterPolicy"] = json!("streams");
        let gate = Gate::start(&config).await;
        for path in ["/stream/track.mp3", "/api/v1/usage"] {
            let mut refused = None;
            for _ in 0..300 {
                let reply = send(&gate, Method::GET, path, &bearer("alice"), None).await;
                if reply.status == 429 {
                    refused = Some(reply);
                    break;
                }
            }
            let refused = refused.unwrap_or_else(|| panic!("{path}: nothing was refused"));
            assert_eq!(refused.problem(429)["code"], code, "{path}");
        }
    }
}

#[tokio::test]
async fn what_operators_do_is_of_the_strict_class_and_positions_of_their_own() {
    let folder = TempFolder::new("manner");
    let mut config = everything(&folder);
    let one = json!({ "FixedWindow": { "PermitLimit": 1, "Window": "1d" }, "PartitionBy": "Route" });
    config["Policies"]["RateLimiter"] = json!({ "strict": one, "positions": one });
    let gate = start(&config).await;
    let drop = "/api/v1/admin/stream-cache?user_id=bob";
    let list = "/api/v1/admin/tracks";
    send(&gate, Method::DELETE, drop, &admin(), None).await.is(204);
    let status = "/api/v1/lyrics/cache/status";
    for (method, path) in [(Method::DELETE, drop), (Method::GET, list), (Method::GET, status)] {
        assert_eq!(send(&gate, method, path, &admin(), None).await.problem(429)["code"], "too_many_requests");
    }
    send(&gate, Method::POST, "/api/v1/logout", &bearer("alice"), None).await.is(204);
    get(&gate, "/api/v1/tracks/t/position").await;
    send(&gate, Method::GET, "/api/v1/progress", &bearer("alice"), None).await.problem(429);
}

#[tokio::test]
async fn what_users_do_is_of_the_standard_class() {
    let folder = TempFolder::new("manner");
    let mut config = everything(&folder);
    config["Policies"]["RateLimiter"]["standard"] = json!({ "FixedWindow": { "PermitLimit": 100, "Window": "1d" } });
    let gate = start(&config).await;
    let event = json!({ "action": "Pause", "positionMs": 1 });
    for (number, (method, path, body)) in [
        (Method::GET, "/api/v1/tracks/t/stream-url", None),
        (Method::POST, "/api/v1/tracks/t/events", Some(event)),
        (Method::GET, "/api/v1/usage", None),
        (Method::GET, "/api/v1/lyrics/t", None),
        (Method::POST, "/api/v1/logout", None),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = send(&gate, method, path, &bearer("alice"), body).await;
        assert_eq!(reply.header("ratelimit-remaining"), (99 - number).to_string(), "{path}: {}", reply.status);
    }
}

#[tokio::test]
async fn the_usage_of_others_is_of_the_strict_class_and_ones_own_is_not() {
    let folder = TempFolder::new("manner");
    let mut config = everything(&folder);
    let limits = |permits: u32| json!({ "FixedWindow": { "PermitLimit": permits, "Window": "1d" } });
    config["Policies"]["RateLimiter"] = json!({ "strict": limits(2), "standard": limits(5) });
    let gate = start(&config).await;
    let (root, user) = (admin(), bearer("alice"));
    let usage =
        async |query: &str, who: &str| send(&gate, Method::GET, &format!("/api/v1/usage{query}"), who, None).await;
    for left in ["1", "0"] {
        let reply = usage("?user_id=bob", &root).await;
        assert_eq!((reply.is(200).header("ratelimit-limit"), reply.header("ratelimit-remaining")), ("2", left));
    }
    for query in ["?user_id=bob", "?user_id=%62ob", "?user_id=carol"] {
        assert_eq!(usage(query, &root).await.problem(429)["code"], "too_many_requests", "{query}");
    }
    // Their own, also by name, and what others may not ask for, are of the class of everybody.
    for (query, who, status) in [("", &root, 200), ("?user_id=root", &root, 200), ("?user_id=alice", &user, 200)] {
        let reply = usage(query, who).await;
        assert_eq!((reply.status.as_u16(), reply.header("ratelimit-limit")), (status, "5"), "{query}");
    }
    for _ in 0..4 {
        let reply = usage("?user_id=bob", &user).await;
        assert_eq!(reply.header("ratelimit-limit"), "5");
        reply.problem(403);
    }
    usage("?user_id=bob", &user).await.problem(429);
}

#[tokio::test]
async fn who_shows_no_valid_token_uses_up_no_class() {
    let folder = TempFolder::new("manner");
    let mut config = everything(&folder);
    let five = json!({ "FixedWindow": { "PermitLimit": 5, "Window": "1d" }, "PartitionBy": "Route" });
    config["Policies"]["RateLimiter"] = json!({ "standard": five, "strict": five, "positions": five });
    let gate = start(&config).await;
    let (user, root, event) = (bearer("alice"), admin(), json!({ "action": "Pause", "positionMs": 1 }));
    for (method, path, who, body, left) in [
        (Method::GET, "/api/v1/usage", &user, None, "4"),
        (Method::POST, "/api/v1/tracks/t/events", &user, Some(event), "3"),
        (Method::GET, "/api/v1/progress", &user, None, "4"),
        (Method::GET, "/api/v1/admin/tracks", &root, None, "4"),
        (Method::DELETE, "/api/v1/admin/stream-cache?user_id=bob", &root, None, "3"),
    ] {
        for _ in 0..5 {
            gate.client().send(method.clone(), path, &[]).await.problem(401);
            let bad = gate.client().send(method.clone(), path, &[("authorization", "Bearer x.y.z")]).await;
            assert_eq!(bad.header("ratelimit-remaining"), "", "{path}");
            bad.problem(401);
        }
        let reply = send(&gate, method, path, who, body).await;
        assert_eq!(reply.header("ratelimit-remaining"), left, "{path}: {}", reply.status);
    }
}
