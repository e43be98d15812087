//! What an operator sees: metrics by the documents' names, one access line a request, health, and the API's description.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::catalogue;
use crate::support::fault::{self, Step};
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually, token};

const TRACK: &str = "/stream/track.mp3";

#[tokio::test]
async fn the_documents_metrics_have_their_exact_names() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let bearer = format!("Bearer {}", token::of("alice"));
    let authorised = [("authorization", bearer.as_str())];
    origin.script([fault::EXPIRED]);
    gate.client().get(TRACK, &authorised).await.is(200);
    gate.client().get(TRACK, &[authorised[0], ("range", "bytes=0-99")]).await.is(206);
    origin.always(fault::NO_SUCH_BUCKET);
    gate.client().get(TRACK, &authorised).await.is(502);
    assert_eq!(gate.metric("novatune_streams_total", "").await, 3.0);
    assert_eq!(gate.metric("tidegate_requests_total", "class=\"2xx\"").await, 2.0);
    assert_eq!(gate.metric("novatune_stream_bytes_total", "").await, 1100.0);
    assert!(gate.metric("novatune_stream_duration_seconds_count", "").await >= 2.0);
    assert!(gate.metric("novatune_stream_duration_seconds_bucket", "le=\"+Inf\"").await >= 2.0);
    assert_eq!(gate.metric("novatune_stream_errors_total", "reason=\"").await, 1.0);
    assert_eq!(gate.metric("novatune_stream_url_expired_total", "").await, 1.0);
    assert_eq!(gate.metric("novatune_stream_retry_total", "attempt=\"1\"").await, 1.0);
    assert!(gate.metric("novatune_yarp_latency_seconds_count", "route=\"stream\"").await >= 3.0);
    assert_eq!(gate.metric("novatune_stream_active_total", "").await, 0.0);
}

#[tokio::test]
async fn an_active_stream_is_counted_under_a_bucket_of_its_user_and_no_name() {
    let origin = ScriptedOrigin::with_track(pattern(30_000_000)).await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let mut raw = gate.raw().await;
    let token = token::of("alice");
    let request = format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\n\r\n");
    raw.send(request.as_bytes()).await;
    raw.head().await.expect("a header");
    let active = async |count: f64| {
        let page = gate.metric("novatune_stream_active_total", "userId_hash=\"").await;
        (page == count).then_some(())
    };
    eventually("the stream counts", async || active(1.0).await).await;
    drop(raw);
    eventually("it counts no longer", async || active(0.0).await).await;
    assert!(!gate.metrics().await.contains("alice"));
}

#[tokio::test]
async fn metric_labels_come_from_closed_sets() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    for number in 0..20 {
        gate.client().get(&format!("/stream/key-{number}.mp3"), &[]).await.is(404);
        gate.client().get(&format!("/nowhere-{number}"), &[]).await.is(404);
    }
    assert!(gate.metric("novatune_yarp_latency_seconds_count", "route=\"none\"").await >= 20.0);
    assert_eq!(gate.metric("tidegate_up", "").await, 1.0);
    let page = gate.metrics().await;
    assert!(!page.contains("key-1") && !page.contains("nowhere-1"), "a path is a label");
    assert!(page.lines().count() < 400, "{} lines", page.lines().count());
    let types: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let helps = page.lines().filter(|line| line.starts_with("# HELP ")).count();
    assert_eq!(types.len(), helps, "every metric says what it is");
}

