//! The operator's log while Redis, the database or the authorisation service fails: their own words, once for each change,
//! and no secret.

use http::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::task::block_in_place;

use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::service::free_port;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, Redis, ScriptedOrigin, config, eventually};

/// The warnings and errors of the log whose message or `error` has all of `words`.
fn warnings(gate: &Gate, words: &[&str]) -> Vec<Value> {
    let is_told = |line: &Value| {
        let text = ["message", "error"].map(|name| line[name].as_str().unwrap_or_default()).join(" ");
        (line["level"] == "WARN" || line["level"] == "ERROR") && words.iter().all(|word| text.contains(word))
    };
    gate.log_lines().into_iter().filter(is_told).collect()
}

async fn is_told(gate: &Gate, words: &[&str]) {
    eventually(&format!("the log says {words:?}"), async || (!warnings(gate, words).is_empty()).then_some(())).await;
}

async fn is_said(gate: &Gate, words: &str) {
    eventually(words, async || gate.log().contains(words).then_some(())).await;
}

/// Objects for everybody with a token, counted in Redis by the environment's `REDIS`.
fn counted(origin: &ScriptedOrigin) -> Value {
    let mut config = config::private_objects(&origin.url(), "audio");
    config["State"] = json!({ "Url": "env:REDIS" });
    config["Policies"]["RateLimiter"] =
        json!({ "streaming": { "FixedWindow": { "PermitLimit": 100_000, "Window": "1d" } } });
    config["ReverseProxy"]["Routes"]["stream"]["RateLimiterPolicy"] = json!("streaming");
    config
}

