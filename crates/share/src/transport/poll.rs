//! The document's API, word for word: a host that sends requests, and listeners that poll.

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

use super::body::{parse_json, whole_body};
use crate::Relay;
use crate::audio::chunk::{AudioChunk, ChunkError, ChunkHeader};
use crate::refusal::Refusal;
use crate::session::HostChunk;
use crate::session::id::SessionId;
use crate::session::metadata::MetadataBody;
use crate::transport::authorization::TokenBearer;
use http_semantics::problem::{self, Problem};
use http_semantics::request_info::RequestInfo;
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path, Query};

/// Session to begin.
// In another spelling the id would be taken for missing, and the host would share under one that nobody knows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = Start, example = json!({"sessionId": "123456"}))]
pub struct StartRequest {
    /// Six digits; without it the server picks a free one.
    session_id: Option<String>,
}

/// Session that has begun.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Started, example = json!({"success": true, "sessionId": "123456", "timestamp": 1_234_567_890_123_i64}))]
pub struct StartResponse {
    success: bool,
    #[schema(value_type = String)]
    session_id: SessionId,
    /// Milliseconds since the Unix epoch.
    #[schema(value_type = i64)]
    timestamp: UnixMillis,
}

/// Chunk of audio.
#[derive(ToSchema)]
#[schema(as = ShareChunk, rename_all = "camelCase", example = json!({"data": "AAAAAAAAAAA=", "sampleRate": 44100,
    "channels": 2, "timestamp": 1_234_567_890_123_i64, "sequenceNumber": 42}))]
#[expect(dead_code, reason = "describes what is read and written by hand")]
pub struct ChunkDescription {
    /// 32-bit floats, little-endian, interleaved, in Base64; at most 1 MiB.
    data: String,
    /// 8000 to 192000.
    sample_rate: u32,
    /// 1 or 2.
    channels: u16,
    /// Time of the host, in milliseconds.
    timestamp: i64,
    /// Rises by one.
    sequence_number: i64,
}

/// Metadata that was taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Notified, example = json!({"success": true, "listenersNotified": 3}))]
pub struct MetadataResponse {
    success: bool,
    listeners_notified: usize,
}

/// Audio that was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = Buffered, example = json!({"success": true, "buffered": true}))]
pub struct AudioResponse {
    success: bool,
    /// False for a chunk that came too late to be played.
    buffered: bool,
}

/// Session that was stopped.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Stopped, example = json!({"success": true, "sessionDuration": 125.3, "bytesTransferred": 22_118_400}))]
pub struct StopResponse {
    success: bool,
    /// Seconds.
    session_duration: f64,
    /// Bytes of audio that the host has sent.
    bytes_transferred: u64,
}

/// Status of a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Status, example = json!({"isActive": true, "startTime": 1_234_567_890_123_i64, "listenerCount": 5,
    "currentMetadata": {"title": "Song Title", "artist": "Artist Name"}}))]
pub struct StatusResponse {
    /// False for five minutes after its end.
    is_active: bool,
    /// Milliseconds since the Unix epoch.
    #[schema(value_type = i64)]
    start_time: UnixMillis,
    listener_count: usize,
    current_metadata: Option<CurrentSong>,
    /// Reason of the end; not in the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
}

/// Song that a session plays.
#[derive(Serialize, ToSchema)]
#[schema(as = Current)]
pub struct CurrentSong {
    title: Option<String>,
    artist: Option<String>,
}

/// Position of a poll.
#[derive(Deserialize, IntoParams)]
pub struct PollQuery {
    /// Number of the chunk that was received last; -1, the default, begins near the live edge.
    #[serde(default = "from_the_start")]
    since: i64,
}

fn from_the_start() -> i64 {
    -1
}

/// Query of metadata.
#[derive(Deserialize, IntoParams)]
pub struct MetadataQuery {
    /// `0`: without the picture.
    thumb: Option<u8>,
}

/// Begins a session.
#[utoipa::path(post, path = "/start", tag = "share", request_body = StartRequest, security(("share" = [])), responses(
    (status = 200, description = "It has begun", body = StartResponse), (status = 400, description = "Not six digits"),
    (status = 401, description = "Not the token"), (status = 409, description = "The id is in use"),
    (status = 503, description = "As many sessions as MaxSessions")))]
