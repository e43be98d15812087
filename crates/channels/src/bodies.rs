//! Bodies and queries of requests, and the views of answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::channel::ChannelId;
use crate::player::station::{PlayOutcome, PlayedRecord, StationRecord};
use crate::queue::estimate::EstimatedItem;
use crate::queue::item::ItemSource;
use crate::service::{AddedItem, TrackRequest};
use server_kit::api::error::Error as ApiError;
use server_kit::api::id::parse_track;
use server_kit::api::timestamps::to_rfc3339;
use server_kit::api::user::User;

/// Longest track whose length can be said: a day.
const MAX_DURATION_MILLIS: i64 = 86_400_000;

/// Track that is to be queued.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueItemRequest {
    /// Id of the track, which the caller must be allowed to stream.
    track_id: String,
    /// Its length in milliseconds, 1 to 86400000, where the caller's player knows it; it makes estimates better.
    duration_ms: Option<i64>,
}

/// Item that was queued.
#[derive(Serialize, ToSchema)]
pub struct QueuedItemResponse {
    /// Id of the item.
    #[schema(value_type = String)]
    item_id: Uuid,
    /// Its place: 1 is next, 0 is played or made ready; null where it cannot be told at the moment.
    position: Option<u32>,
    /// Seconds until it begins, as far as it can be told: somebody may go before it.
    eta_seconds: Option<u64>,
}

/// Item of a queue.
#[derive(Serialize, ToSchema)]
pub struct QueueItemView {
    #[schema(value_type = String)]
    item_id: Uuid,
    track_id: String,
    state: ItemState,
    source: ItemOrigin,
    /// Its place: 1 is next, 0 is played or made ready.
    position: u32,
    /// Seconds until it begins, as far as it can be told.
    eta_seconds: u64,
    queued_at: String,
    /// True for the caller's own items.
    mine: bool,
    /// Who has queued it; only admins are told.
    user_id: Option<String>,
}

/// State of an item.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ItemState {
    /// It waits for its turn.
    Waiting,
    /// It is played, or made ready for it.
    Playing,
}

/// Origin of an item.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ItemOrigin {
    /// A user has queued it.
    Request,
    /// It is of the channel's playlist.
    Playlist,
}

impl QueueItemRequest {
    /// Checks the id and the length.
    pub fn request(self) -> Result<TrackRequest, ApiError> {
        let track = parse_track("track_id", &self.track_id)?;
        let duration = match self.duration_ms {
            None => None,
            Some(millis @ 1..=MAX_DURATION_MILLIS) => Some(Duration::from_millis(millis.unsigned_abs())),
            Some(_) => {
                return Err(ApiError::unprocessable(format!("`duration_ms` must be 1 to {MAX_DURATION_MILLIS}")));
            }
        };
        Ok(TrackRequest { track, duration, host: None })
    }
}

impl QueuedItemResponse {
    /// Returns the answer for an item.
    pub fn new(added: AddedItem) -> Self {
        let (position, eta) = added.place.unzip();
        Self { item_id: added.id, position, eta_seconds: eta.map(|eta| eta.as_secs()) }
    }
}

impl QueueItemView {
    /// Returns the view of an item for a user.
    pub fn new(queued: EstimatedItem, viewer: &User) -> Self {
        let EstimatedItem { item, position, eta } = queued;
        let state = if item.claimed_at.is_some() { ItemState::Playing } else { ItemState::Waiting };
        let item = item.item;
        let is_admin = viewer.is_admin();
        Self {
            item_id: item.id,
            track_id: item.track.as_str().to_owned(),
            state,
            source: match item.source {
                ItemSource::Request => ItemOrigin::Request,
                ItemSource::Playlist => ItemOrigin::Playlist,
            },
            position,
            eta_seconds: eta.as_secs(),
            queued_at: to_rfc3339(item.queued_at),
            mine: item.user == *viewer.id(),
            user_id: is_admin.then(|| item.user.as_str().to_owned()),
        }
    }
}

/// What a channel does now.
#[derive(Serialize, ToSchema)]
pub struct ChannelView {
    channel: String,
    /// True where a node plays it.
    playing: bool,
    /// Id of the session that is listened to; `listen` gives a ticket for it.
    session_id: Option<String>,
    /// What is heard.
    now: Option<HeardTrackView>,
}

/// Track that is heard.
#[derive(Serialize, ToSchema)]
pub struct HeardTrackView {
    #[schema(value_type = String)]
    item_id: Uuid,
    track_id: String,
    began_at: String,
    /// Length in milliseconds, where the file says it.
    duration_ms: Option<i64>,
}

/// All channels.
#[derive(Serialize, ToSchema)]
pub struct ChannelListView {
    /// The channels, in the order of the configuration.
    pub items: Vec<ChannelView>,
}

/// Item that is over.
#[derive(Serialize, ToSchema)]
pub struct PlayedItemView {
    #[schema(value_type = String)]
    item_id: Uuid,
    track_id: String,
    ended_at: String,
    /// `played`, `skipped` or `failed`.
    outcome: &'static str,
    /// Why it failed: `unreadable`, `unknown-format`, `damaged` or `too-long`.
    reason: Option<&'static str>,
    /// More about it; only admins are told.
    detail: Option<String>,
}

/// What was played.
#[derive(Serialize, ToSchema)]
pub struct HistoryView {
    /// The last hundred items, the latest first.
    pub items: Vec<PlayedItemView>,
}

/// Where a channel is heard.
#[derive(Serialize, ToSchema)]
pub struct ListenResponse {
    session_id: String,
    /// To be shown as the query's `ticket`; one listener may begin with it.
    ticket: String,
    /// Page that plays the channel.
    listen_url: String,
    /// Ogg/Opus without end, for players.
    stream_url: String,
    /// Seconds in which the ticket can be used; what is open by then goes on.
    expires_in: u64,
}

impl ChannelView {
    /// Returns the view of a channel.
    pub fn new(channel: &ChannelId, station: Option<StationRecord>) -> Self {
        let playing = station.is_some();
        let StationRecord { session, heard } = station.unwrap_or_default();
        let now = heard.map(|heard| HeardTrackView {
            item_id: heard.item,
            track_id: heard.track,
            began_at: to_rfc3339(heard.began_at),
            duration_ms: heard.length_ms,
        });
        Self { channel: channel.as_str().to_owned(), playing, session_id: session, now }
    }
}

impl PlayedItemView {
    /// Returns the view of an item that is over, for a user.
    pub fn new(played: PlayedRecord, viewer: &User) -> Self {
        let outcome = played.outcome.name();
        let (reason, detail) = match played.outcome {
            PlayOutcome::Failed(failure) => {
                (Some(failure.cause.name()), Some(failure.detail).filter(|_| viewer.is_admin()))
            }
            PlayOutcome::Played | PlayOutcome::Skipped => (None, None),
        };
        let (item_id, track_id) = (played.item, played.track);
        Self { item_id, track_id, ended_at: to_rfc3339(played.ended_at), outcome, reason, detail }
    }
}

impl ListenResponse {
    /// Returns the addresses of a session, for a ticket that lasts so long.
    pub fn new(session_id: String, ticket: String, ttl: Duration) -> Self {
        Self {
            listen_url: format!("/listen/{session_id}?ticket={ticket}"),
            stream_url: format!("/api/v1/share/{session_id}/stream.ogg?ticket={ticket}"),
            session_id,
            ticket,
            expires_in: ttl.as_secs(),
        }
    }
}
