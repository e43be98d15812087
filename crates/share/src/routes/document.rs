//! The document's API, word for word.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::body::{parse, whole};
use super::door::Bearer;
use crate::Relay;
use crate::chunk::{BadChunk, Chunk, Label};
use crate::id::SessionId;
use crate::metadata::Song;
use crate::refused::Refused;
use http_semantics::problem::{self, Problem};
use http_semantics::request_info::RequestInfo;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path, Query};

/// A session to begin.
// In another spelling the id would be taken for missing, and the host would share under one that nobody knows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"sessionId": "123456"}))]
pub struct Start {
    /// Six digits; without it the server picks a free one.
    session_id: Option<String>,
}

/// A session that has begun.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"success": true, "sessionId": "123456", "timestamp": 1_234_567_890_123_i64}))]
pub struct Started {
    success: bool,
    #[schema(value_type = String)]
    session_id: SessionId,
    /// Milliseconds since the Unix epoch.
    timestamp: i64,
}

/// A chunk of audio.
#[derive(ToSchema)]
#[schema(as = ShareChunk, rename_all = "camelCase", example = json!({"data": "AAAAAAAAAAA=", "sampleRate": 44100,
    "channels": 2, "timestamp": 1_234_567_890_123_i64, "sequenceNumber": 42}))]
#[expect(dead_code, reason = "describes what is read and written by hand")]
pub struct Described {
    /// 32-bit floats, little-endian, interleaved, in Base64; at most 1 MiB.
    data: String,
    /// 8000 to 192000.
    sample_rate: u32,
    /// 1 or 2.
    channels: u16,
    /// The host's time in milliseconds.
    timestamp: i64,
    /// Rises by one.
    sequence_number: i64,
}

/// Metadata was taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"success": true, "listenersNotified": 3}))]
pub struct Notified {
    success: bool,
    listeners_notified: usize,
}

/// Audio was taken.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"success": true, "buffered": true}))]
pub struct Buffered {
    success: bool,
    /// False for a chunk that came too late to be played.
    buffered: bool,
}

/// A session that was stopped.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"success": true, "sessionDuration": 125.3, "bytesTransferred": 22_118_400}))]
pub struct Stopped {
    success: bool,
    /// Seconds.
    session_duration: f64,
    /// Bytes of audio that the host has sent.
    bytes_transferred: u64,
}

/// How a session is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"isActive": true, "startTime": 1_234_567_890_123_i64, "listenerCount": 5,
    "currentMetadata": {"title": "Song Title", "artist": "Artist Name"}}))]
pub struct Status {
    /// False for five minutes after its end.
    is_active: bool,
    /// Milliseconds since the Unix epoch.
    start_time: i64,
    listener_count: usize,
    current_metadata: Option<Current>,
    /// Why it ended; not in the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
}

/// What a session plays.
#[derive(Serialize, ToSchema)]
pub struct Current {
    title: Option<String>,
    artist: Option<String>,
}

/// Where a poll goes on.
#[derive(Deserialize, IntoParams)]
pub struct Since {
    /// The number of the chunk that was received last; -1, the default, begins near the live edge.
    #[serde(default = "from_the_start")]
    since: i64,
}

fn from_the_start() -> i64 {
    -1
}

/// What metadata is asked for.
#[derive(Deserialize, IntoParams)]
pub struct Wanted {
    /// `0`: without the picture.
    thumb: Option<u8>,
}

/// Begins a session.
#[utoipa::path(post, path = "/start", tag = "share", request_body = Start, security(("share" = [])), responses(
    (status = 200, description = "It has begun", body = Started), (status = 400, description = "Not six digits"),
    (status = 401, description = "Not the token"), (status = 409, description = "The id is in use"),
    (status = 503, description = "As many sessions as MaxSessions")))]
pub async fn start(
    State(relay): State<Arc<Relay>>,
    bearer: Bearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Started>, Error> {
    let body = whole(body)?;
    let wanted = if body.is_empty() { Start { session_id: None } } else { parse(&body)? };
    let id = wanted.session_id.map(|id| id.parse()).transpose()?;
    let session = relay.begin(id).await?;
    session.let_in(bearer.address, relay.now());
    tracing::info!(session = %session.id(), "a sharing session began");
    Ok(Json(Started { success: true, session_id: session.id(), timestamp: session.started() }))
}

/// What the host plays.
#[utoipa::path(post, path = "/{id}/metadata", tag = "share", request_body = Song, security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "Taken", body = Notified), (status = 400, description = "Not metadata"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session"),
    (status = 413, description = "More than 5 MiB"), (status = 429, description = "More than 2 a second")))]
pub async fn send_metadata(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Notified>, Error> {
    let body = whole(body)?;
    let session = relay.find_to_send(id.parse()?, bearer.address).await?;
    let listeners_notified = session.set_metadata(&body, relay.now())?;
    Ok(Json(Notified { success: true, listeners_notified }))
}

/// What the host plays, for 30 seconds after it said so.
#[utoipa::path(get, path = "/{id}/metadata", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits"), Wanted), responses(
    (status = 200, description = "The song", body = Song), (status = 304, description = "As in If-None-Match"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session, or nothing said"),
    (status = 429, description = "More polls than a listener makes")))]
pub async fn poll_metadata(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let session = relay.find(id.parse()?, bearer.address).await?;
    let now = relay.now();
    session.look(bearer.address, now)?;
    let metadata = session.metadata(now).ok_or(Refused::NoMetadata)?;
    let with_picture = wanted.thumb != Some(0);
    let tag = format!("\"{}{}\"", metadata.tag, if with_picture { "" } else { "-slim" });
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let head = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    Ok((head, parts(metadata.parts(with_picture))).into_response())
}

