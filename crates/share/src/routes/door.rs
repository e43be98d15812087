//! Who may come in: the share server's token in `Authorization`, or a ticket in the query. Both are judged by the
//! extractors, before the handler looks for a session.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, header};
use serde::Deserialize;

use crate::Relay;
use crate::id::SessionId;
use crate::refused::Refused;
use crate::session::Session;
use crate::tickets::{Place, Role, Ticket};
use http_semantics::client_ip;
use http_semantics::request_info::RequestInfo;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::SkipRateLimit;

/// Somebody with the token.
#[derive(Clone, Copy, Debug)]
pub struct Bearer {
    /// Where the request came from.
    pub address: IpAddr,
}

/// Somebody with the token or a ticket to the session of the path.
pub struct Visitor {
    /// Where the request came from.
    pub address: IpAddr,
    /// `None`: they have shown the token.
    ticket: Option<Ticket>,
}

/// Somebody who may see the cover of the session of the path.
pub enum Viewer {
    /// They have shown the token or a ticket.
    Visitor(Visitor),
    /// They know the cover of this tag, because the session has told them.
    Told(String),
}

#[derive(Deserialize)]
struct Shown {
    ticket: Option<String>,
    resume: Option<String>,
    v: Option<String>,
}

impl FromRequestParts<Arc<Relay>> for Bearer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        let address = address(parts);
        authorize(relay, parts, address).map(|()| Self { address }).map_err(|refused| refuse(relay, refused))
    }
}

impl FromRequestParts<Arc<Relay>> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        let address = address(parts);
        let (ticket, resume) = shown(parts).map_or((None, None), |shown| (shown.ticket, shown.resume));
        // A player may send a token of its own with every request: a ticket is looked at first.
        let Some(text) = ticket.as_ref().or(resume.as_ref()) else {
            let Bearer { address } = Bearer::from_request_parts(parts, relay).await?;
            return Ok(Self { address, ticket: None });
        };
        let read = match session(parts).await {
            Some(id) => relay.ticket(text, id).await,
            None => None,
        };
        let read = read.filter(|read| ticket.is_some() != (read.role == Role::Resume));
        let refused = match read {
            Some(ticket) if ticket.until > relay.now() => return Ok(Self { address, ticket: Some(ticket) }),
            // It was made here, and its time is over: that is no guess.
            Some(_) => Refused::Unauthorized,
            None if parts.headers.contains_key(header::AUTHORIZATION) => Refused::Unauthorized,
            None => relay.access.failed(address, relay.now()),
        };
        match authorize(relay, parts, address) {
            Ok(()) => Ok(Self { address, ticket: None }),
            Err(Refused::Unauthorized) => Err(refuse(relay, refused)),
            Err(other) => Err(refuse(relay, other)),
        }
    }
}

impl FromRequestParts<Arc<Relay>> for Viewer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        let told = shown(parts).and_then(|shown| shown.v);
        let tag = match (&told, session(parts).await) {
            (Some(told), Some(id)) => relay.tickets.cover(id, told).map(str::to_owned),
            _ => None,
        };
        match tag {
            Some(tag) => Ok(Self::Told(tag)),
            None => Visitor::from_request_parts(parts, relay).await.map(Self::Visitor),
        }
    }
}

/// Refuses whoever shows nothing that is valid, before the limits of a class count the request: those count by address, and
/// nobody may use up what others behind the same one have.
pub async fn judge(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match Viewer::from_request_parts(&mut parts, &relay).await {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        // Nothing here takes another method, and everybody may be told so.
        Err(_) if !matches!(parts.method, Method::GET | Method::HEAD | Method::POST) => {
            parts.extensions.insert(SkipRateLimit);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
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
        let session = self.session(relay, id, role).await?;
        let place = match &self.ticket {
            Some(ticket) if ticket.role != Role::Resume => Some(relay.tickets.enter(ticket, relay.now())?),
            _ => None,
        };
        Ok((session, place))
    }

    /// The session of this id, for a visitor who takes no place.
    pub async fn look(&self, relay: &Relay, id: SessionId) -> Result<Arc<Session>, Refused> {
        self.session(relay, id, Role::Listener).await
    }

    async fn session(&self, relay: &Relay, id: SessionId, role: Role) -> Result<Arc<Session>, Refused> {
        let Some(ticket) = self.ticket else { return relay.find(id, self.address).await };
        let fits = ticket.role == role || (ticket.role == Role::Resume && role == Role::Host);
        // A ticket names its session: who has one guesses nothing.
        let session = if fits { Some(relay.open(id).await?) } else { None };
        session.filter(|session| session.incarnation() == ticket.incarnation).ok_or_else(|| {
            relay.metrics.unauthorized.inc();
            Refused::Unauthorized
        })
    }
}

/// The session that the path names.
async fn session(parts: &mut Parts) -> Option<SessionId> {
    let named = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    named.iter().find(|(name, _)| *name == "id").and_then(|(_, id)| id.parse().ok())
}

fn shown(parts: &Parts) -> Option<Shown> {
    Query::<Shown>::try_from_uri(&parts.uri).ok().map(|Query(shown)| shown)
}

fn authorize(relay: &Relay, parts: &Parts, address: IpAddr) -> Result<(), Refused> {
    let given = parts.headers.get(header::AUTHORIZATION).map(|given| given.as_bytes());
    relay.access.authorize(given, address, relay.now())
}

fn refuse(relay: &Relay, refused: Refused) -> Error {
    relay.metrics.unauthorized.inc();
    tracing::info!("a request to the share relay showed no valid token");
    refused.into()
}

/// The network by which a caller is counted; callers whose address is not known count as one.
fn address(parts: &Parts) -> IpAddr {
    let caller = parts.extensions.get::<RequestInfo>().and_then(|caller| caller.client_address);
    caller.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), client_ip::client_network)
}
