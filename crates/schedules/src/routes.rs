//! Paths of schedules.

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::action::ActionUser;
use crate::bodies::{AcceptedLanguage, AnswerLanguage, LanguageQuery, ListQuery, PreviewRequest, ScheduleRequest};
use crate::schedule::{Schedule, StoredSchedule};
use crate::sentence::SentenceLanguage;
use crate::service::ScheduleService;
use crate::view::{PreviewView, RunView, ScheduleView};
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{Json, Path, Query};
use server_kit::api::pagination::{Page, PageLimits, PageQuery, decode_cursor};
use server_kit::api::revision::{IfMatch, revision_tag};
use server_kit::api::user::User;

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 8192;
/// Pages of lists.
const PAGES: PageLimits = PageLimits { default_limit: 50, max_limit: 100 };

/// Returns the paths.
pub fn routes(schedules: ScheduleService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(preview))
        .routes(routes!(get, replace, delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(run_now))
        .routes(routes!(history))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(schedules)
}

/// Schedule with its entity tag.
struct TaggedSchedule(StatusCode, ScheduleView, i64);

impl TaggedSchedule {
    /// Shows a schedule that was written just now, with its newest run where it has one and that can be read: the answer says
    /// whether the schedule is kept.
    async fn written(schedules: &ScheduleService, schedule: Schedule, language: SentenceLanguage) -> Self {
        let last = schedules.runs(schedule.id, UnixMillis::MAX, 1).await.unwrap_or_default().into_iter().next();
        let revision = schedule.revision;
        Self(StatusCode::OK, ScheduleView::new(schedule, last, language, schedules.now()), revision)
    }
}

impl IntoResponse for TaggedSchedule {
    fn into_response(self) -> Response {
        (self.0, [(header::ETAG, revision_tag(self.2).to_header())], Json(self.1)).into_response()
    }
}

async fn view(
    schedules: &ScheduleService,
    schedule: StoredSchedule,
    language: SentenceLanguage,
) -> Result<ScheduleView, ApiError> {
    let schedule = match schedule {
        StoredSchedule::Readable(schedule) => *schedule,
        StoredSchedule::Unreadable(schedule) => return Ok(ScheduleView::unreadable(schedule)),
    };
    let last = schedules.runs(schedule.id, UnixMillis::MAX, 1).await?.into_iter().next();
    Ok(ScheduleView::new(schedule, last, language, schedules.now()))
}

