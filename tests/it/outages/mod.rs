//! Redis, PostgreSQL and Kafka stand still, die and come back, one after the other and all at once, while 200 players
//! stream and report: no stream fails, nothing that was acknowledged is lost, and nobody restarts Tidegate.

mod load;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use self::load::{Load, Tally};
use crate::catalogue::{admin, send, tracks};
use crate::support::kafka::OwnKafka;
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Minio, Postgres, Redis, eventually, token};
use primitives::clock::monotonic_now;

const PLAYERS: usize = 200;
const USERS: usize = 100;
const TRACKS: usize = 20;
/// Bytes of a track, those that a player takes at once, and how often: a track plays for four seconds.
const TRACK: usize = 128 * 1024;
const PIECE: usize = 16 * 1024;
const PACE: Duration = Duration::from_millis(500);

fn user(number: usize) -> String {
    format!("user-{number}")
}

fn id(number: usize) -> String {
    format!("track-{number}")
}

/// What stands behind the gate.
struct Servers {
    redis: Redis,
    postgres: Postgres,
    kafka: OwnKafka,
}

impl Servers {
    async fn start() -> Option<Self> {
        let start = || Some(Self { redis: Redis::start()?, postgres: Postgres::start()?, kafka: OwnKafka::start()? });
        tokio::task::spawn_blocking(start).await.expect("they start")
    }

    /// Everything at once: the catalogue, grants, limits and quotas, streaming URLs, positions, events.
    fn config(&self, minio: &Minio, folder: &TempFolder) -> Value {
        let mut config = tracks(&minio.url(), &self.postgres.url());
        config["State"]["Url"] = json!(self.redis.url());
        config["Events"] = json!({
            "Kafka": { "Brokers": [self.kafka.broker()] },
            "Outbox": { "Path": folder.path().join("outbox") },
            "FromStreams": true,
        });
        config["Auth"]["PathToken"] = json!({ "Keys": ["env:PATH_TOKEN_KEY"] });
        config["Auth"]["EndRevokedStreams"] = json!(true);
        let window = json!({ "PermitLimit": 1_000_000, "Window": "1m", "SegmentsPerWindow": 6 });
        config["Policies"]["RateLimiter"] = json!({
            "streaming": { "SlidingWindow": window, "Concurrency": { "PermitLimit": 50 },
                "EgressQuota": { "Bytes": "1TiB", "Window": "30d" } },
            "standard": { "SlidingWindow": window },
            "positions": { "SlidingWindow": window },
        });
        config["Policies"]["Authorization"]["granted"] = json!({ "Grants": true });
        let route = &mut config["ReverseProxy"]["Routes"]["track"];
        route["RateLimiterPolicy"] = json!("streaming");
        route["AuthorizationPolicy"] = json!("granted");
        config
    }
}

/// Waits until the gate says that this part of it is in this state.
async fn is(gate: &Gate, part: &str, state: &str) {
    let admin = gate.admin();
    eventually(&format!("{part} is {state}"), async || {
        let health: Value = serde_json::from_slice(&admin.get("/health", &[]).await.body).expect("JSON");
        (health[part] == state).then_some(())
    })
    .await;
}

async fn fill(gate: &Gate, minio: &Minio, track: &[u8]) {
    minio.put("track.mp3", track.to_vec()).await;
    for number in 0..TRACKS {
        let track = json!({ "id": id(number), "store": "main", "bucket": minio.name(), "key": "track.mp3" });
        send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    }
    let everybody = json!({ "userId": "*", "trackPrefix": "track-" });
    send(gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(everybody)).await.is(201);
}

/// What was acknowledged is there, or something newer that was not.
async fn positions_are_there(gate: &Gate, acknowledged: &BTreeMap<(usize, usize), i64>) {
    let client = gate.client();
    for ((number, track), position) in acknowledged {
        let bearer = format!("Bearer {}", token::of(&user(*number)));
        let path = format!("/api/v1/tracks/{}/position", id(*track));
        let reply = client.get(&path, &[("authorization", &bearer)]).await;
        let found: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
        let found = found["positionMs"].as_i64();
        assert!(found >= Some(*position), "{path} of {number}: {position} was acknowledged, {found:?} is there");
    }
}

