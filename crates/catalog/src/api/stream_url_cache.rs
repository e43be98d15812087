//! Cache of issued streaming URLs, encrypted, under `stream:{userId}:{trackId}`: somebody who can read Redis can play
//! nothing.

use std::time::Duration;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use foyer::{Cache, CacheBuilder};
use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use serde::{Deserialize, Serialize};

use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// Timeout of one Redis command.
const REDIS_TIMEOUT: Duration = Duration::from_millis(100);
/// Memory of the in-process store, in bytes: about 50,000 URLs of usual length.
const MEMORY_STORE_BYTES: usize = 32 << 20;
/// Approximate bytes of one entry besides its ids and its text.
const ENTRY_OVERHEAD: usize = 256;
// XChaCha20's nonce is long enough to be drawn at random without ever repeating (draft-irtf-cfrg-xchacha §2).
const NONCE_BYTES: usize = 24;
/// Seconds before its expiry in which a URL is not issued again (document 001).
pub const EXPIRY_MARGIN_SECONDS: u64 = 30;

/// Issued URL, with the facts for which it was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedStreamUrl {
    /// The path with its token.
    pub path: String,
    /// Time of expiry, in Unix seconds.
    pub expires: u64,
    /// The media type.
    pub content_type: String,
    /// The size in bytes.
    pub size: u64,
    /// Token generation of the user.
    pub generation: u32,
    /// Version of the catalog's entry: the time of its last change.
    pub version: UnixMillis,
    /// Fingerprint of the authorization that the token carries.
    pub leave: String,
}

/// Keys in force, of which the first is the newest.
pub type CacheKeys = Box<dyn Fn() -> Vec<[u8; 32]> + Send + Sync>;

/// Store of the entries.
pub enum StreamUrlStore {
    /// In this process.
    Memory(Cache<(UserId, TrackId), Vec<u8>>),
    /// In Redis.
    Redis(Redis),
}

/// Encrypted cache of streaming URLs.
pub struct StreamUrlCache {
    store: StreamUrlStore,
    /// Keys in force, asked for at each use since a reload changes them: the first encrypts, all decrypt.
    keys: CacheKeys,
    clock: Clock,
}

impl StreamUrlStore {
    /// Uses Redis if it is configured, else memory.
    pub fn new(redis: Option<Redis>) -> Self {
        redis.map_or_else(|| Self::Memory(in_memory(MEMORY_STORE_BYTES)), Self::Redis)
    }
}

impl StreamUrlCache {
    /// Creates the cache over `shelf`, with the keys that `keys` returns.
    pub fn new(shelf: StreamUrlStore, keys: CacheKeys, clock: Clock) -> Self {
        Self { store: shelf, keys, clock }
    }

    /// Returns the ciphers of the keys in force.
    fn ciphers(&self) -> impl Iterator<Item = XChaCha20Poly1305> {
        (self.keys)().into_iter().map(|key| XChaCha20Poly1305::new(&key.into()))
    }

    /// Returns the cached URL unless it is within [`EXPIRY_MARGIN_SECONDS`] of its expiry. `None` while Redis does not
    /// answer.
    pub async fn get(&self, user: &UserId, track: &TrackId) -> Option<IssuedStreamUrl> {
        let sealed = match &self.store {
            StreamUrlStore::Memory(kept) => kept.get(&ids(user, track))?.value().clone(),
            StreamUrlStore::Redis(redis) => {
                let client = redis.client_with_timeout(REDIS_TIMEOUT);
                let read: Result<Option<Vec<u8>>, _> =
                    redis.run_with_timeout(REDIS_TIMEOUT, client.get(key(redis, user, track))).await;
                // An error counts as a miss: a new URL is issued instead.
                read.ok().flatten()?
            }
        };
        let answer: IssuedStreamUrl = serde_json::from_slice(&self.open(&sealed, user, track)?).ok()?;
        (answer.expires > self.clock.unix() + EXPIRY_MARGIN_SECONDS).then_some(answer)
    }

    /// Caches a URL until [`EXPIRY_MARGIN_SECONDS`] before its expiry; not at all while Redis does not answer.
    pub async fn put(&self, user: &UserId, track: &TrackId, answer: &IssuedStreamUrl) {
        let life = answer.expires.saturating_sub(self.clock.unix() + EXPIRY_MARGIN_SECONDS);
        let sealed = serde_json::to_vec(answer).ok().and_then(|plain| self.seal(&plain, user, track));
        let (Some(sealed), true) = (sealed, life > 0) else { return };
        match &self.store {
            StreamUrlStore::Memory(kept) => drop(kept.insert(ids(user, track), sealed)),
            StreamUrlStore::Redis(redis) => {
                let life = Expiration::EX(i64::try_from(life).unwrap_or(i64::MAX));
                let key = key(redis, user, track);
                let client = redis.client_with_timeout(REDIS_TIMEOUT);
                let put: Result<(), _> = redis
                    .run_with_timeout(REDIS_TIMEOUT, client.set(key, sealed.as_slice(), Some(life), None, false))
                    .await;
                if let Err(error) = put {
                    // Only debug: the next request issues another URL, and the loss of Redis is reported elsewhere.
                    tracing::debug!(%error, "a streaming URL was not kept");
                }
            }
        }
    }

