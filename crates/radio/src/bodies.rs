//! Bodies and queries of requests, and the views of answers.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::Error;
use super::relay::station_board::RelayState;
use super::service::RadioService;
use super::source::parse_station_url;
use super::station::{Station, StationFilter};
use super::station_changes::NewStation;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error as ApiError;
use server_kit::api::json_values::ChannelName;
use server_kit::api::plain_text;
use server_kit::api::timestamps::to_rfc3339;

/// Longest name of a station, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// Longest genre or country, in bytes.
const MAX_LABEL_BYTES: usize = 64;

/// Station that is to be added, or what a listed one is to become.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StationRequest {
    /// Its name, plain text of at most 128 bytes.
    name: String,
    /// Its address: a stream, or a PLS, M3U or HLS playlist that leads to one.
    url: String,
    /// Its genre, at most 64 bytes.
    genre: Option<String>,
    /// Its country, at most 64 bytes.
    country: Option<String>,
    /// A listed station of the same codec that is heard while this one is away.
    #[schema(value_type = Option<String>)]
    fallback_id: Option<Uuid>,
    /// Its id in the directory, which counts stations that are chosen.
    #[schema(value_type = Option<String>)]
    directory_id: Option<Uuid>,
}

/// What is to be played: one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlayRequest {
    /// Id of a listed station.
    #[schema(value_type = Option<String>)]
    stream_id: Option<Uuid>,
    /// Address of a listed station.
    url: Option<String>,
    /// One of the user's channels, which is told back. Default: `main`.
    channel_id: Option<ChannelName>,
    /// Has the user's players of the channel play it, too: for what plays nothing itself, such as a bot.
    #[serde(default)]
    to_players: bool,
}

/// Page and filters of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Genre, whatever the case.
    pub genre: Option<String>,
    /// Country, whatever the case.
    pub country: Option<String>,
    /// Piece of the name, whatever the case.
    pub q: Option<String>,
    /// Entries of a page, 1 to 100. Default: 50.
    pub limit: Option<u32>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
}

/// Station of the list.
#[derive(Clone, Serialize, ToSchema)]
pub struct StationView {
    #[schema(value_type = String)]
    id: Uuid,
    name: String,
    /// Its address, which may hold a key of the operator's: administrators alone are shown it.
    url: Option<String>,
    genre: Option<String>,
    country: Option<String>,
    /// `mp3`, `aac`, `opus`, `vorbis` or `flac`.
    codec: &'static str,
    bitrate_kbps: Option<u32>,
    content_type: &'static str,
    hls: bool,
    /// Name that the station gives itself.
    icy_name: Option<String>,
    #[schema(value_type = Option<String>)]
    fallback_id: Option<Uuid>,
    /// Listeners at this node.
    listeners: u64,
    /// State at this node.
    state: RelayState,
    /// Title that is played, where somebody listens.
    now_playing: Option<String>,
    created_at: String,
}

/// Addresses by which a station is heard.
#[derive(Clone, Serialize, ToSchema)]
pub struct PlayResponse {
    /// Id of the station.
    #[schema(value_type = String)]
    pub stream_id: Uuid,
    /// The channel of the request.
    pub channel_id: String,
    /// Address of the sound on this server, with a ticket.
    pub play_url: String,
    /// Address of the titles, likewise.
    pub now_url: String,
    /// When the ticket opens nothing any more; what is open goes on until the token ends.
    pub expires_at: String,
    /// The station.
    pub station: StationView,
}

/// Whom a station is begun for.
pub struct StationCaller<'a> {
    /// The user.
    pub user: &'a UserId,
    /// Time at which what is opened ends: that of the user's token, where there is one.
    pub token_until: UnixMillis,
    /// True where the station's address is shown.
    pub is_admin: bool,
}

