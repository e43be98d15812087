//! Positions in films: acknowledged by Redis, written to the database later, and lost by nothing that ends meanwhile.

use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{Viewer, embedded, json_of};
use crate::support::client::Client;
use crate::support::gate::sum;
use crate::support::tools::TempFolder;
use crate::support::user::{PositionReport, Reporters};
use crate::support::{Gate, Postgres, Redis, eventually, token};

const VIEWERS: usize = 12;

fn written_back(folder: &TempFolder, redis: &Redis, database: &str, interval: &str) -> Value {
    let mut config = embedded(folder);
    config["State"]["Url"] = json!(redis.url());
    config["Database"]["Url"] = json!(database);
    config["Positions"]["Films"]["FlushInterval"] = json!(interval);
    config
}

/// Viewers that report without pause, and what becomes of their reports.
struct Audience(Reporters);

impl Audience {
    fn start(gate: &Gate) -> Self {
        let report = |position: i64| {
            let item = format!("movie-{}", position % 5);
            let path = format!("/api/v1/stream/{item}/progress");
            PositionReport { item, path, body: json!({ "position_seconds": position, "duration_seconds": 86_400 }) }
        };
        Self(Reporters::start(gate, (0..VIEWERS).map(|number| format!("viewer-{number}")), 200, report))
    }

    async fn goes_on(&self) {
        self.0.go_on(100).await;
    }

    /// Ends it and compares: what is there is what was acknowledged last, or newer.
    async fn finds_all_at(self, gate: &Gate) -> Vec<(String, String, i64)> {
        let all = self.0.acknowledged().await;
        for (user, movie, position) in &all {
            let found = Viewer::new(gate, user).position(movie).await;
            assert!(found >= *position, "{user} {movie}: {found}, and {position} was acknowledged");
        }
        assert!(!all.is_empty());
        all
    }
}

