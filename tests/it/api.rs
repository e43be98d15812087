//! The API as a whole: its description and the page of it, one form of errors, cross-origin rules.

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::chromium::Chromium;
use crate::support::described::Described;
use crate::support::tools::TempFolder;
use crate::support::{Gate, config};

const PAGE: &str = "https://app.example";
const AXE: &str = include_str!("watch/vendor/axe.min.js");

/// The API open to pages of one origin.
fn open_to_a_page() -> Value {
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["Policies"]["Cors"]["page"] = json!({ "Origins": [PAGE], "Methods": ["GET", "POST", "DELETE"], "Headers": ["Authorization", "Content-Type"] });
    config["Api"]["CorsPolicy"] = json!("page");
    config
}

#[tokio::test]
async fn answers_are_as_described() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let client = gate.client();
    let described = Described::by(&client).await;
    for path in ["/health", "/openapi.json"] {
        described.checks("GET", path, &client.get(path, &[]).await);
    }
    let wrong = client.send(Method::DELETE, "/health", &[]).await;
    wrong.problem(405);
    described.checks("GET", "/health", &wrong);
    assert_eq!(described.document()["servers"][0]["url"], "/");
    assert_eq!(described.document()["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}

/// A request of the table below: method, path, who (`-`, `user`, `admin` or `host`), body and the status it has.
type Row = (&'static str, &'static str, &'static str, Value, u16);

/// What operators do, in an order in which it can be done.
fn operators_rows() -> Vec<Row> {
    let track =
        json!({ "id": "one", "store": "main", "bucket": "audio", "key": "one.mp3", "contentType": "audio/mpeg" });
    let other = json!({ "id": "one", "store": "main", "bucket": "audio", "key": "two.mp3" });
    let grant = json!({ "userId": "bob", "trackId": "one" });
    let none = Value::Null;
    vec![
        ("GET", "/health", "-", none.clone(), 200),
        ("GET", "/openapi.json", "-", none.clone(), 200),
        ("GET", "/docs/", "-", none.clone(), 200),
        ("GET", "/t/none/api/v1/tracks/one/stream", "-", none.clone(), 401),
        ("POST", "/api/v1/admin/tracks", "admin", track.clone(), 201),
        ("POST", "/api/v1/admin/tracks", "admin", track.clone(), 200),
        ("POST", "/api/v1/admin/tracks", "admin", other, 409),
        ("POST", "/api/v1/admin/tracks", "admin", json!({}), 400),
        (
            "POST",
            "/api/v1/admin/tracks",
            "admin",
            json!({ "id": "a", "store": "main", "bucket": "b", "key": "k" }),
            422,
        ),
        ("POST", "/api/v1/admin/tracks", "user", track, 403),
        ("POST", "/api/v1/admin/tracks", "-", none.clone(), 401),
        ("GET", "/api/v1/admin/tracks", "admin", none.clone(), 200),
        ("GET", "/api/v1/admin/tracks?limit=1", "admin", none.clone(), 200),
        ("GET", "/api/v1/admin/tracks?limit=0", "admin", none.clone(), 422),
        ("GET", "/api/v1/admin/tracks?cursor=%25", "admin", none.clone(), 400),
        ("GET", "/api/v1/admin/tracks/one", "admin", none.clone(), 200),
        ("GET", "/api/v1/admin/tracks/none", "admin", none.clone(), 404),
        ("POST", "/api/v1/admin/grants", "admin", grant.clone(), 201),
        ("POST", "/api/v1/admin/grants", "admin", grant, 200),
        ("POST", "/api/v1/admin/grants", "admin", json!({ "userId": "bob", "trackPrefix": "a" }), 201),
        ("POST", "/api/v1/admin/grants", "admin", json!({ "userId": "bob" }), 400),
        ("GET", "/api/v1/admin/grants?user_id=bob", "admin", none.clone(), 200),
        ("GET", "/api/v1/admin/grants?user_id=bob&limit=0", "admin", none.clone(), 422),
        ("DELETE", "/api/v1/admin/grants?user_id=bob&track_id=one", "admin", none.clone(), 204),
        ("DELETE", "/api/v1/admin/grants?user_id=bob&track_id=one", "admin", none, 404),
    ]
}

/// What users do then, until the track is deleted.
fn users_rows() -> Vec<Row> {
    let event = json!({ "action": "Pause", "positionMs": 42_000 });
    let none = Value::Null;
    vec![
        ("GET", "/api/v1/tracks/one/stream", "user", none.clone(), 200),
        ("GET", "/api/v1/tracks/none/stream", "user", none.clone(), 404),
        ("GET", "/api/v1/tracks/one/stream", "-", none.clone(), 401),
        ("GET", "/api/v1/tracks/one/stream-url", "user", none.clone(), 200),
        ("GET", "/api/v1/tracks/none/stream-url", "user", none.clone(), 404),
        ("GET", "/api/v1/tracks/one/stream-url", "-", none.clone(), 401),
        ("DELETE", "/api/v1/admin/stream-cache?user_id=bob&track_id=one", "admin", none.clone(), 204),
        ("DELETE", "/api/v1/admin/stream-cache", "admin", none.clone(), 400),
        ("DELETE", "/api/v1/admin/stream-cache?user_id=bob", "user", none.clone(), 403),
        ("POST", "/api/v1/tracks/one/position", "user", json!({ "positionMs": 90_000, "durationMs": 600_000 }), 204),
        ("POST", "/api/v1/tracks/one/position", "user", json!({}), 400),
        ("POST", "/api/v1/tracks/one/position", "user", json!({ "positionMs": -1 }), 422),
        ("POST", "/api/v1/tracks/one/position", "user", json!({ "positionMs": 1, "more": "x".repeat(5000) }), 413),
        ("GET", "/api/v1/tracks/one/position", "user", none.clone(), 200),
        ("GET", "/api/v1/tracks/two/position", "user", none.clone(), 200),
        ("GET", "/api/v1/tracks/one/position?kind=noise", "user", none.clone(), 400),
        ("GET", "/api/v1/progress", "user", none.clone(), 200),
        ("GET", "/api/v1/progress?limit=0", "user", none.clone(), 422),
        ("DELETE", "/api/v1/tracks/one/position", "user", none.clone(), 204),
        ("POST", "/api/v1/tracks/one/events", "user", event.clone(), 202),
        ("POST", "/api/v1/tracks/one/events", "user", json!(vec![event; 101]), 413),
        ("POST", "/api/v1/tracks/one/events", "user", json!({ "action": "Dance" }), 400),
        ("POST", "/api/v1/tracks/one/events", "-", none.clone(), 401),
        ("GET", "/api/v1/usage", "user", none.clone(), 200),
        ("GET", "/api/v1/usage?user_id=bob", "user", none.clone(), 403),
        ("GET", "/api/v1/usage?user_id=", "admin", none.clone(), 400),
        ("POST", "/api/v1/logout", "user", none.clone(), 204),
        ("POST", "/api/v1/logout", "-", none.clone(), 401),
        ("DELETE", "/api/v1/admin/tracks/one", "admin", none.clone(), 204),
        ("DELETE", "/api/v1/admin/tracks/none", "admin", none.clone(), 404),
        ("GET", "/api/v1/tracks/one/stream", "user", none.clone(), 410),
        ("GET", "/api/v1/tracks/one/stream-url", "user", none, 410),
    ]
}

/// As above, of sharing.
fn share_rows() -> Vec<Row> {
    let chunk = |number: u32| json!({ "data": "AAAAAAAAAAA=", "sampleRate": 44_100, "channels": 2, "timestamp": 1, "sequenceNumber": number });
    let song = json!({ "title": "A", "artist": "B", "lyrics": null, "hasSyncedLyrics": false, "elapsedSeconds": 1.5,
        "totalSeconds": 2.5, "thumbnailData": "/9j/4AAB", "timestamp": 1 });
    let none = Value::Null;
    vec![
        ("POST", "/api/share/start", "-", json!({}), 401),
        ("POST", "/api/share/start", "host", json!({ "sessionId": "12" }), 400),
        ("POST", "/api/share/start", "host", json!({ "sessionId": "123456" }), 200),
        ("POST", "/api/share/start", "host", json!({ "sessionId": "123456" }), 409),
        ("GET", "/api/share/123456/status", "host", none.clone(), 200),
        ("GET", "/api/share/654321/status", "host", none.clone(), 404),
        ("GET", "/api/share/123456/metadata", "host", none.clone(), 404),
        ("POST", "/api/share/123456/metadata", "host", song, 200),
        ("POST", "/api/share/123456/metadata", "host", json!(7), 400),
        ("GET", "/api/share/123456/metadata", "host", none.clone(), 200),
        ("GET", "/api/v1/share/123456/thumb", "host", none.clone(), 200),
        ("GET", "/api/share/123456/audio", "host", none.clone(), 204),
        ("POST", "/api/share/123456/audio", "host", chunk(1), 200),
        ("POST", "/api/share/123456/audio", "host", chunk(2), 200),
        ("POST", "/api/share/123456/audio", "host", json!({}), 400),
        ("GET", "/api/share/123456/audio?since=1", "host", none.clone(), 200),
        ("POST", "/api/v1/share/123456/tickets", "host", json!({ "count": 2 }), 200),
        ("POST", "/api/v1/share/123456/tickets", "host", json!({ "count": 0 }), 422),
        ("GET", "/api/v1/share/123456/ws", "host", none.clone(), 400),
        ("GET", "/api/v1/share/123456/events", "-", none.clone(), 401),
        ("GET", "/api/v1/share/123456/stream.ogg", "-", none.clone(), 401),
        ("POST", "/api/share/123456/stop", "host", none.clone(), 200),
        ("GET", "/api/share/123456/status", "host", none.clone(), 200),
        ("GET", "/api/share/123456/audio", "host", none, 404),
    ]
}

#[tokio::test]
async fn every_operation_answers_as_it_is_described() {
    let folder = TempFolder::new("described");
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    std::fs::write(folder.path().join("objects/audio/one.mp3"), "music").expect("a file");
    let mut config = tracks("http://127.0.0.1:1", &sqlite(&folder));
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["Auth"]["PathToken"] = json!({ "Ttl": "1h" });
    config["Events"] =
        json!({ "File": folder.path().join("events.jsonl"), "Outbox": { "Path": folder.path().join("outbox") } });
    config["Share"]["Token"] = json!("env:BEARER_TOKEN");
    config["Policies"]["RateLimiter"]["all"] = json!({ "FixedWindow": { "PermitLimit": 100, "Window": "1h" },
        "Concurrency": { "PermitLimit": 9 }, "Bandwidth": { "BytesPerSecond": "1MiB" }, "EgressQuota": { "Bytes": "1GiB" } });
    config["ReverseProxy"]["Routes"]["track"]["RateLimiterPolicy"] = json!("all");
    let gate = Gate::start_with(&config, &[("BEARER_TOKEN", "the token of sharing")]).await;
    let described = Described::by(&gate.client()).await;
    let mut left = described.operations_without("share");
    for (method, path, who, body, status) in operators_rows().into_iter().chain(users_rows()).chain(share_rows()) {
        let who = match who {
            "user" => bearer("alice"),
            "admin" => admin(),
            "host" => "Bearer the token of sharing".to_owned(),
            _ => String::new(),
        };
        let body = Some(body).filter(|body| !body.is_null());
        let reply = send(&gate, method.parse().expect("a method"), path, &who, body).await;
        assert_eq!(reply.status.as_u16(), status, "{method} {path}: {}", reply.text());
        described.checks(method, path, &reply);
        left.remove(&described.operation(method, path));
        if method == "GET" && reply.status == 200 && !reply.header("etag").is_empty() {
            for (name, value, status) in [("if-none-match", reply.header("etag"), 304), ("range", "bytes=0-1", 206)] {
                let reply = gate.client().get(path, &[("authorization", &who), (name, value)]).await;
                // Ranges are for tracks.
                if status == 304 || path.ends_with("/stream") {
                    described.checks(method, path, reply.is(status));
                }
            }
        }
    }
    assert!(left.is_empty(), "no answer of these was looked at: {left:#?}");
}

#[tokio::test]
#[should_panic(expected = "status")]
async fn an_answer_that_is_not_as_described_is_found() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let client = gate.client();
    let mut reply = client.get("/health", &[]).await;
    reply.body = br#"{"status": 1}"#.to_vec().into();
    Described::by(&client).await.checks("GET", "/health", &reply);
}

#[tokio::test]
async fn pages_of_the_named_origin_may_use_the_api() {
    let gate = Gate::start(&open_to_a_page()).await;
    let client = gate.client();
    let ask = |origin| {
        [
            ("origin", origin),
            ("access-control-request-method", "DELETE"),
            ("access-control-request-headers", "authorization"),
        ]
    };
    let leave = client.send(Method::OPTIONS, "/api/v1/anything", &ask(PAGE)).await;
    assert_eq!(leave.is(204).header("access-control-allow-origin"), PAGE);
    assert_eq!(leave.header("access-control-allow-methods"), "GET, POST, DELETE");
    let none = client.send(Method::OPTIONS, "/api/v1/anything", &ask("https://evil.example")).await;
    assert_eq!(none.is(204).header("access-control-allow-origin"), "");
    // An error without leave would be opaque to the page.
    for (path, status) in [("/health", 503), ("/api/v1/nothing", 404), ("/openapi.json", 200), ("/docs/none.js", 404)] {
        let answer = client.get(path, &[("origin", PAGE)]).await;
        assert_eq!(answer.is(status).header("access-control-allow-origin"), PAGE, "{path}");
        assert_eq!(answer.header("vary"), "Origin", "{path}");
    }
    let large = client.request(Method::POST, "/api/v1/nothing").header("origin", PAGE).body(vec![0; 13 << 20]);
    let refused = large.send().await.expect("an answer");
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["access-control-allow-origin"].as_bytes()),
        (413, PAGE.as_bytes())
    );
}

