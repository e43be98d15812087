//! Paths of lyrics.

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use http::StatusCode;
use http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bodies::{LyricsRequest, NoQuery, SearchQuery};
use crate::service::{LyricsService, may_edit};
use crate::view::{CacheStatusView, LyricsSearchView, LyricsView};
use crate::{Error, LyricsTrack};
use primitives::ids::TrackId;
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{Json, Query};
use server_kit::api::id::PathTrackId;
use server_kit::api::user::{AdminUser, User};

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 512 << 10;

/// Returns the paths of users.
pub fn routes(lyrics: LyricsService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(read, set, unset))
        .routes(routes!(refresh))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(lyrics)
}

/// Returns the path of operators.
pub fn admin_routes(lyrics: LyricsService) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(cache_status)).with_state(lyrics)
}

/// Head of the request, by which the right to a track is decided.
struct RequestHead(Parts);

impl<S: Send + Sync> FromRequestParts<S> for RequestHead {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(parts.clone()))
    }
}

/// Return the lyrics of a track: what its owner has set, else what the sources say.
#[utoipa::path(get, path = "/api/v1/lyrics/{track_id}", tag = "lyrics", security(("bearer" = [])),
    params(("track_id" = String, Path, description = "The track")), responses(
        (status = 200, description = "The lyrics", body = LyricsView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 403, description = "The caller may not have the track"),
        (status = 404, description = "No such track, or no lyrics of it"),
        (status = 410, description = "The track was deleted"),
        (status = 503, description = "A source cannot be asked and nothing is kept; see Retry-After")))]
async fn read(
    State(lyrics): State<LyricsService>,
    user: User,
    head: RequestHead,
    PathTrackId(id): PathTrackId,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<LyricsView>, ApiError> {
    let track = lyrics.0.tracks.resolve(&id, &head.0, &user).await?;
    let answer = lyrics.lyrics(&track, user.id(), false).await?;
    Ok(Json(LyricsView::of_track(id.as_str(), &answer, may_edit(&track, &user)).ok_or(Error::Missing)?))
}

/// Ask the sources for the lyrics of a track now, whatever is kept, and return them.
#[utoipa::path(post, path = "/api/v1/lyrics/{track_id}/refresh", tag = "lyrics", security(("bearer" = [])),
    params(("track_id" = String, Path, description = "The track")), responses(
        (status = 200, description = "The lyrics", body = LyricsView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 403, description = "The caller is neither the track's owner nor an admin"),
        (status = 404, description = "No such track, or no lyrics of it"),
        (status = 410, description = "The track was deleted"),
        (status = 503, description = "A source cannot be asked and nothing is kept; see Retry-After")))]
async fn refresh(
    State(lyrics): State<LyricsService>,
    user: User,
    head: RequestHead,
    PathTrackId(id): PathTrackId,
) -> Result<Json<LyricsView>, ApiError> {
    let track = own_track(&lyrics, &user, &head, &id).await?;
    let answer = lyrics.lyrics(&track, user.id(), true).await?;
    Ok(Json(LyricsView::of_track(id.as_str(), &answer, true).ok_or(Error::Missing)?))
}

/// Set the lyrics of a track, in place of what the sources say.
#[utoipa::path(put, path = "/api/v1/lyrics/{track_id}", tag = "lyrics", security(("bearer" = [])),
    params(("track_id" = String, Path, description = "The track")), request_body = LyricsRequest, responses(
        (status = 200, description = "The lyrics as they were read", body = LyricsView),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 403, description = "The caller is neither the track's owner nor an admin"),
        (status = 404, description = "No such track"), (status = 410, description = "The track was deleted"),
        (status = 413, description = "More than 512 KiB"),
        (status = 422, description = "A text that cannot be read, or a value out of range"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn set(
    State(lyrics): State<LyricsService>,
    user: User,
    head: RequestHead,
    PathTrackId(id): PathTrackId,
    Json(body): Json<LyricsRequest>,
) -> Result<Json<LyricsView>, ApiError> {
    let track = own_track(&lyrics, &user, &head, &id).await?;
    let read = lyrics.parse(move || body.lyrics()).await??;
    let answer = lyrics.set(&track, read, user.id()).await?;
    Ok(Json(LyricsView::of_track(id.as_str(), &answer, true).ok_or_else(ApiError::internal)?))
}

/// Drop the lyrics that were set for a track, so that its sources count again.
#[utoipa::path(delete, path = "/api/v1/lyrics/{track_id}", tag = "lyrics", security(("bearer" = [])),
    params(("track_id" = String, Path, description = "The track")), responses(
        (status = 204, description = "Nothing is set any more"), (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"),
        (status = 403, description = "The caller is neither the track's owner nor an admin"),
        (status = 404, description = "No such track"), (status = 410, description = "The track was deleted"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn unset(
    State(lyrics): State<LyricsService>,
    user: User,
    head: RequestHead,
    PathTrackId(id): PathTrackId,
) -> Result<StatusCode, ApiError> {
    let track = own_track(&lyrics, &user, &head, &id).await?;
    lyrics.unset(&track, user.id()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Search for lyrics by artist and song, in the services that are configured.
#[utoipa::path(get, path = "/api/v1/lyrics/search", tag = "lyrics", security(("bearer" = [])), params(SearchQuery),
    responses(
        (status = 200, description = "At most five results, best first", body = LyricsSearchView),
        (status = 400, description = "A parameter is missing"), (status = 401, description = "No valid token"),
        (status = 422, description = "A name that is empty, too long or no plain text"),
        (status = 503, description = "No service can be asked and nothing is kept; see Retry-After")))]
async fn search(
    State(lyrics): State<LyricsService>,
    user: User,
    Query(query): Query<SearchQuery>,
) -> Result<Json<LyricsSearchView>, ApiError> {
    let song = query.song()?;
    let answer = lyrics.search(&song, user.id()).await?;
    Ok(Json(LyricsSearchView::new(song.artist, song.title, &answer)))
}

/// Return the numbers of what is kept.
#[utoipa::path(get, path = "/api/v1/lyrics/cache/status", tag = "lyrics", security(("bearer" = [])), responses(
    (status = 200, description = "The numbers", body = CacheStatusView), (status = 401, description = "No valid token"),
    (status = 403, description = "The token's role is not admin"),
    (status = 503, description = "The database is away; see Retry-After")))]
async fn cache_status(State(lyrics): State<LyricsService>, _: AdminUser) -> Result<Json<CacheStatusView>, ApiError> {
    Ok(Json(lyrics.count().await?.into()))
}

/// Returns a track whose lyrics the user may set.
async fn own_track(
    lyrics: &LyricsService,
    user: &User,
    head: &RequestHead,
    id: &TrackId,
) -> Result<LyricsTrack, ApiError> {
    let track = lyrics.0.tracks.resolve(id, &head.0, user).await?;
    if may_edit(&track, user) { Ok(track) } else { Err(Error::NotOwner.into()) }
}
