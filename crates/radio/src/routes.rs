//! Paths of radio.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::Components;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::bodies::{ListQuery, PlayRequest, PlayResponse, StationCaller, StationRequest, StationView};
use super::directory::{DirectoryEntry, DirectorySearch};
use super::service::RadioService;
use super::tickets::Ticket;
use super::{Error, live_stream, now_stream};
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{Json, Path, Query};
use server_kit::api::pagination::{Page, PageLimits, decode_cursor};
use server_kit::api::user::{AdminUser, TokenUntil, User};

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 8192;
/// `Retry-After` of a user who has too many open streams.
pub const LISTENER_RETRY: Duration = Duration::from_secs(10);
/// Pages of the list.
const PAGES: PageLimits = PageLimits { default_limit: 50, max_limit: 100 };
/// Pages of the directory.
const DIRECTORY_PAGES: PageLimits = PageLimits { default_limit: 20, max_limit: 100 };
/// Last entry of the directory that is shown.
const MAX_OFFSET: u32 = 10_000;

/// Returns the paths that change the list.
pub fn admin_routes(radio: RadioService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(add_station))
        .routes(routes!(update_station, delete_station))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(radio)
}

/// Returns the paths that read the list and the directory, and that of playing.
pub fn routes(radio: RadioService) -> OpenApiRouter {
    let has_directory = radio.0.directory.is_some();
    let paths = OpenApiRouter::new().routes(routes!(list_stations)).routes(routes!(get_station)).routes(routes!(play));
    let paths = if has_directory { paths.routes(routes!(search_directory)) } else { paths };
    paths.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(radio)
}

/// Returns the paths of sound and titles, which a ticket opens too.
pub fn stream_routes(radio: RadioService) -> OpenApiRouter {
    let mut router = OpenApiRouter::new().routes(routes!(live)).routes(routes!(now)).with_state(radio);
    let components = router.get_openapi_mut().components.get_or_insert_with(Components::default);
    let ticket = SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("ticket")));
    components.add_security_scheme("radio_ticket", ticket);
    router
}

