//! Who may come in: the share server's token in `Authorization` (compared in constant time; the document's client keeps
//! the word `Bearer` inside its setting, so both spellings are right), or a ticket in the query.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use http::header;
use http::request::Parts;
use serde::Deserialize;

use crate::api::error::Error;
use crate::http::caller::Caller;
use crate::relay::Relay;
use crate::relay::id::SessionId;
use crate::relay::refused::Refused;
use crate::relay::tickets::{Place, Role};

/// Somebody with the token.
#[derive(Clone, Copy, Debug)]
pub struct Bearer {
    /// Where the request came from.
    pub address: IpAddr,
}

/// Somebody with the token or a ticket.
#[derive(Debug)]
pub struct Visitor {
    /// Where the request came from.
    pub address: IpAddr,
    /// `None` where the token was shown.
    ticket: Option<String>,
}

#[derive(Deserialize)]
struct Shown {
    ticket: Option<String>,
}

impl FromRequestParts<Arc<Relay>> for Bearer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        if is_bearer(relay, parts) { Ok(Self { address: address(parts) }) } else { Err(refuse(relay)) }
    }
}

impl FromRequestParts<Arc<Relay>> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        let address = address(parts);
        if is_bearer(relay, parts) {
            return Ok(Self { address, ticket: None });
        }
        let shown = Query::<Shown>::try_from_uri(&parts.uri).ok().and_then(|Query(shown)| shown.ticket);
        match shown {
            Some(ticket) => Ok(Self { address, ticket: Some(ticket) }),
            None => Err(refuse(relay)),
        }
    }
}

impl Visitor {
    /// Lets the visitor in to `session`; a ticket gives a place that is held until it is dropped.
    pub fn enter(&self, relay: &Relay, session: SessionId, role: Role) -> Result<Option<Place>, Refused> {
        let Some(ticket) = &self.ticket else { return Ok(None) };
        let place = relay.tickets.open(ticket, session, role, relay.now());
        place.map(Some).inspect_err(|_| relay.metrics.unauthorized.inc())
    }

    /// Whether the visitor may look at `session`, without taking a place.
    pub fn may_look(&self, relay: &Relay, session: SessionId) -> bool {
        self.ticket.as_ref().is_none_or(|ticket| relay.tickets.is_good(ticket, session, relay.now()))
    }
}

fn is_bearer(relay: &Relay, parts: &Parts) -> bool {
    let token = &relay.settings.token;
    let Some(given) = parts.headers.get(header::AUTHORIZATION).map(|given| given.as_bytes()) else { return false };
    // Both are compared whatever the first says.
    let bare = given.strip_prefix(b"Bearer ").unwrap_or_default();
    token.matches(given) | token.matches(bare)
}

fn refuse(relay: &Relay) -> Error {
    relay.metrics.unauthorized.inc();
    tracing::info!("a request to the share relay showed no valid token");
    Refused::Unauthorized.into()
}

/// Callers whose address is not known count as one.
pub fn address(parts: &Parts) -> IpAddr {
    let caller = parts.extensions.get::<Caller>().and_then(|caller| caller.address);
    caller.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
