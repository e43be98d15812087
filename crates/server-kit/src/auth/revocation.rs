//! Generations of users: streaming URLs belong to the one in which they were issued, and a logout begins the next.
//! Stored where they are shared and durable: PostgreSQL, else Redis, else SQLite, else memory.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foyer::{Cache, CacheBuilder};
use fred::interfaces::KeysInterface;
use sha2::{Digest, Sha256};

use crate::database::Database;
use crate::on;
use crate::redis::Redis;
use crate::redis::keys::RedisKey;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::loading_cache::LoadingCache;

/// Time for which a generation is cached. With [`RECHECK_INTERVAL`] it is the time for which a revoked live stream may
/// go on.
const CACHE_TTL: Duration = Duration::from_millis(500);
/// Interval between two checks of a live stream.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Timeout of one Redis command.
const REDIS_TIMEOUT: Duration = Duration::from_millis(200);
/// Timeout of a query.
const DATABASE_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of a logout in the database: without an answer it has failed, and repeating it does no harm.
const ADVANCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest user id in bytes that is stored as it is; a longer one is stored as its digest.
const MAX_PLAIN_USER_BYTES: usize = 63;
/// Memory for cached generations, in bytes.
const CACHE_BYTES: usize = 16 << 20;
/// Memory for generations that are stored in memory only, in bytes; over 200,000 users with the longest ids: a logout
/// must not be displaced by a few others.
const MEMORY_STORE_BYTES: usize = 64 << 20;
/// Approximate bytes of one entry besides the user's id.
const ENTRY_OVERHEAD: usize = 192;

/// Store of the generations. A user who never logged out everywhere is in generation 0.
#[derive(Clone)]
pub enum TokenGenerationStore {
    /// In this process: they end with it.
    Memory(Cache<String, u32>),
    /// `stream.gen:{userId}`.
    Redis(Redis),
    /// The table `stream_generations`.
    Database(Database),
    /// The same in PostgreSQL, with a copy in Redis of those that were advanced, for the time without it.
    Copied(Database, Redis),
}

impl TokenGenerationStore {
    /// Chooses PostgreSQL where it is configured, else Redis, SQLite or memory, in this order.
    pub fn new(redis: Option<Redis>, database: Option<Database>) -> Self {
        match (redis, database) {
            (Some(redis), Some(database @ Database::Postgres(_))) => Self::Copied(database, redis),
            // PostgreSQL before Redis, since Redis may lose its last writes; SQLite after it, since it is not shared.
            (_, Some(database @ Database::Postgres(_))) => Self::Database(database),
            (Some(redis), _) => Self::Redis(redis),
            (None, Some(database)) => Self::Database(database),
            (None, None) => Self::Memory(in_memory(MEMORY_STORE_BYTES)),
        }
    }

    /// Returns the user's generation; an error is the reason for the operator.
    async fn read(&self, user: &str) -> Result<u32, String> {
        match self {
            Self::Memory(users) => Ok(users.get(user).map_or(0, |entry| *entry.value())),
            Self::Redis(redis) => read_redis(redis, key(redis, user)).await,
            Self::Database(database) | Self::Copied(database, _) => {
                let sql = "SELECT generation FROM stream_generations WHERE user_id = $1";
                let read = async {
                    on!(database, pool => sqlx::query_as::<_, (i64,)>(sql).bind(user).fetch_optional(pool).await)
                };
                let row = with_timeout(DATABASE_TIMEOUT, read).await?;
                Ok(row.map_or(0, |(generation,)| token_generation(generation)))
            }
        }
    }

    /// Starts the user's next generation and returns it; errors as in [`TokenGenerationStore::read`].
    async fn advance(&self, user: &str) -> Result<u32, String> {
        match self {
            Self::Memory(users) => {
                // A u32 of logouts per user never ends; wrapping rather than a panic if it did.
                let next = users.get(user).map_or(0, |entry| *entry.value()).wrapping_add(1);
                users.insert(user.to_owned(), next);
                Ok(next)
            }
            Self::Redis(redis) => {
                let client = redis.client_with_timeout(REDIS_TIMEOUT);
                let next: Result<i64, _> = redis.run_with_timeout(REDIS_TIMEOUT, client.incr(key(redis, user))).await;
                next.map(token_generation).map_err(|error| format!("Redis: {}", redis.error_text(&error)))
            }
            Self::Database(database) | Self::Copied(database, _) => {
                let sql = "INSERT INTO stream_generations (user_id, generation) VALUES ($1, 1) ON CONFLICT (user_id)
                    DO UPDATE SET generation = stream_generations.generation + 1 RETURNING generation";
                let advance =
                    async { on!(database, pool => sqlx::query_as::<_, (i64,)>(sql).bind(user).fetch_one(pool).await) };
                let (generation,) = with_timeout(ADVANCE_TIMEOUT, advance).await?;
                let generation = token_generation(generation);
                self.copy(user, generation).await;
                Ok(generation)
            }
        }
    }

