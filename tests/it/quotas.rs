//! Limits over time: quotas that begin anew, leases of streams while a server is away, speeds that hold to the byte, and
//! what answers say of a quota.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use primitives::secret::Secret;
use serde_json::json;
use server_kit::database::Database;
use server_kit::database::settings::Settings;
use server_kit::limit::egress::{EgressAccount, EgressStore, EgressStoreError};
use server_kit::limit::egress_store::DatabaseEgressStore;
use server_kit::limit::rate_limiter::LimitKind;
use server_kit::limit::settings::EgressQuota;

use crate::limits::{Nodes, TRACK, bearer, connect, limited, node, policy};
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, Redis, ScriptedOrigin, eventually};
use primitives::clock::monotonic_now;
use primitives::unix_time::UnixMillis;

#[tokio::test]
async fn a_quota_that_only_this_node_knows_begins_anew_with_its_period() {
    let (clock, quota) = (Nodes::clock(), EgressQuota { bytes: 1000, period: Duration::from_secs(3600) });
    let limits = node(&[policy("quota", None, None, Some(quota))], &clock, None, None);
    let quota = limits.limiter("quota").expect("the policy");
    for _ in 0..3 {
        let permit = quota.admit("u:alice").await.expect("a new period");
        permit.record_sent(1000);
        assert_eq!(quota.admit("u:alice").await.err().map(|refused| refused.limit), Some(LimitKind::Egress));
        clock.advance(Duration::from_secs(3600));
        // What a stream under way is sent from now on counts in the period that has begun.
        permit.record_sent(400);
        let (standing, used) = quota.usage("u:alice").await.egress.expect("the policy has a quota");
        assert_eq!((used, standing.remaining), (400, 600));
        clock.advance(Duration::from_secs(3600));
    }
}

/// A ledger whose server does not answer.
struct Silent;

#[async_trait]
impl EgressStore for Silent {
    async fn read(&self, _: &EgressAccount) -> Result<u64, EgressStoreError> {
        Err(EgressStoreError("no answer".to_owned()))
    }

    async fn add(&self, _: &[(EgressAccount, u64)]) -> Result<Vec<Option<u64>>, EgressStoreError> {
        std::future::pending().await
    }

