//! Paths of channels.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::bodies::{
    ChannelListView, ChannelView, HistoryView, ListenResponse, PlayedItemView, QueueItemRequest, QueueItemView,
    QueuedItemResponse,
};
use crate::feed::stream;
use crate::player::output::ProgramListener;
use crate::queue::estimate::EstimatedItem;
use crate::service::{ChannelService, TICKET_TTL, TrackRequest};
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{Json, Path, Query};
use server_kit::api::pagination::{Page, PageLimits, PageQuery, decode_cursor};
use server_kit::api::user::{TokenUntil, User};

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 4096;
/// `Retry-After` of a user who has queued as much as one may: a song is played meanwhile.
pub const USER_RETRY: Duration = Duration::from_secs(60);
/// `Retry-After` of a user who follows too many queues.
pub const STREAM_RETRY: Duration = Duration::from_secs(10);
/// Pages of a queue.
const PAGES: PageLimits = PageLimits { default_limit: 50, max_limit: 100 };

/// Returns the paths of queues.
pub fn routes(channels: ChannelService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(add_item, list_items))
        .routes(routes!(delete_item))
        .routes(routes!(events))
        .routes(routes!(list_channels))
        .routes(routes!(get_channel))
        .routes(routes!(history))
        .routes(routes!(listen))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(channels)
}

/// Head of the request, by which the right to a track is decided.
struct RequestHead(Parts);

impl<S: Send + Sync> FromRequestParts<S> for RequestHead {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(parts.clone()))
    }
}

/// Queue a track on a channel. VIPs and admins have a head start; whoever waits for longer than that goes before them.
#[utoipa::path(post, path = "/api/v1/queue/{channel}/items", tag = "queue", security(("bearer" = [])),
    params(("channel" = String, Path, description = "The channel")), request_body = QueueItemRequest, responses(
        (status = 201, description = "It waits", body = QueuedItemResponse),
        (status = 400, description = "No JSON, not of this form, or an id that cannot be"),
        (status = 401, description = "No valid token"), (status = 403, description = "The caller may not have the track"),
        (status = 404, description = "No such channel or track"),
        (status = 409, description = "The track is in the queue already, or the queue is full"),
        (status = 410, description = "The track was deleted"), (status = 422, description = "A length out of range"),
        (status = 429, description = "The caller has as much in the queue as may be; see Retry-After"),
        (status = 503, description = "Not queued: send it again after Retry-After")))]
async fn add_item(
    State(channels): State<ChannelService>,
    user: User,
    head: RequestHead,
    Path(channel): Path<String>,
    Json(body): Json<QueueItemRequest>,
) -> Result<(StatusCode, Json<QueuedItemResponse>), ApiError> {
    let channel = channels.channel(&channel)?;
    let request = body.request()?;
    let host = channels.tracks().check(&request.track, &head.0, &user).await?;
    let queued = channels.add(&channel, TrackRequest { host, ..request }, &user).await?;
    Ok((StatusCode::CREATED, Json(QueuedItemResponse::new(queued))))
}

