//! Every user's generation: streaming URLs are of the one in which they were made, and a logout begins the next. Kept
//! where it is shared and lasts: PostgreSQL, else Redis, else SQLite, else in memory.

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

/// How long a generation is believed while a URL is used. With [`RECHECK_INTERVAL`] it is what a live stream may go on for.
const CACHE_TTL: Duration = Duration::from_millis(500);
/// Between two looks of a live stream.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);
/// For a command to Redis.
const REDIS_TIMEOUT: Duration = Duration::from_millis(200);
/// For a question to the database.
const DATABASE_TIMEOUT: Duration = Duration::from_millis(500);
/// For a logout in the database: one that does not answer is none, and twice is once.
const ADVANCE_TIMEOUT: Duration = Duration::from_secs(2);
/// A user's id that is longer is looked up by its digest.
const MAX_PLAIN_USER_BYTES: usize = 63;
/// Bytes of users' generations that are remembered.
const CACHE_BYTES: usize = 16 << 20;
/// Bytes of users' generations where they are kept in memory alone, over 200,000 users with the longest ids: a logout must
/// not be lost to a few others.
const MEMORY_STORE_BYTES: usize = 64 << 20;
/// Bytes that one of those takes besides the user's id, nearly.
const ENTRY_OVERHEAD: usize = 192;

/// Where the generations are. A user who never logged out everywhere is in generation 0.
#[derive(Clone)]
pub enum TokenGenerationStore {
    /// In this process: they end with it.
    Memory(Cache<String, u32>),
    /// `stream.gen:{userId}`.
    Redis(Redis),
    /// The table `stream_generations`.
    Database(Database),
}

impl TokenGenerationStore {
    /// The best of what there is.
    pub fn new(redis: Option<Redis>, database: Option<Database>) -> Self {
        match (redis, database) {
            (_, Some(database @ Database::Postgres(_))) => Self::Database(database),
            (Some(redis), _) => Self::Redis(redis),
            (None, Some(database)) => Self::Database(database),
            (None, None) => Self::Memory(in_memory(MEMORY_STORE_BYTES)),
        }
    }

    /// The user's generation; the error is why there is no telling now, for the operator.
    async fn read(&self, user: &str) -> Result<u32, String> {
        match self {
            Self::Memory(users) => Ok(users.get(user).map_or(0, |entry| *entry.value())),
            Self::Redis(redis) => {
                let client = redis.client_with_timeout(REDIS_TIMEOUT);
                let read: Result<Option<u32>, _> =
                    redis.run_with_timeout(REDIS_TIMEOUT, client.get(key(redis, user))).await;
                read.map(Option::unwrap_or_default).map_err(|error| format!("Redis: {}", redis.error_text(&error)))
            }
            Self::Database(database) => {
                let sql = "SELECT generation FROM stream_generations WHERE user_id = $1";
                let read = async {
                    on!(database, pool => sqlx::query_as::<_, (i64,)>(sql).bind(user).fetch_optional(pool).await)
                };
                let row = with_timeout(DATABASE_TIMEOUT, read).await?;
                Ok(row.map_or(0, |(generation,)| token_generation(generation)))
            }
        }
    }

    /// Begins the user's next generation and says which it is; the error as of [`TokenGenerationStore::read`].
    async fn advance(&self, user: &str) -> Result<u32, String> {
        match self {
            Self::Memory(users) => {
                let next = users.get(user).map_or(0, |entry| *entry.value()).wrapping_add(1);
                users.insert(user.to_owned(), next);
                Ok(next)
            }
            Self::Redis(redis) => {
                let client = redis.client_with_timeout(REDIS_TIMEOUT);
                let next: Result<i64, _> = redis.run_with_timeout(REDIS_TIMEOUT, client.incr(key(redis, user))).await;
                next.map(token_generation).map_err(|error| format!("Redis: {}", redis.error_text(&error)))
            }
            Self::Database(database) => {
                let sql = "INSERT INTO stream_generations (user_id, generation) VALUES ($1, 1) ON CONFLICT (user_id)
                    DO UPDATE SET generation = stream_generations.generation + 1 RETURNING generation";
                let advance =
                    async { on!(database, pool => sqlx::query_as::<_, (i64,)>(sql).bind(user).fetch_one(pool).await) };
                let (generation,) = with_timeout(ADVANCE_TIMEOUT, advance).await?;
                Ok(token_generation(generation))
            }
        }
    }
}