/// A chunk of audio, as JSON; or the bare floats as `application/octet-stream` with the headers `X-Sample-Rate`,
/// `X-Channels`, `X-Timestamp` and `X-Sequence-Number`.
#[utoipa::path(post, path = "/{id}/audio", tag = "share", request_body = Described, security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "Taken", body = Buffered), (status = 400, description = "Not a chunk"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session"),
    (status = 413, description = "More than 1 MiB"), (status = 429, description = "Faster than a host may send")))]
pub async fn send_audio(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Buffered>, Error> {
    let body = whole(body)?;
    let session = relay.find_to_send(id.parse()?, bearer.address).await?;
    let (now, length) = (relay.micros(), body.len());
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let chunk = if kind == b"application/octet-stream" {
        Chunk::from_samples(label(&headers)?, body, now)
    } else {
        Chunk::from_json(&body, now)
    };
    let buffered = session.audio(chunk.map_err(Refused::from)?, length, now / 1000)?;
    Ok(Json(Buffered { success: true, buffered }))
}

/// The chunks after `since`, ten at most.
#[utoipa::path(get, path = "/{id}/audio", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits"), Since), responses(
    (status = 200, description = "Chunks, oldest first", body = Vec<Described>),
    (status = 204, description = "Nothing new"), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session, or it has ended"),
    (status = 429, description = "More than 12 polls a second of one listener")))]
pub async fn poll_audio(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
    Query(Since { since }): Query<Since>,
) -> Result<Response, Error> {
    let session = relay.find(id.parse()?, bearer.address).await?;
    let chunks = session.poll(bearer.address, since, relay.now())?;
    let Some((first, rest)) = chunks.split_first() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut texts = Vec::with_capacity(chunks.len() + 2);
    texts.push(Bytes::from_static(b"["));
    // Without the comma that joins it to one before.
    texts.push(first.json().slice(1..));
    texts.extend(rest.iter().map(|chunk| chunk.json().clone()));
    texts.push(Bytes::from_static(b"]"));
    Ok(([(header::CACHE_CONTROL, "no-store")], parts(texts)).into_response())
}

/// Ends a session; one that has ended already says the same again.
#[utoipa::path(post, path = "/{id}/stop", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "It has ended", body = Stopped), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session")))]
pub async fn stop(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
) -> Result<Json<Stopped>, Error> {
    let session = relay.find(id.parse()?, bearer.address).await?;
    let now = relay.now();
    relay.end(&session, now).await;
    let status = session.status(now);
    let until = status.ended.map_or(now, |ended| ended.at);
    #[expect(clippy::cast_precision_loss, reason = "a session does not last 285,000 years")]
    let session_duration = (until - status.started) as f64 / 1000.0;
    Ok(Json(Stopped { success: true, session_duration, bytes_transferred: status.bytes }))
}

/// How a session is.
#[utoipa::path(get, path = "/{id}/status", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "It is live, or ended a short while ago", body = Status),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session; `isActive` is false"),
    (status = 429, description = "Too many ids that do not exist")))]
pub async fn status(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: Bearer,
    caller: Option<axum::Extension<RequestInfo>>,
) -> Result<Response, Error> {
    let id: SessionId = id.parse()?;
    let session = match relay.find(id, bearer.address).await {
        Ok(session) => session,
        Err(Refused::UnknownSession) => return Ok(unknown(&relay, caller.as_deref())),
        Err(refused) => return Err(refused.into()),
    };
    let now = relay.now();
    session.look(bearer.address, now)?;
    let status = session.status(now);
    let current = |song: &crate::metadata::Metadata| Current { title: song.title.clone(), artist: song.artist.clone() };
    let body = Status {
        is_active: status.ended.is_none(),
        start_time: status.started,
        listener_count: status.listeners,
        current_metadata: status.metadata.as_deref().map(current),
        ended: status.ended.map(|ended| ended.reason.name()),
    };
    Ok(Json(body).into_response())
}

/// The envelope of a session that is not there has one member more, as the document wants it.
fn unknown(relay: &Relay, caller: Option<&RequestInfo>) -> Response {
    let made = http_semantics::request_info::new_request_id();
    let request_id = caller.map_or(made.as_str(), |caller| &caller.request_id);
    let said = Refused::UnknownSession.to_string();
    let problem = Problem::new(StatusCode::NOT_FOUND, "not_found", &said, request_id, relay.clock.unix_millis());
    let mut body = json!(problem);
    body["isActive"] = json!(false);
    let head = [(header::CONTENT_TYPE, problem::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    let id = [(http_semantics::request_info::REQUEST_ID, request_id)];
    (StatusCode::NOT_FOUND, head, id, body.to_string()).into_response()
}

/// What is said of bare floats beside them.
fn label(headers: &HeaderMap) -> Result<Label, Error> {
    fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<T, Error> {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).and_then(|value| value.trim().parse().ok());
        value.ok_or_else(|| Error::bad_request(format!("{name} must be a number")))
    }
    Ok(Label {
        sequence: number(headers, "x-sequence-number")?,
        rate: number(headers, "x-sample-rate")?,
        channels: number(headers, "x-channels")?,
        timestamp: number(headers, "x-timestamp")?,
    })
}

/// JSON in parts that are sent one after the other without being put together first.
fn parts(texts: Vec<Bytes>) -> Response {
    let length: usize = texts.iter().map(Bytes::len).sum();
    let body = Body::from_stream(stream::iter(texts.into_iter().map(Ok::<_, std::convert::Infallible>)));
    let head = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    (head, body).into_response()
}

impl From<BadChunk> for Error {
    fn from(bad: BadChunk) -> Self {
        Refused::from(bad).into()
    }
}
