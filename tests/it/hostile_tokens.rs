//! Genuine tokens whose claims are made to do harm, and genuine tokens that a foreign page sends along.

use std::sync::Arc;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::catalogue::{admin, bearer, send, sqlite};
use crate::limits::{TRACK, limited};
use crate::plain::upgrade::echo;
use crate::streaming_urls::{start, urls};
use crate::support::fault::Step;
use crate::support::origin::pattern;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, ScriptedOrigin, config, eventually, token};

const STREAM: &str = "/api/v1/tracks/track/stream";

/// An authorisation service that allows `/t1` alone, and what it was asked.
pub async fn service() -> (String, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let service = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let path = request.uri().path().to_owned();
        let status = if path == "/t1" { StatusCode::OK } else { StatusCode::FORBIDDEN };
        seen.lock().push(path);
        async move { status }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, service).await });
    (url, asked)
}

#[tokio::test]
async fn a_subject_that_cannot_be_an_id_is_no_user_on_any_route() {
    let (origin, (url, asked)) = (ScriptedOrigin::with_track("music").await, service().await);
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Policies"]["Authorization"]["asked"] =
        json!({ "Http": { "Url": format!("{url}/access/{{userId}}/{{trackId}}") } });
    config["ReverseProxy"]["Routes"]["stream"] = json!({
        "Match": { "Path": "/stream/{id}" }, "AuthorizationPolicy": "asked",
        "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "track.mp3" } }],
    });
    let gate = Gate::start(&config).await;
    let long = "x".repeat(257);
    for subject in ["..", ".", "bad\0user", "bad\nuser", long.as_str()] {
        let reply = gate.client().get("/stream/t1", &[("authorization", &bearer(subject))]).await;
        assert_eq!(reply.problem(401)["detail"], "the token's subject cannot be a user's id", "{subject:?}");
    }
    assert!(asked.lock().is_empty(), "the service was asked: {:?}", asked.lock());
    let lines = eventually("the lines", async || Some(gate.access_lines()).filter(|lines| lines.len() == 5)).await;
    assert!(lines.iter().all(|line| line["cause"] == "unusable_subject"), "{lines:?}");
    // Others are asked about, by a path that nothing in the id can change.
    gate.client().get("/stream/t1", &[("authorization", &bearer("../a/%2e%2e"))]).await.problem(403);
    assert_eq!(*asked.lock(), ["/access/%2E%2E%2Fa%2F%252e%252e/t1"]);
}