pub async fn start(
    State(relay): State<Arc<Relay>>,
    bearer: TokenBearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<StartResponse>, Error> {
    let body = whole_body(body)?;
    let wanted = if body.is_empty() { StartRequest { session_id: None } } else { parse_json(&body)? };
    let id = wanted.session_id.map(|id| id.parse()).transpose()?;
    let session = relay.start_session(id).await?;
    session.note_guest(bearer.address, relay.now());
    tracing::info!(session = %session.id(), "a sharing session began");
    Ok(Json(StartResponse { success: true, session_id: session.id(), timestamp: session.started() }))
}

/// Takes the metadata of the song that the host plays.
#[utoipa::path(post, path = "/{id}/metadata", tag = "share", request_body = MetadataBody, security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "Taken", body = MetadataResponse), (status = 400, description = "Not metadata"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session"),
    (status = 413, description = "More than 5 MiB"), (status = 429, description = "More than 2 a second")))]
pub async fn send_metadata(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<MetadataResponse>, Error> {
    let body = whole_body(body)?;
    let session = relay.find_session_to_send(id.parse()?, bearer.address).await?;
    let listeners_notified = session.set_metadata(&body, relay.now())?;
    Ok(Json(MetadataResponse { success: true, listeners_notified }))
}

/// Metadata of the song, for 30 seconds after the host has sent it.
#[utoipa::path(get, path = "/{id}/metadata", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits"), MetadataQuery), responses(
    (status = 200, description = "The song", body = MetadataBody), (status = 304, description = "As in If-None-Match"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session, or nothing said"),
    (status = 429, description = "More polls than a listener makes")))]
pub async fn poll_metadata(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
    Query(wanted): Query<MetadataQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let session = relay.find_session(id.parse()?, bearer.address).await?;
    let now = relay.now();
    // These requests come twice a second from each listener, and have a limit beside that of audio.
    session.count_look(bearer.address, now)?;
    let metadata = session.metadata(now).ok_or(Refusal::NoMetadata)?;
    let with_picture = wanted.thumb != Some(0);
    let tag = format!("\"{}{}\"", metadata.etag, if with_picture { "" } else { "-slim" });
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let head = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    Ok((head, json_response(metadata.json_parts(with_picture))).into_response())
}

/// Takes a chunk of audio, as JSON; or the bare floats as `application/octet-stream` with the headers `X-Sample-Rate`,
/// `X-Channels`, `X-Timestamp` and `X-Sequence-Number`.
#[utoipa::path(post, path = "/{id}/audio", tag = "share", request_body = ChunkDescription, security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "Taken", body = AudioResponse), (status = 400, description = "Not a chunk"),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session"),
    (status = 413, description = "More than 1 MiB"), (status = 429, description = "Faster than a host may send")))]
pub async fn send_audio(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AudioResponse>, Error> {
    let body = whole_body(body)?;
    let session = relay.find_session_to_send(id.parse()?, bearer.address).await?;
    // Before it is read: the time of the audio is that at which it came.
    let (now, body_bytes) = (relay.micros(), body.len());
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    // Any other type is JSON: the document's clients do not always set it.
    let chunk = if kind == b"application/octet-stream" {
        AudioChunk::from_samples(chunk_header(&headers)?, body, now)
    } else {
        AudioChunk::from_json(&body, now)
    };
    let buffered =
        session.receive_chunk(HostChunk { chunk: chunk.map_err(Refusal::from)?, body_bytes }, now.to_millis())?;
    Ok(Json(AudioResponse { success: true, buffered }))
}

/// Chunks after `since`, ten at most.
#[utoipa::path(get, path = "/{id}/audio", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits"), PollQuery), responses(
    (status = 200, description = "Chunks, oldest first", body = Vec<ChunkDescription>),
    (status = 204, description = "Nothing new"), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session, or it has ended"),
    (status = 429, description = "More than 12 polls a second of one listener")))]
pub async fn poll_audio(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
    Query(PollQuery { since }): Query<PollQuery>,
) -> Result<Response, Error> {
    let session = relay.find_session(id.parse()?, bearer.address).await?;
    let chunks = session.poll_chunks(bearer.address, since, relay.now())?;
    // The document's receivers take an empty answer for nothing new.
    let Some((first, rest)) = chunks.split_first() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut texts = Vec::with_capacity(chunks.len() + 2);
    texts.push(Bytes::from_static(b"["));
    // Without the comma that joins it to one before.
    texts.push(first.json().slice(1..));
    texts.extend(rest.iter().map(|chunk| chunk.json().clone()));
    texts.push(Bytes::from_static(b"]"));
    Ok(([(header::CACHE_CONTROL, "no-store")], json_response(texts)).into_response())
}

