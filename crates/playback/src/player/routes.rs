//! Paths of players.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::bodies::{
    ChannelQuery, EqualizerRequest, PitchRequest, ReportRequest, RewindRequest, SeekRequest, SettingsQuery,
    SpeedChange, SpeedRequest, channel_id, player_key,
};
use super::metrics::ChangeKind;
use super::service::PlayerService;
use super::view::{PlayerView, SettingsView};
use super::{Error, event_stream};
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::{BeaconJson, Json, OptionalJson, Query};
use server_kit::api::id;
use server_kit::api::user::{TokenUntil, User};

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 8192;
/// `Retry-After` of a user who has too many open streams.
const LISTENER_RETRY: Duration = Duration::from_secs(10);

/// Returns the paths of settings, commands, the position and the events.
pub fn routes(players: PlayerService) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(set_speed))
        .routes(routes!(set_pitch))
        .routes(routes!(set_equalizer))
        .routes(routes!(seek))
        .routes(routes!(rewind))
        .routes(routes!(position))
        .routes(routes!(settings))
        .routes(routes!(events))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(players)
}

/// Returns the path of reports, which players send far more often.
pub fn report_routes(players: PlayerService) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(report)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(players)
}

/// Position of a player that was told to go there, and the settings of its channel.
#[derive(Serialize, ToSchema)]
struct SeekResponse {
    /// The settings.
    #[serde(flatten)]
    settings: SettingsView,
    /// Milliseconds from the beginning.
    position_ms: i64,
}

/// Live player of a channel.
#[derive(Serialize, ToSchema)]
struct PositionResponse {
    /// The player.
    #[serde(flatten)]
    player: PlayerView,
    /// Change of pitch in semitones.
    semitones: i64,
}

/// Outcome of a report.
#[derive(Serialize, ToSchema)]
struct ReportResponse {
    /// False: the report was late, or its player was replaced by another one.
    applied: bool,
    /// The player as it is now.
    #[serde(flatten)]
    player: PlayerView,
}

/// Set the speed of a channel and of what is played there; with `track_id`, the speed that is remembered for a track.
#[utoipa::path(put, path = "/api/v1/playback/speed", tag = "playback", security(("bearer" = [])), params(ChannelQuery),
    request_body = SpeedRequest, responses(
        (status = 200, description = "The settings of the channel", body = SettingsView),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 404, description = "The user has no such channel"),
        (status = 422, description = "A speed below 0.5 or above 2"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn set_speed(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<ChannelQuery>,
    Json(body): Json<SpeedRequest>,
) -> Result<Json<SettingsView>, ApiError> {
    let key = player_key(&user, query.channel_id.as_deref(), body.channel_id.as_ref())?;
    let view = match body.change()? {
        SpeedChange::Channel(speed) => players.set_speed(&key, speed).await?,
        SpeedChange::Track(track, speed) => players.set_track_speed(&key, &track, speed).await?,
    };
    Ok(Json(view))
}

/// Set the change of pitch.
#[utoipa::path(put, path = "/api/v1/playback/pitch", tag = "playback", security(("bearer" = [])), params(ChannelQuery),
    request_body = PitchRequest, responses(
        (status = 200, description = "The settings of the channel", body = SettingsView),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 404, description = "The user has no such channel"),
        (status = 422, description = "Not a whole number of semitones, or more than 12"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn set_pitch(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<ChannelQuery>,
    Json(body): Json<PitchRequest>,
) -> Result<Json<SettingsView>, ApiError> {
    let key = player_key(&user, query.channel_id.as_deref(), body.channel_id.as_ref())?;
    Ok(Json(players.change(&key, body.change()?, ChangeKind::Pitch).await?))
}

/// Set the equalizer, by the name of a preset or by its ten bands.
#[utoipa::path(put, path = "/api/v1/playback/equalizer", tag = "playback", security(("bearer" = [])),
    params(ChannelQuery), request_body = EqualizerRequest, responses(
        (status = 200, description = "The settings of the channel", body = SettingsView),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 404, description = "The user has no such channel"),
        (status = 422, description = "No such preset, not ten bands, or a gain of more than 12 dB"),
        (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn set_equalizer(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<ChannelQuery>,
    Json(body): Json<EqualizerRequest>,
) -> Result<Json<SettingsView>, ApiError> {
    let key = player_key(&user, query.channel_id.as_deref(), body.channel_id.as_ref())?;
    Ok(Json(players.change(&key, body.change()?, ChangeKind::Equalizer).await?))
}

/// Go to another position in what is played.
#[utoipa::path(post, path = "/api/v1/playback/seek", tag = "playback", security(("bearer" = [])), params(ChannelQuery),
    request_body = SeekRequest, responses(
        (status = 200, description = "The settings of the channel, and the position", body = SeekResponse),
        (status = 400, description = "No JSON, or neither milliseconds nor MM:SS"),
        (status = 401, description = "No valid token"), (status = 404, description = "The user has no such channel"),
        (status = 409, description = "Nothing is played there"),
        (status = 422, description = "A position before the beginning or past the end"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn seek(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<ChannelQuery>,
    Json(body): Json<SeekRequest>,
) -> Result<Json<SeekResponse>, ApiError> {
    let key = player_key(&user, query.channel_id.as_deref(), body.channel_id.as_ref())?;
    let (settings, position_ms) = players.seek(&key, body.position()?).await?;
    Ok(Json(SeekResponse { settings, position_ms }))
}

/// Go back in what is played, by 30 seconds unless the body says otherwise.
#[utoipa::path(post, path = "/api/v1/playback/rewind", tag = "playback", security(("bearer" = [])),
    params(ChannelQuery), request_body = Option<RewindRequest>, responses(
        (status = 200, description = "The settings of the channel, and the position", body = SeekResponse),
        (status = 400, description = "Not of this form"), (status = 401, description = "No valid token"),
        (status = 404, description = "The user has no such channel"),
        (status = 409, description = "Nothing is played there"),
        (status = 422, description = "Not 1 to 86400 whole seconds"),
        (status = 503, description = "Not done: send it again after Retry-After")))]
async fn rewind(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<ChannelQuery>,
    OptionalJson(body): OptionalJson<RewindRequest>,
) -> Result<Json<SeekResponse>, ApiError> {
    let body = body.unwrap_or_default();
    let key = player_key(&user, query.channel_id.as_deref(), body.channel_id.as_ref())?;
    let (settings, position_ms) = players.rewind(&key, body.millis()?).await?;
    Ok(Json(SeekResponse { settings, position_ms }))
}

/// Return the live player of a channel: its position is where it is by now, not a bookmark.
#[utoipa::path(get, path = "/api/v1/playback/position", tag = "playback", security(("bearer" = [])),
    params(ChannelQuery), responses(
        (status = 200, description = "The player; its track is null if nothing was played", body = PositionResponse),
        (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "The user has no such channel"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn position(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<ChannelQuery>,
) -> Result<Json<PositionResponse>, ApiError> {
    let key = player_key(&user, query.channel_id.as_deref(), None)?;
    let (player, semitones) = players.position(&key).await?;
    Ok(Json(PositionResponse { player, semitones }))
}

/// Return the settings of a channel.
#[utoipa::path(get, path = "/api/v1/playback/settings", tag = "playback", security(("bearer" = [])),
    params(SettingsQuery), responses(
        (status = 200, description = "The settings", body = SettingsView),
        (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "The user has no such channel"),
        (status = 503, description = "Cannot be read at the moment; see Retry-After")))]
async fn settings(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<SettingsQuery>,
) -> Result<Json<SettingsView>, ApiError> {
    let key = player_key(&user, query.channel_id.as_deref(), None)?;
    let track = query.track_id.as_deref().map(|track| id::parse_track("track_id", track)).transpose()?;
    Ok(Json(players.settings(&key, track.as_ref()).await?))
}

/// Follow the settings and the players of a channel, or of all of the user's: `settings`, `player` and `seek`, at first
/// what holds now; `end` with a reason where the server ends the stream.
#[utoipa::path(get, path = "/api/v1/playback/events", tag = "playback", security(("bearer" = [])),
    params(("channel_id" = Option<String>, Query, description = "One of the user's channels. Default: all of them")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = 400, description = "An id that cannot be"),
        (status = 401, description = "No valid token"), (status = 404, description = "The user has no such channel"),
        (status = 429, description = "The user has too many open streams"),
        (status = 503, description = "Not possible at the moment; see Retry-After")))]
