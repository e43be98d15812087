//! What the proxy is told: listeners and routes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::policy::Policy;
use crate::catalog;
use crate::http::cors;
use crate::object;
use crate::route::template::Template;
use crate::route::transform::Transform;

pub use crate::upstream::settings::Timeouts;

/// The public side of the server (`Server` in the YAML).
#[derive(Clone, Debug)]
pub struct Server {
    /// Where players connect; at least one.
    pub listeners: Vec<Listener>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Threads that serve players; one per core unless set.
    pub threads: usize,
    /// How long a client may take to send a whole request header.
    pub header_timeout: Duration,
    /// How long a client may take none of the bytes it asked for before the connection is closed.
    pub write_timeout: Duration,
    /// How long a client may send nothing of a request's body.
    pub body_timeout: Duration,
    /// How long a connection is kept on which nothing is asked.
    pub keep_alive_timeout: Duration,
    /// How long streams under way may go on after SIGTERM.
    pub shutdown_grace: Duration,
    /// Cross-origin rules of the modules' paths (`Api.CorsPolicy`).
    pub api_cors: Option<Arc<cors::Policy>>,
    /// What absolute URLs to this server begin with; `None`: what each request came to.
    pub public_url: Option<String>,
    /// Connections accepted at once over all listeners; more are closed at once.
    pub max_connections: usize,
}

/// One address that players connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 takes a free one and logs it.
    pub address: SocketAddr,
    /// TLS certificates, the first being the default where no name matches. Empty: plain text.
    pub certificates: Vec<Certificate>,
    /// Whether HTTP/2 without TLS (prior knowledge) is accepted.
    pub h2c: bool,
}

/// A certificate chain and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// The operator's side (`Server.Admin`): metrics, liveness, readiness.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its own address, never one of the listeners'.
    pub address: SocketAddr,
    /// What `Authorization: Bearer` must carry for everything but `/livez` and `/readyz`.
    pub token: Option<crate::secret::Secret>,
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
    pub cors: Option<Arc<cors::Policy>>,
    /// Time limits toward the upstream.
    pub timeouts: Timeouts,
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
    pub cache: Option<object::cache::Policy>,
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
        key: Template,
    },
    /// That of the catalogue's track with this id, from captured path values.
    Track(Template),
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
    pub settings: Arc<catalog::settings::Access>,
    /// The track's id that they are asked about, from captured path values.
    pub track: Template,
}

/// Who may use a route.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// Everybody; a token is not looked at.
    Anonymous,
    /// Whoever has a valid token (`Default`, no rules) or one that satisfies the policy.
    Policy(Arc<Policy>),
}
