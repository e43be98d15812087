//! Paths of grants, `/api/v1/admin/grants`: add, list, remove.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::tracks::{CatalogAdminState, PAGE_LIMITS, database_unavailable};
use crate::Grant;
use primitives::ids::TrackId;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Query};
use server_kit::api::id;
use server_kit::api::pagination::{self, Page};
use server_kit::api::timestamps::to_rfc3339;
use server_kit::api::user::AdminUser;

/// Right to a track, or to all tracks whose ids begin with a prefix: exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"userId": "alice", "trackId": "01HQ8ZK3"}))]
pub struct GrantToAdd {
    /// User id; `*` is anyone with a valid token.
    user_id: String,
    /// The track's id.
    track_id: Option<String>,
    /// Prefix of track ids.
    track_prefix: Option<String>,
}

/// Grant to remove, as query parameters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantToRemove {
    /// User id.
    user_id: String,
    /// The track's id; this or `track_prefix`.
    track_id: Option<String>,
    /// Prefix of track ids.
    track_prefix: Option<String>,
}

/// Grant.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantEntry {
    /// User id.
    user_id: String,
    /// The track's id.
    track_id: Option<String>,
    /// Prefix of track ids.
    track_prefix: Option<String>,
    /// Time of the grant (RFC 3339).
    created_at: String,
}

/// User and page of a list of grants.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantListQuery {
    /// User id.
    user_id: String,
    /// Grants per page, 1 to 1000. Default: 100.
    limit: Option<u32>,
    /// `nextCursor` of the previous page.
    cursor: Option<String>,
}

impl From<Grant> for GrantEntry {
    fn from(grant: Grant) -> Self {
        let (track_id, track_prefix) =
            if grant.is_prefix { (None, Some(grant.track)) } else { (Some(grant.track), None) };
        Self {
            user_id: grant.user.as_str().to_owned(),
            track_id,
            track_prefix,
            created_at: to_rfc3339(grant.created_at),
        }
    }
}

/// Returns the target of a grant, and true if it is a prefix; an error unless exactly one is given.
fn target(track: Option<String>, prefix: Option<String>) -> Result<(TrackId, bool), Error> {
    match (track, prefix) {
        (Some(track), None) => Ok((id::parse_track("trackId", &track)?, false)),
        (None, Some(prefix)) => Ok((id::parse_track("trackPrefix", &prefix)?, true)),
        _ => Err(Error::bad_request("send exactly one of the track's id and a prefix of ids")),
    }
}

/// Gives a user a right. Repeating the request changes nothing.
#[utoipa::path(post, path = "/api/v1/admin/grants", tag = "catalogue", security(("bearer" = [])), request_body = GrantToAdd, responses(
    (status = 201, description = "It is given", body = GrantEntry), (status = 200, description = "It was given already", body = GrantEntry),
    (status = 400, description = "Not JSON of this form"), (status = 401, description = "No valid token"),
    (status = 403, description = "The token's role is not admin"), (status = 422, description = "A value is out of range"),
    (status = 503, description = "The database is away")))]
pub async fn add(
    _: AdminUser,
    State(state): State<Arc<CatalogAdminState>>,
    Json(new): Json<GrantToAdd>,
) -> Result<(StatusCode, Json<GrantEntry>), Error> {
    let user = id::parse_user("userId", &new.user_id)?;
    let (track, prefix) = target(new.track_id, new.track_prefix)?;
    let grant = Grant { user, track: track.as_str().to_owned(), is_prefix: prefix, created_at: state.now() };
    let is_new = state.grants.add(&grant).await.map_err(database_unavailable)?;
    state.configuration.forget_access_decisions();
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(grant.into())))
}

/// Lists a user's rights, in pages.
#[utoipa::path(get, path = "/api/v1/admin/grants", tag = "catalogue", security(("bearer" = [])), params(GrantListQuery), responses(
    (status = 200, description = "A page of rights", body = Page<GrantEntry>), (status = 400, description = "The cursor is none of ours"),
    (status = 401, description = "No valid token"), (status = 403, description = "The token's role is not admin"),
    (status = 422, description = "The limit is out of range"), (status = 503, description = "The database is away")))]
pub async fn list(
    _: AdminUser,
    State(state): State<Arc<CatalogAdminState>>,
    Query(which): Query<GrantListQuery>,
) -> Result<Json<Page<GrantEntry>>, Error> {
    let (limit, behind) = (
        PAGE_LIMITS.limit(which.limit)?,
        pagination::decode_cursor(which.cursor.as_deref(), Some)?.unwrap_or_default(),
    );
    let user = id::parse_user("user_id", &which.user_id)?;
    // A cursor begins with `+` (prefix) or `=` (track), since the same text may be both.
    let after = behind.strip_prefix('+').map_or((behind.trim_start_matches('='), false), |prefix| (prefix, true));
    let grants = state.grants.list(&user, after, u32::from(limit) + 1).await.map_err(database_unavailable)?;
    let place = |last: &Grant| format!("{}{}", if last.is_prefix { '+' } else { '=' }, last.track);
    Ok(Json(Page::from_lookahead(grants, limit, place).map(GrantEntry::from)))
}

/// Takes a right back.
#[utoipa::path(delete, path = "/api/v1/admin/grants", tag = "catalogue", security(("bearer" = [])), params(GrantToRemove), responses(
    (status = 204, description = "It is taken back"), (status = 400, description = "Not exactly one of id and prefix, or an id that cannot be one"),
    (status = 401, description = "No valid token"), (status = 403, description = "The token's role is not admin"),
    (status = 404, description = "There was none"), (status = 503, description = "The database is away")))]
pub async fn remove(
    _: AdminUser,
    State(state): State<Arc<CatalogAdminState>>,
    Query(which): Query<GrantToRemove>,
) -> Result<StatusCode, Error> {
    let user = id::parse_user("user_id", &which.user_id)?;
    let (track, prefix) = target(which.track_id, which.track_prefix)?;
    let removed = state.grants.remove(&user, &track, prefix).await.map_err(database_unavailable)?;
    state.configuration.forget_access_decisions();
    if removed { Ok(StatusCode::NO_CONTENT) } else { Err(Error::not_found("there is no such grant")) }
}
