//! Settings of video on demand.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use primitives::ids::UserId;
use primitives::secret::Secret;
use server_kit::url_template::{UNRESERVED, UrlTemplate};

/// Bucket of the films, grants, sessions and subscriptions (`Vod`).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Object store of the films, a name in `ObjectStores`.
    pub store: Arc<str>,
    /// Bucket of the films.
    pub bucket: Arc<str>,
    /// Prefix of all keys, with a slash at its end; the film's id and a slash follow it.
    pub prefix: Arc<str>,
    /// Names of the manifests below `{prefix}{movie}/`.
    pub manifests: ManifestNames,
    /// Tokens that open a film.
    pub grant: GrantSettings,
    /// Most live sessions of a user; `None` is unlimited. The oldest gives way to a new one.
    pub max_streams_per_user: Option<u32>,
    /// Interval at which players report; a session ends after [`MISSED_REPORTS`] of them without a report.
    pub report_interval: Duration,
    /// Service that knows who has a subscription; `None`: whoever has a token may watch.
    pub subscription: Option<SubscriptionSettings>,
    /// Hosts, besides the store, that manifests may name.
    pub allowed_hosts: Vec<String>,
    /// True where the film page is served.
    pub page: bool,
}

/// Reports that a session may miss before it ends.
pub const MISSED_REPORTS: u32 = 3;
/// Time for which the verdict over a session is kept, so that what is fetched meanwhile is not noticed by the session.
pub const VERDICT_TTL: Duration = Duration::from_secs(4);

/// Names of the manifests of a film.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestNames {
    /// Name of the HLS multivariant or media playlist.
    pub hls: Arc<str>,
    /// Name of the DASH manifest.
    pub dash: Arc<str>,
}

impl Default for ManifestNames {
    /// The names of document 003.
    fn default() -> Self {
        Self { hls: "index.m3u8".into(), dash: "index.mpd".into() }
    }
}

/// Settings of tokens that open a film (`Vod.Grant`).
#[derive(Clone, Debug, PartialEq)]
pub struct GrantSettings {
    /// Keys: the first signs, all verify; empty: a random one, which ends with the process.
    pub keys: Vec<GrantKeySettings>,
    /// Lifetime of a grant without a report or a segment; also `expires_in` of the answer.
    pub ttl: Duration,
    /// Longest lifetime of a session, however often it is extended.
    pub max_ttl: Duration,
}

impl Default for GrantSettings {
    /// One hour is document 003's; 12 hours are longer than any film, pauses included.
    fn default() -> Self {
        Self { keys: Vec::new(), ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(12 * 3600) }
    }
}

/// Key that signs grants.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantKeySettings {
    /// Id that tokens carry, so that a key is found without trying all of them.
    pub id: u8,
    /// The key, at least 32 bytes.
    pub key: Secret,
}

/// URL with `{user_id}` in its path or query, once at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionUrlTemplate(UrlTemplate);

impl SubscriptionUrlTemplate {
    /// Parses a template; `None` if it is none, as [`UrlTemplate::parse`] has it, or does not say where the user's id is.
    pub fn parse(text: &str) -> Option<Self> {
        let template = UrlTemplate::parse(text, &["user_id"], UNRESERVED)?;
        text.contains("{user_id}").then_some(Self(template))
    }

    /// Returns the URL for this user.
    pub(crate) fn fill(&self, user: &UserId) -> Option<Url> {
        self.0.fill(&[("user_id", user.as_str())])
    }
}

/// Service that knows who has a subscription (`Vod.Subscription`).
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSettings {
    /// Address with `{user_id}`, such as `http://users:8002/api/v1/users/{user_id}/subscription`.
    pub url: SubscriptionUrlTemplate,
    /// Time for an answer, a second try included.
    pub timeout: Duration,
    /// Time for which a yes is believed.
    pub cache_for: Duration,
    /// Time for which a no is believed: somebody who has just paid must get in.
    pub deny_cache_for: Duration,
    /// Age of the last yes that is honoured while the service does not answer.
    pub grace: Duration,
    /// Interval at which live sessions are checked again.
    pub recheck_interval: Duration,
    /// Topic of Kafka whose messages name users whose answers are forgotten; `None`: there is none.
    pub purge_topic: Option<Arc<str>>,
}

impl SubscriptionSettings {
    /// Document 003's time for an answer.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// Document 003's time for which a yes is believed.
    pub const CACHE_FOR: Duration = Duration::from_secs(300);
    /// Time for which a no is believed unless set.
    pub const DENY_CACHE_FOR: Duration = Duration::from_secs(15);
    /// Age of the last yes that is honoured unless set.
    pub const GRACE: Duration = Duration::from_secs(24 * 3600);
    /// Interval of checks of live sessions unless set.
    pub const RECHECK_INTERVAL: Duration = Duration::from_secs(300);

    /// Returns the settings for `url`, with the times that hold unless set.
    pub fn new(url: SubscriptionUrlTemplate) -> Self {
        Self {
            url,
            timeout: Self::TIMEOUT,
            cache_for: Self::CACHE_FOR,
            deny_cache_for: Self::DENY_CACHE_FOR,
            grace: Self::GRACE,
            recheck_interval: Self::RECHECK_INTERVAL,
            purge_topic: None,
        }
    }
}
