//! What is known of one request while it is answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::world::{Served, World};
use http_semantics::{cors, request_info};
use object_engine::{AttemptStats, ObjectLocation};
use routing::pattern::Captures;
use server_kit::auth::Claims;
use server_kit::auth::path_token::PathTokenClaims;
use server_kit::limit::RateLimitStatus;
use server_kit::limit::rate_limiter::RateLimitPermit;

/// One request's way through the phases.
pub struct Ctx {
    /// The settings that were in force when it arrived; kept to its end.
    pub world: Arc<World>,
    /// Its id, in `X-Request-Id`, in the envelope and in the log.
    pub id: String,
    /// When it arrived.
    pub started: Instant,
    /// Who asks, by address.
    pub client: Option<IpAddr>,
    /// Who asks, by token.
    pub claims: Option<Arc<Claims>>,
    /// The leave of the route's rate limiter policy.
    pub permit: Option<RateLimitPermit>,
    /// What the answer says of that policy, refusals too.
    pub standing: Option<RateLimitStatus>,
    /// The verified token of the path, where it has one.
    pub ticket: Option<PathTokenClaims>,
    /// The route, once it is known.
    pub served: Option<Arc<Served>>,
    /// Whether a module answers it.
    pub inside: bool,
    /// What the route's path captured.
    pub captures: Captures,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What the object engine did for it.
    pub tally: AttemptStats,
    /// The object that could not be served.
    pub failed_object: Option<Box<ObjectLocation>>,
    /// How long the first byte took.
    pub first_byte: Option<Duration>,
    /// Bytes of an object sent.
    pub sent: u64,
}

impl Ctx {
    /// A request that arrives now.
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            id: request_info::new_request_id(),
            started: Instant::now(),
            client: None,
            claims: None,
            permit: None,
            standing: None,
            ticket: None,
            served: None,
            inside: false,
            captures: Captures::default(),
            failure: None,
            tally: AttemptStats::default(),
            failed_object: None,
            first_byte: None,
            sent: 0,
        }
    }

    /// The route's name for labels and logs.
    pub fn route(&self) -> &str {
        self.served.as_ref().map_or("none", |served| &served.route.id)
    }

    /// Cross-origin rules: the route's, or those of the API.
    pub fn cors(&self) -> Option<&Arc<cors::CorsPolicy>> {
        match &self.served {
            Some(served) => served.route.cors.as_ref(),
            None => self.world.server.api_cors.as_ref().filter(|_| self.inside),
        }
    }

    /// The first byte of the answer goes out now.
    pub fn answered(&mut self) {
        self.first_byte.get_or_insert_with(|| self.started.elapsed());
    }
}