async fn events(
    State(players): State<PlayerService>,
    user: User,
    TokenUntil(token_until): TokenUntil,
    Query(query): Query<ChannelQuery>,
) -> Result<Response, ApiError> {
    let channel = query.channel_id.as_deref().map(channel_id).transpose()?;
    let (listener, snapshot) = players.listen(user.id(), channel).await?;
    Ok(event_stream::respond(players, listener, snapshot, token_until).await)
}

/// Report what a player does: at each change of its state, and again within the interval that the operator has set. A
/// player that is not heard of is closed.
#[utoipa::path(post, path = "/api/v1/playback/report", tag = "playback", security(("bearer" = [])),
    params(ChannelQuery), request_body = ReportRequest, responses(
        (status = 200, description = "The player as it is now", body = ReportResponse),
        (status = 400, description = "No JSON, or not of this form"), (status = 401, description = "No valid token"),
        (status = 404, description = "Stopped, in a channel that the user does not have"),
        (status = 413, description = "A body over 8 KiB"),
        (status = 415, description = "Neither application/json nor text/plain"),
        (status = 422, description = "A number out of range, or a title that is not plain text"),
        (status = 429, description = "The user's players begin too many tracks; see Retry-After"),
        (status = 503, description = "Not taken: send the next one after Retry-After")))]
async fn report(
    State(players): State<PlayerService>,
    user: User,
    Query(query): Query<ChannelQuery>,
    BeaconJson(body): BeaconJson<ReportRequest>,
) -> Result<Json<ReportResponse>, ApiError> {
    let key = player_key(&user, query.channel_id.as_deref(), body.channel_id.as_ref())?;
    let (applied, player) = players.report(&key, body.report()?).await?;
    Ok(Json(ReportResponse { applied, player }))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Unavailable | Error::Busy => Self::unavailable(detail),
            Error::NoSuchChannel => Self::not_found(detail),
            Error::NothingPlays => Self::conflict(detail),
            Error::PastEnd(_) => Self::unprocessable(detail),
            Error::TooManyItems(wait) => Self::too_many(detail, wait),
            Error::TooManyListeners(_) => Self::too_many(detail, LISTENER_RETRY),
        }
    }
}
