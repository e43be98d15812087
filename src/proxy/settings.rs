//! Settings of the proxy, resolved: every name of the YAML stands here as the thing that it names, so that nothing is
//! left to be looked up, and to be missing, when a [`Runtime`](super::runtime::Runtime) is built.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use ipnet::IpNet;

use http_semantics::content_coding::ContentCoding;
use http_semantics::cors;
use primitives::secret::Secret;
use routing::table::RouteTable;
use routing::template::CaptureTemplate;
use routing::transform::{ObjectHeaderChanges, Transform};
use s3::settings::StoreSettings;
use server_kit::auth::claims_policy::ClaimsPolicy;
use server_kit::auth::settings::TokenSource;
use server_kit::limit::settings::RateLimitPolicy;
use server_kit::telemetry::settings::AccessLines;
use upstream::settings::ClusterSettings;
use vod::settings::ManifestNames;

pub use upstream::settings::UpstreamTimeouts;

/// The public side of the server (`Server` in the YAML).
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Listeners and the limits of their connections.
    pub http: http_server::settings::Settings,
    /// Longest time of a request from its head to the end of its answer; `None`: any.
    pub request_timeout: Option<Duration>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Cross-origin rules of the modules' paths (`Api.CorsPolicy`).
    pub api_cors: Option<Arc<cors::CorsPolicy>>,
    /// Beginning of absolute URLs to this server; `None`: the host that each request names.
    pub public_url: Option<String>,
}

/// The operator's side (`Server.Admin`): metrics, liveness, readiness.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Address of the admin listener, never one of the public listeners'.
    pub address: SocketAddr,
    /// Name of the socket that is taken over in place of opening one on the address, where one is passed.
    pub socket: Option<String>,
    /// Token that `Authorization: Bearer` must carry for everything but `/livez` and `/readyz`.
    pub token: Option<Secret>,
}

/// The process itself, as a part of `Server` in the YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSettings {
    /// File that holds the process's id.
    pub pid_file: Option<PathBuf>,
    /// Longest time for the new process of an upgrade to be ready.
    pub upgrade_timeout: Duration,
}

/// Everything that a [`Runtime`](super::runtime::Runtime) is built from.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// The public side of the server.
    pub server: ServerSettings,
    /// The enabled routes.
    pub routes: RouteTable<Arc<RouteSettings>>,
    /// All configured clusters, those without a route too: each is shown in the metrics.
    pub clusters: Vec<Arc<ClusterSettings>>,
    /// All rate limiter policies: paths of the API are counted by those of certain names.
    pub rate_limiters: Vec<RateLimitPolicy>,
    /// All configured stores: the catalog may name any of them.
    pub stores: Vec<Arc<StoreSettings>>,
    /// Places of a request where tokens are looked for.
    pub token_sources: Vec<TokenSource>,
    /// Token that a request must carry in `X-Tidegate-Debug` to learn its cache status.
    pub debug_token: Option<Secret>,
    /// Fields of an access log line.
    pub access_lines: AccessLines,
    /// True where a logout ends live streams (`Auth.EndRevokedStreams`).
    pub end_revoked_streams: bool,
    /// Films; `None` where they are not served.
    pub films: Option<Arc<FilmSettings>>,
}

/// Serving of films (`Vod`).
#[derive(Clone, Debug)]
pub struct FilmSettings {
    /// Route of their objects and manifests.
    pub films: Arc<RouteSettings>,
    /// Route of encryption keys, which has no cache and a limit of its own.
    pub keys: Arc<RouteSettings>,
    /// Prefix of the films' keys in the bucket, with a slash at its end; the film's id and a slash follow.
    pub prefix: Arc<str>,
    /// The same for encryption keys outside the films' folders; `None`: there are none.
    pub key_prefix: Option<Arc<str>>,
    /// Hosts, beside the store, that manifests may name.
    pub allowed_hosts: Vec<String>,
    /// Names of the manifests that films are started with, whatever their extensions.
    pub manifests: ManifestNames,
}

/// One route (`ReverseProxy.Routes.<id>`).
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Name in the YAML; the label in metrics and logs.
    pub id: Arc<str>,
    /// Hosts that the route takes, as `Match.Hosts` has them; empty takes any.
    pub hosts: Vec<String>,
    /// The handler of its requests.
    pub handler: HandlerSettings,
    /// Callers that may use it.
    pub authorization: AuthorizationSettings,
    /// True: a refusal is 404 instead of 403 (`HideExistence`). Unset: the policy's refusal is 403, the store's 404.
    pub hide_existence: Option<bool>,
    /// The rate limiter policy.
    pub rate_limiter: Option<Arc<RateLimitPolicy>>,
    /// Cross-origin rules.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// Time limits toward the upstream.
    pub timeouts: UpstreamTimeouts,
    /// Largest request body in bytes; `None` is unlimited.
    pub max_request_body: Option<u64>,
}

