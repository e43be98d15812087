//! Counts that several nodes share, in Redis: one script, one call for each request. Without an answer in time each node
//! counts for itself; nothing fails because of it.
//!
//! Keys are `limit:{policy:subject}:requests:rule` and `…:streams`; the braces keep both in one slot of a cluster. A stream
//! holds a lease that is renewed while it runs, so that those of a node that is gone free themselves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, KeysInterface, SortedSetsInterface};
use futures::future::try_join_all;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};

use super::metrics::SharedLimitMetrics;
use super::request_counter::{self, RateLimitStatus};
use super::retry_gate::RetryGate;
use super::settings::RequestLimit;
use crate::redis::Redis;
use crate::redis::keys::RedisKey;
use primitives::hexadecimal::hexadecimal;
use primitives::unix_time::{UnixMillis, whole_millis};

/// Timeout of commands for which no request waits.
const BACKGROUND_TIMEOUT: Duration = Duration::from_millis(500);
/// Lifetime of a lease without renewal.
const LEASE_TTL: Duration = Duration::from_secs(60);
/// Leases per batch.
const BATCH: usize = 512;
/// Most ended leases that wait for Redis, some 200 bytes each: others expire by themselves.
const MAX_ENDED_LEASES: usize = 1 << 16;

const SCRIPT: &str = include_str!("shared.lua");

/// No answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLimitsUnavailable;

/// Request about one subject.
pub struct SharedLimitRequest<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The subject.
    pub subject: &'a str,
    /// Limit of its requests.
    pub rule: Option<&'a RequestLimit>,
    /// Most streams of the subject.
    pub streams: Option<u32>,
    /// Time of the request.
    pub now: UnixMillis,
}

/// Lease of a stream that has ended.
pub struct EndedLease {
    lease: u64,
    key: String,
    /// Time at which it expires by itself.
    until: UnixMillis,
}

/// Answer of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLimitStatus {
    /// The decision.
    pub verdict: SharedLimitDecision,
    /// Status of the subject's requests, after this one.
    pub requests: RateLimitStatus,
    /// Its streams under way, this one included.
    pub streams: u64,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedLimitDecision {
    /// Taken.
    Granted,
    /// Refused: too many requests.
    TooManyRequests,
    /// Refused: too many streams.
    TooManyStreams,
}

/// The client of the shared counts.
pub struct SharedLimits {
    redis: Redis,
    /// Timeout of a request's command.
    budget: Duration,
    script: String,
    /// This node's name in leases; random, so that a restarted node is another one.
    node: String,
    next: AtomicU64,
    retry_gate: RetryGate,
    leases: Mutex<HashMap<u64, String>>,
    metrics: SharedLimitMetrics,
}

impl SharedLimits {
    /// Creates the client over `redis`, with the timeout `budget` for a request's command.
    pub fn new(redis: Redis, budget: Duration, metrics: SharedLimitMetrics) -> Self {
        let script = hexadecimal(&Sha1::digest(SCRIPT));
        let node = format!("{:016x}", rand::random::<u64>());
        let (next, rest, leases) = (AtomicU64::new(0), RetryGate::default(), Mutex::default());
        Self { redis, budget, script, node, next, retry_gate: rest, leases, metrics }
    }

    /// Creates a lease for a stream that is about to be requested; [`SharedLimits::end`] ends it.
    pub fn lease(&self, policy: &str, subject: &str) -> u64 {
        let lease = self.next.fetch_add(1, Ordering::Relaxed);
        let [_, streams] = self.keys(policy, subject, None);
        self.leases.lock().insert(lease, streams);
        lease
    }

    /// Takes a request, and a stream under `lease`.
    pub async fn take(
        &self,
        question: &SharedLimitRequest<'_>,
        lease: Option<u64>,
    ) -> Result<SharedLimitStatus, SharedLimitsUnavailable> {
        self.query(question, true, lease).await
    }