#[expect(clippy::print_stderr, reason = "how much was done is worth knowing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_goes_and_comes_back_under_load_and_nobody_loses_anything() {
    let (Some(minio), Some(mut servers)) = (Minio::bucket().await, Servers::start().await) else { return };
    let folder = TempFolder::new("outages");
    let key = [("PATH_TOKEN_KEY", "the key of path tokens in this test, 32 bytes or more")];
    let mut gate = Gate::start_with(&servers.config(&minio, &folder), &key).await;
    let track: Arc<[u8]> = pattern(TRACK).into();
    fill(&gate, &minio, &track).await;
    let mut load = Load::start(&gate, &track).await;
    let tally = Arc::clone(&load.tally);
    let began = monotonic_now();
    eventually("everybody has heard a track", async || {
        tally.is_good();
        (tally.heard.load(Ordering::Relaxed) >= PLAYERS).then_some(())
    })
    .await;
    redis_goes(&gate, &tally, &mut servers.redis).await;
    kafka_goes(&gate, &tally, &mut servers.kafka).await;
    // A busy machine may hold up a few.
    let (kept, refused) = (tally.kept.load(Ordering::Relaxed), tally.refused.load(Ordering::Relaxed));
    assert!(refused * 20 < kept, "neither is needed for a report: {kept} were kept, {refused} refused");
    postgres_goes(&gate, &tally, &mut servers.postgres).await;
    all_go(&gate, &tally, &mut servers).await;
    let lasted = began.elapsed();
    load.tasks.shutdown().await;
    tally.is_good();
    assert!(gate.is_alive());
    let acknowledged = tally.positions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(acknowledged.len(), USERS * 5, "everybody reported every track");
    positions_are_there(&gate, &acknowledged).await;
    assert!(servers.redis.ask("FLUSHALL").starts_with("+OK"));
    positions_are_there(&gate, &acknowledged).await;
    let ids = tally.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let topic = servers.kafka.topic("playback.events");
    eventually("every acknowledged event arrives", async || {
        let arrived = topic.read().await.iter().map(|one| one.header("event-id").to_owned()).collect();
        ids.is_subset(&arrived).then_some(())
    })
    .await;
    assert_eq!(gate.metric("tidegate_events_dropped_total", "").await, 0.0);
    let (kept, refused) = (tally.kept.load(Ordering::Relaxed), tally.refused.load(Ordering::Relaxed));
    let (heard, late) = (tally.heard.load(Ordering::Relaxed), tally.late.load(Ordering::Relaxed));
    eprintln!(
        "{lasted:?}: {heard} tracks, {kept} reports kept and {refused} refused, {} events kept and {late} refused",
        ids.len()
    );
    assert!(kept >= 5_000, "{kept} reports are no load");
    assert!(late * 20 < ids.len(), "{late} events were refused, {} kept", ids.len());
}

async fn redis_goes(gate: &Gate, tally: &Tally, redis: &mut Redis) {
    redis.freeze();
    is(gate, "redis", "unavailable").await;
    tokio::join!(tally.streams_go_on(), tally.reports_go_on());
    redis.thaw();
    is(gate, "redis", "ok").await;
    redis.kill();
    is(gate, "redis", "unavailable").await;
    tokio::join!(tally.streams_go_on(), tally.reports_go_on());
    block_in_place(|| redis.restart());
    is(gate, "redis", "ok").await;
    tally.reports_go_on().await;
}

async fn kafka_goes(gate: &Gate, tally: &Tally, kafka: &mut OwnKafka) {
    block_in_place(|| kafka.kill());
    is(gate, "kafka", "unavailable").await;
    tokio::join!(tally.streams_go_on(), tally.reports_go_on());
    block_in_place(|| kafka.restart());
    is(gate, "kafka", "enabled").await;
}

async fn postgres_goes(gate: &Gate, tally: &Tally, postgres: &mut Postgres) {
    postgres.freeze();
    is(gate, "database", "unavailable").await;
    // Nobody is left without an answer.
    let track = json!({ "id": "new", "store": "main", "bucket": "audio", "key": "track.mp3" });
    let admin = admin();
    let (added, listed) = tokio::join!(
        send(gate, Method::POST, "/api/v1/admin/tracks", &admin, Some(track)),
        send(gate, Method::GET, "/api/v1/admin/grants?user_id=a", &admin, None),
    );
    added.problem(503);
    listed.problem(503);
    tokio::join!(tally.streams_go_on(), tally.reports_are_refused());
    postgres.thaw();
    is(gate, "database", "ok").await;
    tally.reports_go_on().await;
    block_in_place(|| postgres.kill());
    is(gate, "database", "unavailable").await;
    tokio::join!(tally.streams_go_on(), tally.reports_are_refused());
    block_in_place(|| postgres.restart());
    is(gate, "database", "ok").await;
    tally.reports_go_on().await;
}

async fn all_go(gate: &Gate, tally: &Tally, servers: &mut Servers) {
    servers.redis.freeze();
    servers.postgres.freeze();
    servers.kafka.freeze();
    for part in ["redis", "database", "kafka"] {
        is(gate, part, "unavailable").await;
    }
    tokio::join!(tally.streams_go_on(), tally.reports_are_refused());
    servers.redis.thaw();
    servers.postgres.thaw();
    servers.kafka.thaw();
    for (part, state) in [("redis", "ok"), ("database", "ok"), ("kafka", "enabled")] {
        is(gate, part, state).await;
    }
    tokio::join!(tally.streams_go_on(), tally.reports_go_on());
}
