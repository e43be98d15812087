//! One manner of the whole API: ids, codes, numbers, times, lists, classes, and a description that leaves nothing out.

use std::collections::BTreeSet;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::client::Reply;
use crate::support::described::Described;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Redis, ScriptedOrigin, config, token};

const HOST: &str = "the token of sharing";

/// Every module, over an embedded store.
fn everything(folder: &TempFolder) -> Value {
    let mut config = tracks("http://127.0.0.1:1", &sqlite(folder));
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["Auth"]["PathToken"] = json!({ "Ttl": "1h" });
    config["Events"] =
        json!({ "File": folder.path().join("events.jsonl"), "Outbox": { "Path": folder.path().join("outbox") } });
    config["Share"]["Token"] = json!("env:BEARER_TOKEN");
    config
}

async fn start(config: &Value) -> Gate {
    Gate::start_with(config, &[("BEARER_TOKEN", HOST)]).await
}

/// A body as it stands, under a media type.
async fn post(gate: &Gate, path: &str, media_type: &str, body: &str) -> Reply {
    let request = gate.client().request(Method::POST, path).header("authorization", bearer("alice"));
    let response = request.header("content-type", media_type).body(body.to_owned()).send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

async fn get(gate: &Gate, path: &str) -> Value {
    let reply = send(gate, Method::GET, path, &bearer("alice"), None).await;
    serde_json::from_slice(&reply.is(200).body).expect("JSON")
}

#[tokio::test]
async fn an_id_that_cannot_be_is_400_wherever_it_stands() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let long = "x".repeat(257);
    let position = json!({ "positionMs": 1 });
    let event = json!({ "action": "Pause", "positionMs": 1 });
    for bad in [long.as_str(), "a%00b", "a%C2%85b", "a%FFb"] {
        for (method, path, body) in [
            ("POST", format!("/api/v1/tracks/{bad}/position"), Some(&position)),
            ("GET", format!("/api/v1/tracks/{bad}/position"), None),
            ("DELETE", format!("/api/v1/tracks/{bad}/position"), None),
            ("POST", format!("/api/v1/tracks/{bad}/events"), Some(&event)),
            ("GET", format!("/api/v1/tracks/{bad}/stream-url"), None),
            ("GET", format!("/api/v1/admin/tracks/{bad}"), None),
            ("DELETE", format!("/api/v1/admin/tracks/{bad}"), None),
            ("GET", format!("/api/v1/admin/grants?user_id={bad}"), None),
            ("DELETE", format!("/api/v1/admin/grants?user_id={bad}&track_id=t"), None),
            ("DELETE", format!("/api/v1/admin/grants?user_id=u&track_id={bad}"), None),
            ("DELETE", format!("/api/v1/admin/stream-cache?user_id={bad}"), None),
            ("DELETE", format!("/api/v1/admin/stream-cache?user_id=u&track_id={bad}"), None),
            ("GET", format!("/api/v1/usage?user_id={bad}"), None),
        ] {
            let method = method.parse().expect("a method");
            let reply = send(&gate, method, &path, &admin(), body.cloned()).await;
            // A query is decoded as browsers do it (URL standard): a byte that is no UTF-8 is replaced, not refused.
            if !(bad == "a%FFb" && path.contains('?')) {
                assert_eq!(reply.problem(400)["code"], "bad_request", "{path}");
            }
        }
    }
    let track = json!({ "id": "", "store": "main", "bucket": "audio", "key": "one.mp3" });
    for (path, body) in [
        ("/api/v1/admin/tracks", track),
        ("/api/v1/admin/grants", json!({ "userId": long, "trackId": "t" })),
        ("/api/v1/admin/grants", json!({ "userId": "u", "trackPrefix": "" })),
    ] {
        send(&gate, Method::POST, path, &admin(), Some(body)).await.problem(400);
    }
    // Nobody is a user under a name that cannot be kept.
    for user in [long.as_str(), "a\u{0}b"] {
        for path in ["/api/v1/tracks/t/position", "/api/v1/progress", "/api/v1/usage", "/api/v1/tracks/t/stream-url"] {
            send(&gate, Method::GET, path, &bearer(user), None).await.problem(401);
        }
    }
}

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
async fn a_token_is_described_wherever_one_is_wanted() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let described = Described::by(&gate.client()).await;
    let schemes = described.document()["components"]["securitySchemes"].as_object().expect("schemes").clone();
    for (path, item) in described.document()["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let wants_token = operation["responses"].get("401").is_some() && !path.starts_with("/t/");
            let security = operation["security"].as_array().cloned().unwrap_or_default();
            assert_eq!(!security.is_empty(), wants_token, "{method} {path}");
            for scheme in security.iter().flat_map(|one| one.as_object().expect("an object").keys()) {
                assert!(schemes.contains_key(scheme), "{method} {path}: {scheme}");
            }
        }
    }
}

