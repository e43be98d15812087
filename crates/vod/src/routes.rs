//! Paths of films (document 003), and those of the operator.

use axum::Extension;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{AppendHeaders, IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::events::seconds_text;
use crate::grant::set_cookie;
use crate::movie_id::movie_id;
use crate::service::{FilmService, ProgressUnavailable, StartError, StopError, WatchReport};
use crate::session::{ManifestType, SessionId, ViewerDevice};
use http_semantics::request_info::RequestInfo;
use server_kit::api::error::Error;
use server_kit::api::extractors::{BeaconJson, Json, Path, Query};
use server_kit::api::id;
use server_kit::api::json_values::{MillisecondsOrText, TimestampInput};
use server_kit::api::user::{AdminUser, User};
use server_kit::limit::rate_limiter::LimitRejection;

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 4096;
/// Largest position in seconds: a day.
const MAX_POSITION_SECONDS: i64 = 86_400;

/// Returns the paths by which films are started and stopped.
pub fn start_routes(films: FilmService) -> OpenApiRouter {
    let routes = OpenApiRouter::new().routes(routes!(start)).routes(routes!(stop));
    routes.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(films)
}

/// Returns the paths of positions in films, which every player asks every few seconds.
pub fn progress_routes(films: FilmService) -> OpenApiRouter {
    let routes = OpenApiRouter::new().routes(routes!(save_progress, read_progress));
    routes.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(films)
}

/// Returns the paths of the operator.
pub fn admin_routes(films: FilmService) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(purge_subscription)).routes(routes!(end_sessions)).with_state(films)
}

/// Manifest to be played.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "manifest_type": "hls" }))]
struct StartStreamRequest {
    /// `hls` or `dash`.
    manifest_type: String,
    /// Way for the grant to travel. Default: `path`. Where it is set the answer has `session_id` too.
    grant: Option<GrantCarrier>,
}

/// Way for a grant to travel.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum GrantCarrier {
    /// In the URLs, for every player.
    #[default]
    Path,
    /// In a cookie of the film, for pages: no script and no link has it.
    Cookie,
    /// In the header `X-Film-Grant`, which the player sets.
    Header,
}

/// Film to be played.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "manifest_url": "https://media.example/v/AQ.../movies/dune/index.m3u8", "expires_in": 3600,
    "manifest_type": "hls" }))]
struct StartStreamResponse {
    /// URL of the manifest. Everything that it names is below it, and is played without any header.
    manifest_url: String,
    /// Seconds for which it can be fetched without a report or a segment; each of them begins the time anew.
    expires_in: u64,
    /// As asked for.
    manifest_type: &'static str,
    /// The value of `X-Film-Grant`, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    /// The session, for reports and stops to name, where `grant` was set. It opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
}

/// Position in a film.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "position_seconds": 120 }))]
struct WatchProgressRequest {
    /// Seconds from the beginning, up to a day.
    #[serde(deserialize_with = "whole_seconds")]
    #[schema(minimum = 0, maximum = 86400, value_type = f64)]
    position_seconds: i64,
    /// The film's length in seconds, where the player knows it: the list of what can be continued needs it.
    #[serde(default, deserialize_with = "optional_seconds")]
    #[schema(minimum = 1, maximum = 86400, value_type = Option<f64>)]
    duration_seconds: Option<i64>,
    /// Time of the position by the player's clock; an older report never replaces a newer one. Default: now.
    #[schema(value_type = Option<MillisecondsOrText>)]
    timestamp: Option<TimestampInput>,
    /// The session, of a start that returned it. Default: the user's newest one for the film.
    session_id: Option<String>,
}

/// Position that was stored.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "success": true, "position_seconds": 120, "message": "Progress updated successfully" }))]
struct ProgressUpdated {
    /// Always true.
    success: bool,
    /// Seconds from the beginning.
    position_seconds: i64,
    /// For people.
    message: &'static str,
}

/// Position of a user in a film.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "user_id": "u-1", "movie_id": "dune", "position_seconds": 120,
    "last_watched_at": "2024-11-15T10:30:00" }))]
struct WatchProgressResponse {
    /// The user.
    user_id: String,
    /// The film.
    movie_id: String,
    /// Whole seconds from the beginning, rounded down; 0 if there is no position.
    position_seconds: i64,
    /// Time of the report (ISO 8601, UTC); null if there is no position.
    last_watched_at: Option<String>,
}

/// Film that was stopped.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "success": true, "message": "Stream stopped successfully" }))]
struct StreamStopped {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
}

/// User whom an operator means.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UserQuery {
    /// The user's id.
    user_id: String,
}