    /// Returns the status of the subject; nothing is taken.
    pub async fn peek(&self, question: &SharedLimitRequest<'_>) -> Result<SharedLimitStatus, SharedLimitsUnavailable> {
        self.query(question, false, None).await
    }

    async fn query(
        &self,
        question: &SharedLimitRequest<'_>,
        take: bool,
        lease: Option<u64>,
    ) -> Result<SharedLimitStatus, SharedLimitsUnavailable> {
        if !self.retry_gate.may_try(question.now) {
            self.metrics.skipped.inc();
            return Err(SharedLimitsUnavailable);
        }
        let keys = self.keys(question.policy, question.subject, question.rule);
        let arguments = self.arguments(question, take, lease);
        let answer = match self.call(keys, arguments).await {
            Ok(answer) => answer,
            Err(error) => {
                self.metrics.failed.inc();
                if is_of_subject(&error) {
                    tracing::debug!(%error, policy = question.policy, "a subject's count in Redis cannot be read; it is counted on this node");
                } else {
                    self.record_failure(question.now, &error);
                }
                return Err(SharedLimitsUnavailable);
            }
        };
        self.record_success();
        let [verdict, remaining, wait, streams] = answer.map(|number| u64::try_from(number).unwrap_or(0));
        let verdict = match verdict {
            0 => SharedLimitDecision::Granted,
            1 => SharedLimitDecision::TooManyRequests,
            _ => SharedLimitDecision::TooManyStreams,
        };
        let limit = question.rule.map_or(0, |rule| rule.limit().into());
        Ok(SharedLimitStatus {
            verdict,
            requests: RateLimitStatus { limit, remaining, reset: Duration::from_millis(wait) },
            streams,
        })
    }

    /// Runs the script by its hash; by its text if Redis does not know it: after its restart, or a `SCRIPT FLUSH`.
    async fn call(&self, keys: [String; 2], arguments: [String; 9]) -> Result<[i64; 4], Error> {
        let client = self.redis.client_with_timeout(self.budget);
        // Not fred's own commands for scripts: each of those has the connection to itself until it is answered.
        let call = async |command, script: &str| {
            let head = [script.to_owned(), keys.len().to_string()];
            let all: Vec<String> = head.into_iter().chain(keys.clone()).chain(arguments.clone()).collect();
            client.custom::<Vec<i64>, _>(Redis::command(command, &keys[0]), all).await
        };
        let calls = async {
            match call("EVALSHA", &self.script).await {
                Err(error) if error.details().starts_with("NOSCRIPT") => call("EVAL", SCRIPT).await,
                other => other,
            }
        };
        let answer = self.redis.run_with_timeout(self.budget, calls).await?;
        answer.try_into().map_err(|_| Error::new(ErrorKind::Protocol, "the script gives four numbers"))
    }

    fn arguments(&self, question: &SharedLimitRequest<'_>, take: bool, lease: Option<u64>) -> [String; 9] {
        let (kind, limit, a, b) = match question.rule {
            Some(RequestLimit::Window { permits, segment, segments }) => {
                ("window", *permits, request_counter::millis(*segment), u64::from(*segments))
            }
            Some(RequestLimit::Bucket { tokens, refill, period }) => {
                ("bucket", *tokens, u64::from(*refill), request_counter::millis(*period))
            }
            None => ("none", 0, 1, 1),
        };
        [
            question.now.to_string(),
            u8::from(take).to_string(),
            kind.to_owned(),
            limit.to_string(),
            a.to_string(),
            b.to_string(),
            question.streams.map_or_else(|| "-1".to_owned(), |most| most.to_string()),
            self.member(lease.unwrap_or(0)),
            (question.now + LEASE_TTL).to_string(),
        ]
    }

    fn member(&self, lease: u64) -> String {
        format!("{}:{lease}", self.node)
    }