#[tokio::test]
async fn every_request_has_one_access_line() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let client = gate.client();
    let whole = client.get(TRACK, &[("user-agent", "it/1")]).await;
    client.range(TRACK, "bytes=0-9").await.is(206);
    client.head(TRACK, &[]).await.is(200);
    client.get("/stream/none.mp3", &[]).await.is(404);
    client.get("/nowhere", &[]).await.is(404);
    client.get("/health", &[]).await.is(200);
    let lines = eventually("six lines", async || Some(gate.access_lines()).filter(|lines| lines.len() == 6)).await;
    let field = |line: usize, name: &str| lines[line][name].clone();
    let statuses: Vec<Value> = (0..6).map(|line| field(line, "status")).collect();
    assert_eq!(statuses, [200, 206, 200, 404, 404, 200].map(Value::from));
    assert_eq!((field(0, "method"), field(2, "method")), (json!("GET"), json!("HEAD")));
    assert_eq!((field(0, "sent"), field(1, "sent"), field(2, "sent")), (json!(1000), json!(10), json!(0)));
    assert_eq!(field(0, "route"), "stream");
    assert_eq!(field(0, "request_id"), whole.header("x-request-id"));
    assert!(!whole.header("x-request-id").is_empty());
    for line in &lines {
        assert!(line["duration_ms"].is_number(), "{line}");
    }
    let ids: BTreeSet<&str> = lines.iter().filter_map(|line| line["request_id"].as_str()).collect();
    assert_eq!(ids.len(), 6, "ids are unique");
}

#[tokio::test]
async fn the_access_log_can_be_text_or_off() {
    let origin = ScriptedOrigin::with_track("music").await;
    for (format, lines) in [("off", 0), ("text", 1)] {
        let mut config = config::objects(&origin.url(), "audio");
        config["Telemetry"]["AccessLog"]["Format"] = json!(format);
        let mut gate = Gate::start(&config).await;
        gate.client().get(TRACK, &[]).await.is(200);
        gate.stop().await;
        let found = gate.log().lines().filter(|line| line.contains("request_id=") && line.contains("200")).count();
        assert_eq!(found, lines, "{format}: {}", gate.log());
    }
}

#[tokio::test]
async fn an_error_names_its_request_in_body_header_and_log() {
    let origin = ScriptedOrigin::with_track("music").await;
    origin.always(Step::Silence(fault::End::Reset));
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let reply = gate.client().get(TRACK, &[]).await;
    let id = reply.problem(502)["request_id"].clone();
    assert_eq!(id, reply.header("x-request-id"));
    let line = async || gate.access_lines().into_iter().find(|line| line["request_id"] == id);
    assert_eq!(eventually("the line of this request", line).await["status"], 502);
}

#[tokio::test]
async fn health_is_public_short_and_true() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let health = gate.client().get("/health", &[]).await;
    let body: Value = serde_json::from_slice(&health.is(200).body).expect("health is JSON");
    assert!(body["status"].is_string(), "{body}");
    assert!(!health.text().contains("127.0.0.1"), "detail belongs to the admin side: {body}");
    for detail in ["uptime", "memoryUsage"] {
        assert!(body[detail].is_null(), "detail belongs to the admin side: {body}");
        let full = gate.admin().get("/health", &[]).await;
        let full: Value = serde_json::from_slice(&full.is(200).body).expect("health is JSON");
        assert!(!full[detail].is_null(), "{full}");
    }
}

#[tokio::test]
async fn every_refusal_of_the_process_itself_has_the_envelope() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    for client in [gate.client(), gate.admin()] {
        let reply = client.send(http::Method::POST, "/health", &[]).await;
        assert_eq!(reply.problem(405)["code"], "method_not_allowed");
        assert!(reply.header("allow").contains("GET"), "{:?}", reply.headers);
        let reply = client.get("/nowhere", &[]).await;
        assert_eq!(reply.problem(404)["request_id"], reply.header("x-request-id"));
    }
}

