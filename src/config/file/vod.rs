//! `Vod`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, ConfigText, SecretRef, TimeSpan};

/// Films in a private bucket, as HLS or DASH, at `/api/v1/stream` and `/v`. What is left out is taken from the environment
/// under the document's own names (`S3_BUCKET_NAME`, `SIGNED_URL_EXPIRATION`, `USER_SERVICE_URL`, `USER_SERVICE_TIMEOUT`,
/// `REDIS_SUBSCRIPTION_CACHE_TTL`) where it is set.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Vod {
    /// Whether films are served. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Whether the film page is served, at `/watch/`. Default: `true`.
    pub page: Option<ConfigFlag>,
    /// The store of the films, a name in `ObjectStores`.
    pub store: String,
    /// The bucket. May be `env:NAME`. Default: `vod`.
    pub bucket: Option<ConfigText>,
    /// What all keys begin with; the film's id and a slash follow. Default: `movies/`.
    pub prefix: Option<ConfigText>,
    /// Names of the manifests in a film's folder.
    #[serde(default)]
    pub manifests: VodManifests,
    /// The tokens that open a film.
    #[serde(default)]
    pub grant: VodGrant,
    /// Films that a user may watch at the same time, 1 to 1000; the oldest gives way to a new one. Default: 5.
    pub max_streams_per_user: Option<u32>,
    /// How often players report their position, `1s` to `10m`; a session without three of them ends. Default: `10s`.
    pub report_interval: Option<TimeSpan>,
    /// The service that knows who has a subscription. Default: none where `USER_SERVICE_URL` is not set; then whoever has a
    /// token may watch.
    pub subscription: Option<VodSubscription>,
    /// Hosts that manifests may name, beside the store: `cdn.example`. Default: none.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Where the encryption keys of films are (`EXT-X-KEY`), and how often they are given out.
    #[serde(default)]
    pub keys: VodKeys,
    /// `Disable`, `Default`, or a name in `Policies.RateLimiter`, for everything below `/v` but keys. Default: `Default`
    /// where there is a policy of that name.
    pub rate_limiter_policy: Option<String>,
    /// `Disable`, or a name in `Policies.Cors`: pages of other sites that may play films. `Range` and the header of a grant may
    /// be sent, and the headers of ranges read, in any case. Default: no cross-origin access.
    pub cors_policy: Option<String>,
    /// `Disable`, `Default`, or a name in `Policies.OutputCache`. Default: `Default`.
    pub output_cache_policy: Option<String>,
    /// `Disable`, or a name in `Policies.Timeout`. Default: `Connect: 2s`, `FirstByte: 5s`, `Idle: 30s`, `Unavailable: 15s`.
    pub timeout_policy: Option<String>,
}

/// Names of the manifests in a film's folder.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct VodManifests {
    /// The HLS playlist. Default: `index.m3u8`.
    pub hls: Option<ConfigText>,
    /// The DASH manifest. Default: `index.mpd`.
    pub dash: Option<ConfigText>,
}

/// The encryption keys of films.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct VodKeys {
    /// What the keys of all films begin with in the bucket, such as `keys/`; the film's id and a slash follow. Default: none;
    /// then a key is a file `*.key` in its film's folder.
    pub prefix: Option<ConfigText>,
    /// `Disable`, `Default`, or a name in `Policies.RateLimiter`. Default: 60 in a minute for each viewer.
    pub rate_limiter_policy: Option<String>,
}

/// The tokens that open a film.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct VodGrant {
    /// At most four, of which the first signs and each verifies: a new one comes first. Default: a random one, which ends
    /// with the process and is no other node's.
    pub keys: Option<Vec<VodGrantKey>>,
    /// How long a film can be fetched without a report or a segment, `1m` to `12h`. Default: `1h`.
    pub ttl: Option<TimeSpan>,
    /// How long a session lasts at most, `1h` to `2d`. Default: `12h`.
    pub max_ttl: Option<TimeSpan>,
}

/// A key that signs grants.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct VodGrantKey {
    /// Its id in tokens, 0 to 255; a new key has another one.
    pub id: u8,
    /// The key, at least 32 characters.
    pub key: SecretRef,
}

/// The service that knows who has a subscription.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct VodSubscription {
    /// Its address, with `{user_id}` where the user's id goes. May be `env:NAME`. Default: `USER_SERVICE_URL` of the
    /// environment and `/api/v1/users/{user_id}/subscription`.
    pub url: Option<ConfigText>,
    /// For its answer, a second try included, `100ms` to `30s`. Default: `5s`.
    pub timeout: Option<TimeSpan>,
    /// How long a yes is believed, up to `1h`. Default: `5m`.
    pub cache_for: Option<TimeSpan>,
    /// How long a no is believed, up to `5m`. Default: `15s`.
    pub deny_cache_for: Option<TimeSpan>,
    /// How old the last yes may be that counts while the service does not answer, up to `7d`. Default: `24h`.
    pub grace: Option<TimeSpan>,
    /// How often it is asked about films that play, `10s` to `1d`. Default: `5m`.
    pub recheck_interval: Option<TimeSpan>,
    /// A topic of the brokers of `Events.Kafka` that tells of changes: each message, `{"user_id": "…"}`, has the answer about that
    /// user forgotten. Default: none.
    pub purge_topic: Option<ConfigText>,
}
