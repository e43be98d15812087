//! The API as a whole: its description and the page of it, one form of errors, cross-origin rules.

use http::Method;
use serde_json::{Value, json};

use crate::support::chromium::Chromium;
use crate::support::described::Described;
use crate::support::{Gate, config};

const PAGE: &str = "https://app.example";

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
             const until = async selector => {
               for (let tries = 0; tries < 100 && !document.querySelector(selector); tries++) {
                 await new Promise(done => setTimeout(done, 50));
               }
               const found = document.querySelector(selector);
               if (!found) throw selector + ' never came: ' + broken + document.querySelector('#swagger-ui')?.innerHTML;
               return found;
             };
             (await until('#operations-operations-health .opblock-summary-control')).click();
             (await until('.try-out__btn')).click();
             (await until('.execute')).click();
             await until('.live-responses-table .response-col_status');
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