    /// Returns the keys of the requests and the streams of a subject. Requests under a rule of another kind, or with windows
    /// of another length, are counted apart: after a reload, or while nodes differ, the script would else read what
    /// another rule has written.
    fn keys(&self, policy: &str, subject: &str, rule: Option<&RequestLimit>) -> [String; 2] {
        let rule = match rule {
            Some(RequestLimit::Window { segment, segments, .. }) => {
                format!("window-{}-{segments}", request_counter::millis(*segment))
            }
            Some(RequestLimit::Bucket { refill, period, .. }) => {
                format!("bucket-{refill}-{}", request_counter::millis(*period))
            }
            None => "none".to_owned(),
        };
        [RedisKey::LimitRequests { policy, subject, rule: &rule }, RedisKey::LimitStreams { policy, subject }]
            .map(|key| self.redis.key(key))
    }

    /// Stops renewing these leases; returns those that Redis has to be told of.
    pub fn end(&self, leases: impl Iterator<Item = u64>, now: UnixMillis) -> Vec<EndedLease> {
        let mut all = self.leases.lock();
        leases
            .filter_map(|lease| Some(EndedLease { lease, key: all.remove(&lease)?, until: now + LEASE_TTL }))
            .collect()
    }

    /// Removes ended leases from Redis. Those that failed stay in `ended`, until they have expired by themselves.
    pub async fn release(&self, ended: &mut Vec<EndedLease>, now: UnixMillis) {
        ended.retain(|ended| now < ended.until);
        ended.drain(..ended.len().saturating_sub(MAX_ENDED_LEASES));
        if ended.is_empty() || !self.retry_gate.may_try(now) {
            return;
        }
        let client = &self.redis.client_with_timeout(BACKGROUND_TIMEOUT);
        while !ended.is_empty() {
            let batch = &ended[..ended.len().min(BATCH)];
            let end = |ended: &EndedLease| {
                let (key, member) = (ended.key.clone(), self.member(ended.lease));
                async move { client.zrem::<(), _, _>(key, member).await }
            };
            if let Err(error) =
                self.redis.run_with_timeout(BACKGROUND_TIMEOUT, try_join_all(batch.iter().map(end))).await
            {
                return self.record_failure(now, &error);
            }
            ended.drain(..ended.len().min(BATCH));
        }
        self.record_success();
    }

    /// Renews the leases of the streams under way, also of those that began without Redis; returns false if that
    /// failed.
    pub async fn renew(&self, now: UnixMillis) -> bool {
        // Copied out: the lock must not be held across an await.
        let all: Vec<(u64, String)> = self.leases.lock().iter().map(|(lease, key)| (*lease, key.clone())).collect();
        if all.is_empty() {
            return true;
        }
        if !self.retry_gate.may_try(now) {
            return false;
        }
        let client = &self.redis.client_with_timeout(BACKGROUND_TIMEOUT);
        let ends = now + LEASE_TTL;
        for batch in all.chunks(BATCH) {
            let renew = |(lease, key): &(u64, String)| {
                let (key, member) = (key.clone(), self.member(*lease));
                async move {
                    client.zadd::<(), _, _>(&key, None, None, false, false, (ends.as_millis() as f64, member)).await?;
                    client.pexpire::<(), _>(&key, whole_millis(LEASE_TTL), None).await
                }
            };
            if let Err(error) =
                self.redis.run_with_timeout(BACKGROUND_TIMEOUT, try_join_all(batch.iter().map(renew))).await
            {
                self.record_failure(now, &error);
                return false;
            }
        }
        self.record_success();
        true
    }

    fn record_success(&self) {
        if self.retry_gate.record_success() {
            tracing::info!("limits are shared again");
        }
    }

    fn record_failure(&self, now: UnixMillis, error: &Error) {
        if self.retry_gate.record_failure(now) {
            let error = self.redis.error_text(error);
            tracing::warn!(error, "limits are not shared: Redis (State.Url) does not count");
        }
    }
}

/// Returns true where the script failed over what is kept of one subject: that is no reason to ask for no other.
fn is_of_subject(error: &Error) -> bool {
    error.details().contains("WRONGTYPE") || error.details().starts_with("ERR user_script")
}