#[tokio::test]
async fn the_log_says_the_cause_that_the_client_is_not_told() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Policies"]["Authorization"]["nobody"] = json!({ "Require": [{ "Claim": "sub", "Equals": "nobody" }] });
    config["ReverseProxy"]["Routes"]["hidden"] = config::object_route("/hidden/{**key}", "main", "audio", "{**key}");
    config["ReverseProxy"]["Routes"]["hidden"]["AuthorizationPolicy"] = json!("nobody");
    config["ReverseProxy"]["Routes"]["hidden"]["HideExistence"] = json!(true);
    let gate = Gate::start(&config).await;
    let bearer = format!("Bearer {}", token::of("alice"));
    origin.always(fault::DENIED);
    let rows = [
        (TRACK, bearer.as_str(), 404, "not_found", "store_denied"),
        ("/hidden/track.mp3", &bearer, 404, "not_found", "policy"),
        (TRACK, "Bearer x.y.z", 401, "unauthorized", "malformed"),
        (TRACK, "", 401, "unauthorized", "no_token"),
    ];
    for (number, (path, bearer, status, code, cause)) in rows.into_iter().enumerate() {
        let headers: Vec<_> = Some(("authorization", bearer)).filter(|(_, it)| !it.is_empty()).into_iter().collect();
        gate.client().get(path, &headers).await.problem(status);
        let lines = eventually("the line", async || Some(gate.access_lines()).filter(|it| it.len() > number)).await;
        assert_eq!((&lines[number]["failure"], &lines[number]["cause"]), (&json!(code), &json!(cause)));
    }
}

#[tokio::test]
async fn the_ready_line_of_the_log_holds_plain_addresses() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let ready = async || gate.log_lines().into_iter().find(|line| line["message"] == "ready");
    let line = eventually("the ready line", ready).await;
    assert_eq!(line["listeners"], gate.address().to_string());
    assert!(line["admin"].as_str().is_some_and(|it| it.parse::<std::net::SocketAddr>().is_ok()), "{line}");
}

#[tokio::test]
async fn only_bodies_of_objects_count_as_streams_and_the_build_is_one() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    gate.client().get("/health", &[]).await.is(200);
    gate.client().get("/openapi.json", &[]).await.is(200);
    gate.client().get(TRACK, &[]).await.is(200);
    let count = async || {
        let count = gate.metric("novatune_stream_duration_seconds_count", "").await;
        Some(count).filter(|count| *count > 0.0)
    };
    assert_eq!(eventually("the stream is counted", count).await, 1.0);
    assert_eq!(gate.metric("tidegate_build_info", "version").await, 1.0);
}

#[tokio::test]
async fn the_operator_sees_a_drain_to_its_end() {
    let origin = ScriptedOrigin::with_track(pattern(30_000_000)).await;
    let mut gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    gate.admin().get("/readyz", &[]).await.is(200);
    let mut raw = gate.raw().await;
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    raw.head().await.expect("a header");
    gate.signal("TERM").await;
    let unready = async || Some(gate.admin().get("/readyz", &[]).await).filter(|reply| reply.status == 503);
    eventually("it is not ready", unready).await;
    gate.admin().get("/livez", &[]).await.is(200);
    assert_eq!(gate.metric("novatune_stream_active_total", "").await, 1.0);
    raw.reset();
    assert!(gate.ended().await.success());
}

#[tokio::test]
async fn a_missing_bucket_is_the_readiness_of_its_own_route() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["lost"] = config::object_route("/lost/{**key}", "main", "lost", "{**key}");
    let gate = Gate::start(&config).await;
    gate.admin().get("/readyz", &[]).await.is(200);
    origin.readiness(fault::NO_SUCH_BUCKET);
    origin.script([fault::NO_SUCH_BUCKET]);
    gate.client().get("/lost/x", &[]).await.problem(502);
    gate.client().get(TRACK, &[]).await.is(200);
    gate.admin().get("/readyz", &[]).await.is(503);
    origin.put("/lost/x", Object::new("found"));
    gate.client().get("/lost/x", &[]).await.is(200);
    gate.admin().get("/readyz", &[]).await.is(200);
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_known_before_the_first_request() {
    for (fault, words) in [
        (fault::NO_SUCH_BUCKET, "no such bucket"),
        (fault::WRONG_SIGNATURE, "the signature does not fit"),
        (fault::UNKNOWN_KEY, "does not know the access key"),
    ] {
        let origin = ScriptedOrigin::with_track("music").await;
        origin.readiness(fault);
        let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
        let reply = gate.admin().get("/readyz", &[]).await;
        let text = reply.is(503).text();
        assert!(text.contains("store `main`, bucket `audio`") && text.contains(words), "{text}");
        assert!(origin.seen().is_empty());
        let health = gate.client().get("/health", &[]).await.text();
        assert!(health.contains("unhealthy") && !health.contains("audio"), "{health}");
        origin.readiness(fault::NO_SUCH_KEY);
        let ready = async || Some(gate.admin().get("/readyz", &[]).await).filter(|reply| reply.status == 200);
        eventually("it is ready", ready).await;
    }
}

