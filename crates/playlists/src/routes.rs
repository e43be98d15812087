//! Paths of playlists.

use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use percent_encoding::utf8_percent_encode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::bodies::{AppendRequest, ExportQuery, ImportQuery, ListQuery, MAX_NAME_BYTES, PlaylistRequest};
use crate::formats::PlaylistFormat;
use crate::playlist::Playlist;
use crate::service::PlaylistService;
use crate::view::{ImportView, PlaylistSummary, PlaylistView};
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{Json, Path, Query};
use server_kit::api::pagination::{Page, PageLimits, decode_cursor};
use server_kit::api::plain_text::parse_line;
use server_kit::api::revision::{IfMatch, revision_tag};
use server_kit::api::user::User;
use server_kit::url_template::UNRESERVED;

/// Pages of the list.
const PAGES: PageLimits = PageLimits { default_limit: 50, max_limit: 100 };
/// Bytes of a body for each byte of a playlist that may be kept: names of members, escapes and blanks.
const BODY_BYTES_PER_BYTE: u64 = 4;

/// Returns the paths.
pub fn routes(playlists: PlaylistService) -> OpenApiRouter {
    let most = playlists.settings().max_bytes.saturating_mul(BODY_BYTES_PER_BYTE);
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(import))
        .routes(routes!(get, replace, delete))
        .routes(routes!(append))
        .routes(routes!(export))
        .layer(DefaultBodyLimit::max(usize::try_from(most).unwrap_or(usize::MAX)))
        .with_state(playlists)
}

/// File in a body, whatever its media type says.
struct FileBody(Bytes);

impl<S: Send + Sync> FromRequest<S> for FileBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Ok(Self(Bytes::from_request(request, state).await?))
    }
}

/// Playlist with its entity tag.
struct TaggedPlaylist(StatusCode, Playlist);

impl IntoResponse for TaggedPlaylist {
    fn into_response(self) -> Response {
        let tag = revision_tag(self.1.head.revision).to_header();
        (self.0, [(header::ETAG, tag)], Json(PlaylistView::new(self.1))).into_response()
    }
}

