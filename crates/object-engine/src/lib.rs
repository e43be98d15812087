//! The engine of object routes: from a player's request to bytes, ranges and errors that are right whatever the store
//! does. Owns Range, conditionals, signing attempts, retries and the continuation of a body that breaks. Knows neither
//! routes nor Pingora; it is handed an [`Origin`] and a key. Rules: RFC 9110 §13–15 and `docs/object-semantics.md`.

mod body;
pub mod cache;
mod download;
mod facts;
mod fetch;
mod health;
mod plan;
mod resumes;

use std::sync::Arc;
use std::time::Duration;

pub use body::Body;
use cache::{Cached, State};
pub use download::Download;
pub use health::{Health, probe};
use http::{HeaderMap, StatusCode};
pub use plan::{Plan, answer};
pub use resumes::{Cause, Resumes};

use primitives::clock::Clock;
use s3::signer::{SignError, Signer};
use upstream::cluster::{Cluster, Member};
use upstream::error::{ServerName, UpstreamError};
use upstream::settings::Timeouts;

/// Where the objects of a route come from.
pub struct Origin {
    /// The store's name in the YAML.
    pub store: Arc<str>,
    /// Signs requests to the store.
    pub signer: Arc<Signer>,
    /// What is known of the bucket.
    pub health: Arc<Health>,
    /// The servers that are connected to.
    pub cluster: Arc<Cluster>,
    /// The bucket.
    pub bucket: Arc<str>,
    /// `Content-Type` of every object, above what the store says.
    pub content_type: Option<http::HeaderValue>,
    /// Time limits toward the store.
    pub timeouts: Timeouts,
    /// Whether the store's "denied" says 403 to the player instead of 404.
    pub reveal_denied: bool,
    /// The time.
    pub clock: Clock,
    /// The cache, where the route uses it.
    pub cache: Option<Cached>,
}

/// The place of an object, for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The store's name in the YAML.
    pub store: Arc<str>,
    /// The bucket.
    pub bucket: Arc<str>,
    /// The key.
    pub key: String,
}

impl Origin {
    /// The place of `key`.
    pub fn object(&self, key: &str) -> ObjectName {
        ObjectName { store: Arc::clone(&self.store), bucket: Arc::clone(&self.bucket), key: key.to_owned() }
    }
}

/// What is said to the player.
pub struct Answer {
    /// 200, 206 or 304.
    pub status: StatusCode,
    /// All headers but those of the route (CORS) and of the connection.
    pub headers: HeaderMap,
    /// The body; `None` where there is none (HEAD, 304).
    pub body: Option<Body>,
}

/// Why there is no answer. The proxy turns each into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
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
    Nonsense(&'static str),
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
pub struct Tally {
    /// Requests sent to the store or tried to.
    pub attempts: u32,
    /// Tries that failed and were followed by another.
    pub retries: u32,
    /// Signatures that the store took for expired.
    pub expired: u32,
    /// Continuations of a broken body.
    pub resumes: Resumes,
    /// How the cache took part; `None` on a route without one.
    pub cache: Option<State>,
    /// The server that was asked last; `None` where none was.
    pub server: Option<ServerName>,
    /// The last failure of a server, also where another try mended it.
    pub error: Option<Arc<UpstreamError>>,
}

impl Tally {
    /// This and what `other` took; how the cache took part is the latter's where it knows.
    pub fn and(self, other: Self) -> Self {
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
    pub fn tries(&mut self, cluster: &Cluster, member: &Member) {
        self.attempts += 1;
        self.server =
            Some(ServerName { cluster: Arc::clone(cluster.id()), destination: Arc::clone(member.destination.id()) });
    }

    /// Notes that the server `member` of `cluster` failed.
    pub fn failed(&mut self, cluster: &Cluster, member: &Member, error: &(dyn std::error::Error + 'static)) {
        self.error = Some(UpstreamError::of(cluster.id(), member, error));
    }

    /// Notes that a body from `destination` of `cluster` failed.
    pub fn body_failed(
        &mut self,
        cluster: &Cluster,
        destination: &Arc<str>,
        error: &(dyn std::error::Error + 'static),
    ) {
        let server = ServerName { cluster: Arc::clone(cluster.id()), destination: Arc::clone(destination) };
        self.error = Some(UpstreamError::of_body(server, error));
    }
}
