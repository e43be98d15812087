//! Paths of recognition.

use std::time::Duration;

use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Error;
use crate::service::RecognitionService;
use crate::view::{ClipForm, HistoryQuery, HistoryView, RecognitionView};
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{Json, Path, Query};
use server_kit::api::pagination::{Page, PageLimits, decode_cursor};
use server_kit::api::user::User;

/// Pages of the history.
const PAGES: PageLimits = PageLimits { default_limit: 50, max_limit: 100 };
/// Largest clip, in bytes.
const MAX_CLIP_BYTES: usize = 10 << 20;
/// Bytes of a form around its file at most.
const MAX_FORM_BYTES: usize = 64 << 10;
/// Time for which a form is waited for.
const UPLOAD_LIMIT: Duration = Duration::from_secs(60);

/// Returns the path of recognition, whose requests have a limit of their own.
pub fn routes(recognition: RecognitionService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(identify))
        .layer(DefaultBodyLimit::max(MAX_CLIP_BYTES + MAX_FORM_BYTES))
        .with_state(recognition)
}

/// Returns the paths of the history.
pub fn history_routes(recognition: RecognitionService) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(history)).routes(routes!(delete)).with_state(recognition)
}

/// Tell which track of the catalogue a clip is from: ten seconds are enough.
#[utoipa::path(post, path = "/api/v1/recognition/identify", tag = "recognition", security(("bearer" = [])),
    request_body(content = ClipForm, content_type = "multipart/form-data"), responses(
        (status = 200, description = "The track, or that none is known", body = RecognitionView),
        (status = 400, description = "No form, or not one part `file`"), (status = 401, description = "No valid token"),
        (status = 408, description = "The form was not sent within a minute"),
        (status = 413, description = "The file is larger than 10 MiB"),
        (status = 415, description = "No form, or a file that is none of MP3, WAVE, Ogg and M4A"),
        (status = 422, description = "A file that cannot be decoded, or of less than two seconds"),
        (status = 503, description = "Too many clips at once, or no index; see Retry-After")))]
async fn identify(
    State(recognition): State<RecognitionService>,
    user: User,
    request: Request,
) -> Result<Json<RecognitionView>, ApiError> {
    let permit = recognition.admit(user.id()).await?;
    let (head, body) = request.into_parts();
    let form = Multipart::from_request(Request::from_parts(head.clone(), body), &()).await.map_err(not_a_form)?;
    let clip = timeout(UPLOAD_LIMIT, file(form)).await.map_err(|_| Error::SlowUpload)??;
    let (entry, is_kept) = recognition.identify(&user, &head, clip).await?;
    drop(permit);
    Ok(Json(RecognitionView::new(entry, is_kept)))
}

/// List the caller's recognitions, the newest first; administrators see all.
#[utoipa::path(get, path = "/api/v1/recognition/history", tag = "recognition", security(("bearer" = [])),
    params(HistoryQuery), responses((status = 200, description = "A page", body = Page<HistoryView>),
        (status = 400, description = "A cursor or a parameter that is none"),
        (status = 401, description = "No valid token"),
        (status = 403, description = "Another user is named, and the token's role is not admin"),
        (status = 422, description = "A limit out of range"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn history(
    State(recognition): State<RecognitionService>,
    user: User,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<Page<HistoryView>>, ApiError> {
    let limit = PAGES.limit(query.limit)?;
    let before = decode_cursor(query.cursor.as_deref(), |text| Uuid::parse_str(&text).ok())?;
    let of_user = user.listed_user(query.user_id.as_deref(), "recognitions")?;
    let found = recognition.list(of_user.as_ref(), before, u32::from(limit) + 1).await?;
    let page = Page::from_lookahead(found, limit, |entry| entry.id.to_string());
    Ok(Json(page.map(HistoryView::new)))
}

/// Delete an entry of the history.
#[utoipa::path(delete, path = "/api/v1/recognition/history/{id}", tag = "recognition", security(("bearer" = [])),
    params(("id" = String, Path, description = "The entry")), responses(
        (status = 204, description = "It is deleted"), (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such entry of the caller"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn delete(
    State(recognition): State<RecognitionService>,
    user: User,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ApiError> {
    recognition.delete(&user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn not_a_form(_: MultipartRejection) -> ApiError {
    ApiError::unsupported_media_type("send the file as Content-Type: multipart/form-data, in a part named `file`")
}

/// Returns the file of a form.
async fn file(mut form: Multipart) -> Result<Bytes, Error> {
    let mut clip = None;
    while let Some(field) = form.next_field().await.map_err(|error| unread(&error))? {
        match field.name() {
            Some("file") if clip.is_none() => clip = Some(content(field).await?),
            Some("file") => return Err(Error::Form("the form has more than one `file`")),
            _ => return Err(Error::Form("the form has a part that is not `file`")),
        }
    }
    clip.ok_or(Error::Form("the form has no part named `file`"))
}

async fn content(mut field: Field<'_>) -> Result<Bytes, Error> {
    let mut content = BytesMut::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| unread(&error))? {
        if content.len() + chunk.len() > MAX_CLIP_BYTES {
            return Err(Error::TooLarge);
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content.freeze())
}

fn unread(error: &MultipartError) -> Error {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Error::TooLarge;
    }
    Error::Form("the form is malformed, or ends early")
}
