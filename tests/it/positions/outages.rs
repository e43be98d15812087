//! A position that was acknowledged is there, whatever ends meanwhile: Tidegate, PostgreSQL, Redis.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{Player, Postgres, Redis, base, in_a_file, path};
use crate::support::cutter::Cutter;
use crate::support::tools::TempFolder;
use crate::support::user::{PositionReport, Reporters};
use crate::support::{Gate, eventually, token};

const PLAYERS: usize = 16;

/// Players that report without pause, and what becomes of their reports.
struct Load(Reporters);

impl Load {
    fn start(gate: &Gate) -> Self {
        let report = |position: i64| {
            let item = format!("track-{}", position % 7);
            let path = path(&item);
            PositionReport { item, path, body: json!({ "positionMs": position, "durationMs": 10_000_000 }) }
        };
        Self(Reporters::start(gate, (0..PLAYERS).map(|number| format!("user-{number}")), 204, report))
    }

    async fn goes_on(&self) {
        self.0.go_on(200).await;
    }

    async fn is_refused(&self) {
        self.0.are_refused().await;
    }

    /// Ends it and compares: what is there is what was acknowledged last, or newer.
    async fn finds_all_at(self, gate: &Gate) {
        let all = self.0.acknowledged().await;
        for (user, track, position) in &all {
            let found = Player::new(gate, user).get(track).await;
            assert!(found >= Some(*position), "{user}, {track}: {position} was acknowledged, {found:?} is there");
        }
        assert!(all.len() >= PLAYERS, "nothing was tested");
    }
}

