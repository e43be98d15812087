//! One manner of the whole API: ids, codes, numbers, times, lists, classes, and a description that leaves nothing out.

mod bodies;
mod classes;
mod description;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{bearer, send, sqlite, tracks};
use crate::support::fault::Step;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Redis, ScriptedOrigin, config, eventually, token};

const HOST: &str = "the token of sharing";

/// Every module, over an embedded store.
fn everything(folder: &TempFolder) -> Value {
    let mut config = tracks("http://127.0.0.1:1", &sqlite(folder));
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["Auth"]["PathToken"] = json!({ "Ttl": "1h" });
    config["Events"] =
        json!({ "File": folder.path().join("events.jsonl"), "Outbox": { "Path": folder.path().join("outbox") } });
    config["Share"]["Token"] = json!("env:BEARER_TOKEN");
    config["Playback"] = json!({});
    config["Lyrics"] = json!({});
    config["Playlists"] = json!({});
    config["Radio"] = json!({});
    config["Channels"] = json!({});
    config["Schedules"] = json!({});
    config["Telegram"] = json!({ "Token": "env:BOT_TOKEN", "ApiUrl": "http://127.0.0.1:1" });
    config["ObjectStores"]["away"] = config::store("http://127.0.0.1:1");
    config["Backup"] = json!({ "Store": "away", "Bucket": "backups" });
    config
}

async fn start(config: &Value) -> Gate {
    Gate::start_with(config, &[("BEARER_TOKEN", HOST), ("BOT_TOKEN", "1:abcdefghijklmnopqrst")]).await
}

async fn get(gate: &Gate, path: &str) -> Value {
    let reply = send(gate, Method::GET, path, &bearer("alice"), None).await;
    serde_json::from_slice(&reply.is(200).body).expect("JSON")
}

#[tokio::test]
async fn what_is_said_to_one_user_is_kept_by_no_cache() {
    let folder = TempFolder::new("private");
    let gate = start(&everything(&folder)).await;
    let playback = ["/api/v1/playback/settings", "/api/v1/playback/position"];
    for path in ["/api/v1/usage", "/api/v1/progress", "/api/v1/tracks/t1/position"].into_iter().chain(playback) {
        let reply = send(&gate, Method::GET, path, &bearer("alice"), None).await;
        assert_eq!(reply.is(200).header("cache-control"), "no-store", "{path}");
    }
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
    gate.client().get("/nowhere", &[]).await.is(404);
    let written = async || gate.access_lines().into_iter().find(|line| line["path"] == "/nowhere");
    eventually("access lines are written whatever the level is", written).await;
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

#[tokio::test]
async fn an_error_has_the_headers_of_its_route_or_none_and_a_servers_own_passes() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Policies"]["Cors"]["page"] = json!({ "Origins": ["https://app.test"] });
    config["ReverseProxy"]["Routes"]["stream"]["CorsPolicy"] = json!("page");
    config["ReverseProxy"]["Routes"]["stream"]["Match"]["Methods"] = json!(["GET"]);
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&[origin.url()]);
    let gate = Gate::start(&config).await;
    let page = ("origin", "https://app.test");
    let long = format!("/stream/{}", "a".repeat(8192));
    for (method, path, code, shown) in [
        (Method::GET, "/stream/none.mp3", "not_found", "https://app.test"),
        (Method::GET, "/stream/%zz", "bad_request", ""),
        (Method::GET, &*long, "path_too_long", ""),
        (Method::GET, "/nowhere", "no_route", ""),
        (Method::DELETE, "/stream/track.mp3", "method_not_allowed", ""),
    ] {
        let reply = gate.client().send(method, path, &[page]).await;
        let said = reply.problem(reply.status.as_u16());
        assert_eq!((&said["code"], &said["detail"]), (&json!(code), &said["error"]));
        assert_eq!(reply.header("access-control-allow-origin"), shown, "{code}");
    }
    origin.always(Step::Answer(Answer::new(404, "text/plain", "nothing here, says the server")));
    let reply = gate.client().get("/web/x", &[]).await;
    assert_eq!(
        (reply.is(404).text().as_str(), reply.header("content-type")),
        ("nothing here, says the server", "text/plain")
    );
}
