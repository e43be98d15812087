//! Sessions: views that end by themselves, too many at once, and the operator.

use http::Method;
use primitives::clock::Clock;
use serde_json::{Value, json};

use super::{Viewer, embedded, json_of};
use crate::support::client::Reply;
use crate::support::tools::{TempFolder, json_lines};
use crate::support::{Gate, Postgres, Redis, eventually};

/// The events in `folder`: topic and body.
fn events(folder: &TempFolder) -> Vec<(String, Value)> {
    let event = |event: Value| (event["topic"].as_str().expect("a topic").to_owned(), event["body"].clone());
    json_lines(&folder.path().join("events.jsonl")).into_iter().map(event).collect()
}

/// The second of its day of a time such as `2024-11-15T10:30:00`.
fn second_of_day(time: &Value) -> i64 {
    let parts = time.as_str().expect("a time")[11..].split(':').map(|part| part.parse::<i64>().expect("a number"));
    parts.fold(0, |sum, part| sum * 60 + part)
}

/// Films with events in a file and reports every second.
fn watched(folder: &TempFolder) -> Value {
    let mut config = embedded(folder);
    config["Events"] = json!({
        "File": folder.path().join("events.jsonl"), "Outbox": { "Path": folder.path().join("outbox") } });
    config["Vod"]["ReportInterval"] = json!("1s");
    config
}

/// Returns the gate, and the time of the last report of the first view: before and after it.
async fn views_end_by_themselves(folder: &TempFolder, config: &Value) -> (Gate, [i64; 2]) {
    let gate = Gate::start(config).await;
    let viewer = Viewer::new(&gate, "ada");
    viewer.start("dune").await.is(200);
    let now = || Clock::system().unix_millis().as_millis();
    let before = now();
    viewer.report("dune", 40).await.is(200);
    let last_report = [before, now()];
    let reported = viewer.get("/api/v1/stream/dune/progress").await["last_watched_at"].clone();
    let stops = async || {
        let stops: Vec<Value> =
            events(folder).into_iter().filter(|(topic, _)| topic == "stream.stop").map(|(_, body)| body).collect();
        (!stops.is_empty()).then_some(stops)
    };
    let stopped = eventually("three reports are missing", stops).await;
    assert_eq!(gate.metric("tidegate_vod_views_ended_total", "cause=\"silent\"").await, 1.0);
    assert_eq!((&stopped[0]["position_seconds"], &stopped[0]["user_id"]), (&json!(40), &json!("ada")));
    let late = (second_of_day(&stopped[0]["timestamp"]) - second_of_day(&reported)).rem_euclid(86_400);
    assert!(late <= 1, "ended {late} s after the last report");
    // A report after a pause begins another view, and the stop of that one is the second.
    viewer.report("dune", 50).await.is(200);
    viewer.stop("dune", 60).await.is(200);
    viewer.stop("dune", 60).await.is(200);
    let all = eventually("the second view ends", async || {
        let all = events(folder);
        (all.iter().filter(|(topic, _)| topic == "stream.stop").count() == 2).then_some(all)
    })
    .await;
    let topics: Vec<&str> =
        all.iter().map(|(topic, _)| topic.as_str()).filter(|topic| *topic != "stream.progress").collect();
    assert_eq!(topics, ["stream.start", "stream.stop", "stream.start", "stream.stop"]);
    (gate, last_report)
}

#[tokio::test]
async fn a_view_without_reports_ends_and_is_published_with_memory() {
    let folder = TempFolder::new("films");
    views_end_by_themselves(&folder, &watched(&folder)).await;
}

#[tokio::test]
async fn a_report_that_was_overtaken_leads_no_event_back() {
    let folder = TempFolder::new("films");
    let gate = Gate::start(&watched(&folder)).await;
    let viewer = Viewer::new(&gate, "ada");
    viewer.start("dune").await.is(200);
    let now = Clock::system().unix_millis().as_millis();
    let report = async |seconds: i64, ago: i64| {
        let body = json!({ "position_seconds": seconds, "timestamp": now - ago * 1000 });
        viewer.post("dune/progress", body).await.is(200);
    };
    report(500, 5).await;
    report(100, 9).await;
    assert_eq!(viewer.position("dune").await, 500);
    let all = eventually("the view ends by itself", async || {
        Some(events(&folder)).filter(|all| all.iter().any(|(topic, _)| topic == "stream.stop"))
    })
    .await;
    let seen: Vec<(&str, &Value)> =
        all.iter().map(|(topic, body)| (topic.as_str(), &body["position_seconds"])).collect();
    let expected = [("stream.start", &json!(null)), ("stream.progress", &json!(500)), ("stream.stop", &json!(500))];
    assert_eq!(seen, expected);
    // The time of a report is that of the player.
    assert_eq!(second_of_day(&all[1].1["timestamp"]), (now / 1000 - 5).rem_euclid(86_400));
}

