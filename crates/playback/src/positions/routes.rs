//! Paths of positions.

use axum::extract::{DefaultBodyLimit, State};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::store::ProgressCursor;
use super::{Error, ItemKind, PositionKey, PositionRecord, PositionReport, PositionService};
use primitives::ids::TrackId;
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{BeaconJson, Json, Query};
use server_kit::api::id::PathTrackId;
use server_kit::api::json_values::{Milliseconds, MillisecondsOrText, TimestampInput};
use server_kit::api::pagination::{self, Page, PageLimits};
use server_kit::api::user::User;

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 4096;
/// Largest position: a hundred years in milliseconds.
const MAX_POSITION_MILLIS: i64 = 100 * 366 * 86_400_000;
/// Page sizes of the list.
const PAGE_LIMITS: PageLimits = PageLimits { default_limit: 20, max_limit: 100 };

/// Returns the paths of positions.
pub fn routes(positions: PositionService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(save, read, clear))
        .routes(routes!(progress))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(positions)
}

/// Position of a player.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "positionMs": 93500, "durationMs": 240000, "timestamp": "2026-01-31T18:00:00.250Z" }))]
struct SavePositionRequest {
    /// Milliseconds from the beginning.
    #[schema(minimum = 0, value_type = f64)]
    position_ms: Milliseconds,
    /// The track's length in milliseconds, where the player knows it: the list of what can be continued needs it.
    #[schema(minimum = 1, value_type = Option<f64>)]
    duration_ms: Option<Milliseconds>,
    /// Time of the position by the player's clock; an older report never replaces a newer one. Default: now.
    #[schema(value_type = Option<MillisecondsOrText>)]
    timestamp: Option<TimestampInput>,
    /// Kind of the item. Default: `audio`.
    #[serde(default)]
    kind: ItemKind,
}

/// Kind of the item.
#[derive(Deserialize, IntoParams)]
struct ItemKindQuery {
    /// Kind of the item. Default: `audio`.
    #[serde(default)]
    kind: ItemKind,
}

/// Position.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "positionMs": 93500 }))]
struct PositionResponse {
    /// Milliseconds from the beginning; null if there is none.
    position_ms: Option<i64>,
}

/// Filter and page of the list.
#[derive(Deserialize, IntoParams)]
struct ProgressQuery {
    /// Only items of this kind.
    kind: Option<ItemKind>,
    /// Items per page, 1 to 100. Default: 20.
    limit: Option<u32>,
    /// `nextCursor` of the previous page.
    cursor: Option<String>,
}

/// Item that can be continued.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "id": "track-7", "kind": "audio", "positionMs": 93500, "durationMs": 600_000,
    "updatedAt": "2026-01-31T18:00:00.25Z" }))]
struct ProgressItem {
    /// The track's id.
    id: String,
    /// Kind of the item.
    kind: ItemKind,
    /// Milliseconds from the beginning.
    position_ms: i64,
    /// Length in milliseconds; null if unknown.
    duration_ms: Option<i64>,
    /// Time of the position (RFC 3339).
    updated_at: String,
}

