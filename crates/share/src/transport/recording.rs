//! Recording of a session: its beginning, its end, its status.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::Deserialize;
use utoipa::ToSchema;

use super::body;
use crate::Relay;
use crate::recording::RecordingStatus;
use crate::transport::authorization::TokenBearer;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path};

/// Switch of a recording.
#[derive(Deserialize, ToSchema)]
#[schema(as = ShareRecord, example = json!({"on": true}))]
pub struct RecordRequest {
    /// True to record from now on.
    on: bool,
}

/// Begins or ends recording the session into the object store; everybody who listens is told.
#[utoipa::path(post, path = "/{id}/recording", tag = "share", request_body = RecordRequest, security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "How it is recorded", body = RecordingStatus), (status = 400, description = "Not on or off"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session"),
    (status = 409, description = "This server does not record, or the recording before is still being stored"),
    (status = 429, description = "More than one beginning a second"),
    (status = 503, description = "No room for another transcode")))]
pub async fn record(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RecordingStatus>, Error> {
    let wanted: RecordRequest = body::parse_json(&body::whole_body(body)?)?;
    let session = relay.find_session(id.parse()?, bearer.address).await?;
    Ok(Json(session.switch_recording(wanted.on, relay.now())?))
}

/// Status of the session's recording, or of its last one.
#[utoipa::path(get, path = "/{id}/recording", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "How it is recorded", body = RecordingStatus), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session")))]
pub async fn recording(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
) -> Result<Json<RecordingStatus>, Error> {
    Ok(Json(relay.find_session(id.parse()?, bearer.address).await?.recording_status()))
}