async fn survives_a_kill(config: &Value) {
    let mut gate = Gate::start(config).await;
    let load = Load::start(&gate);
    load.goes_on().await;
    gate.signal("KILL").await;
    gate.ended().await;
    let gate = Gate::start(config).await;
    load.finds_all_at(&gate).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_kill_of_the_proxy_with_a_file() {
    let folder = TempFolder::new("positions");
    survives_a_kill(&in_a_file(&folder)).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_kill_of_the_proxy_with_postgresql() {
    let Some(url) = Postgres::database().await else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Database"]["Url"] = json!(url);
    survives_a_kill(&config).await;
}

#[tokio::test]
async fn two_nodes_agree_within_a_second() {
    let (Some(url), Some(redis)) = (Postgres::database().await, Redis::start()) else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Database"]["Url"] = json!(url);
    config["State"]["Url"] = json!(redis.url());
    let (one, two) = tokio::join!(Gate::start(&config), Gate::start(&config));
    let (here, there) = (Player::new(&one, "u"), Player::new(&two, "u"));
    for position in 1..50_i64 {
        let (writer, reader) = if position % 2 == 0 { (&here, &there) } else { (&there, &here) };
        writer.save("t", json!({ "positionMs": position })).await;
        let seen = async || (reader.get("t").await == Some(position)).then_some(());
        eventually("the other node sees it", seen).await;
    }
    // Of two that report at once, both nodes end with the newer one, whichever took it.
    let now = token::now() * 1000;
    let reports = (0..100).map(|number| {
        let player = if number % 2 == 0 { &here } else { &there };
        let shuffled = number * 37 % 100;
        player.save("at once", json!({ "positionMs": shuffled, "timestamp": now - 1000 + shuffled }))
    });
    futures::future::join_all(reports).await;
    for player in [&here, &there] {
        let seen = async || (player.get("at once").await == Some(99)).then_some(());
        eventually("both have the newest", seen).await;
    }
}

#[tokio::test]
async fn postgresql_stops_and_starts_under_load() {
    let (Some(mut postgres), Some(redis)) = (Postgres::start(), Redis::start()) else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Database"]["Url"] = json!(postgres.url());
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let load = Load::start(&gate);
    for end in [Postgres::stop, Postgres::kill] {
        load.goes_on().await;
        let refused = load.0.refused.swap(0, Ordering::Relaxed);
        end(&mut postgres);
        load.is_refused().await;
        assert_eq!(Player::new(&gate, "user-0").get("track-0").await.map(|position| position > 0), Some(true));
        eventually("the operator sees it", async || {
            let health = gate.admin().get("/health", &[]).await.text();
            health.contains("\"database\":\"unavailable\"").then_some(())
        })
        .await;
        gate.admin().get("/readyz", &[]).await.is(200);
        postgres.restart();
        load.goes_on().await;
        assert!(refused == 0 || load.0.refused.load(Ordering::Relaxed) > 0);
    }
    load.finds_all_at(&gate).await;
}

#[tokio::test]
async fn redis_stops_and_starts_under_load_before_postgresql_and_nobody_notices() {
    let (Some(url), Some(mut redis)) = (Postgres::database().await, Redis::start()) else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Database"]["Url"] = json!(url);
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let load = Load::start(&gate);
    for number in 0..3 {
        load.goes_on().await;
        match number {
            0 => redis.stop(),
            1 => redis.kill(),
            _ => redis.freeze(),
        }
        load.goes_on().await;
        eventually("everybody sees it", async || {
            gate.client().get("/health", &[]).await.text().contains("\"redis\":\"unavailable\"").then_some(())
        })
        .await;
        if number < 2 {
            redis.restart()
        } else {
            redis.thaw()
        }
        eventually("it is back", async || {
            gate.client().get("/health", &[]).await.text().contains("\"redis\":\"ok\"").then_some(())
        })
        .await;
    }
    load.goes_on().await;
    assert_eq!(load.0.refused.load(Ordering::Relaxed), 0, "Redis is only the front");
    assert!(gate.metric("tidegate_positions_front_failed_total", "").await >= 1.0);
    load.finds_all_at(&gate).await;
}

/// Two nodes on one PostgreSQL, the first of which reaches Redis over `wire`.
async fn two_nodes(redis: &Redis, wire: &Cutter, folder: &TempFolder) -> Option<(Gate, Gate)> {
    let mut config = base(folder);
    config["Database"]["Url"] = json!(Postgres::database().await?);
    let mut first = config.clone();
    first["State"]["Url"] = json!(wire.url().replace("http:", "redis:"));
    config["State"]["Url"] = json!(redis.url());
    Some(tokio::join!(Gate::start(&first), Gate::start(&config)))
}

async fn redis_is_seen(gate: &Gate, state: &str) {
    eventually("the node sees it", async || {
        gate.client().get("/health", &[]).await.text().contains(&format!("\"redis\":\"{state}\"")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_redis_missed_no_node_gives_out_when_it_is_back() {
    let Some(mut redis) = Redis::start() else { return };
    let (folder, wire) = (TempFolder::new("positions"), Cutter::to(([127, 0, 0, 1], redis.port()).into()).await);
    let Some((one, two)) = two_nodes(&redis, &wire, &folder).await else { return };
    let (here, there) = (Player::new(&one, "u"), Player::new(&two, "u"));
    here.save("t", json!({ "positionMs": 1 })).await;
    assert_eq!(there.get("t").await, Some(1));
    redis.kill();
    // One that has not noticed it cannot know that anything was missed.
    redis_is_seen(&two, "unavailable").await;
    here.save("t", json!({ "positionMs": 2 })).await;
    redis.restart();
    redis_is_seen(&two, "ok").await;
    assert_eq!(there.get("t").await, Some(2), "Redis has the old one");
    // Only the first node is cut off: the other one cannot know, until the first one is back.
    wire.shut();
    redis_is_seen(&one, "unavailable").await;
    here.save("t", json!({ "positionMs": 3 })).await;
    wire.mend();
    eventually("the other node has it", async || (there.get("t").await == Some(3)).then_some(())).await;
}

#[tokio::test]
async fn redis_alone_stops_and_starts_under_load() {
    let Some(mut redis) = Redis::start() else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let load = Load::start(&gate);
    load.goes_on().await;
    redis.stop();
    load.is_refused().await;
    redis.restart();
    load.goes_on().await;
    load.finds_all_at(&gate).await;
}

#[tokio::test]
async fn the_proxy_starts_without_its_servers_and_uses_them_when_they_come() {
    let (Some(mut postgres), Some(mut redis)) = (Postgres::start(), Redis::start()) else { return };
    postgres.stop();
    redis.stop();
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Database"]["Url"] = json!(postgres.url());
    config["State"]["Url"] = json!(redis.url());
    std::fs::write(folder.path().join("objects/audio/song.mp3"), "song").expect("a file");
    let gate = Gate::start(&config).await;
    gate.client().get("/stream/song.mp3", &[]).await.is(200);
    gate.admin().get("/readyz", &[]).await.is(200);
    let player = Player::new(&gate, "u");
    let refused = player.post("t", json!({ "positionMs": 1 })).await;
    assert_eq!((&refused.problem(503)["code"], refused.header("retry-after")), (&json!("unavailable"), "1"));
    let health: Value = serde_json::from_slice(&gate.admin().get("/health", &[]).await.is(200).body).expect("JSON");
    assert_eq!((&health["redis"], &health["database"]), (&json!("unavailable"), &json!("unavailable")));
    postgres.restart();
    redis.restart();
    eventually("positions are kept", async || {
        (player.post("t", json!({ "positionMs": 2 })).await.status == 204).then_some(())
    })
    .await;
    assert_eq!(player.get("t").await, Some(2));
    eventually("both are seen", async || {
        let health = gate.admin().get("/health", &[]).await.text();
        (health.contains("\"redis\":\"ok\"") && health.contains("\"database\":\"ok\"")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_moved_away_keeps_nothing_and_the_node_says_so() {
    let folder = TempFolder::new("positions");
    let config = in_a_file(&folder);
    let mut gate = Gate::start(&config).await;
    let player = Player::new(&gate, "u");
    player.save("t", json!({ "positionMs": 1 })).await;
    let (data, aside) = (folder.path().join("data"), folder.path().join("aside"));
    std::fs::rename(&data, &aside).expect("it can be moved");
    assert_eq!(player.post("t", json!({ "positionMs": 2 })).await.problem(503)["code"], "unavailable");
    player.send(http::Method::GET, &path("t"), None).await.problem(503);
    for (name, labels) in [
        ("tidegate_positions_reports_total", "outcome=\"kept\""),
        ("tidegate_positions_reports_total", "outcome=\"failed\""),
        ("tidegate_positions_rows_total", ""),
        ("tidegate_positions_reads_failed_total", ""),
    ] {
        assert_eq!(gate.metric(name, labels).await, 1.0, "{name} {labels}");
    }
    assert!(gate.metric("tidegate_positions_commit_seconds_count", "").await >= 1.0);
    let unready = async || (gate.admin().get("/readyz", &[]).await.status == 503).then_some(());
    eventually("the node is not ready", unready).await;
    assert!(gate.admin().get("/health", &[]).await.text().contains("\"database\":\"unavailable\""));
    assert!(!data.exists(), "nothing new is begun in its place");
    std::fs::rename(&aside, &data).expect("it can be moved");
    let ready = async || (gate.admin().get("/readyz", &[]).await.status == 200).then_some(());
    eventually("the node is ready", ready).await;
    assert_eq!(player.get("t").await, Some(1));
    player.save("t", json!({ "positionMs": 3 })).await;
    // Another file in its place is not taken for it either.
    std::fs::remove_file(data.join("tidegate.db")).expect("it can be removed");
    std::fs::write(data.join("tidegate.db"), "").expect("it can be written");
    player.post("t", json!({ "positionMs": 4 })).await.problem(503);
    assert!(gate.stop().await.success());
}

#[tokio::test]
async fn the_process_ends_though_redis_or_postgresql_never_answered() {
    let (Some(mut postgres), Some(mut redis)) = (Postgres::start(), Redis::start()) else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Share"] = json!({ "Token": "env:BEARER_TOKEN" });
    config["Database"]["Url"] = json!(postgres.url());
    config["State"]["Url"] = json!(redis.url());
    for frozen in [false, true] {
        if frozen {
            redis.restart();
            redis.freeze();
            postgres.freeze();
        } else {
            redis.stop();
        }
        let mut gate = Gate::start_with(&config, &[("BEARER_TOKEN", "a token of the share relay")]).await;
        // The grace is longer than the test.
        assert!(gate.stop().await.success(), "frozen: {frozen}");
    }
    redis.thaw();
    postgres.thaw();
}

#[tokio::test]
async fn a_position_whose_time_is_over_is_gone_and_any_report_is_newer() {
    const DAYS: i64 = 86_400_000;
    let folder = TempFolder::new("positions");
    let config = in_a_file(&folder);
    let gate = Gate::start(&config).await;
    let player = Player::new(&gate, "u");
    player.save("t", json!({ "positionMs": 500_000, "durationMs": 3_600_000 })).await;
    assert_eq!(player.get("t").await, Some(500_000));
    // Forty days pass for it.
    let pool = sqlx::SqlitePool::connect(config["Database"]["Url"].as_str().expect("a URL")).await.expect("SQLite");
    sqlx::query("UPDATE positions SET updated_at = updated_at - $1, reported_at = reported_at - $1")
        .bind(40 * DAYS)
        .execute(&pool)
        .await
        .expect("the table is there");
    assert_eq!(player.get("t").await, None);
    assert_eq!(player.progress("").await.0, Vec::<String>::new());
    let older = token::now() * 1000 - 50 * DAYS;
    player.save("t", json!({ "positionMs": 7, "timestamp": older })).await;
    assert_eq!(player.get("t").await, Some(7), "it is newer than what is over");
}