    /// Removes a URL; returns false if Redis does not answer.
    pub async fn remove(&self, user: &UserId, track: &TrackId) -> bool {
        match &self.store {
            StreamUrlStore::Memory(kept) => drop(kept.remove(&ids(user, track))),
            StreamUrlStore::Redis(redis) => {
                let client = redis.client_with_timeout(REDIS_TIMEOUT);
                let removed: Result<i64, _> =
                    redis.run_with_timeout(REDIS_TIMEOUT, client.del(key(redis, user, track))).await;
                return removed.is_ok();
            }
        }
        true
    }

    fn seal(&self, plain: &[u8], user: &UserId, track: &TrackId) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = associated_data(user, track);
        let payload = Payload { msg: plain, aad: aad.as_bytes() };
        let sealed = self.ciphers().next()?.encrypt(&XNonce::from(nonce), payload).ok()?;
        // The nonce is no secret; `open` needs it first.
        Some([nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, sealed: &[u8], user: &UserId, track: &TrackId) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (nonce, aad) = (XNonce::from(*nonce), associated_data(user, track));
        // The entry does not say which key sealed it; the wrong one fails the authentication tag.
        self.ciphers().find_map(|cipher| cipher.decrypt(&nonce, Payload { msg: sealed, aad: aad.as_bytes() }).ok())
    }
}

/// Creates a store of about `bytes` at most. Weighted by length, since ids come from users and may be long.
fn in_memory(bytes: usize) -> Cache<(UserId, TrackId), Vec<u8>> {
    let weight = |(user, track): &(UserId, TrackId), sealed: &Vec<u8>| {
        ENTRY_OVERHEAD + user.as_str().len() + track.as_str().len() + sealed.len()
    };
    CacheBuilder::new(bytes).with_shards(8).with_weighter(weight).build()
}

fn key(redis: &Redis, user: &UserId, track: &TrackId) -> String {
    redis.key(RedisKey::StreamUrl { user: user.as_str(), track: track.as_str() })
}

fn ids(user: &UserId, track: &TrackId) -> (UserId, TrackId) {
    (user.clone(), track.clone())
}

/// Returns the associated data: user and track are authenticated with the URL, so that somebody who can write to Redis
/// cannot put one entry in another's place.
fn associated_data(user: &UserId, track: &TrackId) -> String {
    let (user, track) = (user.as_str(), track.as_str());
    // The length keeps `a:b` + `c` apart from `a` + `b:c`.
    format!("{}:{user}:{track}", user.len())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).expect("an id")
    }

    fn track(id: &str) -> TrackId {
        TrackId::parse(id).expect("an id")
    }

    fn answer(clock: &Clock) -> IssuedStreamUrl {
        let (path, content_type) = ("/t/secret/x".to_owned(), "audio/mpeg".to_owned());
        IssuedStreamUrl {
            path,
            expires: clock.unix() + 100,
            content_type,
            size: 5,
            generation: 1,
            version: UnixMillis::new(2),
            leave: String::new(),
        }
    }

    fn answers(keys: &[[u8; 32]], kept: &Cache<(UserId, TrackId), Vec<u8>>, clock: &Clock) -> StreamUrlCache {
        {
            let keys = keys.to_vec();
            StreamUrlCache::new(StreamUrlStore::Memory(kept.clone()), Box::new(move || keys.clone()), clock.clone())
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_encrypted_for_its_user_and_track_until_its_last_seconds() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let kept = in_memory(1 << 16);
        let old = answers(&[[1; 32]], &kept, &clock);
        old.put(&user("a"), &track("b"), &answer(&clock)).await;
        assert_eq!(old.get(&user("a"), &track("b")).await, Some(answer(&clock)));
        let bytes = kept.get(&ids(&user("a"), &track("b"))).expect("it is kept").value().clone();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert_eq!(
            answers(&[[2; 32], [1; 32]], &kept, &clock).get(&user("a"), &track("b")).await,
            Some(answer(&clock))
        );
        assert_eq!(answers(&[[2; 32]], &kept, &clock).get(&user("a"), &track("b")).await, None);
        // Another's answer in its place is none.
        kept.insert(ids(&user("a"), &track("c")), bytes);
        assert_eq!(old.get(&user("a"), &track("c")).await, None);
        clock.advance(Duration::from_secs(70));
        assert_eq!(old.get(&user("a"), &track("b")).await, None);
    }

    #[tokio::test]
    async fn ids_with_colons_are_not_taken_for_each_other() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let answers = answers(&[[1; 32]], &in_memory(1 << 16), &clock);
        answers.put(&user("a:b"), &track("c"), &answer(&clock)).await;
        assert_eq!(answers.get(&user("a"), &track("b:c")).await, None);
        assert!(
            answers.remove(&user("a:b"), &track("c")).await && answers.get(&user("a:b"), &track("c")).await.is_none()
        );
    }

    #[tokio::test]
    async fn answers_for_long_ids_leave_room_for_few() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let kept = in_memory(1 << 20);
        let answers = answers(&[[1; 32]], &kept, &clock);
        for number in 0..5_000 {
            answers
                .put(&user(&format!("{number}{}", "x".repeat(250))), &track(&"y".repeat(250)), &answer(&clock))
                .await;
        }
        let used = kept.usage();
        assert!((1 << 19..=1 << 20).contains(&used), "{used}");
        assert!(kept.entries() * (ENTRY_OVERHEAD + 500) <= 1 << 20, "{} entries", kept.entries());
    }
}
