//! Engine of object routes: from a client's request to bytes, ranges and errors that are right whatever the store does.
//! Owns `Range`, preconditions, attempts with their signatures, retries and the continuation of a broken body. Knows
//! neither routes nor Pingora: it is given an [`ObjectOrigin`] and a key. Rules: RFC 9110 §13–15 and
//! `docs/object-semantics.md`.

mod body;
mod bucket_health;
pub mod cache;
mod download;
mod fetch;
pub mod listing;
mod object_metadata;
mod plan;
mod resume_counts;
mod serve;
mod traced;

use std::sync::Arc;
use std::time::Duration;

pub use body::{ObjectBody, WholeBody};
pub use bucket_health::{BucketHealth, probe_bucket};
use cache::{CacheStatus, RouteCache};
pub use download::ResumableDownload;
use http::{HeaderMap, StatusCode};
pub use plan::RequestPlan;
pub use resume_counts::{ResumeCause, ResumeCounts};
pub use serve::{serve_object, serve_object_at_once};

use primitives::clock::Clock;
use request_traces::RequestTrace;
use s3::signer::{SignError, Signer};
use upstream::cluster::{Cluster, ClusterMember};
use upstream::error::{DestinationId, UpstreamError};
use upstream::settings::UpstreamTimeouts;

/// Origin of a route's objects: the store, the bucket and the settings for reading from it.
pub struct ObjectOrigin {
    /// Name of the store in the YAML.
    pub store: Arc<str>,
    /// Signer of requests to the store.
    pub signer: Arc<Signer>,
    /// Health of the bucket, shared by all routes to it.
    pub health: Arc<BucketHealth>,
    /// Servers of the store.
    pub cluster: Arc<Cluster>,
    /// Name of the bucket.
    pub bucket: Arc<str>,
    /// `Content-Type` of every object; wins over the store's.
    pub content_type: Option<http::HeaderValue>,
    /// Time limits toward the store.
    pub timeouts: UpstreamTimeouts,
    /// True if a denial of the store is shown to the client as 403; false: as 404 (`HideExistence`).
    pub reveal_denied: bool,
    /// Clock for signatures and freshness.
    pub clock: Clock,
    /// Cache and policy of the route; `None` where the route has no cache.
    pub cache: Option<RouteCache>,
}

/// Location of an object, for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectLocation {
    /// Name of the store in the YAML.
    pub store: Arc<str>,
    /// Name of the bucket.
    pub bucket: Arc<str>,
    /// Key of the object, decoded.
    pub key: String,
}

impl ObjectOrigin {
    /// Returns the location of the object `key` of this origin.
    pub fn location(&self, key: &str) -> ObjectLocation {
        ObjectLocation { store: Arc::clone(&self.store), bucket: Arc::clone(&self.bucket), key: key.to_owned() }
    }
}

/// Response to the client.
pub struct ObjectResponse {
    /// Status: 200, 206 or 304.
    pub status: StatusCode,
    /// All headers but those of the route (CORS) and of the connection.
    pub headers: HeaderMap,
    /// Body; `None` where there is none (HEAD, 304).
    pub body: Option<ObjectBody>,
}

/// Failure to answer a request for an object. The proxy maps each to a status (`docs/object-semantics.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The store has no such object, or no object can have this key.
    #[error("no such object")]
    NotFound,
    /// The object was deleted: its newest version is a delete marker.
    #[error("the object was deleted")]
    Gone,
    /// The store denies access to the object.
    #[error("the store denies access to the object")]
    Denied {
        /// True if the client must see 404 instead of 403.
        hidden: bool,
    },
    /// A precondition of the client's request does not hold (RFC 9110 §13).
    #[error("a precondition does not hold")]
    PreconditionFailed,
    /// The range begins past the end of the object (RFC 9110 §14.1.2).
    #[error("the range begins past the end of the object")]
    RangeNotSatisfiable {
        /// Size of the object in bytes.
        size: u64,
    },
    /// No request to the store can be signed; the error inside says why.
    #[error("no request to the store can be signed: {0}")]
    Unsignable(SignError),
    /// The store took three signatures in a row for expired.
    #[error("the store takes every signature for expired: compare the clocks of store and proxy")]
    Expired,
    /// The store says that the signature is wrong.
    #[error("the store says that the signature does not fit: check the secret key and the region")]
    Signature,
    /// The store does not know the access key or session token.
    #[error("the store does not know the access key or session token: renew the credentials")]
    Credentials,
    /// The object is archived and must be restored before it can be read.
    #[error("the object is archived and must be restored first")]
    Archived,
    /// The bucket does not exist.
    #[error("the store has no such bucket: check Bucket")]
    NoSuchBucket,
    /// The store asks for fewer requests (503 SlowDown, 429).
    #[error("the store asks for fewer requests")]
    Throttled {
        /// Time that the store asks to wait; `None` where it does not say.
        retry_after: Option<Duration>,
    },
    /// The store answered 5xx.
    #[error("the store failed")]
    StoreBroken,
    /// A gateway in front of the store answered for it (502, 504).
    #[error("a gateway in front of the store does not reach it")]
    BadGateway,
    /// The response violates HTTP or does not fit the request; the text says how.
    #[error("the store's answer makes no sense: {0}")]
    InvalidResponse(&'static str),
    /// No destination is available: circuit breakers or health checks keep requests away.
    #[error("no destination of the cluster takes requests for now: see its breaker and health checks")]
    Unavailable,
    /// No destination can be connected to.
    #[error("no destination of the cluster can be reached")]
    Unreachable,
    /// The connection broke before a response came.
    #[error("the store closed the connection before it answered")]
    Closed,
    /// The certificate or the TLS handshake is wrong.
    #[error("the store's TLS certificate or handshake is wrong")]
    Tls,
    /// No connection was made or no response came within the limit.
    #[error("the store did not answer in time")]
    Timeout,
    /// The body broke off and could not be continued.
    #[error("the body broke off and could not be continued")]
    BrokenBody,
    /// The object was overwritten while it was being sent.
    #[error("the object was overwritten while it was being sent")]
    Changed,
}

