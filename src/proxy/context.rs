//! Context of one request while it is answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::ProxyFailure;
use super::route::Route;
use super::runtime::Runtime;
use http_semantics::{cors, request_info};
use http_server::client_certificate::ClientCertificate;
use object_engine::{AttemptStats, ObjectLocation};
use primitives::clock::monotonic_now;
use routing::pattern::Captures;
use server_kit::auth::Claims;
use server_kit::auth::path_token::PathTokenClaims;
use server_kit::limit::RateLimitStatus;
use server_kit::limit::rate_limiter::RateLimitPermit;
use server_kit::live_streams::LiveStreamGuard;
use vod::grant::Grant;

/// Context of one request, from its arrival to its access log line.
pub struct RequestContext {
    /// The runtime that was in force when it arrived, taken once and kept to its end.
    pub runtime: Arc<Runtime>,
    /// Its id, in `X-Request-Id`, in the envelope and in the log.
    pub id: String,
    /// Time of its arrival.
    pub started: Instant,
    /// Address of the client.
    pub client_address: Option<IpAddr>,
    /// Certificate that the client has shown.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// Claims of the caller's token.
    pub claims: Option<Arc<Claims>>,
    /// Permit of the route's rate limiter, held to the end of the response.
    pub rate_limit_permit: Option<RateLimitPermit>,
    /// Status of that policy for the response headers, on refusals too.
    pub rate_limit_status: Option<RateLimitStatus>,
    /// The verified token of the path, where it has one.
    pub path_token: Option<PathTokenClaims>,
    /// The verified grant of a film's viewer, where the request is for one.
    pub film_grant: Option<Grant>,
    /// The route, once it is known.
    pub route: Option<Arc<Route>>,
    /// True where a module answers it.
    pub is_module_request: bool,
    /// True where its caller has shown the operator's debug token.
    pub is_debugged: bool,
    /// Values that the route's path captured.
    pub captures: Captures,
    /// Cause of its failure.
    pub failure: Option<ProxyFailure>,
    /// Attempts, retries and resumes that were made for it.
    pub attempt_stats: AttemptStats,
    /// The object that could not be served.
    pub failed_object: Option<Box<ObjectLocation>>,
    /// Time from its arrival to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Bytes of an object sent.
    pub bytes_sent: u64,
    /// Its place among the live streams, once the body of its answer begins.
    pub live_stream: Option<LiveStreamGuard>,
}

impl RequestContext {
    /// A request that arrives now.
    pub fn new(runtime: Arc<Runtime>) -> Self {
        Self {
            runtime,
            id: request_info::new_request_id(),
            started: monotonic_now(),
            client_address: None,
            client_certificate: None,
            claims: None,
            rate_limit_permit: None,
            rate_limit_status: None,
            path_token: None,
            film_grant: None,
            route: None,
            is_module_request: false,
            is_debugged: false,
            captures: Captures::default(),
            failure: None,
            attempt_stats: AttemptStats::default(),
            failed_object: None,
            first_byte: None,
            bytes_sent: 0,
            live_stream: None,
        }
    }

    /// The route's name for labels and logs.
    pub fn route_id(&self) -> &str {
        self.route.as_ref().map_or("none", |route| &route.id)
    }

    /// Cross-origin rules: the route's, or those of the API.
    pub fn cors(&self) -> Option<&Arc<cors::CorsPolicy>> {
        match &self.route {
            Some(route) => route.policies.cors.as_ref(),
            None => self.runtime.server.api_cors.as_ref().filter(|_| self.is_module_request),
        }
    }

    /// Counts `bytes` of the answer's body that were sent: against the caller's egress quota, and for the operator.
    pub fn record_sent(&self, bytes: u64) {
        if let Some(permit) = &self.rate_limit_permit {
            permit.record_sent(bytes);
        }
        if let Some(stream) = &self.live_stream {
            stream.add_bytes(bytes);
        }
    }

    /// The first byte of the answer goes out now.
    pub fn record_first_byte(&mut self) {
        self.first_byte.get_or_insert_with(|| self.started.elapsed());
    }
}
