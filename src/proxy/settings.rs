//! What the proxy is told: listeners and routes.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use http_semantics::cors;
use routing::template::CaptureTemplate;
use routing::transform::Transform;
use server_kit::auth::claims_policy::ClaimsPolicy;

pub use upstream::settings::UpstreamTimeouts;

/// The public side of the server (`Server` in the YAML).
#[derive(Clone, Debug)]
pub struct Server {
    /// Listeners and the limits of their connections.
    pub http: http_server::settings::Settings,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Cross-origin rules of the modules' paths (`Api.CorsPolicy`).
    pub api_cors: Option<Arc<cors::CorsPolicy>>,
    /// Beginning of absolute URLs to this server; `None`: what each request came to.
    pub public_url: Option<String>,
}

/// The operator's side (`Server.Admin`): metrics, liveness, readiness.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its own address, never one of the listeners'.
    pub address: SocketAddr,
    /// What `Authorization: Bearer` must carry for everything but `/livez` and `/readyz`.
    pub token: Option<primitives::secret::Secret>,
}

/// One route, ready to serve.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in the YAML; the label in metrics and logs.
    pub id: Arc<str>,
    /// The hosts that it takes, as `Match.Hosts` has them; empty takes any.
    pub hosts: Vec<String>,
    /// What answers it.
    pub kind: Kind,
    /// Who may ask.
    pub authorization: Authorization,
    /// Who decides beyond the policy's rules over claims.
    pub access: Option<Access>,
    /// Whether a refusal says 404 instead of 403 (`HideExistence`). Unset: the policy's refusal is 403, the store's 404.
    pub hide_existence: Option<bool>,
    /// The rate limiter policy's name.
    pub rate_limiter: Option<Arc<str>>,
    /// Cross-origin rules.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// Time limits toward the upstream.
    pub timeouts: UpstreamTimeouts,
    /// Largest request body in bytes; `None` is unlimited.
    pub max_request_body: Option<u64>,
}

/// What answers a route.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Objects of a store, through the object engine.
    Object(ObjectRoute),
    /// A cluster, through Pingora's upstream path.
    Plain(PlainRoute),
}

/// A route with `PresignedUrl`.
#[derive(Clone, Debug)]
pub struct ObjectRoute {
    /// Which object.
    pub source: Source,
    /// `Content-Type` of every object of this route, above what the store says.
    pub content_type: Option<Arc<str>>,
    /// The cluster whose destinations are connected to; `None` connects to the store's endpoint.
    pub cluster: Option<Arc<str>>,
    /// How long its objects are cached; `None` streams them past the cache.
    pub cache: Option<object_engine::cache::CachePolicy>,
}

/// Which object answers.
#[derive(Clone, Debug)]
pub enum Source {
    /// One of a bucket.
    Key {
        /// The store's name in `ObjectStores`.
        store: Arc<str>,
        /// The bucket.
        bucket: Arc<str>,
        /// The object's key, from captured path values.
        key: CaptureTemplate,
    },
    /// That of the catalogue's track with this id, from captured path values.
    Track(CaptureTemplate),
}

/// A route without `PresignedUrl`.
#[derive(Clone, Debug)]
pub struct PlainRoute {
    /// The cluster that it goes to.
    pub cluster: Arc<str>,
    /// What is changed on the way, in order.
    pub transforms: Vec<Transform>,
}

/// Who decides beyond the rules over claims.
#[derive(Clone, Debug)]
pub struct Access {
    /// They, as the policy names them.
    pub settings: Arc<catalog::settings::AccessSettings>,
    /// The track's id that they are asked about, from captured path values.
    pub track: CaptureTemplate,
}

/// Who may use a route.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// Everybody; a token is not looked at.
    Anonymous,
    /// Whoever has a valid token (`Default`, no rules) or one that satisfies the policy.
    Policy(Arc<ClaimsPolicy>),
}