/// Make a playlist.
#[utoipa::path(post, path = "/api/v1/playlists", tag = "playlists", security(("bearer" = [])),
    request_body = PlaylistRequest, responses(
        (status = 201, description = "The playlist; `ETag` is its revision", body = PlaylistView),
        (status = 400, description = "No JSON, not of this form, or an id that cannot be"),
        (status = 401, description = "No valid token"),
        (status = 409, description = "The user has as many as are kept"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "A text that cannot be taken, or too many tracks"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn create(
    State(playlists): State<PlaylistService>,
    user: User,
    Json(body): Json<PlaylistRequest>,
) -> Result<TaggedPlaylist, ApiError> {
    let playlist = playlists.create(user.id(), body.content()?).await?;
    Ok(TaggedPlaylist(StatusCode::CREATED, playlist))
}

/// List the caller's playlists in the order in which they were made; administrators see all.
#[utoipa::path(get, path = "/api/v1/playlists", tag = "playlists", security(("bearer" = [])), params(ListQuery),
    responses((status = 200, description = "A page", body = Page<PlaylistSummary>),
        (status = 400, description = "A cursor or a parameter that is none"),
        (status = 401, description = "No valid token"),
        (status = 403, description = "Another user is named, and the token's role is not admin"),
        (status = 422, description = "A limit out of range"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn list(
    State(playlists): State<PlaylistService>,
    user: User,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<PlaylistSummary>>, ApiError> {
    let limit = PAGES.limit(query.limit)?;
    let after = decode_cursor(query.cursor.as_deref(), |text| Uuid::parse_str(&text).ok())?;
    let of_user = user.listed_user(query.user_id.as_deref(), "playlists")?;
    let found = playlists.list(of_user.as_ref(), after, u32::from(limit) + 1).await?;
    let page = Page::from_lookahead(found, limit, |head| head.id.to_string());
    Ok(Json(page.map(PlaylistSummary::new)))
}

/// Make a playlist of an M3U, M3U8 or XSPF file.
#[utoipa::path(post, path = "/api/v1/playlists/import", tag = "playlists", security(("bearer" = [])),
    params(ImportQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "The file, told by its content. Entries name tracks by the paths that stream them, or by bare ids"),
    responses((status = 201, description = "The playlist, and what was left out", body = ImportView),
        (status = 400, description = "A parameter that is none"), (status = 401, description = "No valid token"),
        (status = 409, description = "The user has as many as are kept"),
        (status = 413, description = "The file is too large"),
        (status = 422, description = "No playlist, no track of this server in it, or too many"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn import(
    State(playlists): State<PlaylistService>,
    user: User,
    Query(query): Query<ImportQuery>,
    FileBody(file): FileBody,
) -> Result<(StatusCode, Json<ImportView>), ApiError> {
    let name = query.name.map(|name| parse_line("name", &name, MAX_NAME_BYTES)).transpose()?;
    let (head, parsed) = playlists.import(user.id(), file, name).await?;
    Ok((StatusCode::CREATED, Json(ImportView::new(head, &parsed))))
}

/// Return a playlist.
#[utoipa::path(get, path = "/api/v1/playlists/{id}", tag = "playlists", security(("bearer" = [])),
    params(("id" = String, Path, description = "The playlist")), responses(
        (status = 200, description = "The playlist; `ETag` is its revision", body = PlaylistView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such playlist of the caller"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn get(
    State(playlists): State<PlaylistService>,
    user: User,
    Path(id): Path<Uuid>,
) -> Result<TaggedPlaylist, ApiError> {
    Ok(TaggedPlaylist(StatusCode::OK, playlists.get(&user, id).await?))
}

/// Replace a playlist that nobody has changed since it was read.
#[utoipa::path(put, path = "/api/v1/playlists/{id}", tag = "playlists", security(("bearer" = [])),
    params(("id" = String, Path, description = "The playlist"),
        ("If-Match" = String, Header, description = "The `ETag` that was read; `*`: whatever is there")),
    request_body = PlaylistRequest, responses(
        (status = 200, description = "The playlist; `ETag` is its new revision", body = PlaylistView),
        (status = 400, description = "No `If-Match`, no JSON, not of this form, or an id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such playlist of the caller"),
        (status = 412, description = "It was changed meanwhile, and is as it was"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "A text that cannot be taken, or too many tracks"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn replace(
    State(playlists): State<PlaylistService>,
    user: User,
    Path(id): Path<Uuid>,
    IfMatch(condition): IfMatch,
    Json(body): Json<PlaylistRequest>,
) -> Result<TaggedPlaylist, ApiError> {
    let missing = "send the `ETag` that was read as `If-Match`, so that nobody's change is lost; `*` replaces any";
    let condition = condition.ok_or_else(|| ApiError::bad_request(missing))?;
    Ok(TaggedPlaylist(StatusCode::OK, playlists.replace(&user, id, &condition, body.content()?).await?))
}

/// Delete a playlist.
#[utoipa::path(delete, path = "/api/v1/playlists/{id}", tag = "playlists", security(("bearer" = [])),
    params(("id" = String, Path, description = "The playlist"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read")), responses(
        (status = 204, description = "It is deleted"), (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such playlist of the caller"),
        (status = 412, description = "It was changed meanwhile, and is still there"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn delete(
    State(playlists): State<PlaylistService>,
    user: User,
    Path(id): Path<Uuid>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, ApiError> {
    playlists.delete(&user, id, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Add tracks at the end of a playlist. Two who do so at once both have theirs in it.
#[utoipa::path(post, path = "/api/v1/playlists/{id}/items", tag = "playlists", security(("bearer" = [])),
    params(("id" = String, Path, description = "The playlist")), request_body = AppendRequest, responses(
        (status = 200, description = "The playlist; `ETag` is its new revision", body = PlaylistView),
        (status = 400, description = "No JSON, not of this form, or an id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such playlist of the caller"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "A text that cannot be taken, or too many tracks"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn append(
    State(playlists): State<PlaylistService>,
    user: User,
    Path(id): Path<Uuid>,
    Json(body): Json<AppendRequest>,
) -> Result<TaggedPlaylist, ApiError> {
    Ok(TaggedPlaylist(StatusCode::OK, playlists.append(&user, id, &body.items()?).await?))
}

/// Return a playlist as a file for other players.
#[utoipa::path(get, path = "/api/v1/playlists/{id}/export", tag = "playlists", security(("bearer" = [])),
    params(("id" = String, Path, description = "The playlist"), ExportQuery), responses(
        (status = 200, description = "The file", content((String = "application/vnd.apple.mpegurl"),
            (String = "audio/x-mpegurl"), (String = "application/xspf+xml"))),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such playlist of the caller"),
        (status = 422, description = "No such format"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn export(
    State(playlists): State<PlaylistService>,
    user: User,
    Path(id): Path<Uuid>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let format = query.format.as_deref().map_or(Some(PlaylistFormat::M3u8), PlaylistFormat::from_name);
    let format = format.ok_or_else(|| ApiError::unprocessable("`format` must be `m3u8`, `m3u` or `xspf`"))?;
    let playlist = playlists.get(&user, id).await?;
    playlists.metrics().exports.inc();
    let name = utf8_percent_encode(&playlist.head.name, UNRESERVED);
    let extension = format.extension();
    // RFC 6266 §4.3, for names of every script.
    let disposition = format!("attachment; filename=\"playlist.{extension}\"; filename*=UTF-8''{name}.{extension}");
    let disposition = HeaderValue::from_str(&disposition).map_err(|_| ApiError::internal())?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, format.write(&playlist)).into_response())
}