#[tokio::test]
async fn the_description_has_every_path_that_players_and_people_use() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let described = Described::by(&gate.client()).await;
    let paths = described.document()["paths"].as_object().expect("paths").clone();
    let by_url = "/t/{token}/api/v1/tracks/{id}/stream";
    for path in ["/health", "/openapi.json", "/docs/", "/listen/{id}", "/listen/host", by_url] {
        assert!(paths.contains_key(path), "{path}");
    }
    let page = gate.client().get("/listen/host", &[]).await;
    described.checks("GET", "/listen/host", page.is(200));
}

/// The paths that routers are given by hand, with the file of each; the others are described where they are made.
fn routed() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, text) in crate::layers::sources() {
        if name.contains("tests") {
            continue;
        }
        let served = text.split("#[cfg(test)]").next().unwrap_or_default();
        found.extend(served.split(".route(\"").skip(1).filter_map(|rest| {
            let (path, _) = rest.split_once('"')?;
            Some((path.to_owned(), name.clone()))
        }));
    }
    found
}

#[tokio::test]
async fn every_path_that_is_served_is_described_or_named_as_not_of_the_api() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let described = Described::by(&gate.client()).await;
    let described = described.document()["paths"].as_object().expect("paths");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("it is readable");
    let (operations, api) = (read("docs/operations.md"), read("docs/api.md"));
    let apart = api.lines().find(|line| line.starts_with("Not in the description:")).expect("docs/api.md says so");
    let all = routed();
    assert!(all.len() >= 10, "{all:?}");
    for (path, file) in all {
        let by_operator = operations.lines().any(|line| line.starts_with(&format!("| `{path}` |")));
        let is_known = described.contains_key(&path)
            || by_operator
            || apart.contains(&format!("`{path}`"))
            || (path.starts_with("/demo") && apart.contains("`/demo/`"));
        assert!(is_known, "{path} of {file}: neither described nor named in docs/api.md or docs/operations.md");
    }
}

#[tokio::test]
async fn the_paths_of_the_admin_address_are_those_of_the_page_of_operations() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    let gate = Gate::start_with(&config, &[("ADMIN_TOKEN", "the admin's own token")]).await;
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).expect("a page");
    let section =
        page.split("## The admin address").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("it is there");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `/")?.split_once("` |"));
    let mut listed = BTreeSet::new();
    for (path, rest) in rows {
        let path = format!("/{path}");
        let wants_token = rest.trim_start().starts_with("yes");
        let method = if path.starts_with("/cache/") { Method::POST } else { Method::GET };
        let status = gate.admin().request(method.clone(), &path).send().await.expect("an answer").status();
        assert_eq!(status == 401, wants_token, "{path}: {status}");
        assert_ne!(status, 404, "{path}");
        let outside = gate.client().request(method, &path).send().await.expect("an answer").status();
        assert_eq!(outside == 404, path != "/health", "{path}: {outside}");
        listed.insert(path);
    }
    let served: BTreeSet<String> = routed()
        .into_iter()
        .filter(|(path, file)| file == "crates/server-kit/src/api/router.rs" && path != "/openapi.json")
        .map(|(path, _)| path)
        .collect();
    assert_eq!(listed, served);
}