/// Start a film: returns the URL of its manifest.
#[utoipa::path(post, path = "/api/v1/stream/{movie_id}", tag = "films", security(("bearer" = [])),
    params(("movie_id" = String, Path, description = "The film", example = "dune")), request_body = StartStreamRequest,
    responses(
        (status = 200, description = "The film can be played", body = StartStreamResponse),
        (status = 400, description = "No JSON, another manifest type than hls and dash, or an id that cannot be"),
        (status = 401, description = "No valid token"), (status = 403, description = "No active subscription"),
        (status = 404, description = "Manifest not found"), (status = 413, description = "A body over 4 KiB"),
        (status = 415, description = "Not application/json"),
        (status = 429, description = "Too many films were started; see Retry-After"),
        (status = 503, description = "The service of subscriptions, the store or the sessions do not answer; see Retry-After")))]
async fn start(
    State(films): State<FilmService>,
    user: User,
    caller: Option<Extension<RequestInfo>>,
    Path(movie): Path<String>,
    headers: HeaderMap,
    Json(body): Json<StartStreamRequest>,
) -> Result<Response, Error> {
    let movie = movie_id(&movie)?;
    let (manifest, manifest_type) = manifest_type(&body.manifest_type)?;
    let caller = caller.map(|Extension(caller)| caller);
    let device = device(&headers, caller.as_ref());
    let started = films.start_film(user.id(), &movie, manifest, &device).await.map_err(start_error)?;
    let base = caller.map(|caller| caller.base_url).unwrap_or_default();
    let carrier = body.grant.unwrap_or_default();
    let path = match carrier {
        GrantCarrier::Path => &started.manifest_path,
        GrantCarrier::Cookie | GrantCarrier::Header => &started.bare_path,
    };
    let cookie = matches!(carrier, GrantCarrier::Cookie)
        .then(|| [(header::SET_COOKIE, set_cookie(&started.token, &movie, started.token_lifetime))]);
    let answer = StartStreamResponse {
        manifest_url: format!("{base}{path}"),
        expires_in: started.expires_in.as_secs(),
        manifest_type,
        grant: matches!(carrier, GrantCarrier::Header).then_some(started.token),
        // What has nothing beyond the document is answered as the document has it.
        session_id: body.grant.map(|_| started.session.to_string()),
    };
    // The URL is a credential, so no cache may keep it.
    Ok(([(header::CACHE_CONTROL, "no-store")], cookie.map(AppendHeaders), Json(answer)).into_response())
}

/// Save the user's position in a film.
#[utoipa::path(post, path = "/api/v1/stream/{movie_id}/progress", tag = "films", security(("bearer" = [])),
    params(("movie_id" = String, Path, description = "The film", example = "dune")), request_body = WatchProgressRequest,
    responses(
        (status = 200, description = "Kept, or older than what is kept already", body = ProgressUpdated),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 413, description = "A body over 4 KiB"), (status = 415, description = "Neither application/json nor text/plain"),
        (status = 422, description = "A position below 0 or beyond a day"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn save_progress(
    State(films): State<FilmService>,
    user: User,
    caller: Option<Extension<RequestInfo>>,
    Path(movie): Path<String>,
    headers: HeaderMap,
    BeaconJson(body): BeaconJson<WatchProgressRequest>,
) -> Result<Json<ProgressUpdated>, Error> {
    let (movie, report) = (movie_id(&movie)?, watch_report(&body)?);
    let device = device(&headers, caller.as_ref().map(|Extension(caller)| caller));
    films.report(user.id(), &movie, report, &device).await.map_err(progress_error)?;
    let position_seconds = body.position_seconds;
    Ok(Json(ProgressUpdated { success: true, position_seconds, message: "Progress updated successfully" }))
}

/// Return the user's position in a film.
#[utoipa::path(get, path = "/api/v1/stream/{movie_id}/progress", tag = "films", security(("bearer" = [])),
    params(("movie_id" = String, Path, description = "The film", example = "dune")),
    responses(
        (status = 200, description = "The position", body = WatchProgressResponse),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn read_progress(
    State(films): State<FilmService>,
    user: User,
    Path(movie): Path<String>,
) -> Result<Json<WatchProgressResponse>, Error> {
    let movie = movie_id(&movie)?;
    let known = films.position(user.id(), &movie).await.map_err(progress_error)?;
    Ok(Json(WatchProgressResponse {
        user_id: user.id().as_str().to_owned(),
        movie_id: movie.as_str().to_owned(),
        position_seconds: known.map_or(0, |known| known.position.div_euclid(1000)),
        last_watched_at: known.map(|known| seconds_text(known.last_watched_at)),
    }))
}

/// Stop a film: saves the position and ends the session.
#[utoipa::path(post, path = "/api/v1/stream/{movie_id}/stop", tag = "films", security(("bearer" = [])),
    params(("movie_id" = String, Path, description = "The film", example = "dune")), request_body = WatchProgressRequest,
    responses(
        (status = 200, description = "Stopped, or there was nothing to stop", body = StreamStopped),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 413, description = "A body over 4 KiB"), (status = 415, description = "Neither application/json nor text/plain"),
        (status = 422, description = "A position below 0 or beyond a day"),
        (status = 503, description = "Not kept, or the session has not ended: send it again after Retry-After")))]
