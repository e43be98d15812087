//! Streaming URLs: issued, dropped, revoked (document 001, with paths of our own).

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::request::Parts;
use http::{StatusCode, header};
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::logout::user_state_unavailable;
use super::stream_url_cache::{IssuedStreamUrl, StreamUrlCache};
use http_semantics::request_info::RequestInfo;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Query};
use server_kit::api::id::{self, PathTrackId};
use server_kit::api::timestamps::to_rfc3339;
use server_kit::api::user::{AdminUser, User};
use server_kit::auth::path_token::{self, MAX_IDENTITY_BYTES, PathAuthorization, PathTokenSigner};
use server_kit::auth::revocation::TokenRevocations;
use server_kit::url_template::UNRESERVED;

/// Resolver of streams, implemented by the part that streams.
pub trait StreamResolver: Send + Sync {
    /// Returns the properties of the response that a GET would have; an error says why it would fail.
    fn resolve<'a>(&'a self, ask: StreamQuery<'a>) -> BoxFuture<'a, Result<StreamInfo, Error>>;
}

/// Question about a stream.
pub struct StreamQuery<'a> {
    /// The stream's path.
    pub path: &'a str,
    /// Head of the request for the URL.
    pub request_head: &'a Parts,
    /// User who asks.
    pub user: &'a User,
    /// True if the store may be asked for unknown properties.
    pub query_store: bool,
}

/// Properties of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamInfo {
    /// Authorization to read it, to be carried by the URL.
    pub authorization: PathAuthorization,
    /// Version of the catalog's entry: the time of its last change.
    pub version: UnixMillis,
    /// The media type, where it is known.
    pub content_type: Option<String>,
    /// The size in bytes, where it is known.
    pub size: Option<u64>,
}

/// Service that issues streaming URLs.
pub struct StreamUrlService {
    /// Resolver of the streams.
    pub streams: Arc<dyn StreamResolver>,
    /// Signs the URLs.
    pub tokens: Arc<PathTokenSigner>,
    /// Revokes them.
    pub revocations: Arc<TokenRevocations>,
    /// Cache of the URLs that were issued.
    pub cache: StreamUrlCache,
}

/// Streaming URL.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"streamUrl": "https://media.example/t/AQ.../api/v1/tracks/01HQ8ZK3/stream", "expiresAt": "2026-01-01T12:00:00Z", "contentType": "audio/mpeg", "fileSizeBytes": 4_800_000, "supportsRangeRequests": true}))]
pub struct StreamUrl {
    /// URL that plays the track without any header.
    stream_url: String,
    /// Time of expiry (RFC 3339).
    expires_at: String,
    /// The media type.
    content_type: String,
    /// The size in bytes.
    file_size_bytes: u64,
    /// Always true: seeking is a range request.
    supports_range_requests: bool,
}

/// Streaming URLs to drop.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamCacheQuery {
    /// The user's id.
    user_id: String,
    /// Only the URL of this track, which stays valid if it was given out; without it, all URLs of the user, which are
    /// revoked.
    track_id: Option<String>,
}

impl StreamUrlService {
    async fn issue(&self, asking: &Parts, user: &User, track: &TrackId) -> Result<IssuedStreamUrl, Error> {
        let scope = format!("/api/v1/tracks/{}", utf8_percent_encode(track.as_str(), UNRESERVED));
        let path = format!("{scope}/stream");
        // Permission is checked every time; the cached entry only saves the request to the store.
        let now =
            self.streams.resolve(StreamQuery { path: &path, request_head: asking, user, query_store: false }).await?;
        let generation = self.generation(user.id()).await?;
        let kept = self.cache.get(user.id(), track).await;
        // A cached URL carries the rights of the time when it was issued; it is used only while they are the same.
        let leave = now.authorization.fingerprint();
        let is_good =
            |kept: &IssuedStreamUrl| (kept.generation, kept.version, &kept.leave) == (generation, now.version, &leave);
        // The key that signed it may be gone: a URL that would be refused is not given out again.
        let is_verified = |kept: &IssuedStreamUrl| {
            path_token::split(&kept.path).is_some_and(|(token, path)| self.tokens.verify(&token, path).is_ok())
        };
        if let Some(kept) = kept.filter(|kept| is_good(kept) && is_verified(kept)) {
            return Ok(kept);
        }
        let stream =
            self.streams.resolve(StreamQuery { path: &path, request_head: asking, user, query_store: true }).await?;
        let issued = self.tokens.issue(user.id().as_str(), generation, &scope, &stream.authorization);
        let (below, expires) = issued.ok_or_else(user_id_too_long)?;
        let answer = IssuedStreamUrl {
            path: format!("{below}/stream"),
            expires,
            content_type: stream.content_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            size: stream.size.ok_or_else(|| Error::unavailable("the size of the track is not known"))?,
            generation,
            version: stream.version,
            leave: stream.authorization.fingerprint(),
        };
        self.cache.put(user.id(), track, &answer).await;
        Ok(answer)
    }

