//! Tickets of a session's host for its listeners, who then need no token.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Relay;
use crate::refusal::Refusal;
use crate::session::id::SessionId;
use crate::tickets::TicketRole;
use crate::transport::authorization::TokenBearer;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path};

/// Longest life of a ticket, in seconds.
const LONGEST: u64 = 86_400;
/// Most listeners at once.
const MOST: u32 = 100_000;

/// Ticket to make.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ShareTicketRequest, example = json!({"count": 1, "ttl": 60}))]
pub struct TicketRequest {
    /// How many may listen with it at once, at each node. Default: 1.
    count: Option<u32>,
    /// Seconds in which it can be opened, at most a day; what is open by then stays open. Default: 60.
    ttl: Option<u64>,
    /// `listener`, the default, or `host`: for a browser that cannot show the token where it sends audio.
    role: Option<String>,
}

/// Ticket that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = Issued, example = json!({"ticket": "dGhpcyBpcyBub3Qgb25l", "listen_url": "/listen/123456?ticket=dGhpcyBpcyBub3Qgb25l",
    "expires_in": 60}))]
pub struct TicketResponse {
    /// To be shown as the query's `ticket`.
    ticket: String,
    /// Page that plays the session.
    listen_url: String,
    /// Seconds.
    expires_in: u64,
}

/// Makes a ticket.
#[utoipa::path(post, path = "/{id}/tickets", tag = "share", request_body = TicketRequest, security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "The ticket", body = TicketResponse), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session"), (status = 422, description = "count, ttl or role out of range")))]
pub async fn issue(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<TicketResponse>, Error> {
    let body = body.map_err(|_| Error::bad_request("the body is too large or broke off"))?;
    let wanted: TicketRequest = if body.is_empty() {
        TicketRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| Error::bad_request(error.to_string()))?
    };
    let (count, ttl) = (wanted.count.unwrap_or(1), wanted.ttl.unwrap_or(60));
    let role = match wanted.role.as_deref() {
        None | Some("listener") => TicketRole::Listener,
        Some("host") => TicketRole::Host,
        Some(_) => return Err(Error::unprocessable("role must be listener or host")),
    };
    if !(1..=MOST).contains(&count) || !(1..=LONGEST).contains(&ttl) {
        return Err(Error::unprocessable("count must be 1 to 100000 and ttl 1 to 86400 seconds"));
    }
    let id: SessionId = id.parse()?;
    let session = relay.find_session(id, bearer.address).await?;
    // Its id may be another session's before the ticket is used.
    if session.ended().is_some() {
        return Err(Refusal::UnknownSession.into());
    }
    let until = relay.now() + Duration::from_secs(ttl);
    let ticket = relay.prepare_tickets().await.issue(id, session.incarnation(), role, count, until);
    Ok(Json(TicketResponse { listen_url: format!("/listen/{id}?ticket={ticket}"), ticket, expires_in: ttl }))
}