async fn stop(
    State(films): State<FilmService>,
    user: User,
    Path(movie): Path<String>,
    BeaconJson(body): BeaconJson<WatchProgressRequest>,
) -> Result<Json<StreamStopped>, Error> {
    let (movie, report) = (movie_id(&movie)?, watch_report(&body)?);
    films.stop(user.id(), &movie, report).await.map_err(|error: StopError| Error::unavailable(error.to_string()))?;
    Ok(Json(StreamStopped { success: true, message: "Stream stopped successfully" }))
}

/// Forget whether a user has a subscription: the next start asks the service.
#[utoipa::path(delete, path = "/api/v1/admin/subscriptions", tag = "films", security(("bearer" = [])), params(UserQuery),
    responses(
        (status = 204, description = "Forgotten"), (status = 400, description = "The id cannot be one"),
        (status = 401, description = "No valid token"), (status = 403, description = "The token's role is not admin"),
        (status = 503, description = "The shared state is away: nothing is forgotten")))]
async fn purge_subscription(
    _: AdminUser,
    State(films): State<FilmService>,
    Query(which): Query<UserQuery>,
) -> Result<StatusCode, Error> {
    let user = id::parse_user("user_id", &which.user_id)?;
    match films.purge_subscription(&user).await {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Error::unavailable("subscriptions cannot be forgotten at the moment")),
    }
}

/// End all sessions of a user: what plays stops within seconds.
#[utoipa::path(delete, path = "/api/v1/admin/stream-sessions", tag = "films", security(("bearer" = [])), params(UserQuery),
    responses(
        (status = 204, description = "Ended, or there was none"), (status = 400, description = "The id cannot be one"),
        (status = 401, description = "No valid token"), (status = 403, description = "The token's role is not admin"),
        (status = 503, description = "The shared state is away: perhaps not all are ended, so repeat the request")))]
async fn end_sessions(
    _: AdminUser,
    State(films): State<FilmService>,
    Query(which): Query<UserQuery>,
) -> Result<StatusCode, Error> {
    let user = id::parse_user("user_id", &which.user_id)?;
    films.revoke(&user).await.map_err(|error| Error::unavailable(error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

fn manifest_type(text: &str) -> Result<(ManifestType, &'static str), Error> {
    match text {
        "hls" => Ok((ManifestType::Hls, "hls")),
        "dash" => Ok((ManifestType::Dash, "dash")),
        _ => Err(Error::bad_request("`manifest_type` must be `hls` or `dash`")),
    }
}

fn watch_report(body: &WatchProgressRequest) -> Result<WatchReport, Error> {
    let seconds = body.position_seconds;
    if !(0..=MAX_POSITION_SECONDS).contains(&seconds) {
        let expected = format!("position_seconds is {seconds}; expected 0 to {MAX_POSITION_SECONDS}");
        return Err(Error::unprocessable(expected));
    }
    if let Some(seconds) = body.duration_seconds.filter(|seconds| !(1..=MAX_POSITION_SECONDS).contains(seconds)) {
        let expected = format!("duration_seconds is {seconds}; expected 1 to {MAX_POSITION_SECONDS}");
        return Err(Error::unprocessable(expected));
    }
    let at = body.timestamp.map(TimestampInput::since_1970).transpose()?;
    let session = match &body.session_id {
        Some(id) => Some(SessionId::parse(id).ok_or_else(|| Error::unprocessable("session_id is no id of a session"))?),
        None => None,
    };
    let duration = body.duration_seconds.map(|seconds| seconds * 1000);
    Ok(WatchReport { position: seconds * 1000, duration, at, is_last: false, session })
}

/// Reads seconds: a whole number, or one with a fraction, which is dropped; media elements count in floating seconds.
fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    // Down, so that what is a little below zero is not zero; the conversion saturates.
    f64::deserialize(deserializer).map(|seconds| seconds.floor() as i64)
}

/// Reads seconds that may be null, as [`whole_seconds`].
fn optional_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|seconds| seconds.floor() as i64))
}

fn device(headers: &HeaderMap, caller: Option<&RequestInfo>) -> ViewerDevice {
    let user_agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    ViewerDevice::new(user_agent, caller.and_then(|caller| caller.client_address))
}

fn start_error(error: StartError) -> Error {
    let text = error.to_string();
    match error {
        StartError::NoSubscription => Error::forbidden(text),
        StartError::ManifestNotFound => Error::not_found(text),
        StartError::TooMany(LimitRejection { limit, status }) => Error::exceeded(limit.into(), status.reset),
        StartError::SubscriptionUnavailable | StartError::StoreUnavailable | StartError::Sessions(_) => {
            Error::unavailable(text)
        }
    }
}

fn progress_error(error: ProgressUnavailable) -> Error {
    Error::unavailable(error.to_string())
}
