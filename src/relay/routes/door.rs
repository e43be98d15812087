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
use crate::http::client_ip;
use crate::relay::Relay;
use crate::relay::id::SessionId;
use crate::relay::refused::Refused;
use crate::relay::session::Session;
use crate::relay::tickets::{Place, Role, Ticket};

/// Somebody with the token.
#[derive(Clone, Copy, Debug)]
pub struct Bearer {
    /// Where the request came from.
    pub address: IpAddr,
}

/// Somebody with the token or a ticket.
pub struct Visitor {
    /// Where the request came from.
    pub address: IpAddr,
    shown: Proof,
}

/// What lets a visitor in.
enum Proof {
    Token,
    Ticket(String),
    Resume(String),
}

#[derive(Deserialize)]
struct Shown {
    ticket: Option<String>,
    resume: Option<String>,
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
            return Ok(Self { address, shown: Proof::Token });
        }
        let shown = Query::<Shown>::try_from_uri(&parts.uri).map(|Query(shown)| shown);
        match shown {
            Ok(Shown { ticket: Some(ticket), .. }) => Ok(Self { address, shown: Proof::Ticket(ticket) }),
            Ok(Shown { resume: Some(secret), .. }) => Ok(Self { address, shown: Proof::Resume(secret) }),
            Ok(_) | Err(_) => Err(refuse(relay)),
        }
    }
}

impl Visitor {
    /// Lets the visitor in to the session of this id; a ticket gives a place that is held until it is dropped.
    pub async fn enter(
        &self,
        relay: &Relay,
        id: SessionId,
        role: Role,
    ) -> Result<(Arc<Session>, Option<Place>), Refused> {
        let (session, ticket) = self.session(relay, id, role).await?;
        let place = match ticket {
            Some(ticket) if ticket.role != Role::Resume => Some(relay.tickets.enter(&ticket, relay.now())?),
            _ => None,
        };
        Ok((session, place))
    }

    /// The session of this id, for a visitor who takes no place.
    pub async fn look(&self, relay: &Relay, id: SessionId) -> Result<Arc<Session>, Refused> {
        self.session(relay, id, Role::Listener).await.map(|(session, _)| session)
    }

    async fn session(
        &self,
        relay: &Relay,
        id: SessionId,
        role: Role,
    ) -> Result<(Arc<Session>, Option<Ticket>), Refused> {
        let refused = |refused: Refused| {
            relay.metrics.unauthorized.inc();
            refused
        };
        let ticket = self.ticket(relay, id, role).map_err(refused)?;
        let session = relay.find(id, self.address).await?;
        if ticket.is_some_and(|ticket| ticket.started != session.started()) {
            return Err(refused(Refused::Unauthorized));
        }
        Ok((session, ticket))
    }

    /// Whether the visitor may look at `session`, without taking a place.
    pub fn may_look(&self, relay: &Relay, session: &Session) -> bool {
        let ticket = self.ticket(relay, session.id(), Role::Listener);
        ticket.is_ok_and(|ticket| ticket.is_none_or(|ticket| ticket.started == session.started()))
    }

    /// What the visitor's ticket says; `None` for one who needs none.
    fn ticket(&self, relay: &Relay, id: SessionId, role: Role) -> Result<Option<Ticket>, Refused> {
        let (text, shown) = match &self.shown {
            Proof::Token => return Ok(None),
            Proof::Ticket(text) => (text, role),
            Proof::Resume(text) if role == Role::Host => (text, Role::Resume),
            Proof::Resume(_) => return Err(Refused::Unauthorized),
        };
        relay.tickets.read(text, id, shown, relay.now()).map(Some)
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

/// The network by which a caller is counted; callers whose address is not known count as one.
pub fn address(parts: &Parts) -> IpAddr {
    let caller = parts.extensions.get::<Caller>().and_then(|caller| caller.address);
    caller.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), client_ip::network)
}
