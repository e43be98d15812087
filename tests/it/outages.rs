//! Redis, PostgreSQL and Kafka stand still, die and come back, one after the other and all at once, while 200 players
//! stream and report: no stream fails, nothing that was acknowledged is lost, and nobody restarts Tidegate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::catalogue::{admin, send, tracks};
use crate::support::eventually::within;
use crate::support::kafka::OwnKafka;
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Client, Gate, Minio, Postgres, Redis, token};

const PLAYERS: usize = 200;
const USERS: usize = 100;
const TRACKS: usize = 20;
/// Bytes of a track, those that a player takes at once, and how often: a track plays for four seconds.
const TRACK: usize = 128 * 1024;
const PIECE: usize = 16 * 1024;
const PACE: Duration = Duration::from_millis(500);
/// 500 reports of positions a second, and a tenth as many events.
const REPORT_EVERY: Duration = Duration::from_millis(2);
const EVENT_EVERY: Duration = Duration::from_millis(20);
/// Requests under way at once, past which the machine and not Tidegate is slow: then fewer are sent.
const UNDER_WAY: usize = 100;
/// For whatever is waited for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of the load so far.
#[derive(Default)]
struct Tally {
    /// Tracks that were heard to their end.
    heard: AtomicUsize,
    /// Reports that were acknowledged, and those that were told to come again.
    kept: AtomicUsize,
    refused: AtomicUsize,
    /// Events that were told to come again: the disk was too slow.
    late: AtomicUsize,
    /// The newest acknowledged report of each user and track.
    positions: Mutex<BTreeMap<(usize, usize), i64>>,
    events: Mutex<BTreeSet<String>>,
    /// What must not be.
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Fails as soon as something is wrong.
    fn is_good(&self) {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty(), "{} times, first: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    }

    fn events(&self) -> usize {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Players begin and end tracks, and events are taken.
    async fn streams_go_on(&self) {
        let (heard, events) = (self.heard.load(Ordering::Relaxed), self.events());
        within(PATIENCE, "streams and events go on", async || {
            self.is_good();
            (self.heard.load(Ordering::Relaxed) >= heard + 100 && self.events() >= events + 100).then_some(())
        })
        .await;
    }

    async fn reports_go_on(&self) {
        let kept = self.kept.load(Ordering::Relaxed);
        within(PATIENCE, "reports are kept", async || {
            self.is_good();
            (self.kept.load(Ordering::Relaxed) >= kept + 500).then_some(())
        })
        .await;
    }

    async fn reports_are_refused(&self) {
        let refused = self.refused.load(Ordering::Relaxed);
        let more = async || (self.refused.load(Ordering::Relaxed) > refused).then_some(());
        within(PATIENCE, "reports are refused", more).await;
    }
}

/// Players, reports and events; they end with the set.
struct Load {
    tasks: JoinSet<()>,
    tally: Arc<Tally>,
}

impl Load {
    /// Half of the players show a token, half play a URL with one in it. All are known before they begin.
    async fn start(gate: &Gate, track: &Arc<[u8]>) -> Self {
        let mut this = Self { tasks: JoinSet::new(), tally: Arc::default() };
        let client = gate.client();
        for number in 0..PLAYERS {
            let (client, tally, track) = (client.clone(), Arc::clone(&this.tally), Arc::clone(track));
            let (user, id) = (user(number % USERS), id(number % TRACKS));
            let bearer = token::of(&user);
            let (path, bearer) = match number % 2 {
                0 => (format!("/api/v1/tracks/{id}/stream"), Some(bearer)),
                _ => (url(gate, &client, &id, &bearer).await, None),
            };
            let known = async || {
                let head = client.request(Method::HEAD, &path);
                let head = bearer.iter().fold(head, |head, bearer| head.bearer_auth(bearer));
                head.send().await.is_ok_and(|answer| answer.status() == 200).then_some(())
            };
            within(PATIENCE, "the player may have the track", known).await;
            this.tasks.spawn(async move {
                // Not all at once.
                tokio::time::sleep(PACE * 8 * u32::try_from(number).expect("small") / 200).await;
                loop {
                    match play(&client, &path, bearer.as_deref(), &track).await {
                        Ok(()) => drop(tally.heard.fetch_add(1, Ordering::Relaxed)),
                        Err(wrong) => tally.wrong(wrong),
                    }
                }
            });
        }
        this.tasks.spawn(reports(client.clone(), Arc::clone(&this.tally)));
        this.tasks.spawn(events(client, Arc::clone(&this.tally)));
        this
    }
}

/// The path of a streaming URL.
async fn url(gate: &Gate, client: &Client, id: &str, bearer: &str) -> String {
    let path = format!("/api/v1/tracks/{id}/stream-url");
    let said = client.get(&path, &[("authorization", &format!("Bearer {bearer}"))]).await;
    let said: Value = serde_json::from_slice(&said.is(200).body).expect("JSON");
    let url = said["streamUrl"].as_str().expect("a URL");
    url.strip_prefix(&gate.url()).expect("it is a URL of this gate").to_owned()
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

fn id(number: usize) -> String {
    format!("track-{number}")
}

/// Hears the track at its pace, every byte of it.
async fn play(client: &Client, path: &str, bearer: Option<&str>, track: &[u8]) -> Result<(), String> {
    let (began, mut heard) = (Instant::now(), 0);
    let broken = |error: reqwest::Error| {
        let kind = if error.is_timeout() { "timed out" } else { "broke" };
        format!("a stream {kind} after {:?}: {error:?}", began.elapsed())
    };
    let request = client.request(Method::GET, path);
    let request = bearer.into_iter().fold(request, |request, bearer| request.bearer_auth(bearer));
    let mut response = request.send().await.map_err(broken)?;
    if response.status() != 200 {
        return Err(format!("a stream was answered {}: {:?}", response.status(), response.text().await));
    }
    let mut pace = interval(PACE);
    let mut pause = PIECE;
    while let Some(bytes) = response.chunk().await.map_err(broken)? {
        if !track[heard..].starts_with(&bytes) {
            return Err(format!("wrong bytes after {heard}"));
        }
        heard += bytes.len();
        while pause <= heard {
            pace.tick().await;
            pause += PIECE;
        }
    }
    if heard == track.len() { Ok(()) } else { Err(format!("a clean end after {heard} bytes")) }
}

/// Sends a request every so often, however long the ones before it take, until the task ends.
async fn every(period: Duration, mut next: impl FnMut(usize) -> tokio::task::JoinHandle<()>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0.. {
        ticks.tick().await;
        drop(next(number));
    }
}

async fn reports(client: Client, tally: Arc<Tally>) {
    // In the past, so that no report is of the future.
    let begun = (token::now() - 3600) * 1000;
    let tokens: Vec<String> = (0..USERS).map(|number| token::of(&user(number))).collect();
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    every(REPORT_EVERY, |number| {
        let (user, track) = (number % USERS, number / USERS % 5);
        let position = i64::try_from(number).expect("small");
        let body = json!({ "positionMs": position, "durationMs": 10_000_000, "timestamp": begun + position });
        let path = format!("/api/v1/tracks/{}/position", id(track));
        let request = client.request(Method::POST, &path).bearer_auth(&tokens[user]).json(&body);
        let (tally, place) = (Arc::clone(&tally), Arc::clone(&places).try_acquire_owned());
        tokio::spawn(async move {
            if place.is_err() {
                return;
            }
            match request.send().await {
                Ok(answer) if answer.status() == 204 => {
                    let mut positions = tally.positions.lock().unwrap_or_else(PoisonError::into_inner);
                    let newest = positions.entry((user, track)).or_default();
                    *newest = position.max(*newest);
                    tally.kept.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) if answer.status() == 503 && answer.headers().contains_key("retry-after") => {
                    tally.refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => tally.wrong(format!("a report was answered {}", answer.status())),
                Err(error) => tally.wrong(format!("a report was not answered: {error:?}")),
            }
        })
    })
    .await;
}

async fn events(client: Client, tally: Arc<Tally>) {
    let tokens: Vec<String> = (0..USERS).map(|number| token::of(&user(number))).collect();
    every(EVENT_EVERY, |number| {
        let event_id = Uuid::now_v7().to_string();
        let body = json!({ "action": "Seek", "positionMs": number, "eventId": event_id });
        let path = format!("/api/v1/tracks/{}/events", id(number % TRACKS));
        let request = client.request(Method::POST, &path).bearer_auth(&tokens[number % USERS]).json(&body);
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            match request.send().await {
                Ok(answer) if answer.status() == 202 => {
                    tally.events.lock().unwrap_or_else(PoisonError::into_inner).insert(event_id);
                }
                Ok(answer) if answer.status() == 503 && answer.headers().contains_key("retry-after") => {
                    tally.late.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => tally.wrong(format!("an event was answered {}", answer.status())),
                Err(error) => tally.wrong(format!("an event was not answered: {error:?}")),
            }
        })
    })
    .await;
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
    within(PATIENCE, &format!("{part} is {state}"), async || {
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
    let began = Instant::now();
    within(PATIENCE, "everybody has heard a track", async || {
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
    within(PATIENCE, "every acknowledged event arrives", async || {
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
    is(gate, "kafka", "ok").await;
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
    for part in ["redis", "database", "kafka"] {
        is(gate, part, "ok").await;
    }
    tokio::join!(tally.streams_go_on(), tally.reports_go_on());
}