/// Add a station. The server connects to it: there must be sound.
#[utoipa::path(post, path = "/api/v1/radio/streams", tag = "radio", security(("bearer" = [])),
    request_body = StationRequest, responses(
        (status = 201, description = "The station", body = StationView),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 403, description = "Not an administrator's token"),
        (status = 409, description = "It is listed already, or the list is full"),
        (status = 422, description = "A text or an address that cannot be taken, or no sound there"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn add_station(
    State(radio): State<RadioService>,
    AdminUser(user): AdminUser,
    Json(body): Json<StationRequest>,
) -> Result<(StatusCode, Json<StationView>), ApiError> {
    let station = radio.add(body.station()?, user.id()).await?;
    Ok((StatusCode::CREATED, Json(StationView::new(station, &radio, user.is_admin()))))
}

/// Change a station. Under another address the server connects to it, and the streams of its listeners end.
#[utoipa::path(put, path = "/api/v1/radio/streams/{id}", tag = "radio", security(("bearer" = [])),
    params(("id" = String, Path, description = "The station")), request_body = StationRequest, responses(
        (status = 200, description = "The station", body = StationView),
        (status = 400, description = "No JSON or not of this form, or an id that cannot be"),
        (status = 401, description = "No valid token"), (status = 403, description = "Not an administrator's token"),
        (status = 404, description = "No such station"), (status = 409, description = "The address is listed already"),
        (status = 422, description = "A text or an address that cannot be taken, or no sound there"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn update_station(
    State(radio): State<RadioService>,
    AdminUser(user): AdminUser,
    Path(id): Path<Uuid>,
    Json(body): Json<StationRequest>,
) -> Result<Json<StationView>, ApiError> {
    let station = radio.update(id, body.station()?).await?;
    Ok(Json(StationView::new(station, &radio, user.is_admin())))
}

/// Delete a station. The streams of its listeners end.
#[utoipa::path(delete, path = "/api/v1/radio/streams/{id}", tag = "radio", security(("bearer" = [])),
    params(("id" = String, Path, description = "The station")), responses(
        (status = 204, description = "It is deleted"), (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"), (status = 403, description = "Not an administrator's token"),
        (status = 404, description = "No such station"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn delete_station(
    State(radio): State<RadioService>,
    _: AdminUser,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ApiError> {
    radio.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List stations in the order in which they were added.
#[utoipa::path(get, path = "/api/v1/radio/streams", tag = "radio", security(("bearer" = [])), params(ListQuery),
    responses((status = 200, description = "A page", body = Page<StationView>),
        (status = 400, description = "A cursor or a parameter that is none"),
        (status = 401, description = "No valid token"), (status = 422, description = "A limit out of range"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn list_stations(
    State(radio): State<RadioService>,
    user: User,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<StationView>>, ApiError> {
    let limit = PAGES.limit(query.limit)?;
    let after = decode_cursor(query.cursor.as_deref(), |text| Uuid::parse_str(&text).ok())?;
    let found = radio.list(&query.filter()?, after, u32::from(limit) + 1).await?;
    let page = Page::from_lookahead(found, limit, |station| station.id.to_string());
    Ok(Json(page.map(|station| StationView::new(station, &radio, user.is_admin()))))
}

/// Return a station.
#[utoipa::path(get, path = "/api/v1/radio/streams/{id}", tag = "radio", security(("bearer" = [])),
    params(("id" = String, Path, description = "The station")), responses(
        (status = 200, description = "The station", body = StationView),
        (status = 400, description = "An id that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such station"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn get_station(
    State(radio): State<RadioService>,
    user: User,
    Path(id): Path<Uuid>,
) -> Result<Json<StationView>, ApiError> {
    let station = radio.station(id).await?;
    Ok(Json(StationView::new(station, &radio, user.is_admin())))
}

/// Begin a station: the server connects to it and waits for sound; the answer has the addresses of sound and titles.
#[utoipa::path(post, path = "/api/v1/radio/play", tag = "radio", security(("bearer" = [])), request_body = PlayRequest,
    responses((status = 200, description = "Where it is heard", body = PlayResponse),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such station, or the user's players have no such channel"),
        (status = 422, description = "An address that cannot be"),
        (status = 429, description = "The user has too many open streams"),
        (status = 503, description = "The station does not answer, or there is no room; see Retry-After")))]
async fn play(
    State(radio): State<RadioService>,
    user: User,
    TokenUntil(token_until): TokenUntil,
    Json(body): Json<PlayRequest>,
) -> Result<Json<PlayResponse>, ApiError> {
    // A connection to a station is counted as a listener while it is waited for.
    let _permit = radio.admit(user.id())?;
    let players = match body.is_for_players() {
        true => Some(radio.0.players.clone().ok_or(Error::NoPlayers)?),
        false => None,
    };
    let (station, channel) = body.station(&radio).await?;
    let caller = StationCaller { user: user.id(), token_until, is_admin: user.is_admin() };
    let begun = PlayResponse::begin(&radio, &caller, station, channel).await?;
    if let Some(players) = players {
        players(user.id().clone(), begun.clone()).await?;
    }
    Ok(Json(begun))
}

/// Search the directory of stations.
#[utoipa::path(get, path = "/api/v1/radio/directory", tag = "radio", security(("bearer" = [])),
    params(DirectoryQuery), responses(
        (status = 200, description = "A page", body = Page<DirectoryEntry>),
        (status = 400, description = "A cursor or a parameter that is none"),
        (status = 401, description = "No valid token"), (status = 403, description = "Not an administrator's token"),
        (status = 422, description = "A limit out of range"),
        (status = 503, description = "The directory does not answer; see Retry-After")))]
async fn search_directory(
    State(radio): State<RadioService>,
    _: AdminUser,
    Query(query): Query<DirectoryQuery>,
) -> Result<Json<Page<DirectoryEntry>>, ApiError> {
    let limit = DIRECTORY_PAGES.limit(query.limit)?;
    let read = |text: String| text.parse().ok().filter(|offset| *offset <= MAX_OFFSET);
    let offset = decode_cursor(query.cursor.as_deref(), read)?.unwrap_or(0);
    let DirectoryQuery { name, genre, country, .. } = query;
    let list = ListQuery { genre, country, q: name, limit: None, cursor: None }.filter()?;
    let search = DirectorySearch {
        name: list.name_part,
        genre: list.genre,
        country: list.country,
        offset,
        limit: u32::from(limit),
    };
    let directory = radio.0.directory.as_ref().ok_or(Error::NoDirectory)?;
    let found = directory.search(&search).await;
    let metrics = &radio.0.metrics;
    if found.is_ok() {
        metrics.searches.inc()
    } else {
        metrics.search_failures.inc()
    }
    let (items, more) = found?;
    let next = offset + u32::from(limit);
    Ok(Json(Page::new(items, (more && next <= MAX_OFFSET).then(|| next.to_string()))))
}

/// Filters and page of a search.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DirectoryQuery {
    /// Piece of the name.
    name: Option<String>,
    /// Genre: one of the directory's tags.
    genre: Option<String>,
    /// Country: its code of two letters, or its name.
    country: Option<String>,
    /// Entries of a page, 1 to 100. Default: 20.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Hear a station: endless, the last seconds first, so that it plays at once.
#[utoipa::path(get, path = "/api/v1/radio/{id}/live", tag = "radio", security(("bearer" = []), ("radio_ticket" = [])),
    params(("id" = String, Path, description = "The station"),
        ("ticket" = Option<String>, Query, description = "A ticket, in the place of a token")),
    responses((status = 200, description = "The sound", content_type = "audio/mpeg", body = Vec<u8>),
        (status = 400, description = "An id that cannot be"),
        (status = 401, description = "Neither a valid token nor a valid ticket of this station"),
        (status = 404, description = "No such station"), (status = 429, description = "The user has too many open streams"),
        (status = 503, description = "The station does not answer, or there is no room; see Retry-After")))]
async fn live(
    State(radio): State<RadioService>,
    Path(id): Path<Uuid>,
    method: Method,
    visitor: StreamVisitor,
) -> Result<Response, ApiError> {
    let permit = radio.admit(&visitor.0.user)?;
    let station = radio.station(id).await?;
    if method == Method::HEAD {
        return Ok(live_stream::sound_headers(&station, radio.codec(&station)).into_response());
    }
    let listener = radio.listen(&station, &visitor.0.user).await?;
    Ok(live_stream::respond(radio, &station, listener, permit, visitor.0))
}

/// Follow the titles of a station, and its state: `station` and `history` at first, then `title` and `station`; `end` with
/// a reason where the server ends the stream.
#[utoipa::path(get, path = "/api/v1/radio/{id}/now", tag = "radio", security(("bearer" = []), ("radio_ticket" = [])),
    params(("id" = String, Path, description = "The station"),
        ("ticket" = Option<String>, Query, description = "A ticket, in the place of a token")),
    responses((status = 200, description = "The events", content_type = "text/event-stream", body = String),
        (status = 400, description = "An id that cannot be"),
        (status = 401, description = "Neither a valid token nor a valid ticket of this station"),
        (status = 404, description = "No such station"), (status = 429, description = "The user has too many open streams"),
        (status = 503, description = "There is no room; see Retry-After")))]
async fn now(
    State(radio): State<RadioService>,
    Path(id): Path<Uuid>,
    visitor: StreamVisitor,
) -> Result<Response, ApiError> {
    let permit = radio.admit(&visitor.0.user)?;
    radio.station(id).await?;
    let board = radio.board(id);
    Ok(now_stream::respond(radio, board, permit, visitor.0))
}

/// Listener of a station, by a ticket for it or by a token.
struct StreamVisitor(Ticket);

#[derive(Deserialize)]
struct TicketQuery {
    ticket: Option<String>,
}

impl FromRequestParts<RadioService> for StreamVisitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, radio: &RadioService) -> Result<Self, ApiError> {
        let Query(TicketQuery { ticket }) = Query::from_request_parts(parts, radio).await?;
        let Some(ticket) = ticket else {
            let user = User::from_request_parts(parts, radio).await?;
            let TokenUntil(until) = TokenUntil::from_request_parts(parts, radio).await?;
            return Ok(Self(radio.visit(user.id(), until).await?));
        };
        let Path(id) = Path::<Uuid>::from_request_parts(parts, radio).await?;
        let refused = || ApiError::unauthorized("the ticket is none of this station, or its time is over");
        let ticket = radio.0.tickets.verify(id, &ticket).ok_or_else(refused)?;
        if let Some(revocations) = &radio.0.revocations {
            // One without a generation was issued before there were logouts, and none could end it.
            let generation = ticket.generation.ok_or_else(refused)?;
            if revocations.is_revoked(ticket.user.as_str(), generation).await {
                return Err(refused());
            }
        }
        Ok(Self(ticket))
    }
}