#[tokio::test]
async fn what_goes_with_every_error_goes_with_those_of_routes_and_of_the_api() {
    let gate = Gate::start(&config::private_objects("http://127.0.0.1:1", "audio")).await;
    let (bearer, track) = (bearer("alice"), "/stream/track.mp3");
    let (dead, long) = (format!("{track}?access_token={}", token::of("alice")), format!("/{}", "a".repeat(8192)));
    // Method, path, who, status, and a header that must come with it.
    let table = [
        (Method::GET, dead.as_str(), "", 503, "retry-after"),
        (Method::GET, track, "", 401, "www-authenticate"),
        (Method::DELETE, track, &*bearer, 405, "allow"),
        (Method::GET, "/nowhere", "", 404, "x-request-id"),
        (Method::GET, &*long, "", 414, "x-request-id"),
        (Method::GET, "/stream/%zz", "", 400, "x-request-id"),
        (Method::GET, "/api/v1/usage", "", 401, "www-authenticate"),
        (Method::DELETE, "/api/v1/usage", &*bearer, 405, "allow"),
        (Method::GET, "/api/v1/usage?user_id=bob", &*bearer, 403, "x-request-id"),
        (Method::POST, "/health", "", 405, "allow"),
    ];
    for (method, path, who, status, header) in table {
        let what = format!("{method} {}", path.chars().take(30).collect::<String>());
        let headers: Vec<_> = Some(("authorization", who)).filter(|(_, who)| !who.is_empty()).into_iter().collect();
        let reply = gate.client().send(method, path, &headers).await;
        let millis = reply.problem(status)["timestamp"].as_i64().expect("a number");
        assert!((millis - token::now() * 1000).abs() < 60_000, "{what}: {millis}");
        assert_eq!(reply.header("cache-control"), "no-store", "{what}");
        assert_ne!(reply.header(header), "", "{what}: {:?}", reply.headers);
        let again = if status == 503 { track } else { "" };
        assert_eq!(reply.header("x-retry-url"), again, "{what}: without the query, which has the token");
    }
}

#[tokio::test]
async fn the_last_page_says_that_it_is_the_last() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    for track in ["one", "two", "three", "four"] {
        let body = json!({ "positionMs": 300_000, "durationMs": 600_000 });
        let path = format!("/api/v1/tracks/{track}/position");
        send(&gate, Method::POST, &path, &bearer("alice"), Some(body)).await.is(204);
        let body = json!({ "id": track, "store": "main", "bucket": "audio", "key": track });
        send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(body)).await.is(201);
        let body = json!({ "userId": "alice", "trackId": track });
        send(&gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(body)).await.is(201);
    }
    for list in ["/api/v1/progress?", "/api/v1/admin/tracks?", "/api/v1/admin/grants?user_id=alice&"] {
        for (limit, pages) in [(4, 1), (2, 2), (3, 2), (5, 1)] {
            let (mut cursor, mut read) = (String::new(), 0);
            for page in 1..=pages {
                let reply =
                    send(&gate, Method::GET, &format!("{list}limit={limit}{cursor}"), &admin_alice(), None).await;
                let said: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
                read += said["items"].as_array().expect("items").len();
                assert_eq!(said["nextCursor"].is_null(), page == pages, "{list} {limit}: {said}");
                cursor = format!("&cursor={}", said["nextCursor"].as_str().unwrap_or_default());
            }
            assert_eq!(read, 4, "{list} {limit}");
        }
    }
}

/// Alice, who may do everything.
fn admin_alice() -> String {
    let mut claims = token::claims("alice");
    claims["role"] = json!("admin");
    format!("Bearer {}", token::with(&claims))
}

