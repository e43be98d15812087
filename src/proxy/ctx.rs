//! What is known of one request while it is answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::world::{Served, World};
use crate::auth::Claims;
use crate::auth::path_token::Ticket;
use crate::http::{caller, cors};
use crate::limit::Standing;
use crate::limit::policy::Permit;
use crate::object::Tally;
use crate::route::pattern::Captures;
use crate::upstream::destination::InFlight;

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
    pub permit: Option<Permit>,
    /// What the answer says of that policy, refusals too.
    pub standing: Option<Standing>,
    /// What the token in the path says, where that is how.
    pub ticket: Option<Ticket>,
    /// The route, once it is known.
    pub served: Option<Arc<Served>>,
    /// Whether a module answers it.
    pub inside: bool,
    /// What the route's path captured.
    pub captures: Captures,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What the object engine did for it.
    pub tally: Tally,
    /// How long the first byte took.
    pub first_byte: Option<Duration>,
    /// Bytes of an object sent.
    pub sent: u64,
    /// Whether the end of a plain route's answer has been handed on.
    pub ended: bool,
    /// The destination of a plain route while the request is under way to it.
    pub destination: Option<Chosen>,
    /// Destinations of a plain route that failed.
    pub tried: Vec<Arc<str>>,
}

/// The destination that a plain route's request went to.
pub struct Chosen {
    /// Its id.
    pub id: Arc<str>,
    /// The `Host` for it.
    pub host: String,
    /// The path prefix of its address.
    pub prefix: String,
    /// The request under way, until it has answered or failed.
    pub in_flight: InFlight,
    /// Whether the answer's head is there.
    pub answered: bool,
}

impl Ctx {
    /// A request that arrives now.
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            id: caller::new_request_id(),
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
            tally: Tally::default(),
            first_byte: None,
            sent: 0,
            ended: false,
            destination: None,
            tried: Vec::new(),
        }
    }

    /// As [`Ctx::new`], of a request whose route is known already.
    pub fn routed(world: Arc<World>, served: Arc<Served>, captures: Captures) -> Self {
        Self { served: Some(served), captures, ..Self::new(world) }
    }

    /// The route's name for labels and logs.
    pub fn route(&self) -> &str {
        self.served.as_ref().map_or("none", |served| &served.route.id)
    }

    /// Cross-origin rules: the route's, or those of the API.
    pub fn cors(&self) -> Option<&Arc<cors::Policy>> {
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