async fn plays(gate: &Gate) {
    gate.client().get("/stream/track.mp3", &[("authorization", &bearer("bob"))]).await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_is_gone_is_told_once_with_the_systems_words() {
    let Some(mut redis) = Redis::start() else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start_with(&counted(&origin), &[("REDIS", &redis.url())]).await;
    block_in_place(|| redis.stop());
    is_told(&gate, &["Redis (State.Url) cannot be used", "Connection refused"]).await;
    plays(&gate).await;
    is_told(&gate, &["limits are not shared"]).await;
    block_in_place(|| redis.restart());
    is_said(&gate, "Redis (State.Url) can be used again").await;
    eventually("limits are shared again", async || {
        plays(&gate).await;
        gate.log().contains("limits are shared again").then_some(())
    })
    .await;
    assert_eq!(warnings(&gate, &["limits are not shared"]).len(), 1, "one line where it begins");
    assert_eq!(gate.log().matches("limits are shared again").count(), 1, "and one where it ends");
    // In between the words may change once: first that the connection was closed, then that none is made.
    let told = warnings(&gate, &["Redis (State.Url) cannot be used"]).len();
    assert!(told <= 3, "{told} lines for one outage:\n{}", gate.log());
}

#[tokio::test]
async fn redis_that_was_never_there_is_told_with_the_systems_words() {
    let origin = ScriptedOrigin::with_track("music").await;
    let url = format!("redis://:word-of-the-operator@127.0.0.1:{}", free_port());
    let gate = Gate::start_with(&counted(&origin), &[("REDIS", &url)]).await;
    is_told(&gate, &["going on without it", "Connection refused"]).await;
    plays(&gate).await;
    assert!(!gate.log().contains("word-of-the-operator"));
}

#[tokio::test]
async fn redis_that_wants_another_password_is_told_with_its_own_words() {
    let Some(redis) = Redis::start() else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    redis.ask("CONFIG SET requirepass the-right-word");
    let wrong = format!("redis://:the-wrong-word@127.0.0.1:{}", redis.port());
    for (url, words) in [(redis.url(), "NOAUTH"), (wrong, "WRONGPASS")] {
        let gate = Gate::start_with(&counted(&origin), &[("REDIS", &url)]).await;
        is_told(&gate, &["Redis (State.Url) cannot be used", words]).await;
        plays(&gate).await;
        let log = gate.log();
        assert!(!log.contains("the-wrong-word") && !log.contains("the-right-word"), "{log}");
    }
}

#[tokio::test]
async fn redis_that_refuses_to_write_is_told_with_its_own_words() {
    for (command, words) in
        [("CONFIG SET maxmemory 1", "OOM command not allowed"), ("REPLICAOF 127.0.0.1 1", "READONLY")]
    {
        let Some(redis) = Redis::start() else { return };
        let origin = ScriptedOrigin::with_track("music").await;
        let gate = Gate::start_with(&counted(&origin), &[("REDIS", &redis.url())]).await;
        plays(&gate).await;
        redis.ask(command);
        for _ in 0..50 {
            plays(&gate).await;
        }
        is_told(&gate, &["Redis (State.Url) refuses commands", words]).await;
        is_told(&gate, &["limits are not shared", words]).await;
        let told = warnings(&gate, &[words]).len();
        assert!(told <= 4, "{told} lines of one trouble:\n{}", gate.log());
    }
}

/// The catalogue in `postgres`, with one track.
async fn catalogue(postgres: &Postgres, origin: &ScriptedOrigin) -> Gate {
    let gate = Gate::start(&tracks(&origin.url(), &postgres.url())).await;
    let track = json!({ "id": "one", "store": "main", "bucket": "audio", "key": "track.mp3" });
    send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    gate
}

/// On one connection: the last statement may let no other in.
async fn run(postgres: &Postgres, statements: &[&'static str]) {
    let mut connection = sqlx::PgConnection::connect(&postgres.url()).await.expect("PostgreSQL answers");
    for statement in statements {
        sqlx::query(*statement).execute(&mut connection).await.expect(statement);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_told_once_with_the_systems_words() {
    let Some(mut postgres) = block_in_place(Postgres::start) else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = catalogue(&postgres, &origin).await;
    block_in_place(|| postgres.stop());
    is_told(&gate, &["the database (Database.Url) cannot be used", "Connection refused"]).await;
    block_in_place(|| postgres.restart());
    is_said(&gate, "the database (Database.Url) can be used again").await;
    let told = warnings(&gate, &["the database (Database.Url) cannot be used"]).len();
    assert!(told <= 3, "{told} lines for one outage:\n{}", gate.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_refuses_is_told_with_its_own_words() {
    let Some(postgres) = block_in_place(Postgres::start) else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = catalogue(&postgres, &origin).await;
    run(&postgres, &["DROP TABLE tracks CASCADE"]).await;
    let new = gate.client().get("/api/v1/tracks/new/stream", &[("authorization", &bearer("bob"))]).await;
    assert_eq!(new.problem(503)["code"], "catalog_unavailable");
    is_told(&gate, &["relation \"tracks\" does not exist"]).await;
    let out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    run(&postgres, &["ALTER ROLE tidegate NOLOGIN", out]).await;
    is_told(&gate, &["the database (Database.Url) cannot be used", "not permitted to log in"]).await;
}

#[tokio::test]
async fn a_database_that_was_never_there_is_told_with_the_systems_words() {
    let url = format!("postgres://tidegate:word-of-the-operator@127.0.0.1:{}/tidegate", free_port());
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start_with(&tracks(&origin.url(), "env:DATABASE"), &[("DATABASE", &url)]).await;
    is_told(&gate, &["the database (Database.Url)", "going on without it"]).await;
    is_told(&gate, &["the database (Database.Url) cannot be used", "Connection refused"]).await;
    assert!(!gate.log().contains("word-of-the-operator"));
}

/// Objects for those whom the service at `url` allows.
async fn asking(origin: &ScriptedOrigin, url: &str) -> Gate {
    let mut config = config::private_objects(&origin.url(), "audio");
    let service = json!({ "Url": format!("{url}/access/{{userId}}/{{trackId}}?key=word-of-the-operator"),
        "Timeout": "300ms", "CacheFor": "0s", "ForwardToken": true });
    config["Policies"]["Authorization"]["asked"] = json!({ "Http": service });
    config["ReverseProxy"]["Routes"]["stream"] = json!({
        "Match": { "Path": "/stream/{id}" }, "AuthorizationPolicy": "asked",
        "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "track.mp3" } }],
    });
    Gate::start(&config).await
}

/// A service at a new address that answers every request with this status; 0: never.
async fn service(status: u16) -> String {
    let answer = axum::Router::new().fallback(move || async move {
        if status == 0 {
            std::future::pending::<()>().await;
        }
        http::StatusCode::from_u16(status).expect("a status")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, answer).await });
    url
}

#[tokio::test]
async fn an_authorisation_service_that_fails_is_told_with_its_status_or_the_systems_words() {
    let origin = ScriptedOrigin::with_track("music").await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for (url, words) in [
        (service(500).await, "status 500"),
        (service(302).await, "status 302"),
        (service(0).await, "timed out"),
        (nobody, "Connection refused"),
    ] {
        let gate = asking(&origin, &url).await;
        for number in 0..5 {
            let reply = gate.client().get(&format!("/stream/{number}"), &[("authorization", &bearer("bob"))]).await;
            assert_eq!(reply.problem(503)["code"], "access_unavailable");
        }
        is_told(&gate, &["the authorisation service", words]).await;
        assert_eq!(warnings(&gate, &["the authorisation service"]).len(), 1, "{}", gate.log());
        let (log, token) = (gate.log(), bearer("bob"));
        let token = token.trim_start_matches("Bearer ");
        assert!(!log.contains("word-of-the-operator") && !log.contains(token) && !log.contains(&url), "{log}");
    }
}

#[tokio::test]
async fn an_authorisation_service_that_answers_again_is_told() {
    let origin = ScriptedOrigin::with_track("music").await;
    let port = free_port();
    let gate = asking(&origin, &format!("http://127.0.0.1:{port}")).await;
    let ask = async || gate.client().get("/stream/one", &[("authorization", &bearer("bob"))]).await.status;
    assert_eq!(ask().await, 503);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    let answer = axum::Router::new().fallback(|| async { "yes" });
    tokio::spawn(async move { axum::serve(listener, answer).await });
    eventually("the log says so", async || {
        assert_eq!(ask().await, 200);
        gate.log().contains("the authorisation service answers again").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_server_of_a_store_that_only_the_catalogue_names_is_probed() {
    let folder = TempFolder::new("catalogue");
    let config = tracks(&format!("http://127.0.0.1:{}", free_port()), &sqlite(&folder));
    let track = json!({ "id": "one", "store": "main", "bucket": "audio", "key": "track.mp3" });
    let gate = Gate::start(&config).await;
    send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    drop(gate);
    let gate = Gate::start(&config).await;
    is_told(&gate, &["destination `main` of cluster `main`", "fails its health check"]).await;
}