#[tokio::test]
async fn without_a_policy_no_page_is_told_anything() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let answer = gate.client().get("/health", &[("origin", PAGE)]).await;
    assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), ("", ""));
}

#[tokio::test]
async fn the_modules_have_what_no_route_takes() {
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["ReverseProxy"]["Routes"]["tracks"] =
        config::object_route("/api/v1/tracks/{id}/stream", "main", "audio", "{id}");
    config["ReverseProxy"]["Routes"]["all"] = config::object_route("/docs/{**rest}", "main", "audio", "{rest}");
    let gate = Gate::start(&config).await;
    let client = gate.client();
    client.get("/api/v1/tracks/7/stream", &[]).await.problem(503);
    for path in ["/api/v1/tracks/7/other", "/listen/123456", "/t/abc", "/docs/none"] {
        assert_eq!(
            client.get(path, &[]).await.problem(404)["detail"],
            "nothing is served under this path; see /openapi.json"
        );
    }
    client.get("/docs/", &[]).await.is(200);
}

/// Finds what of the page has not the colours of all pages, and texts that are hard to read (axe).
const COLOURS: &str = r##"
    const shown = selector => until(selector, () => document.querySelector(selector));
    const operation = await shown("#operations-operations-health");
    if (!operation.matches(".is-open")) (await shown("#operations-operations-health .opblock-summary-control")).click();
    if (!document.querySelector(".execute")) (await shown(".try-out__btn")).click();
    await shown(".execute");
    // Colours change within a moment.
    await until("calm", () => document.getAnimations().length === 0);
    const token = name => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = `var(${name})`;
      const colour = getComputedStyle(probe).color;
      probe.remove();
      return colour;
    };
    const is = (selector, property, name) =>
      getComputedStyle(document.querySelector(selector))[property] === token(name) ? [] : [`${selector}: ${property} is not ${name}`];
    const wrong = [
      ...is("body", "backgroundColor", "--surface"), ...is("#operations-operations-health", "backgroundColor", "--raised"),
      ...is(".execute", "backgroundColor", "--accent"), ...is(".info .title", "color", "--text"), ...is(".info a", "color", "--accent"),
    ];
    const { violations } = await axe.run(document, { runOnly: { type: "rule", values: ["color-contrast"] } });
    const faint = violations.flatMap(({ nodes }) => nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`));
    return { wrong, faint, surface: token("--surface"), isDark: document.documentElement.matches(".dark-mode") };
"##;

#[tokio::test]
async fn the_page_of_the_api_has_the_colours_of_all_pages_light_and_dark() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let Some(browser) = Chromium::start().await else { return };
    browser.open(&format!("{}/docs/", gate.url())).await;
    let mut surfaces = Vec::new();
    for scheme in ["dark", "light"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        // While the page is open, too.
        browser.command("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        let seen = browser.run(&format!("if (!window.axe) {{ {AXE} }} {COLOURS}")).await;
        assert_eq!((&seen["wrong"], &seen["faint"]), (&json!([]), &json!([])), "{scheme}: {seen:#}");
        assert_eq!(seen["isDark"], scheme == "dark");
        surfaces.push(seen["surface"].clone());
    }
    assert_ne!(surfaces[0], surfaces[1]);
    browser.close().await;
}

#[tokio::test]
async fn the_page_of_the_api_shows_it_and_breaks_none_of_its_rules() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let client = gate.client();
    assert_eq!(client.get("/docs", &[]).await.is(308).header("location"), "/docs/");
    let page = client.get("/docs/", &[]).await;
    assert!(page.is(200).header("content-security-policy").starts_with("default-src 'none'"));
    client.get("/docs/nothing.js", &[]).await.problem(404);
    let Some(browser) = Chromium::start().await else { return };
    browser.open(&format!("{}/docs/", gate.url())).await;
    let seen = browser
        .run(
            "const broken = [];
             const note = reports => broken.push(...reports.map(({ body }) => body.effectiveDirective + ' ' + body.blockedURL));
             const observer = new ReportingObserver(note, { types: ['csp-violation'], buffered: true });
             observer.observe();
             const shown = selector => until(selector, () => document.querySelector(selector));
             (await shown('#operations-operations-health .opblock-summary-control')).click();
             (await shown('.try-out__btn')).click();
             (await shown('.execute')).click();
             await shown('.live-responses-table .response-col_status');
             note(observer.takeRecords());
             const paths = [...document.querySelectorAll('.opblock-summary-path')].map(it => it.textContent.replace(/\\u200b/g, ''));
             const rules = [...broken];
             document.head.append(Object.assign(document.createElement('style'), { textContent: 'a { color: red }' }));
             for (let tries = 0; tries < 100 && broken.length === rules.length; tries++) {
               await new Promise(done => setTimeout(done, 50));
               note(observer.takeRecords());
             }
             return { broken: rules, noticed: broken.length > rules.length, paths, title: document.querySelector('.title').textContent };",
        )
        .await;
    browser.close().await;
    assert_eq!(seen["broken"], json!([]), "{seen:#}");
    assert_eq!(seen["noticed"], true, "a broken rule would not have been noticed");
    assert!(seen["title"].as_str().is_some_and(|title| title.contains("Tidegate")), "{seen:#}");
    assert!(seen["paths"].as_array().is_some_and(|paths| paths.contains(&json!("/health"))), "{seen:#}");
}
