//! Streaming URLs: given out, dropped, revoked. Document 001, with paths of our own.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::request::Parts;
use http::{StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answers::{Answer, Answers};
use super::fields;
use crate::api::caller::{Admin, User};
use crate::api::error::Error;
use crate::api::extract::{Json, Path, Query};
use crate::auth::path_token::PathTokens;
use crate::auth::revocation::Revocations;
use crate::http::caller::Caller;

/// What of an id stands in a path as it is (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a stream would be, asked of whoever streams.
pub trait Streams: Send + Sync {
    /// What a GET would give; an error says why it would give nothing.
    fn look<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Stream, Error>>;
}

/// A question about a stream.
pub struct Ask<'a> {
    /// The stream's path.
    pub path: &'a str,
    /// The head of the request that asks.
    pub asking: &'a Parts,
    /// Who asks.
    pub user: &'a User,
    /// Whether the store is asked for what is not known.
    pub measure: bool,
}

/// What a stream would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Changes with the catalogue's entry.
    pub version: i64,
    /// The media type, where it is known.
    pub content_type: Option<String>,
    /// The size in bytes, where it is known.
    pub size: Option<u64>,
}

/// What streaming URLs are made of.
pub struct Urls {
    /// Who streams.
    pub streams: Arc<dyn Streams>,
    /// Signs the URLs.
    pub tokens: Arc<PathTokens>,
    /// Revokes them.
    pub revocations: Arc<Revocations>,
    /// Those that were given out.
    pub answers: Answers,
}

/// A streaming URL.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"streamUrl": "https://media.example/t/AQ.../api/v1/tracks/01HQ8ZK3/stream", "expiresAt": "2026-01-01T12:00:00Z", "contentType": "audio/mpeg", "fileSizeBytes": 4_800_000, "supportsRangeRequests": true}))]
pub struct StreamUrl {
    /// Plays without any header.
    stream_url: String,
    /// When it stops doing so (RFC 3339).
    expires_at: String,
    /// The media type.
    content_type: String,
    /// The size in bytes.
    file_size_bytes: u64,
    /// Always: seeking is a range request.
    supports_range_requests: bool,
}

/// Whose streaming URLs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// The user's id.
    user_id: String,
    /// Only that of this track, which stays good if it was given out; without it, all of the user's, which are revoked.
    track_id: Option<String>,
}

impl Urls {
    async fn give(&self, asking: &Parts, user: &User, track: &str) -> Result<Answer, Error> {
        let scope = format!("/api/v1/tracks/{}", utf8_percent_encode(track, UNRESERVED));
        let path = format!("{scope}/stream");
        // Whether the user may have it is asked every time; what is kept saves the store's answer only.
        let now = self.streams.look(Ask { path: &path, asking, user, measure: false }).await?;
        let generation = self.generation(user.id()).await?;
        let kept = self.answers.get(user.id(), track).await;
        if let Some(kept) = kept.filter(|kept| kept.generation == generation && kept.version == now.version) {
            return Ok(kept);
        }
        let stream = self.streams.look(Ask { path: &path, asking, user, measure: true }).await?;
        let (below, expires) = self.tokens.issue(user.id(), generation, &scope);
        let answer = Answer {
            path: format!("{below}/stream"),
            expires,
            content_type: stream.content_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            size: stream.size.ok_or_else(|| Error::unavailable("the size of the track is not known"))?,
            generation,
            version: stream.version,
        };
        self.answers.put(user.id(), track, &answer).await;
        Ok(answer)
    }

    async fn generation(&self, user: &str) -> Result<u32, Error> {
        match self.revocations.current(user).await {
            Some(generation) => Ok(generation),
            // What was known last; should the user have logged out since, the URL is refused and asked for anew.
            None => self.revocations.recent(user).await.ok_or_else(away),
        }
    }
}

/// A URL that plays the track without any header, for the caller and until it expires.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/stream-url", tag = "streaming", params(("id" = String, Path, description = "The track")), responses(
    (status = 200, description = "The URL", body = StreamUrl), (status = 401, description = "No valid token"),
    (status = 403, description = "The caller may not have the track"), (status = 404, description = "No such track"),
    (status = 410, description = "The track was deleted"), (status = 422, description = "The id is too long"),
    (status = 503, description = "The store, the catalogue or the state of users is away")))]
pub async fn read(
    State(urls): State<Arc<Urls>>,
    user: User,
    caller: Option<Extension<Caller>>,
    Path(id): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Error> {
    let (asking, _) = request.into_parts();
    let answer = urls.give(&asking, &user, fields::id("id", &id)?).await?;
    let base = caller.map(|Extension(caller)| caller.base).unwrap_or_default();
    let body = StreamUrl {
        stream_url: format!("{base}{}", answer.path),
        expires_at: fields::time(i64::try_from(answer.expires.saturating_mul(1000)).unwrap_or(i64::MAX)),
        content_type: answer.content_type,
        file_size_bytes: answer.size,
        supports_range_requests: true,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// Drops kept streaming URLs: that of one track, or, revoking them, all of a user's.
#[utoipa::path(delete, path = "/api/v1/admin/stream-cache", tag = "streaming", params(Which), responses(
    (status = 204, description = "Dropped"), (status = 401, description = "No valid token"),
    (status = 403, description = "The token's role is not admin"), (status = 422, description = "An id is too long"),
    (status = 503, description = "The shared state is away: nothing is dropped")))]
pub async fn drop_cached(
    _: Admin,
    State(urls): State<Arc<Urls>>,
    Query(which): Query<Which>,
) -> Result<StatusCode, Error> {
    let user = fields::id("user_id", &which.user_id)?;
    let done = match &which.track_id {
        Some(track) => urls.answers.remove(user, fields::id("track_id", track)?).await,
        None => urls.revocations.revoke(user).await,
    };
    if done { Ok(StatusCode::NO_CONTENT) } else { Err(away()) }
}

/// Logs the caller out everywhere: every streaming URL of theirs is refused from now on, by other nodes within a second.
#[utoipa::path(post, path = "/api/v1/logout", tag = "streaming", responses(
    (status = 204, description = "Logged out"), (status = 401, description = "No valid token"),
    (status = 503, description = "The shared state is away: nothing is revoked")))]
pub async fn log_out(State(urls): State<Arc<Urls>>, user: User) -> Result<StatusCode, Error> {
    if urls.revocations.revoke(user.id()).await { Ok(StatusCode::NO_CONTENT) } else { Err(away()) }
}

fn away() -> Error {
    Error::unavailable("the state of users cannot be reached at the moment")
}
