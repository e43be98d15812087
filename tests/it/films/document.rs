//! A client written from the document alone: its paths, bodies, errors, events, tables and environment.

use std::process::Stdio;

use http::Method;
use primitives::clock::Clock;
use serde_json::{Value, json};
use sqlx::{PgPool, SqlitePool};

use super::{UserService, Viewer, embedded, films, json_of, put_film};
use crate::support::curl::{self, Version};
use crate::support::described::Described;
use crate::support::kafka::{OwnKafka, Topic};
use crate::support::service::free_port;
use crate::support::tools::{self, TempFolder, json_lines};
use crate::support::{Gate, Minio, Postgres, Redis, config, eventually, token};

const USER: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
/// The configuration that is shipped for films.
const SHIPPED: &str = include_str!("../../../conf/vod.yaml");
const MOVIE: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

/// Puts a film that ffmpeg made into the bucket: `index.m3u8`, `index.mpd` and `chunk_*.ts`, as the document lays it out.
async fn put_real_film(minio: &Minio, movie: &str) -> Option<()> {
    let ffmpeg = tools::find("ffmpeg")?;
    let folder = TempFolder::new("film");
    let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc=duration=12:size=160x90:rate=10"];
    let hls = ["-c:v", "mpeg2video", "-g", "20", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0"];
    let made = tokio::process::Command::new(&ffmpeg)
        .args(source)
        .args(hls)
        .args(["-hls_segment_filename", "chunk_%05d.ts", "index.m3u8"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .status()
        .await;
    assert!(made.expect("ffmpeg starts").success());
    let made = tokio::process::Command::new(&ffmpeg)
        .args(source)
        .args(["-c:v", "mpeg4", "-g", "20", "-f", "dash", "index.mpd"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .status()
        .await;
    assert!(made.expect("ffmpeg starts").success());
    for file in std::fs::read_dir(folder.path()).expect("the folder is there") {
        let file = file.expect("a file");
        let name = file.file_name().into_string().expect("a name");
        minio.put(&format!("movies/{movie}/{name}"), std::fs::read(file.path()).expect("it is made")).await;
    }
    Some(())
}

/// What the document says a player does; returns the URL of the manifest.
async fn watches(gate: &Gate) -> String {
    let (viewer, described) = (Viewer::new(gate, USER), Described::by(&gate.client()).await);
    let progress = format!("/api/v1/stream/{MOVIE}/progress");
    let before = viewer.send(Method::GET, &progress, None).await;
    described.checks("GET", &progress, &before);
    let nothing = json!({ "user_id": USER, "movie_id": MOVIE, "position_seconds": 0, "last_watched_at": null });
    assert_eq!(json_of(&before), nothing);
    let started = viewer.start(MOVIE).await;
    described.checks("POST", &format!("/api/v1/stream/{MOVIE}"), &started);
    let started = json_of(started.is(200));
    assert_eq!((&started["expires_in"], &started["manifest_type"]), (&json!(3600), &json!("hls")));
    assert_eq!(started.as_object().expect("an object").len(), 3, "nothing is added: {started}");
    let url = started["manifest_url"].as_str().expect("a URL").to_owned();
    assert!(url.starts_with(&gate.url()) && url.ends_with(&format!("/movies/{MOVIE}/index.m3u8")), "{url}");
    let reported = viewer.report(MOVIE, 120).await;
    described.checks("POST", &progress, &reported);
    let said = json!({ "success": true, "position_seconds": 120, "message": "Progress updated successfully" });
    assert_eq!(json_of(reported.is(200)), said);
    let kept = viewer.get(&progress).await;
    assert_eq!((&kept["position_seconds"], &kept["user_id"]), (&json!(120), &json!(USER)));
    let at = kept["last_watched_at"].as_str().expect("a time");
    assert!(at.len() == 19 && at.as_bytes()[10] == b'T' && !at.ends_with('Z'), "{at}: whole seconds without a zone");
    let stopped = viewer.stop(MOVIE, 1800).await;
    described.checks("POST", &format!("/api/v1/stream/{MOVIE}/stop"), &stopped);
    assert_eq!(json_of(stopped.is(200)), json!({ "success": true, "message": "Stream stopped successfully" }));
    assert_eq!(viewer.position(MOVIE).await, 1800);
    url
}

/// Starts the film again and fetches all of it by the URL that is given out, as any player would; then it is stopped.
async fn is_fetched_without_a_header(gate: &Gate, minio: &Minio) {
    let viewer = Viewer::new(gate, USER);
    let started = json_of(viewer.start(MOVIE).await.is(200));
    let url = started["manifest_url"].as_str().expect("a URL").to_owned();
    let folder = url.rsplit_once('/').expect("a path").0.trim_start_matches(&gate.url()).to_owned();
    let client = gate.client();
    let manifest = client.get(&format!("{folder}/index.m3u8"), &[]).await.is(200).text();
    let segments: Vec<&str> = manifest.lines().filter(|line| line.ends_with(".ts")).collect();
    assert!(segments.len() > 3 && segments[0].starts_with("chunk_"), "{manifest}");
    for segment in &segments {
        let fetched = client.get(&format!("{folder}/{segment}"), &[]).await;
        assert_eq!(fetched.is(200).body, minio.get(&format!("movies/{MOVIE}/{segment}")).await, "{segment}");
    }
    viewer.stop(MOVIE, 12).await.is(200);
    eventually("the URL ends with the session", async || {
        (client.get(&format!("{folder}/{}", segments[0]), &[]).await.status == 403).then_some(())
    })
    .await;
}

/// The document's example commands, letter by letter.
async fn by_curl(gate: &Gate) {
    let bearer = format!("Authorization: Bearer {}", token::of(USER));
    let json = "Content-Type: application/json";
    for version in [Version::Http1, Version::Http2] {
        let post = async |path: &str, body: &str| {
            let url = format!("{}/api/v1/stream/{MOVIE}{path}", gate.url());
            let answer = curl::get(&url, version, &["-X", "POST", "-H", &bearer, "-H", json, "-d", body]).await;
            assert_eq!(answer.heads[0].status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
            serde_json::from_slice::<Value>(&answer.body).expect("JSON")
        };
        assert_eq!(post("", r#"{"manifest_type": "hls"}"#).await["expires_in"], 3600);
        assert_eq!(post("/progress", r#"{"position_seconds": 120}"#).await["position_seconds"], 120);
        let progress = format!("{}/api/v1/stream/{MOVIE}/progress", gate.url());
        let kept = curl::get(&progress, version, &["-H", &bearer]).await;
        let kept: Value = serde_json::from_slice(&kept.body).expect("JSON");
        assert_eq!((&kept["movie_id"], &kept["position_seconds"]), (&json!(MOVIE), &json!(120)));
        assert_eq!(post("/stop", r#"{"position_seconds": 1800}"#).await["success"], true);
    }
}

#[tokio::test]
async fn health_tells_of_the_store_of_films() {
    let folder = TempFolder::new("films");
    let gate = Gate::start(&embedded(&folder)).await;
    assert_eq!(json_of(&gate.client().get("/health", &[]).await)["s3"], "ok");
    let gate = Gate::start(&films(&format!("http://127.0.0.1:{}", free_port()), "vod", &folder)).await;
    eventually("the store cannot be reached", async || {
        (json_of(&gate.client().get("/health", &[]).await)["s3"] == "unavailable").then_some(())
    })
    .await;
    Viewer::new(&gate, USER).start("dune").await.problem(503);
}

/// The last body of a user on a topic, its time left out, as text: the order of its fields is the document's.
async fn body_on(kafka: &OwnKafka, topic: &str) -> String {
    let topic: Topic = kafka.topic(topic);
    let received = eventually("the event arrives", async || {
        let received = topic.read().await;
        received.into_iter().find(|event| event.key == USER)
    })
    .await;
    assert!(!received.header("event-id").is_empty());
    assert_eq!(received.header("time-zone"), "UTC");
    let (body, time) = received.body.split_once("\"timestamp\":\"").expect("a time");
    assert!(time.len() == "2024-11-15T10:30:00\"}".len() && time.ends_with("\"}"), "{time}");
    body.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_document_watches_a_film() {
    let (Some(minio), Some(redis), Some(database)) =
        (Minio::bucket().await, Redis::start(), Postgres::database().await)
    else {
        return;
    };
    let Some(kafka) = tokio::task::block_in_place(OwnKafka::start) else { return };
    let Some(()) = put_real_film(&minio, MOVIE).await else { return };
    let users = UserService::start().await;
    users.says(USER, 200, json!({ "active": true }));
    // The shipped file as it is; only the ports are not fixed ones.
    let mut config: Value = serde_yaml::from_str(SHIPPED).expect("YAML");
    config["Server"] = config::empty()["Server"].take();
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    let (endpoint, service, broker) = (minio.url(), users.url(), kafka.broker());
    let host = redis.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    // The document's environment, and the database, for which it has no name.
    let environment = [
        ("DATABASE_URL", database.as_str()),
        ("S3_ENDPOINT_URL", endpoint.as_str()),
        ("S3_BUCKET_NAME", minio.name()),
        ("SIGNED_URL_EXPIRATION", "3600"),
        ("USER_SERVICE_URL", &service),
        ("USER_SERVICE_TIMEOUT", "5"),
        ("KAFKA_BOOTSTRAP_SERVERS", &broker),
        ("ENABLE_KAFKA", "true"),
        ("REDIS_HOST", &host),
        ("REDIS_PROGRESS_TTL", "86400"),
        ("REDIS_SUBSCRIPTION_CACHE_TTL", "300"),
    ];
    let gate = Gate::start_with(&config, &environment).await;
    eventually("Kafka is reached", async || {
        let health = json_of(&gate.client().get("/health", &[]).await);
        let expected = [("status", "healthy"), ("s3", "ok"), ("redis", "ok"), ("kafka", "enabled")];
        expected.iter().all(|(part, state)| health[part] == *state).then_some(())
    })
    .await;
    watches(&gate).await;
    is_fetched_without_a_header(&gate, &minio).await;
    let dash = Viewer::new(&gate, USER).post(MOVIE, json!({ "manifest_type": "dash" })).await;
    assert!(json_of(dash.is(200))["manifest_url"].as_str().expect("a URL").ends_with("/index.mpd"));
    let ids = format!("{{\"user_id\":\"{USER}\",\"movie_id\":\"{MOVIE}\",\"action\":");
    assert_eq!(body_on(&kafka, "stream.start").await, format!("{ids}\"stream_start\","));
    let progress = format!("{ids}\"progress_update\",\"position_seconds\":120,");
    assert_eq!(body_on(&kafka, "stream.progress").await, progress);
    let stop = format!("{ids}\"stream_stop\",\"position_seconds\":1800,");
    assert_eq!(body_on(&kafka, "stream.stop").await, stop);
    is_recorded(&database).await;
    is_kept_for_a_day(&redis).await;
    if curl::find().is_some() {
        by_curl(&gate).await;
        is_recorded_of_curl(&database).await;
    }
}

/// What the database has is in Redis for a day: `REDIS_PROGRESS_TTL`.
async fn is_kept_for_a_day(redis: &Redis) {
    let script =
        "for _, k in ipairs(redis.call('KEYS', 'player.films:*')) do return redis.call('TTL', k) end return -3";
    eventually("the position is written, and kept for so long", async || {
        let answer = redis.ask(&format!("EVAL \"{script}\" 0"));
        let life: i64 = answer.trim_start_matches(':').split("\r\n").next()?.parse().ok()?;
        (86_000..=86_400).contains(&life).then_some(())
    })
    .await;
}

/// The sessions of curl are in the table, with their device.
async fn is_recorded_of_curl(database: &str) {
    let pool = PgPool::connect(database).await.expect("PostgreSQL answers");
    let read = "SELECT count(*) FROM stream_sessions WHERE user_agent LIKE 'curl/%' AND ended_at IS NOT NULL";
    eventually("the sessions of curl are recorded with their device", async || {
        let row: (i64,) = sqlx::query_as(read).fetch_one(&pool).await.expect("the table is there");
        (row.0 == 2).then_some(())
    })
    .await;
}

/// The tables have the position and the sessions, each with its end and its device.
async fn is_recorded(database: &str) {
    let pool = PgPool::connect(database).await.expect("PostgreSQL answers");
    let read = "SELECT position_seconds, last_watched_at, id FROM watch_progress WHERE user_id = $1 AND movie_id = $2";
    let row: (i64, i64, String) = sqlx::query_as(read).bind(USER).bind(MOVIE).fetch_one(&pool).await.expect("a row");
    assert_eq!(row.0, 12);
    let now = Clock::system().unix_millis().as_millis();
    assert!((now - 600_000..=now).contains(&row.1) && !row.2.is_empty(), "{row:?}");
    let read = "SELECT duration_seconds, user_agent, ip_address FROM stream_sessions
        WHERE user_id = $1 AND movie_id = $2 AND ended_at >= started_at";
    let row = eventually("the session is recorded", async || {
        sqlx::query_as::<_, (i64, Option<String>, Option<String>)>(read)
            .bind(USER)
            .bind(MOVIE)
            .fetch_optional(&pool)
            .await
            .expect("the table is there")
    })
    .await;
    assert_eq!(row.2.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_film_is_watched_with_a_file_and_without_redis_and_kafka() {
    let folder = TempFolder::new("films");
    let film = folder.path().join(format!("objects/vod/movies/{MOVIE}"));
    let mut config = embedded(&folder);
    std::fs::create_dir_all(&film).expect("a folder");
    std::fs::write(film.join("index.m3u8"), "#EXTM3U\n").expect("a file");
    config["Events"] = json!({
        "File": folder.path().join("events.jsonl"), "Outbox": { "Path": folder.path().join("outbox") } });
    let gate = Gate::start(&config).await;
    watches(&gate).await;
    let events = eventually("three events arrive", async || {
        Some(json_lines::<Value>(&folder.path().join("events.jsonl"))).filter(|events| events.len() == 3)
    })
    .await;
    let topics = events.iter().map(|event| event["topic"].clone());
    assert_eq!(topics.collect::<Vec<_>>(), ["stream.start", "stream.progress", "stream.stop"]);
    let file = format!("sqlite://{}", folder.path().join("data/tidegate.db").display());
    let pool = SqlitePool::connect(&file).await.expect("the file is there");
    let rows = eventually("the session is recorded", async || {
        let read = "SELECT user_id, ended_at - started_at FROM stream_sessions WHERE ended_at IS NOT NULL";
        sqlx::query_as::<_, (String, i64)>(read).fetch_optional(&pool).await.expect("the table is there")
    })
    .await;
    assert!(rows.0 == USER && rows.1 >= 0);
    let read = "SELECT position_seconds FROM watch_progress WHERE user_id = $1 AND movie_id = $2";
    let position: (i64,) = sqlx::query_as(read).bind(USER).bind(MOVIE).fetch_one(&pool).await.expect("a row");
    assert_eq!(position.0, 1800);
}

#[tokio::test]
async fn what_the_document_does_not_allow_is_refused() {
    let Some(minio) = Minio::bucket().await else { return };
    put_film(&minio, "dune").await;
    minio.put("movies/only-hls/index.m3u8", "#EXTM3U\n").await;
    let folder = TempFolder::new("films");
    let gate = Gate::start(&films(&minio.url(), minio.name(), &folder)).await;
    let (viewer, described) = (Viewer::new(&gate, USER), Described::by(&gate.client()).await);
    let long = "x".repeat(300);
    let cases = [
        ("dune", json!({ "manifest_type": "smooth" }), 400, "`manifest_type` must be `hls` or `dash`"),
        ("dune", json!({}), 400, "manifest_type"),
        ("a%2Fb", json!({ "manifest_type": "hls" }), 400, "slash"),
        (long.as_str(), json!({ "manifest_type": "hls" }), 400, "movie_id"),
        ("alien", json!({ "manifest_type": "hls" }), 404, "Manifest not found"),
        ("only-hls", json!({ "manifest_type": "dash" }), 404, "Manifest not found"),
        ("dune/progress", json!({ "position_seconds": -1 }), 422, "expected 0 to 86400"),
        ("dune/progress", json!({ "position_seconds": -0.5 }), 422, "expected 0 to 86400"),
        ("dune/progress", json!({ "position_seconds": 86_401 }), 422, "expected 0 to 86400"),
        ("dune/progress", json!({ "position_seconds": 1e300 }), 422, "expected 0 to 86400"),
        ("dune/progress", json!({ "position_seconds": "1" }), 400, ""),
        ("dune/progress", json!({ "position_seconds": 1, "duration_seconds": 0 }), 422, "duration_seconds"),
        ("dune/stop", json!({ "position_seconds": 90_000 }), 422, "expected 0 to 86400"),
        ("dune/stop", json!({}), 400, "position_seconds"),
    ];
    for (path, body, status, text) in cases {
        let reply = viewer.post(path, body.clone()).await;
        let problem = reply.problem(status);
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(text), "{path} {body}: {detail}");
        described.checks("POST", &format!("/api/v1/stream/{path}"), &reply);
    }
    // A day exactly is a position, and so is a fraction of a second.
    viewer.report("dune", 86_400).await.is(200);
    viewer.post("dune/progress", json!({ "position_seconds": 7.9 })).await.is(200);
    assert_eq!(viewer.position("dune").await, 7);
    let nobody = gate.client().request(Method::POST, "/api/v1/stream/dune").json(&json!({ "manifest_type": "hls" }));
    assert_eq!(nobody.send().await.expect("an answer").status(), 401);
    let forged = token::signed(&token::claims(USER), "another secret of 32 bytes or more, a wrong one");
    let forged = format!("Bearer {forged}");
    let reply = gate.client().get("/api/v1/stream/dune/progress", &[("authorization", &forged)]).await;
    reply.problem(401);
    viewer.send(Method::DELETE, "/api/v1/admin/subscriptions?user_id=u", None).await.problem(403);
    viewer.send(Method::DELETE, "/api/v1/admin/stream-sessions?user_id=u", None).await.problem(403);
}

#[tokio::test]
async fn without_kafka_everything_else_is_as_it_was() {
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["Events"] = json!({ "Kafka": { "Brokers": ["127.0.0.1:1"] },
        "Outbox": { "Path": folder.path().join("outbox") } });
    let gate = Gate::start_with(&config, &[("ENABLE_KAFKA", "false")]).await;
    let viewer = Viewer::new(&gate, USER);
    viewer.start("dune").await.is(200);
    viewer.stop("dune", 5).await.is(200);
    assert_eq!(json_of(&gate.client().get("/health", &[]).await)["kafka"], "disabled");
    // A broker that is away is no reason to fail either.
    let dead = format!("127.0.0.1:{}", free_port());
    config["Events"]["Kafka"]["Brokers"] = json!([dead]);
    let gate = Gate::start(&config).await;
    Viewer::new(&gate, USER).start("dune").await.is(200);
    Viewer::new(&gate, USER).report("dune", 5).await.is(200);
}

#[tokio::test]
async fn without_the_section_there_are_no_films() {
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["ReverseProxy"]["Routes"]["stream"] = config::object_route("/stream/{**key}", "main", "vod", "{**key}");
    for section in [Some(json!({ "Store": "main", "Enabled": false })), None] {
        match section {
            Some(section) => config["Vod"] = section,
            None => drop(config.as_object_mut().expect("an object").remove("Vod")),
        }
        let gate = Gate::start(&config).await;
        Viewer::new(&gate, USER).start("dune").await.problem(404);
        let description = gate.client().get("/openapi.json", &[]).await.text();
        assert!(!description.contains("/api/v1/stream/{movie_id}"));
    }
}