/// Ends a session; one that has ended already says the same again.
#[utoipa::path(post, path = "/{id}/stop", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "It has ended", body = StopResponse), (status = 401, description = "Not the token"),
    (status = 404, description = "No such session")))]
pub async fn stop(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
) -> Result<Json<StopResponse>, Error> {
    let session = relay.find_session(id.parse()?, bearer.address).await?;
    let now = relay.now();
    relay.stop_session(&session, now).await;
    let status = session.status(now);
    // One that has ended already answers as it did then.
    let until = status.ended.map_or(now, |ended| ended.at);
    #[expect(clippy::cast_precision_loss, reason = "a session does not last 285,000 years")]
    let session_duration = (until - status.started).as_millis() as f64 / 1000.0;
    Ok(Json(StopResponse { success: true, session_duration, bytes_transferred: status.bytes }))
}

/// Status of a session.
#[utoipa::path(get, path = "/{id}/status", tag = "share", security(("share" = [])),
    params(("id" = String, Path, description = "Six digits")), responses(
    (status = 200, description = "It is live, or ended a short while ago", body = StatusResponse),
    (status = 401, description = "Not the token"), (status = 404, description = "No such session; `isActive` is false"),
    (status = 429, description = "Too many ids that do not exist")))]
pub async fn status(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    bearer: TokenBearer,
    caller: Option<axum::Extension<RequestInfo>>,
) -> Result<Response, Error> {
    let id: SessionId = id.parse()?;
    let session = match relay.find_session(id, bearer.address).await {
        Ok(session) => session,
        Err(Refusal::UnknownSession) => return Ok(unknown_session_response(&relay, caller.as_deref())),
        Err(refused) => return Err(refused.into()),
    };
    let now = relay.now();
    session.count_look(bearer.address, now)?;
    let status = session.status(now);
    let current = |song: &crate::session::metadata::SongMetadata| CurrentSong {
        title: song.title.clone(),
        artist: song.artist.clone(),
    };
    let body = StatusResponse {
        is_active: status.ended.is_none(),
        start_time: status.started,
        listener_count: status.listeners,
        current_metadata: status.metadata.as_deref().map(current),
        ended: status.ended.map(|ended| ended.reason.name()),
    };
    Ok(Json(body).into_response())
}

/// Returns the error for a session that is not there, with one member more, as the document wants it.
fn unknown_session_response(relay: &Relay, caller: Option<&RequestInfo>) -> Response {
    // In tests the router stands alone, without the server that gives each request its id.
    let made = http_semantics::request_info::new_request_id();
    let request_id = caller.map_or(made.as_str(), |caller| &caller.request_id);
    let said = Refusal::UnknownSession.to_string();
    let problem =
        Problem::new(StatusCode::NOT_FOUND, "not_found", &said, request_id, relay.clock.unix_millis().as_millis());
    let mut body = json!(problem);
    body["isActive"] = json!(false);
    let head = [(header::CONTENT_TYPE, problem::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    let id = [(http_semantics::request_info::REQUEST_ID, request_id)];
    (StatusCode::NOT_FOUND, head, id, body.to_string()).into_response()
}

/// Reads the header of bare floats from the request's headers.
fn chunk_header(headers: &HeaderMap) -> Result<ChunkHeader, Error> {
    fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<T, Error> {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).and_then(|value| value.trim().parse().ok());
        value.ok_or_else(|| Error::bad_request(format!("{name} must be a number")))
    }
    Ok(ChunkHeader {
        sequence: number(headers, "x-sequence-number")?,
        sample_rate: number(headers, "x-sample-rate")?,
        channels: number(headers, "x-channels")?,
        timestamp: UnixMillis::new(number(headers, "x-timestamp")?),
    })
}

/// Answers JSON in parts that are sent one after the other without being put together first.
fn json_response(texts: Vec<Bytes>) -> Response {
    let length: usize = texts.iter().map(Bytes::len).sum();
    // Ten chunks are 440 KB of text that all listeners share: a body of one piece would copy them for each.
    let body = Body::from_stream(stream::iter(texts.into_iter().map(Ok::<_, std::convert::Infallible>)));
    let head = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    (head, body).into_response()
}

impl From<ChunkError> for Error {
    fn from(bad: ChunkError) -> Self {
        Refusal::from(bad).into()
    }
}
