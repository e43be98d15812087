//! Sessions in Redis, for any number of nodes: a text per session, replaced by compare and set; the sessions of a user;
//! the latest of user and film; and those that are to be looked at, by time.

use std::time::Duration;

use fred::error::Error;
use fred::interfaces::{KeysInterface, SetsInterface, SortedSetsInterface};
use fred::types::Expiration;

use super::{SessionId, SessionsUnavailable};
use primitives::clock::monotonic_now;
use primitives::failure_log::FailureLog;
use primitives::unix_time::{UnixMillis, whole_millis};
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// Timeout of a command.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// Script that replaces a text. ARGV: the old text, or nothing for none; the new one; its life in milliseconds. Returns
/// 1 if it was replaced.
const REPLACE_SCRIPT: &str = "
local old = redis.call('GET', KEYS[1]) or ''
if old ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";
/// Script that takes members that are due. ARGV: now, the time until which they are taken, the most.
const TAKE_SCRIPT: &str = "
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for i = 1, #due do redis.call('ZADD', KEYS[1], ARGV[2], due[i]) end
return due";

/// Script that removes a member if its time is the one that is expected. ARGV: the time, the member.
const UNSCHEDULE_SCRIPT: &str = "
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or -1) ~= tonumber(ARGV[1]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[2])";

/// Sessions in Redis. Clones share the connection.
#[derive(Clone)]
pub struct RedisSessions {
    redis: Redis,
    failures: std::sync::Arc<FailureLog>,
}

impl RedisSessions {
    /// Creates the sessions over `redis`.
    pub fn new(redis: Redis) -> Self {
        Self { redis, failures: Default::default() }
    }

    /// Returns the text of a session.
    pub async fn get(&self, id: SessionId) -> Result<Option<String>, SessionsUnavailable> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        self.run(client.get(self.session(id))).await
    }

    /// Replaces the text `old` of a session by `new`; false if it has another one.
    pub async fn replace(
        &self,
        id: SessionId,
        old: Option<&str>,
        new: String,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<bool, SessionsUnavailable> {
        let life = whole_millis(until - now).max(1).to_string();
        let arguments = vec![old.unwrap_or_default().to_owned(), new, life];
        let replaced: i64 =
            self.run(self.redis.script(COMMAND_TIMEOUT, REPLACE_SCRIPT, vec![self.session(id)], arguments)).await?;
        Ok(replaced == 1)
    }

    /// Adds a session to those of its user, and makes it the latest of user and film.
    pub async fn link(
        &self,
        user: &str,
        movie: &str,
        id: SessionId,
        until: UnixMillis,
    ) -> Result<(), SessionsUnavailable> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let sessions = self.redis.key(RedisKey::FilmSessionsOfUser { user });
        let latest = self.redis.key(RedisKey::LatestFilmSession { user, movie });
        let at = until.as_millis();
        let id = id.to_string();
        self.run(async {
            client.sadd::<(), _, _>(&sessions, id.as_str()).await?;
            client.pexpire_at::<(), _>(&sessions, at, None).await?;
            client.set::<(), _, _>(&latest, id.as_str(), Some(Expiration::PXAT(at)), None, false).await
        })
        .await
    }

    /// Removes a session from those of its user.
    pub async fn unlink(&self, user: &str, id: SessionId) -> Result<(), SessionsUnavailable> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        self.run(client.srem(self.redis.key(RedisKey::FilmSessionsOfUser { user }), id.to_string())).await
    }

    /// Returns the sessions of a user.
    pub async fn linked(&self, user: &str) -> Result<Vec<SessionId>, SessionsUnavailable> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let ids: Vec<String> = self.run(client.smembers(self.redis.key(RedisKey::FilmSessionsOfUser { user }))).await?;
        Ok(ids.iter().filter_map(|id| SessionId::parse(id)).collect())
    }

    /// Returns the latest session of user and film.
    pub async fn latest(&self, user: &str, movie: &str) -> Result<Option<SessionId>, SessionsUnavailable> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let id: Option<String> =
            self.run(client.get(self.redis.key(RedisKey::LatestFilmSession { user, movie }))).await?;
        Ok(id.and_then(|id| SessionId::parse(&id)))
    }

    /// Has a session looked at at a time.
    pub async fn schedule(&self, id: SessionId, at: UnixMillis) -> Result<(), SessionsUnavailable> {
        let client = self.redis.client_with_timeout(COMMAND_TIMEOUT);
        let member = (at.as_millis() as f64, id.to_string());
        self.run(client.zadd(self.redis.key(RedisKey::FilmViews), None, None, false, false, member)).await
    }

    /// Has a session not looked at any more, if it is scheduled for `at`.
    pub async fn unschedule(&self, id: SessionId, at: UnixMillis) -> Result<(), SessionsUnavailable> {
        let key = self.redis.key(RedisKey::FilmViews);
        let arguments = vec![at.to_string(), id.to_string()];
        self.run(self.redis.script(COMMAND_TIMEOUT, UNSCHEDULE_SCRIPT, vec![key], arguments)).await
    }

    /// Takes sessions whose time has come; they come again at `lease` unless they are scheduled anew.
    pub async fn take_due(
        &self,
        now: UnixMillis,
        lease: UnixMillis,
        most: usize,
    ) -> Result<Vec<SessionId>, SessionsUnavailable> {
        let key = self.redis.key(RedisKey::FilmViews);
        let arguments = vec![now.to_string(), lease.to_string(), most.to_string()];
        let due: Vec<String> = self.run(self.redis.script(COMMAND_TIMEOUT, TAKE_SCRIPT, vec![key], arguments)).await?;
        Ok(due.iter().filter_map(|id| SessionId::parse(id)).collect())
    }

    fn session(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::FilmSession { id: &id.to_string() })
    }

    async fn run<T>(&self, command: impl Future<Output = Result<T, Error>> + Send) -> Result<T, SessionsUnavailable> {
        match self.redis.run_with_timeout(COMMAND_TIMEOUT, command).await {
            Ok(answer) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("sessions of films can be read and written again");
                }
                Ok(answer)
            }
            Err(error) => {
                let error = self.redis.error_text(&error);
                if self.failures.is_news(&error, monotonic_now()) {
                    tracing::warn!(error, "sessions of films cannot be read or written");
                }
                Err(SessionsUnavailable)
            }
        }
    }
}