/// Save the user's position in a track.
#[utoipa::path(post, path = "/api/v1/tracks/{id}/position", tag = "positions", security(("bearer" = [])), request_body = SavePositionRequest,
    params(("id" = String, Path, description = "The track", example = "track-7")),
    responses(
        (status = 204, description = "Kept, or older than what is kept already"),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 413, description = "A body over 4 KiB"), (status = 415, description = "Neither application/json nor text/plain"),
        (status = 422, description = "A number out of range"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn save(
    State(positions): State<PositionService>,
    user: User,
    PathTrackId(id): PathTrackId,
    BeaconJson(body): BeaconJson<SavePositionRequest>,
) -> Result<StatusCode, ApiError> {
    let key = key(&user, id, body.kind);
    let report = report(&body)?;
    positions.save(key, report).await.map_err(store_unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Return the user's position in a track.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/position", tag = "positions", security(("bearer" = [])),
    params(("id" = String, Path, description = "The track", example = "track-7"), ItemKindQuery),
    responses(
        (status = 200, description = "The position, or null", body = PositionResponse),
        (status = 400, description = "No such kind, or an id that cannot be"),
        (status = 401, description = "No valid token"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn read(
    State(positions): State<PositionService>,
    user: User,
    PathTrackId(id): PathTrackId,
    Query(of): Query<ItemKindQuery>,
) -> Result<Json<PositionResponse>, ApiError> {
    let key = key(&user, id, of.kind);
    let position_ms = positions.get(&key).await.map_err(store_unavailable)?;
    Ok(Json(PositionResponse { position_ms }))
}

/// Clear the user's position in a track.
#[utoipa::path(delete, path = "/api/v1/tracks/{id}/position", tag = "positions", security(("bearer" = [])),
    params(("id" = String, Path, description = "The track", example = "track-7"), ItemKindQuery),
    responses(
        (status = 204, description = "Forgotten, or there was none"),
        (status = 400, description = "No such kind, or an id that cannot be"),
        (status = 401, description = "No valid token"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn clear(
    State(positions): State<PositionService>,
    user: User,
    PathTrackId(id): PathTrackId,
    Query(of): Query<ItemKindQuery>,
) -> Result<StatusCode, ApiError> {
    let key = key(&user, id, of.kind);
    positions.clear(key).await.map_err(store_unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the items that the user can continue.
#[utoipa::path(get, path = "/api/v1/progress", tag = "positions", security(("bearer" = [])), params(ProgressQuery),
    responses(
        (status = 200, description = "What was begun and neither finished nor only tried, the newest first", body = Page<ProgressItem>),
        (status = 400, description = "No such kind, or a cursor that is not ours"),
        (status = 401, description = "No valid token"), (status = 422, description = "A limit out of range"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn progress(
    State(positions): State<PositionService>,
    user: User,
    Query(wanted): Query<ProgressQuery>,
) -> Result<Json<Page<ProgressItem>>, ApiError> {
    let limit = PAGE_LIMITS.limit(wanted.limit)?.into();
    let after = pagination::decode_cursor(wanted.cursor.as_deref(), |text| ProgressCursor::parse(&text))?;
    let found = positions.progress(user.id(), wanted.kind, limit, after).await.map_err(store_unavailable)?;
    let items = found.entries.into_iter().filter_map(item).collect();
    Ok(Json(Page::new(items, found.next.map(|mark| mark.to_text()))))
}

fn item(entry: PositionRecord) -> Option<ProgressItem> {
    let PositionRecord {
        key: PositionKey { kind, item: id, .. }, position, duration: duration_ms, updated_at: at, ..
    } = entry;
    let updated_at = Timestamp::from_millisecond(at.as_millis()).ok()?.to_string();
    Some(ProgressItem { id: id.as_str().to_owned(), kind, position_ms: position?, duration_ms, updated_at })
}

fn key(user: &User, item: TrackId, kind: ItemKind) -> PositionKey {
    PositionKey { user: user.id().clone(), kind, item }
}

fn report(body: &SavePositionRequest) -> Result<PositionReport, ApiError> {
    let Milliseconds(position) = body.position_ms;
    if !(0..=MAX_POSITION_MILLIS).contains(&position) {
        return Err(ApiError::unprocessable(format!("positionMs is {position}; expected 0 or more")));
    }
    let duration = body.duration_ms.map(|Milliseconds(duration)| duration);
    if let Some(duration) = duration.filter(|duration| !(1..=MAX_POSITION_MILLIS).contains(duration)) {
        return Err(ApiError::unprocessable(format!("durationMs is {duration}; expected 1 or more")));
    }
    let at = body.timestamp.map(TimestampInput::since_1970).transpose()?;
    Ok(PositionReport { position, duration, at, is_last: false })
}

fn store_unavailable(error: Error) -> ApiError {
    ApiError::unavailable(error.to_string())
}
