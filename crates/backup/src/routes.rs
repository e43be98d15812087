//! Paths of backups.

use axum::extract::{DefaultBodyLimit, State};
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::bodies::TriggerRequest;
use crate::service::BackupService;
use crate::view::{BackupView, StatusView};
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{Json, OptionalJson, Path, Query};
use server_kit::api::pagination::{Page, PageLimits, PageQuery, decode_cursor};
use server_kit::api::user::AdminUser;

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 4096;
/// Pages of the history.
const PAGES: PageLimits = PageLimits { default_limit: 50, max_limit: 100 };

/// Returns the paths.
pub fn routes(backups: BackupService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(trigger))
        .routes(routes!(status))
        .routes(routes!(history))
        .routes(routes!(delete))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(backups)
}

/// Begin a backup.
#[utoipa::path(post, path = "/api/v1/backup/trigger", tag = "backup", security(("bearer" = [])),
    request_body = Option<TriggerRequest>, responses(
        (status = 202, description = "It has begun; what becomes of it is in the history", body = BackupView),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 403, description = "The token's role is not admin"),
        (status = 409, description = "One is under way, at whichever node"),
        (status = 422, description = "Components that are none, or that this server has not"),
        (status = 503, description = "Not begun: send it again after Retry-After")))]
async fn trigger(
    State(backups): State<BackupService>,
    _: AdminUser,
    OptionalJson(body): OptionalJson<TriggerRequest>,
) -> Result<(StatusCode, Json<BackupView>), ApiError> {
    let record = backups.trigger(body.unwrap_or_default().components()?).await?;
    Ok((StatusCode::ACCEPTED, Json(BackupView::new(record))))
}

/// Return what is under way, the newest verified backup, and when the next one is due.
#[utoipa::path(get, path = "/api/v1/backup/status", tag = "backup", security(("bearer" = [])), responses(
    (status = 200, description = "What is known", body = StatusView),
    (status = 401, description = "No valid token"), (status = 403, description = "The token's role is not admin"),
    (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn status(State(backups): State<BackupService>, _: AdminUser) -> Result<Json<StatusView>, ApiError> {
    Ok(Json(StatusView::new(backups.status().await?)))
}

/// List backups, the newest first.
#[utoipa::path(get, path = "/api/v1/backup/history", tag = "backup", security(("bearer" = [])),
    params(PageQuery), responses(
        (status = 200, description = "A page", body = Page<BackupView>),
        (status = 400, description = "A cursor or a parameter that is none"),
        (status = 401, description = "No valid token"), (status = 403, description = "The token's role is not admin"),
        (status = 422, description = "A limit out of range"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn history(
    State(backups): State<BackupService>,
    _: AdminUser,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BackupView>>, ApiError> {
    let limit = PAGES.limit(query.limit)?;
    let before = decode_cursor(query.cursor.as_deref(), |text| Uuid::parse_str(&text).ok())?;
    let found = backups.list(before, u32::from(limit) + 1).await?;
    Ok(Json(Page::from_lookahead(found, limit, |record| record.id.to_string()).map(BackupView::new)))
}

/// Delete a backup and its objects; not the last verified one.
#[utoipa::path(delete, path = "/api/v1/backup/{id}", tag = "backup", security(("bearer" = [])),
    params(("id" = String, Path, description = "The backup")), responses(
        (status = 204, description = "It is deleted; its objects go at once, or when the store answers again"),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 403, description = "The token's role is not admin"), (status = 404, description = "No such backup"),
        (status = 409, description = "It is under way, or the last verified one"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn delete(
    State(backups): State<BackupService>,
    _: AdminUser,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ApiError> {
    backups.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