#[tokio::test]
async fn numbers_and_times_are_taken_as_players_send_them() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let (json_type, text_type) = ("application/json", "text/plain;charset=UTF-8");
    for (number, (media_type, position)) in
        [(json_type, "93500.0"), (text_type, "93500.7"), (text_type, "9.35e4")].into_iter().enumerate()
    {
        let path = format!("/api/v1/tracks/{number}/position");
        let now = format!("{}123.5", token::now());
        let body = format!("{{\"positionMs\": {position}, \"durationMs\": 240000.25, \"timestamp\": {now}}}");
        post(&gate, &path, media_type, &body).await.is(204);
        assert_eq!(get(&gate, &path).await["positionMs"], 93_500);
        for timestamp in ["1770000000123.0", "\"2026-02-02T03:40:00+01:00\""] {
            let body = format!("{{\"action\": \"Pause\", \"positionMs\": {position}, \"timestamp\": {timestamp}}}");
            post(&gate, &format!("/api/v1/tracks/{number}/events"), media_type, &body).await.is(202);
        }
    }
    for path in ["/api/v1/tracks/t/position", "/api/v1/tracks/t/events"] {
        for (body, status) in [
            (json!({ "action": "Pause", "positionMs": -0.5 }), 422),
            (json!({ "action": "Pause", "positionMs": "1" }), 400),
            (json!({ "action": "Pause", "positionMs": 1, "timestamp": "yesterday" }), 400),
            (json!({ "action": "Pause", "positionMs": 1, "timestamp": "2026-01-02T03:04:05" }), 400),
        ] {
            post(&gate, path, json_type, &body.to_string()).await.problem(status);
        }
        post(&gate, path, "application/x-www-form-urlencoded", "{\"positionMs\":1}").await.problem(415);
    }
}

#[tokio::test]
async fn a_member_in_another_case_is_refused_and_not_passed_over() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let host = format!("Bearer {HOST}");
    let reply = send(&gate, Method::POST, "/api/share/start", &host, Some(json!({ "SessionId": "123456" }))).await;
    let said = reply.problem(400);
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("`sessionId`")), "{said}");
    send(&gate, Method::POST, "/api/share/start", &host, Some(json!({ "sessionId": "123456" }))).await.is(200);
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
    for (method, path) in [(Method::DELETE, drop), (Method::GET, list)] {
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
async fn a_purge_without_a_media_type_is_told_what_to_send() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");

    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    let gate = Gate::start(&config).await;
    for (path, body) in [("/cache/purge", r#"{"all": true}"#), ("/cache/refresh", r#"{"key": "track.mp3"}"#)] {
        let request = gate.admin().request(Method::POST, path).body(body);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 415, "{path}");
        let said = response.text().await.expect("a body");
        assert!(said.contains("Content-Type: application/json"), "{said}");
        let request = gate.admin().request(Method::POST, path).header("content-type", "application/json");
        let said = request.body("{\"al\": true}").send().await.expect("an answer").text().await.expect("a body");
        assert!(said.contains("unknown field `al`"), "{said}");
    }
}

#[tokio::test]
async fn the_documents_names_in_the_environment_are_heeded() {
    let Some(redis) = Redis::start() else { return };
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["Server"].as_object_mut().expect("a map").remove("Listeners");
    let url = redis.url();
    let gate = Gate::start_with(&config, &[("PORT", "0"), ("LOG_LEVEL", "ERROR"), ("REDIS_URL", &url)]).await;
    assert_eq!(gate.address().ip().to_string(), "0.0.0.0");
    let health = gate.admin().get("/health", &[]).await;
    let health: Value = serde_json::from_slice(&health.body).expect("JSON");
    assert_eq!(health["redis"], "ok", "{health}");
    assert!(gate.log_lines().iter().all(|line| line["level"] == "ERROR" || line["target"] == "access"));
    // What stands in the file goes before it.
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0" }]);
    config["State"]["Url"] = json!("memory");
    let gate = Gate::start_with(&config, &[("PORT", "1"), ("REDIS_URL", &url)]).await;
    assert_eq!(gate.address().ip().to_string(), "127.0.0.1");
    let health = gate.admin().get("/health", &[]).await;
    let health: Value = serde_json::from_slice(&health.body).expect("JSON");
    assert_eq!(health["redis"], "disabled", "{health}");
}