/// List the queue of a channel: what is played first, then what waits, in its order.
#[utoipa::path(get, path = "/api/v1/queue/{channel}/items", tag = "queue", security(("bearer" = [])),
    params(("channel" = String, Path, description = "The channel"), PageQuery), responses(
        (status = 200, description = "A page", body = Page<QueueItemView>),
        (status = 400, description = "A cursor or a parameter that is none"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such channel"),
        (status = 422, description = "A limit out of range"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn list_items(
    State(channels): State<ChannelService>,
    user: User,
    Path(channel): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<QueueItemView>>, ApiError> {
    let channel = channels.channel(&channel)?;
    let limit = PAGES.limit(query.limit)?;
    let after = decode_cursor(query.cursor.as_deref(), |text| parse_place(&text))?;
    let items = channels.list(&channel).await?.into_iter();
    let found: Vec<EstimatedItem> =
        items.filter(|item| after.is_none_or(|after| place(item) > after)).take(usize::from(limit) + 1).collect();
    let page = Page::from_lookahead(found, limit, |item| {
        let (waits, at, id) = place(item);
        format!("{} {at} {id}", u8::from(waits))
    });
    Ok(Json(page.map(|item| QueueItemView::new(item, &user))))
}

/// Take an item out of a queue: one's own, or as an admin any. One that is played is skipped.
#[utoipa::path(delete, path = "/api/v1/queue/{channel}/items/{id}", tag = "queue", security(("bearer" = [])),
    params(("channel" = String, Path, description = "The channel"), ("id" = String, Path, description = "The item")),
    responses((status = 204, description = "It is out"), (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"),
        (status = 403, description = "The item is another user's, and the caller no admin"),
        (status = 404, description = "No such channel, or no such item in its queue"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn delete_item(
    State(channels): State<ChannelService>,
    user: User,
    Path((channel, id)): Path<(String, Uuid)>,
) -> Result<StatusCode, ApiError> {
    let channel = channels.channel(&channel)?;
    channels.remove(&channel, id, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follow the queue of a channel: `queue` at first and after each change, `end` with a reason where the server ends the stream.
#[utoipa::path(get, path = "/api/v1/queue/{channel}/events", tag = "queue", security(("bearer" = [])),
    params(("channel" = String, Path, description = "The channel")), responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = 401, description = "No valid token"), (status = 404, description = "No such channel"),
        (status = 429, description = "The caller has too many open streams; see Retry-After"),
        (status = 503, description = "Not possible at the moment; see Retry-After")))]
async fn events(
    State(channels): State<ChannelService>,
    user: User,
    TokenUntil(token_until): TokenUntil,
    Path(channel): Path<String>,
) -> Result<Response, ApiError> {
    let channel = channels.channel(&channel)?;
    Ok(stream::respond(channels, channel, user, token_until).await?)
}

/// List the channels, and what is heard on each.
#[utoipa::path(get, path = "/api/v1/channels", tag = "queue", security(("bearer" = [])), responses(
    (status = 200, description = "The channels", body = ChannelListView), (status = 401, description = "No valid token"),
    (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn list_channels(State(channels): State<ChannelService>, _: User) -> Result<Json<ChannelListView>, ApiError> {
    let mut items = Vec::with_capacity(channels.channels().len());
    for channel in channels.channels() {
        items.push(ChannelView::new(channel, channels.station(channel).await?));
    }
    Ok(Json(ChannelListView { items }))
}

/// Return what is heard on a channel.
#[utoipa::path(get, path = "/api/v1/channels/{channel}", tag = "queue", security(("bearer" = [])),
    params(("channel" = String, Path, description = "The channel")), responses(
        (status = 200, description = "The channel", body = ChannelView), (status = 401, description = "No valid token"),
        (status = 404, description = "No such channel"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn get_channel(
    State(channels): State<ChannelService>,
    _: User,
    Path(channel): Path<String>,
) -> Result<Json<ChannelView>, ApiError> {
    let channel = channels.channel(&channel)?;
    let station = channels.station(&channel).await?;
    Ok(Json(ChannelView::new(&channel, station)))
}

/// Return what was played on a channel, and what could not be.
#[utoipa::path(get, path = "/api/v1/channels/{channel}/history", tag = "queue", security(("bearer" = [])),
    params(("channel" = String, Path, description = "The channel")), responses(
        (status = 200, description = "The history", body = HistoryView), (status = 401, description = "No valid token"),
        (status = 404, description = "No such channel"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn history(
    State(channels): State<ChannelService>,
    user: User,
    Path(channel): Path<String>,
) -> Result<Json<HistoryView>, ApiError> {
    let channel = channels.channel(&channel)?;
    let items = channels.history(&channel).await?.into_iter();
    let items = items.map(|played| PlayedItemView::new(played, &user)).collect();
    Ok(Json(HistoryView { items }))
}

/// Return where a channel is heard: a page, and a stream for players, each with a ticket.
#[utoipa::path(post, path = "/api/v1/channels/{channel}/listen", tag = "queue", security(("bearer" = [])),
    params(("channel" = String, Path, description = "The channel")), responses(
        (status = 200, description = "The addresses", body = ListenResponse),
        (status = 401, description = "No valid token"), (status = 404, description = "No such channel"),
        (status = 409, description = "Nothing is played on the channel at the moment"),
        (status = 503, description = "Cannot be told at the moment; see Retry-After")))]
async fn listen(
    State(channels): State<ChannelService>,
    user: User,
    TokenUntil(token_until): TokenUntil,
    Path(channel): Path<String>,
) -> Result<Json<ListenResponse>, ApiError> {
    let channel = channels.channel(&channel)?;
    let (session, ticket) = channels.listen(&channel, ProgramListener { user: user.id(), token_until }).await?;
    Ok(Json(ListenResponse::new(session, ticket, TICKET_TTL)))
}

/// Returns the place of an item in the list: false, when and which for one that is played; true, its turn and which for one that
/// waits.
fn place(item: &EstimatedItem) -> (bool, i64, Uuid) {
    let item = &item.item;
    let at = item.claimed_at.unwrap_or(item.item.turn_at);
    (item.claimed_at.is_none(), UnixMillis::as_millis(at), item.item.id)
}

fn parse_place(text: &str) -> Option<(bool, i64, Uuid)> {
    let mut parts = text.splitn(3, ' ');
    let waits = match parts.next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some((waits, parts.next()?.parse().ok()?, Uuid::parse_str(parts.next()?).ok()?))
}
