//! Authorization: the share server's token in `Authorization`, or a ticket in the query. Both are judged by the
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
use crate::listening_right::ListeningRight;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::session::id::SessionId;
use crate::tickets::{Ticket, TicketRole};
use http_semantics::client_ip;
use http_semantics::request_info::RequestInfo;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::SkipRateLimit;

/// Client with the token.
#[derive(Clone, Copy, Debug)]
pub struct TokenBearer {
    /// Network that the request came from.
    pub address: IpAddr,
}

/// Client with the token, or a ticket to the session of the path.
pub struct SessionVisitor {
    /// Network that the request came from.
    pub address: IpAddr,
    /// Ticket; `None` where the token was shown.
    ticket: Option<Ticket>,
}

/// Client that may see the cover of the session of the path.
pub enum CoverViewer {
    /// It has shown the token or a ticket.
    Visitor(SessionVisitor),
    /// It knows the cover of this tag, because the session has told it.
    KnownTag(String),
}

#[derive(Deserialize)]
struct ShownCredentials {
    ticket: Option<String>,
    resume: Option<String>,
    v: Option<String>,
}

impl FromRequestParts<Arc<Relay>> for TokenBearer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        let address = network_of(parts);
        authorize(relay, parts, address).map(|()| Self { address }).map_err(|refused| refuse(relay, refused))
    }
}

impl FromRequestParts<Arc<Relay>> for SessionVisitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        let address = network_of(parts);
        let (ticket, resume) = shown_credentials(parts).map_or((None, None), |shown| (shown.ticket, shown.resume));
        // A player may send a token of its own with every request: a ticket is looked at first.
        let Some(text) = ticket.as_ref().or(resume.as_ref()) else {
            let TokenBearer { address } = TokenBearer::from_request_parts(parts, relay).await?;
            return Ok(Self { address, ticket: None });
        };
        let read = match session_of_path(parts).await {
            Some(id) => relay.read_ticket(text, id).await,
            None => None,
        };
        // A secret to resume is shown as `resume` alone, or a link with it would let listeners in as the host.
        let read = read.filter(|read| ticket.is_some() != (read.role == TicketRole::Resume));
        let refused = match read {
            Some(ticket) if ticket.until > relay.now() && relay.may_open(&ticket).await => {
                return Ok(Self { address, ticket: Some(ticket) });
            }
            // It was made here, and its time is over: that is no guess.
            Some(_) => Refusal::Unauthorized,
            None if parts.headers.contains_key(header::AUTHORIZATION) => Refusal::Unauthorized,
            None => relay.access.failed(address, relay.now()),
        };
        match authorize(relay, parts, address) {
            Ok(()) => Ok(Self { address, ticket: None }),
            Err(Refusal::Unauthorized) => Err(refuse(relay, refused)),
            Err(other) => Err(refuse(relay, other)),
        }
    }
}

impl FromRequestParts<Arc<Relay>> for CoverViewer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Error> {
        let told = shown_credentials(parts).and_then(|shown| shown.v);
        let tag = match (&told, session_of_path(parts).await) {
            (Some(told), Some(id)) => relay.tickets.verify_cover(id, told).map(str::to_owned),
            _ => None,
        };
        match tag {
            Some(tag) => Ok(Self::KnownTag(tag)),
            None => SessionVisitor::from_request_parts(parts, relay).await.map(Self::Visitor),
        }
    }
}

/// Refuses whoever shows nothing that is valid, before the limits of a class count the request: those count by address,
/// and nobody may use up what others behind the same one have.
pub async fn require_credentials(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match CoverViewer::from_request_parts(&mut parts, &relay).await {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        // Nothing here takes another method, and everybody may be told so.
        Err(_) if !matches!(parts.method, Method::GET | Method::HEAD | Method::POST) => {
            parts.extensions.insert(SkipRateLimit);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

impl SessionVisitor {
    /// Lets the client in to the session of this id; a ticket gives a place that is held until the right is dropped.
    pub async fn enter(
        &self,
        relay: &Arc<Relay>,
        id: SessionId,
        role: TicketRole,
    ) -> Result<(Arc<Session>, ListeningRight), Refusal> {
        let session = self.open_session(relay, id, role).await?;
        let permit = match &self.ticket {
            Some(ticket) if ticket.role != TicketRole::Resume => Some(relay.tickets.enter(ticket, relay.now())?),
            _ => None,
        };
        let holder = self.ticket.as_ref().and_then(|ticket| ticket.holder.clone());
        Ok((session, ListeningRight::new(relay, permit, holder)))
    }

    /// Returns the session of this id, for a client that takes no place.
    pub async fn find_session(&self, relay: &Relay, id: SessionId) -> Result<Arc<Session>, Refusal> {
        self.open_session(relay, id, TicketRole::Listener).await
    }

    async fn open_session(&self, relay: &Relay, id: SessionId, role: TicketRole) -> Result<Arc<Session>, Refusal> {
        let Some(ticket) = &self.ticket else { return relay.find_session(id, self.address).await };
        // A ticket for listeners must not let its holder send.
        let fits = ticket.role == role || (ticket.role == TicketRole::Resume && role == TicketRole::Host);
        // A ticket names its session: who has one guesses nothing.
        let session = if fits { Some(relay.open_session(id).await?) } else { None };
        session.filter(|session| session.incarnation() == ticket.incarnation).ok_or_else(|| {
            relay.metrics.unauthorized.inc();
            Refusal::Unauthorized
        })
    }
}

/// Returns the session that the path names.
async fn session_of_path(parts: &mut Parts) -> Option<SessionId> {
    let named = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    named.iter().find(|(name, _)| *name == "id").and_then(|(_, id)| id.parse().ok())
}

fn shown_credentials(parts: &Parts) -> Option<ShownCredentials> {
    Query::<ShownCredentials>::try_from_uri(&parts.uri).ok().map(|Query(shown)| shown)
}

fn authorize(relay: &Relay, parts: &Parts, address: IpAddr) -> Result<(), Refusal> {
    let given = parts.headers.get(header::AUTHORIZATION).map(|given| given.as_bytes());
    relay.access.authorize(given, address, relay.now())
}

fn refuse(relay: &Relay, refused: Refusal) -> Error {
    relay.metrics.unauthorized.inc();
    // Nothing of the request: a wrong token may be nearly the right one.
    tracing::info!("a request to the share relay showed no valid token");
    refused.into()
}

/// Returns the network by which a client is counted; clients whose address is not known count as one.
fn network_of(parts: &Parts) -> IpAddr {
    let caller = parts.extensions.get::<RequestInfo>().and_then(|caller| caller.client_address);
    caller.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), client_ip::client_network)
}
