//! A route at work: its policies, and the one handler that answers its requests.

use std::sync::Arc;

use super::films::FilmHandler;
use super::settings::{CodingSettings, ErrorAnswer};
use super::tracks::TrackOrigins;
use catalog::Catalog;
use catalog::access::AccessChecker;
use http_semantics::cors;
use object_engine::ObjectOrigin;
use routing::template::CaptureTemplate;
use routing::transform::{ObjectHeaderChanges, Transform};
use server_kit::auth::claims_policy::ClaimsPolicy;
use server_kit::limit::rate_limiter::RateLimiter;
use upstream::cluster::Cluster;
use upstream::settings::UpstreamTimeouts;

/// A route at work.
pub struct Route {
    /// Name in the YAML; the label in metrics and logs.
    pub id: Arc<str>,
    /// Rules that a request meets before the handler.
    pub policies: RoutePolicies,
    /// Changes of the headers of an object route's responses; empty on other routes.
    pub response_headers: ObjectHeaderChanges,
    /// Content codings of an object route's objects; empty on other routes.
    pub codings: CodingSettings,
    /// Answers to errors of an object route; empty on other routes.
    pub error_answers: Vec<ErrorAnswer>,
    /// The handler of its requests.
    pub handler: RouteHandler,
}

/// Rules that a request meets before the handler of its route.
pub struct RoutePolicies {
    /// Hosts that the route takes, as `Match.Hosts` has them; empty takes any.
    pub hosts: Vec<String>,
    /// Callers that may use it.
    pub authorization: RouteAuthorization,
    /// True: a refusal is 404 instead of 403 (`HideExistence`).
    pub hide_existence: Option<bool>,
    /// The rate limiter.
    pub rate_limiter: Option<Arc<RateLimiter>>,
    /// Cross-origin rules.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// Largest request body in bytes; `None` is unlimited.
    pub max_request_body: Option<u64>,
}

/// Callers that may use a route.
pub enum RouteAuthorization {
    /// Everybody; a token is not looked at.
    Anonymous,
    /// Callers with a valid token that satisfies the policy.
    Policy {
        /// Rules over the token's claims and the captured path values.
        claims: Arc<ClaimsPolicy>,
        /// Authorities that decide beyond the claims.
        track_access: Option<TrackAccess>,
    },
}

/// Authorities that decide, beyond a token's claims, about one track.
pub struct TrackAccess {
    /// The authorities.
    pub checker: Arc<AccessChecker>,
    /// Id of the track that they are asked about, from captured path values.
    pub track_id: CaptureTemplate,
}

/// The handler of a route's requests.
pub enum RouteHandler {
    /// Serves the objects of one bucket.
    Object(ObjectHandler),
    /// Serves the objects of the catalog's tracks.
    Track(TrackHandler),
    /// Serves the objects of films, and their manifests.
    Film(Box<FilmHandler>),
    /// Forwards to the servers of a cluster.
    Cluster(ClusterHandler),
}

/// Serves the objects of one bucket.
pub struct ObjectHandler {
    /// The bucket, with its store, cluster and cache.
    pub origin: Arc<ObjectOrigin>,
    /// The object's key, from captured path values.
    pub key: CaptureTemplate,
    /// Name of the object that answers for a folder; `None`: a folder is a key like others.
    pub index: Option<Arc<str>>,
    /// True where a folder without an index document is listed.
    pub lists_folders: bool,
}

/// Serves the objects of the catalog's tracks, in whatever bucket each is.
pub struct TrackHandler {
    /// The track's id, from captured path values.
    pub track_id: CaptureTemplate,
    /// The catalog; without one its tracks are unavailable.
    pub catalog: Option<Arc<Catalog>>,
    /// The buckets that tracks were found in.
    pub origins: TrackOrigins,
}

/// Forwards to the servers of a cluster.
pub struct ClusterHandler {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Changes of the request and the response, in order.
    pub transforms: Vec<Transform>,
    /// Time limits toward its servers.
    pub timeouts: UpstreamTimeouts,
}

impl Route {
    /// True where the object engine answers: GET, HEAD and OPTIONS only, and nothing of the client's query is sent on.
    pub fn serves_objects(&self) -> bool {
        matches!(self.handler, RouteHandler::Object(_) | RouteHandler::Track(_) | RouteHandler::Film(_))
    }
}

impl RouteHandler {
    /// Returns the buckets that the handler is known to reach; for tracks those that the catalog has named so far.
    pub fn origins(&self) -> Vec<Arc<ObjectOrigin>> {
        match self {
            Self::Object(handler) => vec![Arc::clone(&handler.origin)],
            Self::Track(handler) => handler.origins.all(),
            Self::Film(handler) => vec![Arc::clone(&handler.origin)],
            Self::Cluster(_) => Vec::new(),
        }
    }
}