/// Make a schedule.
#[utoipa::path(post, path = "/api/v1/scheduler/schedules", tag = "schedules", security(("bearer" = [])),
    params(LanguageQuery), request_body = ScheduleRequest, responses(
        (status = 201, description = "The schedule; `ETag` is its revision", body = ScheduleView),
        (status = 400, description = "No JSON, not of this form, or an id that cannot be"),
        (status = 401, description = "No valid token"),
        (status = 403, description = "A channel that everybody hears, and a role that may not schedule there"),
        (status = 409, description = "The user has as many as are kept"),
        (status = 422, description = "A rule or a zone that is none, instants that are too many or none, or nothing that this server can begin"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn create(
    State(schedules): State<ScheduleService>,
    user: User,
    AnswerLanguage(language): AnswerLanguage,
    Json(body): Json<ScheduleRequest>,
) -> Result<TaggedSchedule, ApiError> {
    let content = body.content(schedules.misfire_grace())?;
    let owner = ActionUser { id: user.id().clone(), role: user.role() };
    let schedule = schedules.create(owner, content).await?;
    let revision = schedule.revision;
    Ok(TaggedSchedule(StatusCode::CREATED, ScheduleView::new(schedule, None, language, schedules.now()), revision))
}

/// List the caller's schedules in the order in which they were made; administrators see all.
#[utoipa::path(get, path = "/api/v1/scheduler/schedules", tag = "schedules", security(("bearer" = [])),
    params(ListQuery), responses((status = 200, description = "A page", body = Page<ScheduleView>),
        (status = 400, description = "A cursor or a parameter that is none"),
        (status = 401, description = "No valid token"),
        (status = 403, description = "Another user is named, and the token's role is not admin"),
        (status = 422, description = "A limit out of range, or a language that is not spoken"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn list(
    State(schedules): State<ScheduleService>,
    user: User,
    accepted: AcceptedLanguage,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ScheduleView>>, ApiError> {
    let limit = PAGES.limit(query.limit)?;
    let language = accepted.or(query.lang.as_deref())?;
    let after = decode_cursor(query.cursor.as_deref(), |text| Uuid::parse_str(&text).ok())?;
    let of_user = user.listed_user(query.user_id.as_deref(), "schedules")?;
    let found = schedules.list(of_user.as_ref(), after, u32::from(limit) + 1).await?;
    let Page { items, next_cursor } = Page::from_lookahead(found, limit, |schedule| schedule.id().to_string());
    let mut views = Vec::with_capacity(items.len());
    for schedule in items {
        views.push(view(&schedules, schedule, language).await?);
    }
    Ok(Json(Page { items: views, next_cursor }))
}

/// Try out a rule: what it means in words, and its next five instants. Nothing is kept.
#[utoipa::path(post, path = "/api/v1/scheduler/preview", tag = "schedules", security(("bearer" = [])),
    params(LanguageQuery), request_body = PreviewRequest, responses(
        (status = 200, description = "Its instants", body = PreviewView),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 422, description = "A rule or a zone that is none, or instants that are too many or none")))]
async fn preview(
    State(schedules): State<ScheduleService>,
    _: User,
    AnswerLanguage(language): AnswerLanguage,
    Json(body): Json<PreviewRequest>,
) -> Result<Json<PreviewView>, ApiError> {
    let (times, now) = (body.times()?, schedules.now());
    schedules.judge_times(&times, now)?;
    Ok(Json(PreviewView::new(&times, language, now)))
}

/// Return a schedule.
#[utoipa::path(get, path = "/api/v1/scheduler/schedules/{id}", tag = "schedules", security(("bearer" = [])),
    params(("id" = String, Path, description = "The schedule"), LanguageQuery), responses(
        (status = 200, description = "The schedule; `ETag` is its revision", body = ScheduleView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such schedule of the caller"),
        (status = 422, description = "A language that is not spoken"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn get(
    State(schedules): State<ScheduleService>,
    user: User,
    Path(id): Path<Uuid>,
    AnswerLanguage(language): AnswerLanguage,
) -> Result<TaggedSchedule, ApiError> {
    let schedule = schedules.find(&user, id).await?;
    let revision = schedule.revision();
    Ok(TaggedSchedule(StatusCode::OK, view(&schedules, schedule, language).await?, revision))
}

/// Replace a schedule, which goes on from now.
#[utoipa::path(put, path = "/api/v1/scheduler/schedules/{id}", tag = "schedules", security(("bearer" = [])),
    params(("id" = String, Path, description = "The schedule"), LanguageQuery,
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read")),
    request_body = ScheduleRequest, responses(
        (status = 200, description = "The schedule; `ETag` is its new revision", body = ScheduleView),
        (status = 400, description = "No JSON, not of this form, or an id that cannot be"),
        (status = 401, description = "No valid token"),
        (status = 403, description = "A channel that everybody hears, and a role that may not schedule there"),
        (status = 404, description = "No such schedule of the caller"),
        (status = 412, description = "It was changed meanwhile, and is as it was"),
        (status = 422, description = "A rule or a zone that is none, instants that are too many or none, or nothing that this server can begin"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn replace(
    State(schedules): State<ScheduleService>,
    user: User,
    Path(id): Path<Uuid>,
    AnswerLanguage(language): AnswerLanguage,
    IfMatch(condition): IfMatch,
    Json(body): Json<ScheduleRequest>,
) -> Result<TaggedSchedule, ApiError> {
    let content = body.content(schedules.misfire_grace())?;
    let schedule = schedules.replace(&user, id, condition.as_ref(), content).await?;
    Ok(TaggedSchedule::written(&schedules, schedule, language).await)
}

/// Delete a schedule and its history.
#[utoipa::path(delete, path = "/api/v1/scheduler/schedules/{id}", tag = "schedules", security(("bearer" = [])),
    params(("id" = String, Path, description = "The schedule"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read")), responses(
        (status = 204, description = "It is deleted"), (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such schedule of the caller"),
        (status = 412, description = "It was changed meanwhile, and is still there"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn delete(
    State(schedules): State<ScheduleService>,
    user: User,
    Path(id): Path<Uuid>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, ApiError> {
    schedules.delete(&user, id, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a schedule: nothing comes until it is resumed.
#[utoipa::path(post, path = "/api/v1/scheduler/schedules/{id}/pause", tag = "schedules", security(("bearer" = [])),
    params(("id" = String, Path, description = "The schedule"), LanguageQuery), responses(
        (status = 200, description = "The schedule", body = ScheduleView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such schedule of the caller"),
        (status = 409, description = "It cannot be read by this version of the server"),
        (status = 422, description = "A language that is not spoken"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn pause(
    State(schedules): State<ScheduleService>,
    user: User,
    Path(id): Path<Uuid>,
    AnswerLanguage(language): AnswerLanguage,
) -> Result<TaggedSchedule, ApiError> {
    let schedule = schedules.set_enabled(&user, id, false).await?;
    Ok(TaggedSchedule::written(&schedules, schedule, language).await)
}

/// Go on with a schedule from now.
#[utoipa::path(post, path = "/api/v1/scheduler/schedules/{id}/resume", tag = "schedules", security(("bearer" = [])),
    params(("id" = String, Path, description = "The schedule"), LanguageQuery), responses(
        (status = 200, description = "The schedule", body = ScheduleView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such schedule of the caller"),
        (status = 409, description = "It cannot be read by this version of the server"),
        (status = 422, description = "Nothing comes any more, or a language that is not spoken"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn resume(
    State(schedules): State<ScheduleService>,
    user: User,
    Path(id): Path<Uuid>,
    AnswerLanguage(language): AnswerLanguage,
) -> Result<TaggedSchedule, ApiError> {
    let schedule = schedules.set_enabled(&user, id, true).await?;
    Ok(TaggedSchedule::written(&schedules, schedule, language).await)
}

/// Begin what is scheduled now, besides its instants; a paused schedule too.
#[utoipa::path(post, path = "/api/v1/scheduler/schedules/{id}/run", tag = "schedules", security(("bearer" = [])),
    params(("id" = String, Path, description = "The schedule")), responses(
        (status = 202, description = "The run; what becomes of it is in the history", body = RunView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such schedule of the caller"),
        (status = 409, description = "It cannot be read by this version of the server"),
        (status = 429, description = "As many runs of its user go on as may at once; see Retry-After"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn run_now(
    State(schedules): State<ScheduleService>,
    user: User,
    Path(id): Path<Uuid>,
) -> Result<(StatusCode, Json<RunView>), ApiError> {
    let run = schedules.run_now(&user, id).await?;
    Ok((StatusCode::ACCEPTED, Json(RunView::new(run))))
}

/// List the runs of a schedule, the newest first.
#[utoipa::path(get, path = "/api/v1/scheduler/schedules/{id}/history", tag = "schedules", security(("bearer" = [])),
    params(("id" = String, Path, description = "The schedule"), PageQuery), responses(
        (status = 200, description = "A page", body = Page<RunView>),
        (status = 400, description = "An id, a cursor or a parameter that is none"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such schedule of the caller"),
        (status = 422, description = "A limit out of range"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn history(
    State(schedules): State<ScheduleService>,
    user: User,
    Path(id): Path<Uuid>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<RunView>>, ApiError> {
    let limit = PAGES.limit(query.limit)?;
    let before = decode_cursor(query.cursor.as_deref(), |text| text.parse().ok().map(UnixMillis::new))?;
    let schedule = schedules.find(&user, id).await?;
    let found = schedules.runs(schedule.id(), before.unwrap_or(UnixMillis::MAX), u32::from(limit) + 1).await?;
    let page = Page::from_lookahead(found, limit, |run| run.fire_at.to_string());
    Ok(Json(page.map(RunView::new)))
}