/// The handler of a route's requests.
#[derive(Clone, Debug)]
pub enum HandlerSettings {
    /// Objects of one bucket (`PresignedUrl` with `Store`, `Bucket` and `Key`).
    Object(ObjectSettings),
    /// Objects of the catalog's tracks (`PresignedUrl` with `Track`).
    Track(TrackSettings),
    /// Servers of a cluster (no `PresignedUrl`).
    Cluster(ClusterRouteSettings),
}

impl HandlerSettings {
    /// Returns the rules for the responses of an object route.
    pub fn object_response(&self) -> Option<&ObjectResponseSettings> {
        match self {
            Self::Object(object) => Some(&object.response),
            Self::Track(track) => Some(&track.response),
            Self::Cluster(_) => None,
        }
    }
}

/// Objects of one bucket.
#[derive(Clone, Debug)]
pub struct ObjectSettings {
    /// The store.
    pub store: Arc<StoreSettings>,
    /// The bucket.
    pub bucket: Arc<str>,
    /// The object's key, from captured path values.
    pub key: CaptureTemplate,
    /// Name of the object that answers for a folder.
    pub index: Option<Arc<str>>,
    /// True where a folder without an index document is listed.
    pub lists_folders: bool,
    /// The cluster whose destinations are connected to; `None` connects to the store's endpoint.
    pub cluster: Option<Arc<ClusterSettings>>,
    /// Rules for its responses.
    pub response: ObjectResponseSettings,
}

/// Objects of the catalog's tracks.
#[derive(Clone, Debug)]
pub struct TrackSettings {
    /// The track's id, from captured path values.
    pub track_id: CaptureTemplate,
    /// Rules for its responses.
    pub response: ObjectResponseSettings,
}

/// Rules for the responses of an object route.
#[derive(Clone, Debug, Default)]
pub struct ObjectResponseSettings {
    /// `Content-Type` of every object of the route, in place of the store's.
    pub content_type: Option<HeaderValue>,
    /// Caching of its objects; `None` streams them past the cache.
    pub cache: Option<object_engine::cache::CachePolicy>,
    /// Changes of their headers, in order.
    pub headers: ObjectHeaderChanges,
    /// Answers to errors, each status once.
    pub errors: Vec<ErrorAnswer>,
    /// Content codings of its objects.
    pub codings: CodingSettings,
}

/// Content codings in which an object route sends its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodingSettings {
    /// Codings of objects that are stored beside others, by the extension.
    pub stored: Vec<ContentCoding>,
    /// Codings in which texts are compressed here.
    pub made: Vec<ContentCoding>,
}

impl CodingSettings {
    /// Returns true where objects are sent as they are stored.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.made.is_empty()
    }
}

/// Answer to errors of one status on an object route.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorAnswer {
    /// The status.
    pub status: StatusCode,
    /// Time for which caches may keep it; `None`: they must not.
    pub cache_for: Option<Duration>,
    /// Body in place of the envelope.
    pub page: Option<ErrorPage>,
}

/// Body of an error in place of the envelope.
#[derive(Clone, Debug, PartialEq)]
pub enum ErrorPage {
    /// An object of the route's bucket, by its key.
    Object(Arc<str>),
    /// A file that was read with the configuration.
    File {
        /// Its media type.
        content_type: HeaderValue,
        /// Its content.
        body: Bytes,
    },
}

/// Servers of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterRouteSettings {
    /// The cluster.
    pub cluster: Arc<ClusterSettings>,
    /// Changes of the request and the response, in order.
    pub transforms: Vec<Transform>,
}

/// Callers that may use a route.
#[derive(Clone, Debug)]
pub enum AuthorizationSettings {
    /// Everybody; a token is not looked at.
    Anonymous,
    /// Callers with a valid token that satisfies the policy.
    Policy {
        /// Rules over the token's claims; `Default` has none.
        claims: Arc<ClaimsPolicy>,
        /// Authorities that decide beyond the claims.
        track_access: Option<TrackAccessSettings>,
    },
}

/// Authorities that decide, beyond a token's claims, about one track.
#[derive(Clone, Debug)]
pub struct TrackAccessSettings {
    /// The authorities, as the policy names them.
    pub authorities: Arc<catalog::settings::AccessSettings>,
    /// Id of the track that they are asked about, from captured path values.
    pub track_id: CaptureTemplate,
}