impl PlayResponse {
    /// Connects to a station, waits for its sound, and makes the addresses by which a user hears it.
    pub(crate) async fn begin(
        radio: &RadioService,
        caller: &StationCaller<'_>,
        station: Station,
        channel_id: String,
    ) -> Result<Self, Error> {
        radio.play(&station).await?;
        let id = station.id;
        let (ticket, until) = radio.issue_ticket(id, caller.user, caller.token_until).await?;
        let url = |what: &str| format!("/api/v1/radio/{id}/{what}?ticket={ticket}");
        let until = i64::try_from(until).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        Ok(Self {
            stream_id: id,
            channel_id,
            play_url: url("live"),
            now_url: url("now"),
            expires_at: to_rfc3339(UnixMillis::new(until)),
            station: StationView::new(station, radio, caller.is_admin),
        })
    }
}

impl StationRequest {
    /// Checks the texts and the address.
    pub fn station(self) -> Result<NewStation, ApiError> {
        let name = plain_text::parse_line("name", &self.name, MAX_NAME_BYTES)?;
        let label = |name: &str, text: Option<String>| {
            text.map(|text| plain_text::parse_line(name, &text, MAX_LABEL_BYTES)).transpose()
        };
        let url = parse_station_url(&self.url).map_err(|error| ApiError::unprocessable(format!("`url`: {error}")))?;
        Ok(NewStation {
            name,
            url,
            genre: label("genre", self.genre)?,
            country: label("country", self.country)?,
            fallback: self.fallback_id,
            directory_id: self.directory_id,
        })
    }
}

impl PlayRequest {
    /// Returns true where the user's players are told.
    pub fn is_for_players(&self) -> bool {
        self.to_players
    }

    /// Returns the station that is meant, and the channel.
    pub async fn station(self, radio: &RadioService) -> Result<(Station, String), ApiError> {
        let channel = ChannelName::id_or_main(self.channel_id)?;
        let station = match (self.stream_id, self.url) {
            (Some(id), None) => radio.station(id).await?,
            (None, Some(url)) => {
                let url =
                    parse_station_url(&url).map_err(|error| ApiError::unprocessable(format!("`url`: {error}")))?;
                radio.station_by_url(&url).await?
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(ApiError::bad_request("send either `stream_id` or `url`"));
            }
        };
        Ok((station, channel))
    }
}

impl ListQuery {
    /// Returns the filter; no text in it is longer than one that can be listed.
    pub fn filter(&self) -> Result<StationFilter, ApiError> {
        let text = |name: &str, text: &Option<String>| match text {
            Some(text) if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) => {
                Err(ApiError::unprocessable(format!("`{name}` must have {MAX_NAME_BYTES} bytes at most, on one line")))
            }
            text => Ok(text.clone().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())),
        };
        Ok(StationFilter {
            genre: text("genre", &self.genre)?,
            country: text("country", &self.country)?,
            name_part: text("q", &self.q)?,
        })
    }
}

impl StationView {
    /// Returns the view of a station as it is at this node; its address only where `shows_url`.
    pub fn new(station: Station, radio: &RadioService, shows_url: bool) -> Self {
        let now = radio.known_board(station.id).map(|board| board.now());
        let (state, listeners, now_playing) = now.unwrap_or_default();
        Self {
            id: station.id,
            name: station.name,
            url: shows_url.then(|| station.url.into()),
            genre: station.genre,
            country: station.country,
            codec: station.codec.name(),
            bitrate_kbps: station.bitrate_kbps,
            content_type: station.codec.content_type(),
            hls: station.is_hls,
            icy_name: station.icy_name,
            fallback_id: station.fallback,
            listeners,
            state,
            now_playing,
            created_at: to_rfc3339(station.created_at),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Unavailable
            | Error::LogoutsUnavailable
            | Error::Busy
            | Error::StationAway
            | Error::DirectoryAway => Self::unavailable(detail),
            Error::NoSuchStation | Error::NoDirectory => Self::not_found(detail),
            Error::Duplicate | Error::TooManyStations(_) => Self::conflict(detail),
            Error::Refused(_) | Error::Invalid(_) | Error::NoPlayers => Self::unprocessable(detail),
            Error::TooManyListeners(_) => Self::too_many(detail, super::routes::LISTENER_RETRY),
        }
    }
}