#[tokio::test]
async fn no_claim_keeps_the_usage_of_others_from_being_saved() {
    let Some(database) = Postgres::database().await else { return };
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let policy = json!({ "EgressQuota": { "Bytes": "1GiB" }, "PartitionBy": "Claim:org" });
    let mut config = limited(&origin, policy);
    config["Database"]["Url"] = json!(database);
    let gate = Gate::start(&config).await;
    for org in ["bad\0org", "good"] {
        let mut claims = token::claims("alice");
        claims["org"] = json!(org);
        let bearer = format!("Bearer {}", token::with(&claims));
        gate.client().get(TRACK, &[("authorization", &bearer)]).await.is(200);
    }
    let bad = gate.client().get(TRACK, &[("authorization", &bearer("bad\0user"))]).await;
    bad.problem(401);
    let pool = sqlx::PgPool::connect(&database).await.expect("PostgreSQL answers");
    eventually("the usage of both is saved", async || {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT subject, bytes FROM egress").fetch_all(&pool).await.expect("the table is there");
        let good = rows.iter().any(|(subject, bytes)| subject == "c:good" && *bytes == 1000);
        (good && rows.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_token_that_the_database_cannot_take_keeps_no_deleted_grant_alive() {
    let Some(database) = Postgres::database().await else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Database"]["Url"] = json!(database);
    config["Policies"]["Authorization"]["granted"] = json!({ "Grants": true });
    config["ReverseProxy"]["Routes"]["stream"] = json!({
        "Match": { "Path": "/stream/{id}" }, "AuthorizationPolicy": "granted",
        "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "track.mp3" } }],
    });
    let gate = Gate::start(&config).await;
    let grant = json!({ "userId": "bob", "trackId": "one" });
    send(&gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(grant)).await.is(201);
    let asks = async || gate.client().get("/stream/one", &[("authorization", &bearer("bob"))]).await.status;
    assert_eq!(asks().await, 200);
    // As another node would do it.
    let pool = sqlx::PgPool::connect(&database).await.expect("PostgreSQL answers");
    sqlx::query("DELETE FROM track_grants").execute(&pool).await.expect("the table is there");
    eventually("the grant is gone", async || {
        let bad = gate.client().get("/stream/one", &[("authorization", &bearer("bad\0user"))]).await.status;
        assert_eq!(bad, 401);
        (asks().await == 403).then_some(())
    })
    .await;
}

type Headers<'a> = &'a [(&'a str, &'a str)];

/// Streaming URLs and a plain route, with a token in a cookie.
async fn with_cookies(origin: &ScriptedOrigin, folder: &TempFolder, cors: &Value) -> Gate {
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Database"]["Url"] = json!(sqlite(folder));
    config["Policies"]["Cors"]["page"] = cors.clone();
    config["Api"]["CorsPolicy"] = json!("page");
    let mut plain = config::plain_route("/plain/{**rest}", "back");
    plain["AuthorizationPolicy"] = json!("Default");
    config["ReverseProxy"]["Routes"]["plain"] = plain;
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    start(&config).await
}

#[tokio::test]
async fn a_foreign_page_does_nothing_in_the_name_of_a_visitors_cookie() {
    let (origin, folder) = (ScriptedOrigin::start().await, TempFolder::new("cookies"));
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    let cors = json!({ "Origins": ["https://app.example"], "AllowCredentials": true });
    let gate = with_cookies(&origin, &folder, &cors).await;
    let (cookie, header) = (format!("session={}", token::of("alice")), bearer("alice"));
    let own = gate.url();
    let (cookie, by_header) = (("cookie", cookie.as_str()), ("authorization", header.as_str()));
    let table: [(Headers<'_>, bool); 9] = [
        (&[cookie, ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], false),
        (&[cookie, ("sec-fetch-site", "same-site"), ("origin", "https://evil.example")], false),
        (&[cookie, ("sec-fetch-site", "cross-site")], false),
        (&[cookie, ("origin", "https://evil.example")], false),
        (&[cookie, ("origin", "null")], false),
        (&[cookie, ("origin", &own)], true),
        (&[cookie, ("sec-fetch-site", "same-origin"), ("origin", "https://behind.a.proxy")], true),
        (&[cookie], true),
        (&[by_header, ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], true),
    ];
    for (headers, is_taken) in table {
        let (logout, post) = if is_taken { (204, 200) } else { (401, 401) };
        let reply = gate.client().send(Method::POST, "/api/v1/logout", headers).await;
        reply.is(logout);
        gate.client().send(Method::POST, "/plain/x", headers).await.is(post);
        gate.client().get("/plain/x", headers).await.is(200);
    }
    // The page that the operator lets in with credentials: by the API's rules, not by those of a route that has none.
    let page = [cookie, ("sec-fetch-site", "cross-site"), ("origin", "https://app.example")];
    gate.client().send(Method::POST, "/api/v1/logout", &page).await.is(204);
    gate.client().send(Method::POST, "/plain/x", &page).await.is(401);
    let other = with_cookies(&origin, &folder, &json!({ "Origins": ["https://app.example"] })).await;
    other.client().send(Method::POST, "/api/v1/logout", &page).await.is(401);
}

#[tokio::test]
async fn a_page_that_the_operator_names_acts_by_a_visitors_cookie() {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Server"]["PublicUrl"] = json!("https://media.example");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    for (name, may_act) in [("acts", true), ("reads", false)] {
        config["Policies"]["Cors"][name] = json!({ "Origins": ["https://app.example"], "AllowCredentials": may_act });
        let mut route = config::plain_route(&format!("/{name}/{{**rest}}"), "back");
        route["AuthorizationPolicy"] = json!("Default");
        route["CorsPolicy"] = json!(name);
        config["ReverseProxy"]["Routes"][name] = route;
    }
    let gate = Gate::start(&config).await;
    let cookie = format!("session={}", token::of("alice"));
    let table = [
        ("/acts/x", ("origin", "https://media.example"), 200),
        ("/acts/x", ("origin", "https://app.example"), 200),
        ("/acts/x", ("sec-fetch-site", "none"), 200),
        ("/acts/x", ("origin", "https://evil.example"), 401),
        ("/acts/x", ("sec-fetch-site", "cross-site"), 401),
        ("/reads/x", ("origin", "https://app.example"), 401),
    ];
    for (path, header, status) in table {
        let reply = gate.client().send(Method::POST, path, &[("cookie", &cookie), header]).await;
        assert_eq!(reply.status, status, "{path} {header:?}");
        let reason = "the token came in a cookie, from a page of another site";
        assert_eq!(reply.header("www-authenticate").contains(reason), status == 401, "{header:?}");
    }
    let lines = eventually("the lines", async || Some(gate.access_lines()).filter(|lines| lines.len() == 6)).await;
    for (line, (.., status)) in lines.iter().zip(table) {
        assert_eq!(line["cause"] == "cross_site", status == 401, "{line}");
    }
}

#[tokio::test]
async fn a_foreign_page_opens_no_websocket_in_the_name_of_a_visitors_cookie() {
    let mut config = config::private_objects("http://127.0.0.1:9", "audio");
    let mut plain = config::plain_route("/plain/{**rest}", "back");
    plain["AuthorizationPolicy"] = json!("Default");
    config["ReverseProxy"]["Routes"] = json!({ "plain": plain });
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[format!("http://{}", echo().await)]);
    let gate = Gate::start(&config).await;
    for (origin, is_opened) in [("https://evil.example".to_owned(), false), (gate.url(), true)] {
        let url = format!("ws://{}/plain/echo", gate.address());
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in [("cookie", format!("session={}", token::of("alice"))), ("origin", origin.clone())] {
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        assert_eq!(tokio_tungstenite::connect_async(request).await.is_ok(), is_opened, "{origin}");
    }
}

#[tokio::test]
async fn a_token_in_a_path_is_masked_in_the_log_wherever_it_stands() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    let mut all = config::object_route("/x/{**key}", "main", "audio", "{**key}");
    all["AuthorizationPolicy"] = json!("Anonymous");
    config["ReverseProxy"]["Routes"]["all"] = all;
    let gate = start(&config).await;
    let path = crate::streaming_urls::url(&gate, "track", "alice").await;
    let token = path.split('/').nth(2).expect("a token").to_owned();
    let places = [
        format!("//t/{token}{STREAM}"),
        format!("/T/{token}{STREAM}"),
        format!("/t/x/t/{token}{STREAM}"),
        format!("/x/t/{token}{STREAM}"),
        format!("/x/{token}.mp3"),
        format!("/x%2Ft%2F{token}%2Fstream"),
        format!("/%74/{token}/x"),
        format!("/{token}"),
    ];
    for place in &places {
        gate.client().get(place, &[]).await;
    }
    eventually("the lines", async || (gate.access_lines().len() > places.len()).then_some(())).await;
    assert!(!gate.log().contains(&token), "the token is in the log:\n{}", gate.log());
}