/// Waits until the database has what was acknowledged.
async fn are_in_the_database(url: &str, acknowledged: &[(String, String, i64)]) {
    let pool = PgPool::connect(url).await.expect("PostgreSQL answers");
    for (user, movie, position) in acknowledged {
        eventually("the database has it", async || {
            let read = "SELECT position_seconds FROM watch_progress WHERE user_id = $1 AND movie_id = $2";
            let row: Option<(i64,)> =
                sqlx::query_as(read).bind(user).bind(movie).fetch_optional(&pool).await.expect("the view is there");
            row.filter(|(found,)| found >= position).map(drop)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_kill_of_the_proxy_and_another_node_writes_it() {
    let (Some(redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let mut gate = Gate::start(&written_back(&folder, &redis, &database, "1h")).await;
    let audience = Audience::start(&gate);
    audience.goes_on().await;
    gate.signal("KILL").await;
    gate.ended().await;
    // Nothing was due: Redis alone has it, but for what it did not take in time, which the database has.
    let count = "EVAL \"local n = 0 for _, k in ipairs(redis.call('KEYS', 'player.dirty:*')) do n = n + redis.call('ZCARD', k) end return n\" 0";
    let waiting = redis.ask(count);
    assert!(waiting.starts_with(':') && !waiting.starts_with(":0"), "{waiting}");
    let gate = Gate::start(&written_back(&folder, &redis, &database, "1s")).await;
    let all = audience.finds_all_at(&gate).await;
    // One report more makes each due soon; the marks of before are due in an hour.
    for (user, movie, position) in &all {
        Viewer::new(&gate, user).report(movie, position + 1).await.is(200);
    }
    are_in_the_database(&database, &all).await;
    eventually("nothing waits any more", async || {
        (gate.metric("tidegate_positions_backlog", "").await == 0.0
            && gate.metric("tidegate_positions_backlog_bytes", "").await == 0.0)
            .then_some(())
    })
    .await;
    let ttl = redis.ask("EVAL \"for _, k in ipairs(redis.call('KEYS', 'player.films:*')) do if redis.call('TTL', k) < 1 then return k end end return 'all' \" 0");
    assert!(ttl.contains("all"), "{ttl} does not expire");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_away_and_nobody_notices() {
    let (Some(redis), Some(mut postgres)) = (Redis::start(), Postgres::start()) else { return };
    let folder = TempFolder::new("films");
    let gate = Gate::start(&written_back(&folder, &redis, &postgres.url(), "1s")).await;
    let audience = Audience::start(&gate);
    audience.goes_on().await;
    tokio::task::block_in_place(|| postgres.kill());
    audience.goes_on().await;
    audience.goes_on().await;
    assert_eq!(audience.0.refused.load(Ordering::Relaxed), 0);
    assert!(Viewer::new(&gate, "viewer-0").position("movie-1").await > 0, "read from Redis alone");
    eventually("the backlog is seen", async || {
        (gate.metric("tidegate_positions_backlog", "").await > 0.0).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| postgres.restart());
    let all = audience.finds_all_at(&gate).await;
    are_in_the_database(&postgres.url(), &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_away_and_the_database_is_written_instead() {
    let (Some(mut redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let gate = Gate::start(&written_back(&folder, &redis, &database, "1h")).await;
    let audience = Audience::start(&gate);
    audience.goes_on().await;
    // A stop writes what it has to its file, so that it has it again.
    tokio::task::block_in_place(|| redis.stop());
    audience.goes_on().await;
    tokio::task::block_in_place(|| redis.restart());
    eventually("it is back", async || {
        (json_of(&gate.client().get("/health", &[]).await)["redis"] == "ok").then_some(())
    })
    .await;
    audience.goes_on().await;
    audience.finds_all_at(&gate).await;
}

#[tokio::test]
async fn a_report_that_comes_late_never_moves_a_position_back() {
    let (Some(redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let gate = Gate::start(&written_back(&folder, &redis, &database, "1s")).await;
    let viewer = Viewer::new(&gate, "ada");
    let now = token::now() * 1000;
    let report = async |position: i64, at: i64| {
        let body = json!({ "position_seconds": position, "timestamp": at });
        viewer.post("dune/progress", body).await.is(200);
    };
    report(500, now - 5000).await;
    report(100, now - 9000).await;
    assert_eq!(viewer.position("dune").await, 500);
    // A rewind is newer, and smaller.
    report(30, now - 1000).await;
    assert_eq!(viewer.position("dune").await, 30);
    are_in_the_database(&database, &[("ada".into(), "dune".into(), 30)]).await;
    report(900, now - 2000).await;
    assert_eq!(viewer.position("dune").await, 30);
    // The database was written by a stop, before the answer.
    viewer.stop("dune", 40).await.is(200);
    let pool = PgPool::connect(&database).await.expect("PostgreSQL answers");
    let row: (i64,) = sqlx::query_as("SELECT position_ms FROM positions WHERE user_id = 'ada' AND kind = 'film'")
        .fetch_one(&pool)
        .await
        .expect("a row");
    assert_eq!(row.0, 40_000);
}

/// What can be continued, over one kind of storage.
async fn is_continued(config: &Value) {
    let gate = Gate::start(config).await;
    let viewer = Viewer::new(&gate, "ada");
    let now = token::now() * 1000;
    for number in 0..25_i64 {
        let body =
            json!({ "position_seconds": 1000 + number, "duration_seconds": 7200, "timestamp": now - number * 1000 });
        viewer.post(&format!("film-{number:02}/progress"), body).await.is(200);
    }
    let song = json!({ "positionMs": 60_000, "durationMs": 3_600_000, "kind": "audiobook", "timestamp": now - 3500 });
    viewer.send(Method::POST, "/api/v1/tracks/book/position", Some(&song)).await.is(204);
    viewer.post("seen/progress", json!({ "position_seconds": 7100, "duration_seconds": 7200 })).await.is(200);
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let after = cursor.as_ref().map(|cursor: &String| format!("&cursor={cursor}")).unwrap_or_default();
        let page = viewer.get(&format!("/api/v1/progress?limit=10{after}")).await;
        let items = page["items"].as_array().expect("items");
        ids.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    let mut expected: Vec<String> = (0..25).map(|number| format!("film-{number:02}")).collect();
    expected.insert(4, "book".to_owned());
    assert_eq!(ids, expected);
    let films = viewer.get("/api/v1/progress?kind=film&limit=3").await;
    let film = &films["items"][0];
    assert_eq!((&film["id"], &film["kind"]), (&json!("film-00"), &json!("film")));
    assert_eq!((&film["positionMs"], &film["durationMs"]), (&json!(1_000_000), &json!(7_200_000)));
    // The two views of one store: a film that is cleared there is not there here.
    viewer.send(Method::DELETE, "/api/v1/tracks/film-00/position?kind=film", None).await.is(204);
    assert_eq!(viewer.position("film-00").await, 0);
    let films = viewer.get("/api/v1/progress?kind=film&limit=3").await;
    assert_eq!(films["items"][0]["id"], "film-01");
}

#[tokio::test]
async fn films_can_be_continued_from_a_file() {
    let folder = TempFolder::new("films");
    is_continued(&embedded(&folder)).await;
}

#[tokio::test]
async fn films_can_be_continued_before_the_database_knows_them_and_after() {
    let (Some(redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    is_continued(&written_back(&folder, &redis, &database, "1h")).await;
    let (Some(redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    is_continued(&written_back(&folder, &redis, &database, "1s")).await;
}

#[tokio::test]
async fn films_can_be_continued_in_a_cluster_and_from_redis_alone() {
    let (Some(cluster), Some(database)) = (Redis::cluster().await, Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let mut config = written_back(&folder, &cluster[0], &database, "1s");
    config["State"]["Url"] = json!(cluster[0].cluster_url());
    is_continued(&config).await;
    let Some(redis) = Redis::start() else { return };
    let mut alone = written_back(&folder, &redis, &database, "1h");
    alone.as_object_mut().expect("an object").remove("Database");
    is_continued(&alone).await;
}

#[tokio::test]
async fn what_waits_for_the_database_is_bounded() {
    let (Some(redis), Some(mut postgres)) = (Redis::start(), Postgres::start()) else { return };
    let folder = TempFolder::new("films");
    let mut config = written_back(&folder, &redis, &postgres.url(), "1h");
    config["Positions"]["Films"]["MaxBacklog"] = json!("1MiB");
    config["Positions"]["MaxItemsPerUser"] = json!(100_000);
    let gate = Gate::start(&config).await;
    postgres.kill();
    let viewer = Viewer::new(&gate, "ada");
    let mut kept = 0;
    // One shard of 16 has 64 KiB, of some 230 bytes each.
    let refused = loop {
        let reply = viewer.report(&format!("film-{kept}"), 5).await;
        if reply.status != 200 {
            break reply;
        }
        kept += 1;
        assert!(kept < 2000, "no bound is seen");
    };
    refused.problem(503);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(kept > 100, "{kept}");
    // What waits already may be changed.
    viewer.report("film-0", 6).await.is(200);
    assert_eq!(viewer.position("film-0").await, 6);
    postgres.restart();
    eventually("there is room again", async || (viewer.report("another", 5).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn with_write_back_off_the_database_is_written_before_the_answer() {
    let (Some(redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let mut config = written_back(&folder, &redis, &database, "1h");
    config["Positions"]["Films"]["WriteBack"] = json!(false);
    let gate = Gate::start(&config).await;
    Viewer::new(&gate, "ada").report("dune", 77).await.is(200);
    let pool = PgPool::connect(&database).await.expect("PostgreSQL answers");
    let row: (i64,) =
        sqlx::query_as("SELECT position_seconds FROM watch_progress").fetch_one(&pool).await.expect("a row");
    assert_eq!(row.0, 77);
}

/// Viewers of an hour.
const AUDIENCE: usize = 1000;
/// Of them, those that start and stop their film meanwhile.
const VISITORS: usize = 100;
/// Requests at once.
const AT_ONCE: usize = 64;

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// Sends a report by the number of its viewer, again while it is refused with the request to come back.
async fn reports_at_last(client: &Client, number: usize, position: i64, at: i64) {
    let path = format!("/api/v1/stream/movie-{}/progress", number % 50);
    let body = json!({ "position_seconds": position, "duration_seconds": 86_400, "timestamp": at });
    let send = async || {
        let user = token::of(&format!("viewer-{number}"));
        let request = client.request(Method::POST, &path).bearer_auth(user).json(&body);
        let response = request.send().await.expect("the gate answers");
        match response.status().as_u16() {
            200 => Some(()),
            status => {
                assert_eq!((status, response.headers().contains_key("retry-after")), (503, true));
                None
            }
        }
    };
    eventually("it is kept", send).await;
}

/// The reports of an hour that ends now: each viewer's first and last, and one that comes late.
async fn an_hour_of_reports(gate: &Gate) {
    let (client, now) = (gate.client(), token::now() * 1000);
    for (position, at) in [(60, now - HOUR), (3600, now - 1000), (1800, now - HOUR / 2)] {
        futures::stream::iter(0..AUDIENCE)
            .for_each_concurrent(AT_ONCE, |number| reports_at_last(&client, number, position, at))
            .await;
    }
}

/// Waits until the database has the last position of every viewer.
async fn has_all_of_the_hour(pool: &PgPool) {
    eventually("every position is in the database", async || {
        let count = "SELECT count(*) FROM watch_progress WHERE position_seconds = 3600";
        let (found,): (i64,) = sqlx::query_as(count).fetch_one(pool).await.expect("the view is there");
        (found == AUDIENCE as i64).then_some(())
    })
    .await;
    let (all,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM watch_progress").fetch_one(pool).await.expect("the view is there");
    assert_eq!(all, AUDIENCE as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_without_the_database_loses_no_position_and_no_view() {
    let (Some(redis), Some(mut postgres)) = (Redis::start(), Postgres::start()) else { return };
    let folder = TempFolder::new("films");
    let gate = Gate::start(&written_back(&folder, &redis, &postgres.url(), "1s")).await;
    // Known before, as viewers are that are logged in.
    tokio::task::block_in_place(|| postgres.kill());
    futures::stream::iter(0..VISITORS)
        .for_each_concurrent(AT_ONCE, async |number| {
            let visitor = Viewer::new(&gate, &format!("visitor-{number}"));
            // On a busy machine Redis may be late: 503 asks for another try.
            eventually("it starts", async || (visitor.start("dune").await.status == 200).then_some(())).await;
            let stop = json!({ "position_seconds": 0 });
            eventually("it stops", async || {
                (visitor.post("dune/stop", stop.clone()).await.status == 200).then_some(())
            })
            .await;
        })
        .await;
    let before = gate.memory();
    an_hour_of_reports(&gate).await;
    let grown = gate.memory().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes more for what waits in Redis");
    eventually("the backlog is seen", async || {
        let backlog = gate.metric("tidegate_positions_backlog", "").await;
        (backlog == (AUDIENCE + VISITORS) as f64).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| postgres.restart());
    let pool = PgPool::connect(&postgres.url()).await.expect("PostgreSQL answers");
    eventually("nothing waits any more", async || {
        let metrics = ["tidegate_positions_backlog", "tidegate_positions_backlog_bytes", "tidegate_vod_waiting_rows"];
        let page = gate.metrics().await;
        metrics.iter().all(|name| sum(&page, name, "") == 0.0).then_some(())
    })
    .await;
    sqlx::query("DELETE FROM positions WHERE user_id LIKE 'visitor-%'").execute(&pool).await.expect("it is deleted");
    has_all_of_the_hour(&pool).await;
    let views = "SELECT count(*) FROM stream_sessions WHERE ended_at IS NOT NULL";
    let (views,): (i64,) = sqlx::query_as(views).fetch_one(&pool).await.expect("the table is there");
    assert_eq!(views, VISITORS as i64);
    assert_eq!(gate.metric("tidegate_vod_dropped_rows_total", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_without_redis_loses_no_position() {
    let (Some(mut redis), Some(database)) = (Redis::start(), Postgres::database().await) else { return };
    let folder = TempFolder::new("films");
    let gate = Gate::start(&written_back(&folder, &redis, &database, "1h")).await;
    let pool = PgPool::connect(&database).await.expect("PostgreSQL answers");
    // One that Redis alone has when it goes, and that the hour leaves behind.
    reports_at_last(&gate.client(), 0, 5, token::now() * 1000 - 2 * HOUR).await;
    tokio::task::block_in_place(|| redis.stop());
    an_hour_of_reports(&gate).await;
    has_all_of_the_hour(&pool).await;
    tokio::task::block_in_place(|| redis.restart());
    eventually("it is back", async || {
        (json_of(&gate.client().get("/health", &[]).await)["redis"] == "ok").then_some(())
    })
    .await;
    for number in [0, 1, AUDIENCE - 1] {
        let viewer = Viewer::new(&gate, &format!("viewer-{number}"));
        assert_eq!(viewer.position(&format!("movie-{}", number % 50)).await, 3600, "of both the newer one");
    }
}