impl ObjectError {
    /// Returns true where there is no such object as far as the store tells: AWS says 403 of a key that is not there to who may
    /// not list the bucket. Everything else is a failure of the store, which says nothing of the object.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound | Self::Gone | Self::Denied { .. })
    }

    /// Returns true if the failure is the store's, not the object's or the configuration's: then stale data may be served, and
    /// a later attempt may succeed. So it is while the provider of the store's credentials is away.
    pub fn is_store_failure(&self) -> bool {
        if let Self::Unsignable(error) = self {
            return error.is_temporary();
        }
        matches!(
            self,
            Self::Unavailable
                | Self::Unreachable
                | Self::Closed
                | Self::Timeout
                | Self::StoreBroken
                | Self::BadGateway
                | Self::BrokenBody
                | Self::Throttled { .. }
        )
    }

    /// Returns true for a failure of the whole store, after which it may be well again soon. A 500 is none: the store answers,
    /// and may fail with this object alone.
    pub(crate) fn is_outage(&self) -> bool {
        self.is_store_failure() && !matches!(self, Self::StoreBroken | Self::BrokenBody)
    }
}

/// Effort and outcome of the attempts for one request, for metrics and the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptStats {
    /// Number of requests that were sent to the store, or tried to be sent.
    pub attempts: u32,
    /// Number of attempts that failed and were followed by another.
    pub retries: u32,
    /// Number of signatures that the store took for expired.
    pub expired: u32,
    /// Number of times that a broken body was continued, by cause.
    pub resumes: ResumeCounts,
    /// Part that the cache took; `None` on a route without a cache.
    pub cache: Option<CacheStatus>,
    /// Server of the last attempt; `None` where there was none.
    pub server: Option<DestinationId>,
    /// Last failure of a server, also where a later attempt succeeded.
    pub error: Option<Arc<UpstreamError>>,
    /// Trace of the request that the attempts are made for.
    pub trace: RequestTrace,
}

impl AttemptStats {
    /// Creates the effort of a request with this trace, before its first attempt.
    pub fn traced(trace: &RequestTrace) -> Self {
        Self { trace: trace.clone(), ..Self::default() }
    }

    /// Returns the sum of both. Cache status, server and error are those of `other`, which is the later one, where it
    /// has them.
    pub fn merged_with(self, other: Self) -> Self {
        Self {
            attempts: self.attempts + other.attempts,
            retries: self.retries + other.retries,
            expired: self.expired + other.expired,
            resumes: self.resumes + other.resumes,
            cache: other.cache.or(self.cache),
            server: other.server.or(self.server),
            error: other.error.or(self.error),
            trace: self.trace.or(other.trace),
        }
    }

    /// Returns the part that a request should report which followed another one's work: server and error, but no
    /// effort, which would be counted twice.
    pub fn for_follower(&self) -> Self {
        Self { server: self.server.clone(), error: self.error.clone(), ..Self::default() }
    }

    /// Counts an attempt at the server `member` of `cluster`.
    pub fn record_attempt(&mut self, cluster: &Cluster, member: &ClusterMember) {
        self.attempts += 1;
        self.server =
            Some(DestinationId { cluster: Arc::clone(cluster.id()), destination: Arc::clone(member.destination.id()) });
    }

    /// Records `error` as the failure of the server `member` of `cluster`.
    pub fn record_failure(
        &mut self,
        cluster: &Cluster,
        member: &ClusterMember,
        error: &(dyn std::error::Error + 'static),
    ) {
        self.error = Some(UpstreamError::for_member(cluster.id(), member, error));
    }

    /// Records `error` as the failure of a body from `destination` of `cluster`.
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