#[tokio::test]
async fn a_report_that_was_kept_by_a_player_leads_no_event_back_that_another_device_has_published() {
    let folder = TempFolder::new("films");
    let mut config = watched(&folder);
    config["Vod"]["ReportInterval"] = json!("10s");
    let gate = Gate::start(&config).await;
    let viewer = Viewer::new(&gate, "ada");
    let laptop = viewer.post("dune", json!({ "manifest_type": "hls", "grant": "header" })).await;
    let laptop = json_of(laptop.is(200))["session_id"].clone();
    viewer.post("dune/stop", json!({ "position_seconds": 600, "session_id": laptop })).await.is(200);
    viewer.start("dune").await.is(200);
    viewer.report("dune", 6000).await.is(200);
    // The laptop was closed without a connection, and finds one now.
    let kept = Clock::system().unix_millis().as_millis() - 3_600_000;
    let report = json!({ "position_seconds": 1200, "timestamp": kept, "session_id": laptop });
    viewer.post("dune/progress", report.clone()).await.is(200);
    viewer.post("dune/progress", json!({ "position_seconds": 1300, "timestamp": kept })).await.is(200);
    viewer.post("dune/stop", report).await.is(200);
    viewer.report("dune", 6010).await.is(200);
    viewer.stop("dune", 6020).await.is(200);
    let all = eventually("the second stop is published", async || {
        Some(events(&folder)).filter(|all| all.iter().filter(|(topic, _)| topic == "stream.stop").count() == 2)
    })
    .await;
    let seen: Vec<&Value> = all.iter().map(|(_, body)| &body["position_seconds"]).collect();
    let none = json!(null);
    assert_eq!(seen, [&none, &json!(600), &none, &json!(6000), &json!(6010), &json!(6020)]);
    assert_eq!(viewer.position("dune").await, 6020);
}

