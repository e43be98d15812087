//! The shape of the file, as the operator writes it: raw structs, nothing decided yet. Their doc comments are the
//! descriptions in the JSON Schema and in `docs/configuration.md`.

mod access;
mod affinity;
mod api;
mod backup;
mod cache;
mod channels;
mod cluster;
mod events;
mod health;
mod limit;
mod listener;
mod lyrics;
mod otlp;
mod playback;
mod player;
mod playlists;
mod positions;
mod radio;
mod recognition;
mod route;
mod schedules;
mod server;
mod server_limits;
mod share;
mod state;
mod store;
mod telegram;
mod transform;
mod vod;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use access::{
    AccessService, Auth, AuthorizationPolicy, CorsPolicy, Issuer, OnFailure, PathToken, Policies, Rule, TimeoutPolicy,
};
pub use affinity::{
    AffinityCookie, AffinityFailurePolicy, AffinityPolicy, CookieSecurePolicy, SameSite, SessionAffinity,
};
pub use api::Api;
pub use backup::Backup;
pub use cache::{Cache, OutputCachePolicy};
pub use channels::Channels;
pub use cluster::{Cluster, Destination, HttpRequest, LoadBalancingPolicy, VersionPolicy};
pub use events::{Compression, Events, Kafka, Mechanism, Sasl};
pub use health::{ActiveCheck, AvailableDestinationsPolicy, PassiveCheck};
pub use limit::{Bandwidth, EgressQuota, FixedWindow, RateLimiterPolicy, SlidingWindow, TokenBucket};
pub use listener::{AlpnProtocol, ClientCertificateMode, ClientCertificates, Listener, ProxyProtocol, Tls};
pub use lyrics::{Lyrics, LyricsFormat, LyricsSourceName};
pub use otlp::{Otlp, OtlpProtocol};
pub use playback::Playback;
pub use player::{Library, Player, SignIn};
pub use playlists::Playlists;
pub use positions::{FilmPositions, Positions};
pub use radio::Radio;
pub use recognition::Recognition;
pub use route::{HeaderMatch, HeaderMode, Match, QueryMatch, QueryMode, Route};
pub use schedules::Schedules;
pub use server::{AccessLog, AccessLogFormat, AccessLogOutput, Acme, AcmeChallenge, Admin, Server, Telemetry};
pub use server_limits::ServerLimits;
#[cfg(feature = "share")]
pub use share::Recording;
pub use share::Share;
pub use state::{Database, State};
pub use store::{CredentialProviderName, Credentials, Store};
pub use telegram::{Telegram, TelegramWebhook};
pub use transform::{ContentCoding, ErrorAnswer, ForwardedAction, PresignedUrl, Transform, When};
pub use vod::{Vod, VodGrant, VodSubscription};

/// A map that keeps the names of its entries.
pub type NamedEntries<T> = BTreeMap<String, T>;

/// Tidegate's configuration: one file, in YAML or JSON.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ConfigFile {
    /// For editors of JSON; Tidegate does not read it.
    #[serde(rename = "$schema")]
    pub _schema: Option<String>,
    /// Where players connect, and how the process behaves.
    #[serde(default)]
    pub server: Server,
    /// The object stores that routes read from, by name.
    #[serde(default)]
    pub object_stores: NamedEntries<Store>,
    /// Whose tokens are believed.
    #[serde(default)]
    pub auth: Auth,
    /// Named rules that routes refer to.
    #[serde(default)]
    pub policies: Policies,
    /// Routes and clusters, under YARP's own names. Needed unless Tidegate is there for sharing alone.
    #[serde(default)]
    pub reverse_proxy: ReverseProxy,
    /// What Tidegate answers itself.
    #[serde(default)]
    pub api: Api,
    /// The cache that all routes with an `OutputCachePolicy` share.
    pub cache: Option<Cache>,
    /// Short-lived state that several nodes share. Default: memory, for one node.
    pub state: Option<State>,
    /// Records that last. Default: none.
    pub database: Option<Database>,
    /// Where users stopped listening.
    #[serde(default)]
    pub positions: Positions,
    /// Settings and live state of players. Default: none.
    pub playback: Option<Playback>,
    /// Lyrics of tracks. Default: none.
    pub lyrics: Option<Lyrics>,
    /// Radio stations. Default: none.
    pub radio: Option<Radio>,
    /// Queues of tracks that users hear together. Default: none.
    pub channels: Option<Channels>,
    /// Playlists of users. Default: none.
    pub playlists: Option<Playlists>,
    /// Recognition of clips of sound. Default: none.
    pub recognition: Option<Recognition>,
    /// What users want begun at a time. Default: none.
    pub schedules: Option<Schedules>,
    /// A bot of Telegram. Default: none.
    pub telegram: Option<Telegram>,
    /// Backups of the database, of Redis and of the configuration. Default: none.
    pub backup: Option<Backup>,
    /// The page that plays the catalogue in a browser. Default: none.
    pub player: Option<Player>,
    /// What listeners do, as events for others. Default: none, and no path that takes them.
    pub events: Option<Events>,
    /// Live audio from one host to many listeners. Default: none.
    pub share: Option<Share>,
    /// Films in a private bucket. Default: none.
    pub vod: Option<Vod>,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// Routes and clusters, under YARP's own names.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ReverseProxy {
    /// `AuthorizationPolicy` of the routes that say none: `Anonymous`, as in YARP, `Default`, or a name in
    /// `Policies.Authorization`. Default: `Default` where `Auth.Jwt` is configured; otherwise each route must say.
    pub default_authorization_policy: Option<String>,
    /// The routes, by id. Their order in the file means nothing.
    #[serde(default)]
    pub routes: NamedEntries<Route>,
    /// The clusters that routes go to, by id.
    #[serde(default)]
    pub clusters: NamedEntries<Cluster>,
}