    /// Copies a generation to Redis. If that fails what begins by an older one is revoked as soon as the database answers.
    async fn copy(&self, user: &str, generation: u32) {
        let Self::Copied(_, redis) = self else { return };
        let client = redis.client_with_timeout(REDIS_TIMEOUT);
        let set = client.set::<(), _, _>(copy_key(redis, user), generation, None, None, false);
        let _: Result<(), _> = redis.run_with_timeout(REDIS_TIMEOUT, set).await;
    }

    /// Returns the copy of the user's generation; `None` if there is no Redis that answers.
    async fn read_copy(&self, user: &str) -> Option<u32> {
        let Self::Copied(_, redis) = self else { return None };
        read_redis(redis, copy_key(redis, user)).await.ok()
    }
}

async fn read_redis(redis: &Redis, key: String) -> Result<u32, String> {
    let client = redis.client_with_timeout(REDIS_TIMEOUT);
    let read: Result<Option<u32>, _> = redis.run_with_timeout(REDIS_TIMEOUT, client.get(key)).await;
    read.map(Option::unwrap_or_default).map_err(|error| format!("Redis: {}", redis.error_text(&error)))
}

/// Runs a query within `budget`; an error is its reason.
async fn with_timeout<T>(budget: Duration, asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, String> {
    let answer = tokio::time::timeout(budget, asked).await;
    let answer = answer.map_err(|_| "the database: no answer in time".to_owned())?;
    answer.map_err(|error| format!("the database: {}", line(&chain(&error))))
}

/// Creates a store of about `bytes` at most. Weighted by length, since ids come from users.
fn in_memory(bytes: usize) -> Cache<String, u32> {
    CacheBuilder::new(bytes).with_weighter(|user: &String, _| ENTRY_OVERHEAD + user.len()).build()
}

fn key(redis: &Redis, user: &str) -> String {
    redis.key(RedisKey::StreamGeneration { user })
}

/// Returns the key of a copy. It is another one, since what Redis kept before there was a database may be newer than the
/// database.
fn copy_key(redis: &Redis, user: &str) -> String {
    redis.key(RedisKey::StreamGenerationCopy { user })
}

/// Returns the key of a user: the id itself, or the digest of a long one.
fn storage_id(user: &str) -> Cow<'_, str> {
    // `~` marks a digest, so an id that begins with it is hashed too: nobody can name another's entry.
    if user.len() <= MAX_PLAIN_USER_BYTES && !user.starts_with('~') {
        return Cow::Borrowed(user);
    }
    let digest = Sha256::digest(user.as_bytes());
    Cow::Owned(format!("~{}", URL_SAFE_NO_PAD.encode(&digest[..24])))
}