#[tokio::test]
async fn a_view_without_reports_ends_and_is_published_with_redis() {
    let (Some(redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let mut config = watched(&folder);
    config["State"]["Url"] = json!(redis.url());
    config["Database"]["Url"] = json!(database);
    let (_gate, [before, after]) = views_end_by_themselves(&folder, &config).await;
    // The row of the view that ended by itself has the time of its last report.
    let pool = sqlx::PgPool::connect(&database).await.expect("PostgreSQL answers");
    let rows = eventually("both rows have their end", async || {
        let read = "SELECT started_at, ended_at, duration_seconds FROM stream_sessions WHERE ended_at IS NOT NULL
            ORDER BY started_at";
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(read).fetch_all(&pool).await.expect("the table is there");
        (rows.len() == 2).then_some(rows)
    })
    .await;
    let (started, ended, seconds) = rows[0];
    assert!((before..=after).contains(&ended), "{ended} is not between {before} and {after}");
    assert_eq!(seconds, (ended - started) / 1000);
    let empty = async || redis.ask("ZCARD vod.views").starts_with(":0").then_some(());
    eventually("nothing is looked at any more", empty).await;
}

#[tokio::test]
async fn sessions_work_in_a_cluster() {
    let Some(cluster) = Redis::cluster().await else { return };
    let folder = TempFolder::new("films");
    let mut config = watched(&folder);
    config["State"]["Url"] = json!(cluster[0].cluster_url());
    views_end_by_themselves(&folder, &config).await;
}

#[tokio::test]
async fn of_too_many_at_once_the_oldest_gives_way() {
    let folder = TempFolder::new("films");
    let mut config = watched(&folder);
    config["Vod"]["MaxStreamsPerUser"] = json!(2);
    config["Vod"]["ReportInterval"] = json!("10m");
    let gate = Gate::start(&config).await;
    let viewer = Viewer::new(&gate, "ada");
    for _ in 0..4 {
        viewer.start("dune").await.is(200);
    }
    assert_eq!(gate.metric("tidegate_vod_views_ended_total", "cause=\"displaced\"").await, 2.0);
    let stops =
        async || (events(&folder).iter().filter(|(topic, _)| topic == "stream.stop").count() == 2).then_some(());
    eventually("both are published", stops).await;
    Viewer::new(&gate, "bob").start("dune").await.is(200);
    assert_eq!(gate.metric("tidegate_vod_views_ended_total", "cause=\"displaced\"").await, 2.0, "bob is another");
}

#[tokio::test]
async fn an_operator_ends_the_sessions_of_a_user() {
    let folder = TempFolder::new("films");
    let gate = Gate::start(&watched(&folder)).await;
    Viewer::new(&gate, "ada").start("dune").await.is(200);
    Viewer::new(&gate, "ada").start("dune").await.is(200);
    let end = "/api/v1/admin/stream-sessions?user_id=ada";
    Viewer::admin(&gate).send(Method::DELETE, end, None).await.is(204);
    assert_eq!(gate.metric("tidegate_vod_views_ended_total", "cause=\"revoked\"").await, 2.0);
    Viewer::admin(&gate).send(Method::DELETE, "/api/v1/admin/stream-sessions?user_id=..", None).await.problem(400);
}

#[tokio::test]
async fn without_redis_that_was_configured_no_session_is_opened_and_positions_are_kept() {
    let Some(mut redis) = Redis::start() else { return };
    let folder = TempFolder::new("films");
    let mut config = watched(&folder);
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let viewer = Viewer::new(&gate, "ada");
    viewer.start("dune").await.is(200);
    redis.kill();
    let refused = viewer.start("dune").await;
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "1");
    viewer.report("dune", 70).await.is(200);
    assert_eq!(viewer.position("dune").await, 70);
    redis.restart();
    eventually("sessions are opened again", async || (viewer.start("dune").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_film_that_was_started_at_one_node_goes_on_and_stops_at_another() {
    let (Some(redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["State"]["Url"] = json!(redis.url());
    config["Database"]["Url"] = json!(database);
    let (one, two) = tokio::join!(Gate::start(&config), Gate::start(&config));
    let (here, there) = (Viewer::new(&one, "ada"), Viewer::new(&two, "ada"));
    here.start("dune").await.is(200);
    there.report("dune", 30).await.is(200);
    assert_eq!(here.position("dune").await, 30);
    there.stop("dune", 40).await.is(200);
    let pool = sqlx::PgPool::connect(&database).await.expect("PostgreSQL answers");
    let row = eventually("one row is there, with its end and its device", async || {
        let read = "SELECT count(*) FROM stream_sessions WHERE ended_at IS NOT NULL AND ip_address = '127.0.0.1'";
        let row: (i64,) = sqlx::query_as(read).fetch_one(&pool).await.expect("the table is there");
        (row.0 > 0).then_some(row.0)
    })
    .await;
    let all: (i64,) = sqlx::query_as("SELECT count(*) FROM stream_sessions").fetch_one(&pool).await.expect("a count");
    assert_eq!((row, all.0), (1, 1));
    assert_eq!(one.metric("tidegate_vod_views_ended_total", "").await, 0.0);
    assert_eq!(two.metric("tidegate_vod_views_ended_total", "cause=\"stopped\"").await, 1.0);
}

/// The status of a manifest by the URL of a start.
async fn manifest_status(gate: &Gate, started: &Reply) -> u16 {
    let started = json_of(started.is(200));
    let url = started["manifest_url"].as_str().expect("a URL");
    gate.client().get(url.trim_start_matches(&gate.url()), &[]).await.status.as_u16()
}

/// Two starts at once where one stream is allowed: one URL is good, whichever.
async fn exactly_one_of_two_stays(redis: Option<&Redis>) {
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["Vod"]["MaxStreamsPerUser"] = json!(1);
    if let Some(redis) = redis {
        config["State"]["Url"] = json!(redis.url());
    }
    let gate = Gate::start(&config).await;
    for round in 0..12 {
        let viewer = Viewer::new(&gate, &format!("viewer-{round}"));
        let (one, two) = tokio::join!(viewer.start("dune"), viewer.start("dune"));
        let mut statuses = [manifest_status(&gate, &one).await, manifest_status(&gate, &two).await];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 403], "round {round}");
    }
}

#[tokio::test]
async fn of_two_starts_at_once_one_stays_with_memory() {
    exactly_one_of_two_stays(None).await;
}

#[tokio::test]
async fn of_two_starts_at_once_one_stays_with_redis() {
    let Some(redis) = Redis::start() else { return };
    exactly_one_of_two_stays(Some(&redis)).await;
}

#[tokio::test]
async fn a_stop_that_names_its_session_ends_that_one() {
    let folder = TempFolder::new("films");
    let gate = Gate::start(&embedded(&folder)).await;
    let viewer = Viewer::new(&gate, "ada");
    let start = async || viewer.post("dune", json!({ "manifest_type": "hls", "grant": "path" })).await;
    let (first, second) = (start().await, start().await);
    let id = json_of(first.is(200))["session_id"].clone();
    let stop = json!({ "position_seconds": 5, "session_id": id });
    let stranger = Viewer::new(&gate, "eve");
    stranger.post("dune/stop", stop.clone()).await.is(200);
    assert_eq!(manifest_status(&gate, &first).await, 200, "it is not the caller's");
    viewer.post("dune/progress", stop.clone()).await.is(200);
    viewer.post("dune/stop", stop).await.is(200);
    eventually("the first one ends", async || (manifest_status(&gate, &first).await == 403).then_some(())).await;
    assert_eq!(manifest_status(&gate, &second).await, 200);
    viewer.post("dune/stop", json!({ "position_seconds": 5, "session_id": "x" })).await.problem(422);
}

#[tokio::test]
async fn a_stop_that_redis_refuses_is_503_and_can_be_repeated() {
    let Some(redis) = Redis::start() else { return };
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let viewer = Viewer::new(&gate, "ada");
    let started = viewer.start("dune").await;
    assert!(redis.ask("CONFIG SET maxmemory 1").starts_with("+OK"));
    let refused = viewer.stop("dune", 30).await;
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "1");
    assert!(redis.ask("CONFIG SET maxmemory 0").starts_with("+OK"));
    assert_eq!(manifest_status(&gate, &started).await, 200);
    viewer.stop("dune", 30).await.is(200);
    eventually("it ends", async || (manifest_status(&gate, &started).await == 403).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn films_are_started_while_the_database_is_away() {
    let (Some(redis), Some(mut postgres)) = (Redis::start(), Postgres::start()) else { return };
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["Database"]["Url"] = json!(postgres.url());
    let alone = Gate::start(&config).await;
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    tokio::task::block_in_place(|| postgres.stop());
    let started = Viewer::new(&gate, "ada").start("dune").await;
    assert_eq!(manifest_status(&gate, &started).await, 200);
    // Without Redis nobody can tell whether a user has logged out, and that is what is said.
    let refused = Viewer::new(&alone, "ada").start("dune").await;
    assert_eq!(refused.problem(503)["detail"], "whether you have logged out cannot be told at the moment");
}

/// A user who starts films without end, over one kind of storage.
async fn starts_are_bounded(redis: Option<&Redis>) {
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    if let Some(redis) = redis {
        config["State"]["Url"] = json!(redis.url());
    }
    let gate = Gate::start(&config).await;
    let viewer = Viewer::new(&gate, "ada");
    for _ in 0..130 {
        viewer.start("none").await.problem(404);
    }
    for number in 0..120 {
        assert_eq!(viewer.start("dune").await.status, 200, "{number}");
    }
    let refused = viewer.start("dune").await;
    assert_eq!(refused.problem(429)["code"], "too_many_requests");
    assert_ne!(refused.header("retry-after"), "");
    Viewer::new(&gate, "bob").start("dune").await.is(200);
    viewer.report("dune", 5).await.is(200);
    assert_eq!(gate.metric("tidegate_vod_starts_total", "outcome=\"too_many\"").await, 1.0);
}

#[tokio::test]
async fn a_user_opens_120_sessions_in_an_hour_with_memory() {
    starts_are_bounded(None).await;
}

#[tokio::test]
async fn a_user_opens_120_sessions_in_an_hour_with_redis() {
    let Some(redis) = Redis::start() else { return };
    starts_are_bounded(Some(&redis)).await;
}

#[tokio::test]
async fn a_policy_named_film_starts_takes_the_place_of_the_limit_of_starts() {
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["Policies"]["RateLimiter"]["film-starts"] = json!({ "FixedWindow": { "PermitLimit": 2, "Window": "1h" } });
    let gate = Gate::start(&config).await;
    let viewer = Viewer::new(&gate, "ada");
    viewer.start("dune").await.is(200);
    viewer.start("dune").await.is(200);
    viewer.start("dune").await.problem(429);
}

/// A logout ends films also where there are no streaming URLs.
#[tokio::test]
async fn a_logout_ends_the_films_of_a_user_without_streaming_urls() {
    let folder = TempFolder::new("films");
    let gate = Gate::start(&embedded(&folder)).await;
    let viewer = Viewer::new(&gate, "ada");
    let (started, other) = (viewer.start("dune").await, Viewer::new(&gate, "bob").start("dune").await);
    assert_eq!(manifest_status(&gate, &started).await, 200);
    viewer.send(Method::POST, "/api/v1/logout", None).await.is(204);
    eventually("the film ends", async || (manifest_status(&gate, &started).await == 403).then_some(())).await;
    assert_eq!(manifest_status(&gate, &other).await, 200);
    assert_eq!(manifest_status(&gate, &viewer.start("dune").await).await, 200, "another start is good");
    gate.client().send(Method::POST, "/api/v1/logout", &[]).await.problem(401);
}
