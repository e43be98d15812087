//! Recording a session, and what became of it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::Deserialize;
use utoipa::ToSchema;

use super::body;
use super::door::Bearer;
use crate::Relay;
use crate::recording::Status;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path};

/// Whether to record.
#[derive(Deserialize, ToSchema)]
#[schema(as = ShareRecord, example = json!({"on": true}))]
pub struct Wanted {
    /// From now on.
    on: bool,
}

/// Begins or ends recording the session into the object store; everybody who listens is told.
#[utoipa::path(post, path = "/{id}/recording", tag = "share", request_body = Wanted, security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "How it is recorded", body = Status), (status = 400, description = "Not on or off"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session"),
    (status = 409, description = "This server does not record, or the recording before is still being stored"),
    (status = 503, description = "No room for another transcode")))]
pub async fn record(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Status>, Error> {
    let wanted: Wanted = body::parse(&body::whole(body)?)?;
    let session = relay.find(id.parse()?, bearer.address).await?;
    Ok(Json(session.record(wanted.on, relay.now())?))
}

/// How the session is recorded, or what became of its last recording.
#[utoipa::path(get, path = "/{id}/recording", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "How it is recorded", body = Status), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session")))]
pub async fn recording(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
) -> Result<Json<Status>, Error> {
    Ok(Json(relay.find(id.parse()?, bearer.address).await?.recording()))
}