    async fn generation(&self, user: &UserId) -> Result<u32, Error> {
        match self.revocations.current(user.as_str()).await {
            Some(generation) => Ok(generation),
            // Last known value. If the user has logged out since, the URL is refused and the player asks for a new one.
            None => self.revocations.recent(user.as_str()).await.ok_or_else(user_state_unavailable),
        }
    }
}

/// Returns a URL that plays the track without any header, for the caller and until it expires.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/stream-url", tag = "streaming", security(("bearer" = [])), params(("id" = String, Path, description = "The track")), responses(
    (status = 200, description = "The URL", body = StreamUrl), (status = 400, description = "The id cannot be one"), (status = 401, description = "No valid token"),
    (status = 403, description = "The caller may not have the track"), (status = 404, description = "No such track"),
    (status = 410, description = "The track was deleted"), (status = 422, description = "The user's id is too long for a URL"),
    (status = 503, description = "The store, the catalogue or the state of users is away")))]
pub async fn read(
    State(urls): State<Arc<StreamUrlService>>,
    user: User,
    caller: Option<Extension<RequestInfo>>,
    PathTrackId(id): PathTrackId,
    request: axum::extract::Request,
) -> Result<Response, Error> {
    let (asking, _) = request.into_parts();
    let answer = urls.issue(&asking, &user, &id).await?;
    let base = caller.map(|Extension(caller)| caller.base_url).unwrap_or_default();
    let body = StreamUrl {
        stream_url: format!("{base}{}", answer.path),
        expires_at: to_rfc3339(UnixMillis::EPOCH + Duration::from_secs(answer.expires)),
        content_type: answer.content_type,
        file_size_bytes: answer.size,
        supports_range_requests: true,
    };
    // The URL is a credential, so no cache may keep it.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// Drops cached streaming URLs: that of one track, or all of a user, which are also revoked.
#[utoipa::path(delete, path = "/api/v1/admin/stream-cache", tag = "streaming", security(("bearer" = [])), params(StreamCacheQuery), responses(
    (status = 204, description = "Dropped"), (status = 401, description = "No valid token"),
    (status = 403, description = "The token's role is not admin"), (status = 400, description = "An id cannot be one"),
    (status = 503, description = "The shared state is away: nothing is dropped")))]
pub async fn drop_cached(
    _: AdminUser,
    State(urls): State<Arc<StreamUrlService>>,
    Query(which): Query<StreamCacheQuery>,
) -> Result<StatusCode, Error> {
    let user = id::parse_user("user_id", &which.user_id)?;
    let done = match &which.track_id {
        Some(track) => urls.cache.remove(&user, &id::parse_track("track_id", track)?).await,
        None => urls.revocations.revoke(user.as_str()).await,
    };
    if done { Ok(StatusCode::NO_CONTENT) } else { Err(user_state_unavailable()) }
}

/// OpenAPI description of the path that a streaming URL leads to.
#[derive(OpenApi)]
#[openapi(paths(stream))]
pub struct StreamUrlDescription;

/// Streams a track by a streaming URL: as without `/t/{token}`, for the user to whom the URL was given.
#[utoipa::path(get, path = "/t/{token}/api/v1/tracks/{id}/stream", tag = "streaming",
    params(("token" = String, Path, description = "The token"), ("id" = String, Path, description = "The track"),
        ("Range" = Option<String>, Header, description = "One byte range, such as `bytes=0-1023`")),
    responses(
        (status = 200, description = "The whole track", body = Vec<u8>, content_type = "*/*"),
        (status = 206, description = "The range asked for", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "Not modified"),
        (status = 401, description = "The token is bad, expired, revoked, or for another path")))]
#[expect(dead_code, reason = "answered by the proxy; stands here for its description")]
fn stream() {}

fn user_id_too_long() -> Error {
    Error::unprocessable(format!(
        "the user's id is too long for a streaming URL: it has room for {MAX_IDENTITY_BYTES} bytes, of which the claim that the \
         route's limit counts by takes up to 17; play by a token in a header instead"
    ))
}