/// Returns the low 32 bits of a counter, which a token holds.
fn token_generation(generation: i64) -> u32 {
    let [.., a, b, c, d] = generation.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Revocations, with a cache for requests.
pub struct TokenRevocations {
    generations: TokenGenerationStore,
    cache: LoadingCache<u32>,
    failures: Arc<FailureLog>,
}

impl TokenRevocations {
    /// Creates the revocations over `generations`.
    pub fn new(generations: TokenGenerationStore) -> Self {
        let remembered = LoadingCache::new(CACHE_BYTES, CACHE_TTL, true, |_| 0);
        Self { generations, cache: remembered, failures: Arc::default() }
    }

    /// Returns the user's generation now; `None` if the store does not answer.
    pub async fn current(&self, user: &str) -> Option<u32> {
        log_outcome(&self.failures, self.generations.read(&storage_id(user)).await)
    }

    /// Returns the user's generation as of a moment ago, or the last known one.
    pub async fn recent(&self, user: &str) -> Option<u32> {
        let user = storage_id(user);
        let ask = || {
            let (generations, user) = (self.generations.clone(), user.clone().into_owned());
            let failures = Arc::clone(&self.failures);
            async move { log_outcome(&failures, generations.read(&user).await) }
        };
        self.cache.get(&user, ask).await
    }

    /// Returns the user's generation for what is to begin: the one of now, else the last known one, else the copy in Redis.
    /// That may be too old, never too new: what begins by an old one is revoked when the store answers again.
    pub async fn last_known(&self, user: &str) -> Option<u32> {
        if let Some(generation) = self.current(user).await {
            // Most users have never logged out, and have no copy.
            if generation > 0 {
                self.generations.copy(&storage_id(user), generation).await;
            }
            return Some(generation);
        }
        match self.recent(user).await {
            Some(generation) => Some(generation),
            None => self.generations.read_copy(&storage_id(user)).await,
        }
    }

    /// Revokes everything that was issued to the user so far; returns false if the store does not answer.
    pub async fn revoke(&self, user: &str) -> bool {
        let user = storage_id(user);
        let advanced = log_outcome(&self.failures, self.generations.advance(&user).await);
        // Also after a failure: the store may have counted it all the same.
        self.cache.invalidate(&user);
        advanced.is_some()
    }

    /// Returns true if a URL of the user's `generation` is revoked. False while the store does not answer.
    pub async fn is_revoked(&self, user: &str, generation: u32) -> bool {
        // The cached generation may be older than that of the URL.
        self.recent(user).await.is_some_and(|now| now > generation)
    }

    /// Resolves when everything that was issued to the user in `generation`, or, if `None`, by now, is revoked.
    pub async fn wait_until_revoked(&self, user: &str, generation: Option<u32>) {
        let mut began = generation;
        loop {
            // Boxed, here and below: a stream that waits keeps no room for a question to the database, which is 8 KiB.
            if began.is_none() {
                began = Box::pin(self.current(user)).await;
            }
            // A question every two seconds for each live stream; most are answered by the cache.
            tokio::time::sleep(RECHECK_INTERVAL).await;
            let is_revoked = match began {
                Some(began) => Box::pin(self.is_revoked(user, began)).await,
                None => false,
            };
            if is_revoked {
                return;
            }
        }
    }
}

/// Returns the answer; a failure is logged.
fn log_outcome<T>(failures: &FailureLog, answer: Result<T, String>) -> Option<T> {
    match answer {
        Ok(answer) => {
            if failures.is_over(monotonic_now()) {
                tracing::info!("logouts can be kept and read again");
            }
            Some(answer)
        }
        Err(error) => {
            if failures.is_news(&error, monotonic_now()) {
                tracing::warn!(
                    error,
                    "logouts cannot be kept or read: streaming URLs are good as far as this node knows"
                );
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_node_knows_of_a_logout_after_half_a_second_and_ends_live_streams_within_five() {
        let shared = in_memory(1 << 20);
        let [one, two] = [(); 2].map(|()| TokenRevocations::new(TokenGenerationStore::Memory(shared.clone())));
        let began = monotonic_now();
        let stream = async {
            two.wait_until_revoked("alice", Some(0)).await;
            monotonic_now() - began
        };
        // As late as can be: the other node asks for the last time, and then the user logs out.
        let logout = RECHECK_INTERVAL - Duration::from_millis(1);
        let requests = async {
            tokio::time::sleep(logout).await;
            assert!(!two.is_revoked("alice", 0).await);
            assert!(one.revoke("alice").await && one.is_revoked("alice", 0).await, "at once where it was asked");
            assert!(!two.is_revoked("alice", 0).await, "it believes what it was told for its time");
            tokio::time::sleep(CACHE_TTL).await;
            assert!(two.is_revoked("alice", 0).await);
        };
        let (ended, ()) = tokio::join!(stream, requests);
        assert!(ended - logout <= RECHECK_INTERVAL + CACHE_TTL, "{:?} after the logout", ended - logout);
        assert!(RECHECK_INTERVAL + CACHE_TTL <= Duration::from_secs(5), "docs/streaming-urls.md");
    }

    #[tokio::test]
    async fn generations_in_memory_are_bounded_in_bytes() {
        let kept = in_memory(1 << 20);
        let revocations = TokenRevocations::new(TokenGenerationStore::Memory(kept.clone()));
        for number in 0..20_000 {
            assert!(revocations.revoke(&format!("{number}{}", "x".repeat(50))).await);
        }
        let used = kept.usage();
        assert!((1 << 19..=1 << 20).contains(&used), "{used}");
        assert!(kept.entries() * (ENTRY_OVERHEAD + 50) <= 1 << 20, "{} entries", kept.entries());
        assert_eq!(revocations.current(&format!("19999{}", "x".repeat(50))).await, Some(1));
    }
}