/// The database's answer within `budget`, or why there is none.
async fn with_timeout<T>(budget: Duration, asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, String> {
    let answer = tokio::time::timeout(budget, asked).await;
    let answer = answer.map_err(|_| "the database: no answer in time".to_owned())?;
    answer.map_err(|error| format!("the database: {}", line(&chain(&error))))
}

/// Generations in about `bytes` of memory at most: ids come from users.
fn in_memory(bytes: usize) -> Cache<String, u32> {
    CacheBuilder::new(bytes).with_weighter(|user: &String, _| ENTRY_OVERHEAD + user.len()).build()
}

fn key(redis: &Redis, user: &str) -> String {
    redis.key(RedisKey::StreamGeneration { user })
}

/// The user's id as generations are kept by: itself, or where it is long its digest.
fn storage_id(user: &str) -> Cow<'_, str> {
    if user.len() <= MAX_PLAIN_USER_BYTES && !user.starts_with('~') {
        return Cow::Borrowed(user);
    }
    let digest = Sha256::digest(user.as_bytes());
    Cow::Owned(format!("~{}", URL_SAFE_NO_PAD.encode(&digest[..24])))
}

/// What of a counter stands in a token.
fn token_generation(generation: i64) -> u32 {
    let [.., a, b, c, d] = generation.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The generations, as requests ask for them.
pub struct TokenRevocations {
    generations: TokenGenerationStore,
    cache: LoadingCache<u32>,
    failures: Arc<FailureLog>,
}

impl TokenRevocations {
    /// Those in `generations`.
    pub fn new(generations: TokenGenerationStore) -> Self {
        let remembered = LoadingCache::new(CACHE_BYTES, CACHE_TTL, true, |_| 0);
        Self { generations, cache: remembered, failures: Arc::default() }
    }

    /// The user's generation now; `None`: there is no telling.
    pub async fn current(&self, user: &str) -> Option<u32> {
        log_outcome(&self.failures, self.generations.read(&storage_id(user)).await)
    }

    /// The user's generation as it was a moment ago, or as it was known last.
    pub async fn recent(&self, user: &str) -> Option<u32> {
        let user = storage_id(user);
        let ask = || {
            let (generations, user) = (self.generations.clone(), user.clone().into_owned());
            let failures = Arc::clone(&self.failures);
            async move { log_outcome(&failures, generations.read(&user).await) }
        };
        self.cache.get(&user, ask).await
    }

    /// Revokes what was issued to the user so far; false where that cannot be done now.
    pub async fn revoke(&self, user: &str) -> bool {
        let user = storage_id(user);
        let advanced = log_outcome(&self.failures, self.generations.advance(&user).await);
        self.cache.invalidate(&user);
        advanced.is_some()
    }

    /// Whether what was issued to the user in `generation` is revoked. As long as nobody can tell, it is not.
    pub async fn is_revoked(&self, user: &str, generation: u32) -> bool {
        // What is remembered may be older than the generation.
        self.recent(user).await.is_some_and(|now| now > generation)
    }

    /// Resolves when what was issued to the user in `generation`, or without one by now, is revoked.
    pub async fn wait_until_revoked(&self, user: &str, generation: Option<u32>) {
        let mut began = generation;
        loop {
            if began.is_none() {
                began = self.current(user).await;
            }
            tokio::time::sleep(RECHECK_INTERVAL).await;
            if let Some(began) = began
                && self.is_revoked(user, began).await
            {
                return;
            }
        }
    }
}

/// The answer; the reason why there is none is told in the log.
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
