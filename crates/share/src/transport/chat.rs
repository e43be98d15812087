//! Chat for those who are not connected, and the statistics of a session's listeners.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::Serialize;
use utoipa::ToSchema;

use super::body;
use crate::Relay;
use crate::session::chat::{ChatPost, ChatSender};
use crate::session::id::SessionId;
use crate::session::statistics::StatisticsReport;
use crate::transport::authorization::{SessionVisitor, TokenBearer};
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path};

/// Line that was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = ShareTaken, example = json!({"success": true, "id": 1_234_567_890_123_i64}))]
pub struct ChatResponse {
    success: bool,
    /// Id of the line, as everybody is told it.
    id: i64,
}

/// Writes a line into the session's chat.
#[utoipa::path(post, path = "/{id}/chat", tag = "share", request_body = ChatPost, security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "Everybody is told", body = ChatResponse), (status = 400, description = "Not a line"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "The host has switched the chat off"),
    (status = 429, description = "More than a line a second")))]
pub async fn say(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: SessionVisitor,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChatResponse>, Error> {
    let said: ChatPost = body::parse_json(&body::whole_body(body)?)?;
    let id: SessionId = id.parse()?;
    let session = visitor.find_session(&relay, id).await?;
    let line = session.post_chat(&said, ChatSender::Address(visitor.address), false, relay.now())?;
    Ok(Json(ChatResponse { success: true, id: line.id }))
}

/// Statistics of the session's listeners, also for five minutes after its end.
#[utoipa::path(get, path = "/{id}/statistics", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "Its listeners", body = StatisticsReport), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session")))]
pub async fn statistics(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
) -> Result<Json<StatisticsReport>, Error> {
    let session = relay.find_session(id.parse()?, bearer.address).await?;
    let now = relay.now();
    session.count_look(bearer.address, now)?;
    Ok(Json(session.statistics(now)))
}
