//! The engine of object routes: from a player's request to bytes, ranges and errors that are right whatever the store
//! does. Owns Range, conditionals, signing attempts, retries and the continuation of a body that breaks. Knows neither
//! routes nor Pingora; it is handed an [`ObjectOrigin`] and a key. Rules: RFC 9110 §13–15 and `docs/object-semantics.md`.

mod body;
mod bucket_health;
pub mod cache;
mod download;
mod fetch;
mod object_metadata;
mod plan;
mod resume_counts;

use std::sync::Arc;
use std::time::Duration;

pub use body::ObjectBody;
pub use bucket_health::{BucketHealth, probe_bucket};
use cache::{CacheStatus, RouteCache};
pub use download::ResumableDownload;
use http::{HeaderMap, StatusCode};
pub use plan::{RequestPlan, serve_object};
pub use resume_counts::{ResumeCause, ResumeCounts};

use primitives::clock::Clock;
use s3::signer::{SignError, Signer};
use upstream::cluster::{Cluster, ClusterMember};
use upstream::error::{DestinationId, UpstreamError};
use upstream::settings::UpstreamTimeouts;

/// Where the objects of a route come from.
pub struct ObjectOrigin {
    /// The store's name in the YAML.
    pub store: Arc<str>,
    /// Signs requests to the store.
    pub signer: Arc<Signer>,
    /// What is known of the bucket.
    pub health: Arc<BucketHealth>,
    /// The servers that are connected to.
    pub cluster: Arc<Cluster>,
    /// The bucket.
    pub bucket: Arc<str>,
    /// `Content-Type` of every object, above what the store says.
    pub content_type: Option<http::HeaderValue>,
    /// Time limits toward the store.
    pub timeouts: UpstreamTimeouts,
    /// Whether the store's "denied" says 403 to the player instead of 404.
    pub reveal_denied: bool,
    /// The time.
    pub clock: Clock,
    /// The cache, where the route uses it.
    pub cache: Option<RouteCache>,
}

/// The place of an object, for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectLocation {
    /// The store's name in the YAML.
    pub store: Arc<str>,
    /// The bucket.
    pub bucket: Arc<str>,
    /// The key.
    pub key: String,
}

impl ObjectOrigin {
    /// The place of `key`.
    pub fn location(&self, key: &str) -> ObjectLocation {
        ObjectLocation { store: Arc::clone(&self.store), bucket: Arc::clone(&self.bucket), key: key.to_owned() }
    }
}

/// What is said to the player.
pub struct ObjectResponse {
    /// 200, 206 or 304.
    pub status: StatusCode,
    /// All headers but those of the route (CORS) and of the connection.
    pub headers: HeaderMap,
    /// The body; `None` where there is none (HEAD, 304).
    pub body: Option<ObjectBody>,
}

/// Why there is no answer. The proxy turns each into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// No such object.
    #[error("no such object")]
    NotFound,
    /// The object is gone for good.
    #[error("the object was deleted")]
    Gone,
    /// The store denies it.
    #[error("the store denies access to the object")]
    Denied {
        /// Whether the player is told that there is no such object.
        hidden: bool,
    },
    /// A condition of the player's request does not hold.
    #[error("a precondition does not hold")]
    PreconditionFailed,
    /// The range begins past the end.
    #[error("the range begins past the end of the object")]
    RangeNotSatisfiable {
        /// The object's size.
        size: u64,
    },
    /// No request to the store can be signed.
    #[error("no request to the store can be signed: {0}")]
    Unsignable(SignError),
    /// Three signatures in a row were too old for the store.
    #[error("the store takes every signature for expired: compare the clocks of store and proxy")]
    Expired,
    /// The signature does not fit.
    #[error("the store says that the signature does not fit: check the secret key and the region")]
    Signature,
    /// The access key is unknown.
    #[error("the store does not know the access key or session token: renew the credentials")]
    Credentials,
    /// The object is archived.
    #[error("the object is archived and must be restored first")]
    Archived,
    /// The bucket does not exist.
    #[error("the store has no such bucket: check Bucket")]
    NoSuchBucket,
    /// The store is over its limits.
    #[error("the store asks for fewer requests")]
    Throttled {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The store answered 5xx.
    #[error("the store failed")]
    StoreBroken,
    /// The store answered what no store should.
    #[error("the store's answer makes no sense: {0}")]
    InvalidResponse(&'static str),
    /// No destination takes requests for now: breakers or checks have them left alone.
    #[error("no destination of the cluster takes requests for now: see its breaker and health checks")]
    Unavailable,
    /// No destination can be connected to.
    #[error("no destination of the cluster can be reached")]
    Unreachable,
    /// The connection broke before an answer.
    #[error("the store closed the connection before it answered")]
    Closed,
    /// The certificate is wrong.
    #[error("the store's TLS certificate or handshake is wrong")]
    Tls,
    /// No connection or no answer in time.
    #[error("the store did not answer in time")]
    Timeout,
    /// The body broke and could not be continued.
    #[error("the body broke off and could not be continued")]
    BrokenBody,
    /// The object changed while it was being sent.
    #[error("the object was overwritten while it was being sent")]
    Changed,
}

/// What it took to answer: for metrics and the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptStats {
    /// Requests sent to the store or tried to.
    pub attempts: u32,
    /// Tries that failed and were followed by another.
    pub retries: u32,
    /// Signatures that the store took for expired.
    pub expired: u32,
    /// Continuations of a broken body.
    pub resumes: ResumeCounts,
    /// How the cache took part; `None` on a route without one.
    pub cache: Option<CacheStatus>,
    /// The server that was asked last; `None` where none was.
    pub server: Option<DestinationId>,
    /// The last failure of a server, also where another try mended it.
    pub error: Option<Arc<UpstreamError>>,
}

impl AttemptStats {
    /// This and what `other` took; how the cache took part is the latter's where it knows.
    pub fn merged_with(self, other: Self) -> Self {
        Self {
            attempts: self.attempts + other.attempts,
            retries: self.retries + other.retries,
            expired: self.expired + other.expired,
            resumes: self.resumes + other.resumes,
            cache: other.cache.or(self.cache),
            server: other.server.or(self.server),
            error: other.error.or(self.error),
        }
    }

    /// What of this another request should know that waited for the same answer: the effort was not its own.
    pub fn for_follower(&self) -> Self {
        Self { server: self.server.clone(), error: self.error.clone(), ..Self::default() }
    }

    /// Counts a try at the server `member` of `cluster`.
    pub fn record_attempt(&mut self, cluster: &Cluster, member: &ClusterMember) {
        self.attempts += 1;
        self.server =
            Some(DestinationId { cluster: Arc::clone(cluster.id()), destination: Arc::clone(member.destination.id()) });
    }

    /// Notes that the server `member` of `cluster` failed.
    pub fn record_failure(
        &mut self,
        cluster: &Cluster,
        member: &ClusterMember,
        error: &(dyn std::error::Error + 'static),
    ) {
        self.error = Some(UpstreamError::for_member(cluster.id(), member, error));
    }

    /// Notes that a body from `destination` of `cluster` failed.
    pub fn record_body_failure(
        &mut self,
        cluster: &Cluster,
        destination: &Arc<str>,
        error: &(dyn std::error::Error + 'static),
    ) {
        let server = DestinationId { cluster: Arc::clone(cluster.id()), destination: Arc::clone(destination) };
        self.error = Some(UpstreamError::for_body(server, error));
    }
}
