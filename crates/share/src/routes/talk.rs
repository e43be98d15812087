//! The chat for those who are not connected, and what is told of the session's listeners.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::Serialize;
use utoipa::ToSchema;

use super::body;
use super::door::{Bearer, Visitor};
use crate::Relay;
use crate::chat::{Said, Sender};
use crate::id::SessionId;
use crate::statistics::Report;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path};

/// A line was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = ShareTaken, example = json!({"success": true, "id": 1_234_567_890_123_i64}))]
pub struct Taken {
    success: bool,
    /// The line's, as everybody is told it.
    id: i64,
}

/// Writes a line into the session's chat.
#[utoipa::path(post, path = "/{id}/chat", tag = "share", request_body = Said, security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "Everybody is told", body = Taken), (status = 400, description = "Not a line"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "The host has switched the chat off"),
    (status = 429, description = "More than a line a second")))]
pub async fn say(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: Visitor,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Taken>, Error> {
    let said: Said = body::parse(&body::whole(body)?)?;
    let id: SessionId = id.parse()?;
    let session = visitor.look(&relay, id).await?;
    let line = session.say(&said, Sender::Address(visitor.address), false, relay.now())?;
    Ok(Json(Taken { success: true, id: line.id }))
}

/// How the session is listened to, and was, for five minutes after its end.
#[utoipa::path(get, path = "/{id}/statistics", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "Its listeners", body = Report), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session")))]
pub async fn statistics(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
) -> Result<Json<Report>, Error> {
    let session = relay.find(id.parse()?, bearer.address).await?;
    let now = relay.now();
    session.look(bearer.address, now)?;
    Ok(Json(session.statistics(now)))
}