#[tokio::test]
async fn the_buckets_of_a_catalogue_are_asked_before_the_first_request() {
    let (origin, folder) = (ScriptedOrigin::start().await, TempFolder::new("catalogue"));
    let config = catalogue::tracks(&origin.url(), &catalogue::sqlite(&folder));
    let mut gate = Gate::start(&config).await;
    gate.admin().get("/readyz", &[]).await.is(200);
    for bucket in ["one", "two"] {
        let track = json!({ "id": bucket, "store": "main", "bucket": bucket, "key": "x" });
        let (path, admin) = ("/api/v1/admin/tracks", catalogue::admin());
        catalogue::send(&gate, http::Method::POST, path, &admin, Some(track)).await.is(201);
    }
    gate.stop().await;
    origin.readiness(fault::NO_SUCH_BUCKET);
    let gate = Gate::start(&config).await;
    let text = gate.admin().get("/readyz", &[]).await.is(503).text();
    assert!(text.contains("bucket `one`") && text.contains("bucket `two`"), "{text}");
}

#[tokio::test]
async fn the_admin_side_has_an_address_and_a_token_of_its_own() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    let gate = Gate::start_with(&config, &[("ADMIN_TOKEN", "the admin's own token")]).await;
    let admin = gate.admin();
    admin.get("/livez", &[]).await.is(200);
    admin.get("/readyz", &[]).await.is(200);
    admin.get("/metrics", &[]).await.is(401);
    admin.get("/metrics", &[("authorization", "Bearer wrong")]).await.is(401);
    let reply = admin.get("/metrics", &[("authorization", "Bearer the admin's own token")]).await;
    assert!(reply.is(200).header("content-type").starts_with("text/plain"));
    for path in ["/metrics", "/livez", "/readyz"] {
        gate.client().get(path, &[]).await.is(404);
    }
}

#[tokio::test]
async fn the_api_describes_itself() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let reply = gate.client().get("/openapi.json", &[]).await;
    assert!(reply.is(200).header("content-type").starts_with("application/json"));
    let document: Value = serde_json::from_slice(&reply.body).expect("it is JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    assert_eq!(document["info"]["title"].as_str().map(str::is_empty), Some(false));
    assert!(document["info"]["version"].is_string());
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.contains_key("/health"), "{:?}", paths.keys());
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("a path has operations") {
            let responses = operation["responses"].as_object();
            assert!(responses.is_some_and(|responses| !responses.is_empty()), "{method} {path} says no response");
        }
    }
    for reference in references(&document) {
        let pointer = reference.strip_prefix('#').expect("references stay in the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn nothing_is_written_that_the_configuration_does_not_ask_for() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let mut gate = Gate::start(&config::objects_both_ways(&origin.url(), "audio")).await;
    for path in [TRACK, "/cached/track.mp3", "/health", "/openapi.json", "/nowhere"] {
        gate.client().get(path, &[]).await;
    }
    gate.stop().await;
    let file = gate.config_file();
    let folder = std::fs::read_dir(file.parent().expect("a folder")).expect("it is readable").flatten();
    // It is also the folder that the process works in.
    assert_eq!(folder.map(|entry| entry.path()).collect::<Vec<_>>(), [file]);
}
