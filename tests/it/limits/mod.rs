//! Limits: the same contract in memory and over a real Redis, and the shipped binary under it.

mod contract;
mod egress;
mod requests;
mod storms;
mod streams;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use primitives::clock::Clock;
use primitives::secret::Secret;
use prometheus::Registry;
use serde_json::{Value, json};
use server_kit::limit::RateLimiters;
use server_kit::limit::egress::EgressStore;
use server_kit::limit::metrics::LimitMetrics;
use server_kit::limit::rate_limiter::{LimitKind, LimitRejection, RateLimitPermit};
use server_kit::limit::settings::{EgressQuota, LimitPartition, RateLimitPolicy, RequestLimit};
use server_kit::redis;

use crate::support::redis::Redis;
use crate::support::{ScriptedOrigin, config, eventually, token};

/// The track of every test here.
pub const TRACK: &str = "/stream/track.mp3";
const MINUTE: Duration = Duration::from_secs(60);

/// A policy by user.
pub fn policy(
    name: &str,
    requests: Option<RequestLimit>,
    streams: Option<u32>,
    egress: Option<EgressQuota>,
) -> RateLimitPolicy {
    RateLimitPolicy { name: name.into(), requests, streams, bandwidth: None, egress, partition: LimitPartition::User }
}

fn policies() -> Vec<RateLimitPolicy> {
    let window = |permits, segments| Some(RequestLimit::Window { permits, segment: MINUTE / segments, segments });
    let bucket = RequestLimit::Bucket { tokens: 5, refill: 2, period: Duration::from_secs(10) };
    vec![
        policy("sliding", window(10, 6), None, None),
        policy("fixed", window(10, 1), None, None),
        policy("bucket", Some(bucket), None, None),
        policy("streams", None, Some(3), None),
        policy("both", window(10, 6), Some(2), None),
    ]
}

/// Nodes that count together: one in memory, or several over one Redis.
pub struct Nodes {
    clock: Clock,
    all: Vec<RateLimiters>,
    next: usize,
}

impl Nodes {
    /// A clock at the beginning of a minute.
    pub fn clock() -> Clock {
        Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_040))
    }

    fn in_memory() -> Self {
        let clock = Self::clock();
        let all = vec![node(&policies(), &clock, None, None)];
        Self { clock, all, next: 0 }
    }

    async fn over(redis: &Redis, count: usize) -> Self {
        Self::at(redis.url(), count).await
    }

    async fn at(url: String, count: usize) -> Self {
        let (clock, mut all) = (Self::clock(), Vec::new());
        for _ in 0..count {
            all.push(node(&policies(), &clock, Some(connect(url.clone()).await), None));
        }
        Self { clock, all, next: 0 }
    }

    /// Asks one node after the other.
    async fn ask(&mut self, policy: &str, subject: &str) -> Result<RateLimitPermit, LimitRejection> {
        self.next += 1;
        let node = &self.all[self.next % self.all.len()];
        node.limiter(policy).expect("the policy is there").admit(subject).await
    }

    /// How many of `tries` requests pass.
    async fn pass(&mut self, policy: &str, tries: usize) -> usize {
        let mut passed = 0;
        for _ in 0..tries {
            passed += usize::from(self.ask(policy, "u:alice").await.is_ok());
        }
        passed
    }
}

/// The limits of one node; its worker runs until the test ends.
pub fn node(
    policies: &[RateLimitPolicy],
    clock: &Clock,
    redis: Option<redis::Redis>,
    ledger: Option<Arc<dyn EgressStore>>,
) -> RateLimiters {
    let metrics = LimitMetrics::new(&Registry::new()).expect("they register");
    // Longer than a node waits: here the count is looked at, and not the time.
    let redis = redis.map(|redis| (redis, Duration::from_secs(10)));
    let (limits, worker) = RateLimiters::new(&policies.to_vec(), clock, redis, ledger, &metrics);
    tokio::spawn(worker.run(std::future::pending()));
    limits
}

/// A client of Redis with a prefix of its own.
pub async fn connect(url: String) -> redis::Redis {
    let settings = redis::settings::Settings { url: Secret::new(url), prefix: "it:".to_owned() };
    redis::Redis::connect(&settings).await.expect("the address can be used")
}

async fn adds_up(ledger: impl Fn() -> Arc<dyn EgressStore>) {
    let (clock, quota) = (Nodes::clock(), EgressQuota { bytes: 1000, period: Duration::from_secs(86_400) });
    let all = [policy("quota", None, None, Some(quota))];
    let nodes: Vec<RateLimiters> = (0..2).map(|_| node(&all, &clock, None, Some(ledger()))).collect();
    let of = |node: usize| nodes[node].limiter("quota").expect("the policy");
    let used = async |node: usize| of(node).usage("u:alice").await.egress.expect("the policy has a quota").1;
    let permit = of(0).admit("u:alice").await.expect("nothing is used");
    permit.record_sent(600);
    assert_eq!(used(0).await, 600, "counted at once");
    let fresh = node(&all, &clock, None, Some(ledger()));
    eventually("another node reads it", async || {
        let late = node(&all, &clock, None, Some(ledger()));
        let egress = late.limiter("quota").expect("the policy").usage("u:alice").await.egress;
        egress.filter(|(_, used)| *used == 600)
    })
    .await;
    fresh.limiter("quota").expect("the policy").admit("u:alice").await.expect("400 are left").record_sent(400);
    let refused = eventually("a third refuses", async || {
        node(&all, &clock, None, Some(ledger())).limiter("quota").expect("the policy").admit("u:alice").await.err()
    });
    assert_eq!(refused.await.limit, LimitKind::Egress);
    clock.advance(Duration::from_secs(86_400));
    assert!(of(1).admit("u:alice").await.is_ok(), "a new period");
}

/// A gate whose stream route has this policy, with tokens.
pub fn limited(origin: &ScriptedOrigin, policy: Value) -> Value {
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Policies"]["RateLimiter"]["streaming"] = policy;
    config["ReverseProxy"]["Routes"]["stream"]["RateLimiterPolicy"] = json!("streaming");
    config
}

fn hundred() -> Value {
    json!({ "SlidingWindow": { "PermitLimit": 100, "Window": "1h", "SegmentsPerWindow": 6 }, "PartitionBy": "User" })
}

/// The header of a token of `user`.
pub fn bearer(user: &str) -> String {
    format!("Bearer {}", token::of(user))
}