    async fn delete_ended(&self, _: UnixMillis) -> Result<(), EgressStoreError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn streams_keep_their_leases_and_end_them_while_the_ledger_does_not_answer() {
    let Some(redis) = Redis::start() else { return };
    let quota = EgressQuota { bytes: 1 << 40, period: Duration::from_secs(3600) };
    let (clock, all) = (Nodes::clock(), [policy("streams", None, Some(2), Some(quota))]);
    let limits = node(&all, &clock, Some(connect(redis.url()).await), Some(Arc::new(Silent)));
    let streams = limits.limiter("streams").expect("the policy");
    let (held, ends) = (streams.admit("u:alice").await.expect("one"), streams.admit("u:alice").await.expect("two"));
    held.record_sent(10);
    let leases = || redis.ask("KEYS it:limit:*:streams").lines().nth(2).map(str::to_owned);
    let key = leases().expect("the leases are there");
    let scores = || redis.ask(&format!("ZRANGE {key} 0 -1 WITHSCORES"));
    let before = scores();
    // By the clock, however long saving takes.
    clock.advance(Duration::from_secs(21));
    eventually("the leases are renewed", async || (scores() != before).then_some(())).await;
    drop(ends);
    eventually("a stream that ended has no lease", async || {
        redis.ask(&format!("ZCARD {key}")).contains(":1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_row_that_the_database_refuses_keeps_no_other_from_being_saved() {
    let folder = TempFolder::new("ledger");
    let Some(postgres) = Postgres::database().await else { return };
    for url in [postgres, crate::catalogue::sqlite(&folder)] {
        let is_postgres = url.starts_with("postgres");
        let settings = match url.strip_prefix("sqlite://") {
            Some(path) => Settings::Sqlite(path.into()),
            None => Settings::Postgres { url: Secret::new(url), connections: 2 },
        };
        let database = Database::open(&settings).await.expect("it opens");
        database.migrate().await.expect("it migrates");
        let ledger = DatabaseEgressStore(database);
        let account = |subject: &str| EgressAccount {
            policy: "quota".into(),
            subject: subject.into(),
            period: 1,
            ends: UnixMillis::MAX,
            left: Duration::from_secs(1),
        };
        let names = ["a", "bad\0one", "b", "c", "bad\0two"];
        let entries: Vec<_> = names.iter().map(|name| (account(name), 10)).collect();
        // A text of SQLite may have a NUL.
        let bad = (!is_postgres).then_some(10);
        assert_eq!(ledger.add(&entries).await, Ok(vec![Some(10), bad, Some(10), Some(10), bad]));
        assert_eq!(ledger.read(&account("b")).await, Ok(10));
        assert_eq!(ledger.read(&account("bad\0one")).await, Ok(bad.unwrap_or(0)));
    }
}

#[tokio::test]
async fn a_player_that_seeks_is_not_refused_while_postgresql_is_away() {
    let (Some(mut postgres), Some(redis)) = (Postgres::start(), Redis::start()) else { return };
    let origin = ScriptedOrigin::with_track(pattern(50_000)).await;
    let policy = json!({ "Concurrency": { "PermitLimit": 1 }, "EgressQuota": { "Bytes": "1GiB" } });
    let mut config = limited(&origin, policy);
    config["State"]["Url"] = json!(redis.url());
    config["Database"]["Url"] = json!(postgres.url());
    let gate = Gate::start(&config).await;
    let alice = bearer("alice");
    let seek = async || gate.client().get(TRACK, &[("authorization", &alice), ("range", "bytes=0-999")]).await.status;
    assert_eq!(seek().await, 206);
    postgres.freeze();
    for number in 0..12 {
        eventually(&format!("seek {number} is served"), async || (seek().await == 206).then_some(())).await;
    }
    eventually("that egress cannot be saved is counted", async || {
        (gate.metric("tidegate_limit_ledger_failures_total", "").await >= 1.0).then_some(())
    })
    .await;
    postgres.thaw();
}

#[tokio::test]
async fn a_lease_that_redis_was_not_told_the_end_of_ends_when_it_is_back() {
    let Some(mut redis) = Redis::start() else { return };
    let origin = ScriptedOrigin::with_track(pattern(30_000_000)).await;
    let mut config = limited(&origin, json!({ "Concurrency": { "PermitLimit": 1 } }));
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let alice = bearer("alice");
    let mut raw = gate.raw().await;
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\nAuthorization: {alice}\r\n\r\n").as_bytes()).await;
    raw.head().await.expect("a header");
    assert!(redis.ask("KEYS limit:*:streams").starts_with("*1"), "the stream has a lease");
    redis.stop();
    raw.reset();
    eventually("the stream has ended", async || {
        (gate.metric("novatune_stream_active_total", "").await == 0.0).then_some(())
    })
    .await;
    eventually("Redis is missed", async || {
        gate.client().get("/health", &[]).await.text().contains("\"redis\":\"unavailable\"").then_some(())
    })
    .await;
    redis.restart();
    assert!(
        redis.ask("KEYS limit:*:streams").starts_with("*1") || gate.log().contains("shared again"),
        "Redis kept it"
    );
    eventually("the place is free", async || redis.ask("KEYS limit:*:streams").starts_with("*0").then_some(())).await;
}

#[tokio::test]
async fn a_quota_alone_tells_how_the_caller_stands_and_a_refusal_says_what_refused() {
    let origin = ScriptedOrigin::with_track(pattern(50_000)).await;
    let gate = Gate::start(&limited(&origin, json!({ "EgressQuota": { "Bytes": 80_000, "Window": "30d" } }))).await;
    let alice = bearer("alice");
    let ask = async || gate.client().get(TRACK, &[("authorization", &alice)]).await;
    for left in ["80000", "30000"] {
        let reply = ask().await;
        reply.is(200);
        assert_eq!((reply.header("ratelimit-limit"), reply.header("ratelimit-remaining")), ("80000", left));
        assert!(reply.header("ratelimit-reset").parse::<u64>().is_ok_and(|reset| reset > 0));
    }
    let refused = ask().await;
    assert_eq!(refused.problem(429)["code"], "quota_used_up");
    assert_eq!((refused.header("ratelimit-limit"), refused.header("ratelimit-remaining")), ("80000", "0"));
    assert_eq!(refused.header("ratelimit-reset"), refused.header("retry-after"));
}

#[tokio::test]
async fn no_byte_goes_ahead_of_the_speed_but_the_burst() {
    const RATE: u64 = 400_000;
    const BURST: u64 = 40_000;
    const WHOLE: usize = 400_000;
    let origin = ScriptedOrigin::with_track(pattern(WHOLE)).await;
    let speed = json!({ "Bandwidth": { "BytesPerSecond": RATE, "Burst": BURST } });
    let mut cached = limited(&origin, speed.clone());
    cached["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    for config in [limited(&origin, speed), cached] {
        let gate = Gate::start(&config).await;
        let alice = bearer("alice");
        let mut raw = gate.raw().await;
        let request = format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\nAuthorization: {alice}\r\n\r\n");
        let started = monotonic_now();
        raw.send(request.as_bytes()).await;
        raw.head().await.expect("a header");
        let mut came = 0;
        while came < WHOLE {
            came += raw.exactly(1000).await.expect("the body goes on").len();
            let passed = u64::try_from(started.elapsed().as_micros()).expect("a short time");
            let allowed = BURST + RATE * passed / 1_000_000;
            assert!(came as u64 <= allowed, "{came} bytes after {passed} µs, where {allowed} are allowed");
        }
    }
}
