//! Service of channels: their queues, over the store.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntGauge, Registry};
use uuid::{NoContext, Timestamp, Uuid};

use crate::channel::ChannelId;
use crate::feed::QueueFeeds;
use crate::metrics::{PlayerMetrics, QueueMetrics, RequestOutcome};
use crate::player::output::{ProgramListener, ProgramOutput, TrackObjects};
use crate::player::station::{PlayedRecord, StationRecord, StationStore};
use crate::player::{PlayerContext, station_store};
use crate::queue::estimate::{EstimatedItem, estimate};
use crate::queue::item::{ItemSource, QueueItem};
use crate::queue::store::{self, AddOutcome, ClaimToken, QueueStore, QueueStoreError, RemoveOutcome};
use crate::settings::Settings;
use crate::{Error, TrackAccess, player};
use primitives::clock::{Clock, monotonic_now};
use primitives::failure_log::FailureLog;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error as ApiError;
use server_kit::api::user::{User, UserRole};
use server_kit::auth::revocation::TokenRevocations;
use server_kit::auth::token_right::TokenRight;
use server_kit::redis::Redis;

mod claims;
mod stations;

/// Time within which a ticket to a channel's session is used.
pub const TICKET_TTL: Duration = Duration::from_secs(60);
/// Most tracks of a playlist.
pub const MAX_PLAYLIST_TRACKS: usize = 2000;

/// Services that channels are started with.
pub struct ChannelServiceParts {
    /// The settings.
    pub settings: Settings,
    /// Keeps queues, where there are several nodes.
    pub redis: Option<Redis>,
    /// Judges who may have a track played.
    pub tracks: Arc<dyn TrackAccess>,
    /// Plays the channels, where there are sessions to play them to.
    pub player: Option<ChannelPlayerParts>,
    /// Logouts, which end streams.
    pub revocations: Option<Arc<TokenRevocations>>,
    /// Tasks that graceful shutdown waits for.
    pub tasks: BackgroundTasks,
    /// The time.
    pub clock: Clock,
}

/// What the player of channels needs.
pub struct ChannelPlayerParts {
    /// Opens tracks.
    pub objects: Arc<dyn TrackObjects>,
    /// Opens sessions.
    pub output: Arc<dyn ProgramOutput>,
}

/// Service of channels. Clones share it.
#[derive(Clone)]
pub struct ChannelService(Arc<ChannelState>);

/// State of the service.
struct ChannelState {
    settings: Settings,
    store: Arc<dyn QueueStore>,
    tracks: Arc<dyn TrackAccess>,
    metrics: QueueMetrics,
    stations: Arc<dyn StationStore>,
    output: Option<Arc<dyn ProgramOutput>>,
    tasks: BackgroundTasks,
    failures: FailureLog,
    feeds: QueueFeeds,
    revocations: Option<Arc<TokenRevocations>>,
    clock: Clock,
}

/// Item that was claimed to be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedItem {
    /// The item.
    pub item: QueueItem,
    /// Secret by which the claim is renewed and ended.
    pub token: ClaimToken,
}

/// Item that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedItem {
    /// Its id.
    pub id: Uuid,
    /// Its place, and the time until it begins; `None` where that cannot be told at the moment.
    pub place: Option<(u32, Duration)>,
}

/// Request for a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackRequest {
    /// The track.
    pub track: TrackId,
    /// Its length, where the user's player knows it.
    pub duration: Option<Duration>,
    /// Host under which the user may stream it.
    pub host: Option<String>,
}

impl ChannelService {
    /// Starts the service.
    pub fn start(parts: ChannelServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let ChannelServiceParts { settings, redis, tracks, player, revocations, tasks, clock } = parts;
        let feeds = QueueFeeds::new(&settings.channels, redis.clone());
        let (metrics, player_metrics) = (QueueMetrics::register(registry)?, PlayerMetrics::register(registry)?);
        let (store, stations) = (store::open(redis.clone()), station_store::open(redis));
        let output = player.as_ref().map(|player| Arc::clone(&player.output));
        let (channels, crossfade, idle_timeout) =
            (settings.channels.clone(), settings.crossfade, settings.idle_timeout);
        let failures = FailureLog::default();
        let state = ChannelState {
            settings,
            store,
            tracks,
            metrics,
            stations,
            output,
            tasks,
            failures,
            feeds,
            revocations,
            clock,
        };
        let service = Self(Arc::new(state));
        service.0.feeds.start(&service, &service.0.tasks);
        if let Some(ChannelPlayerParts { objects, output }) = player {
            let context = PlayerContext {
                service: service.clone(),
                objects,
                output,
                metrics: player_metrics,
                crossfade,
                idle_timeout,
            };
            let (context, tasks) = (Arc::new(context), &service.0.tasks);
            for channel in channels {
                tasks.spawn(player::run(channel, Arc::clone(&context), tasks.clone()));
            }
        }
        Ok(service)
    }

    /// Returns all channels.
    pub fn channels(&self) -> &[ChannelId] {
        &self.0.settings.channels
    }

    /// Returns what a channel does; `None` where no node plays it.
    pub async fn station(&self, channel: &ChannelId) -> Result<Option<StationRecord>, Error> {
        self.answer(self.0.stations.record(channel).await)
    }

    /// Returns what was played on a channel, the latest first.
    pub async fn history(&self, channel: &ChannelId) -> Result<Vec<PlayedRecord>, Error> {
        self.answer(self.0.stations.history(channel).await)
    }

    /// Returns the session of a channel, and a ticket with which one listener may begin to hear it.
    pub async fn listen(&self, channel: &ChannelId, listener: ProgramListener<'_>) -> Result<(String, String), Error> {
        let session = self.station(channel).await?.and_then(|station| station.session).ok_or(Error::Silent)?;
        let output = self.0.output.as_ref().ok_or(Error::Silent)?;
        let ticket = output.issue_ticket(&session, TICKET_TTL, listener).await;
        let ticket = ticket.map_err(|_| Error::ListeningUnavailable)?.ok_or(Error::Silent)?;
        Ok((session, ticket))
    }

    /// Returns the channel of this name.
    pub fn channel(&self, name: &str) -> Result<ChannelId, Error> {
        let known = self.0.settings.channels.iter().find(|channel| channel.as_str() == name);
        known.cloned().ok_or(Error::NoSuchChannel)
    }

    /// Returns true where channels are played, and are no queues alone.
    pub fn are_played(&self) -> bool {
        self.0.output.is_some()
    }

    /// Returns true where users of this role may schedule what is played.
    pub fn may_schedule(&self, role: UserRole) -> bool {
        self.0.settings.scheduled_by.contains(&role)
    }

    /// Returns an error that says why a track cannot be played on behalf of `owner`.
    pub async fn check_track(&self, track: &TrackId, owner: &UserId) -> Result<(), ApiError> {
        self.0.tracks.check_for(track, owner).await
    }

    /// Returns the judge of who may have a track played.
    pub(crate) fn tracks(&self) -> &dyn TrackAccess {
        &*self.0.tracks
    }

    /// Returns the time now.
    pub(crate) fn now(&self) -> UnixMillis {
        self.0.clock.unix_millis()
    }

    /// Queues a track, which the user must be allowed to stream; returns the item's id and place.
    pub async fn add(&self, channel: &ChannelId, request: TrackRequest, user: &User) -> Result<AddedItem, Error> {
        let (state, now) = (&self.0, self.now());
        let TrackRequest { track, duration, host } = request;
        let queue = &state.settings.queue;
        let item = QueueItem {
            id: ordered_id(now),
            track,
            user: user.id().clone(),
            source: ItemSource::Request,
            queued_at: now,
            turn_at: now - queue.head_start(user.role()),
            duration,
            host,
        };
        let outcome = self.answer(state.store.add(channel, &item, queue).await);
        let (counted, refusal) = match &outcome {
            Ok(AddOutcome::Added) => (RequestOutcome::Added, None),
            Ok(AddOutcome::Duplicate) => (RequestOutcome::Duplicate, Some(Error::Duplicate)),
            Ok(AddOutcome::ChannelFull) => (RequestOutcome::ChannelFull, Some(Error::ChannelFull)),
            Ok(AddOutcome::UserFull) => (RequestOutcome::UserFull, Some(Error::UserFull)),
            Err(error) => (RequestOutcome::Unavailable, Some(error.clone())),
        };
        state.metrics.count_request(counted);
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        state.feeds.tell_changed(channel);
        // It is queued, whether its place can be told or not; it may have been played or taken out meanwhile.
        let place = match self.list(channel).await {
            Ok(items) => {
                let queued = items.into_iter().find(|queued| queued.item.item.id == item.id);
                Some(queued.map_or((0, Duration::ZERO), |queued| (queued.position, queued.eta)))
            }
            Err(_) => None,
        };
        Ok(AddedItem { id: item.id, place })
    }

    /// Returns the items of a channel, those that are played first.
    pub async fn list(&self, channel: &ChannelId) -> Result<Vec<EstimatedItem>, Error> {
        let snapshot = self.answer(self.0.store.snapshot(channel).await)?;
        Ok(estimate(snapshot, &self.0.settings.queue, self.now()))
    }

    /// Takes an item out for its user, or for an admin; one that is played is skipped.
    pub async fn remove(&self, channel: &ChannelId, id: Uuid, user: &User) -> Result<(), Error> {
        let owner = (!user.is_admin()).then(|| user.id());
        match self.answer(self.0.store.remove(channel, id, owner).await)? {
            RemoveOutcome::Removed => {
                self.0.metrics.removed.inc();
                self.0.feeds.tell_changed(channel);
                Ok(())
            }
            RemoveOutcome::Missing => Err(Error::NoSuchItem),
            RemoveOutcome::Foreign => Err(Error::NotOwner),
        }
    }

    /// Starts a playlist, in place of the one that the channel has; it is played while nothing is requested. Whether `owner` may
    /// have each track played is asked when its turn comes.
    pub async fn start_playlist(&self, channel: &ChannelId, tracks: Vec<TrackId>, owner: &UserId) -> Result<(), Error> {
        if tracks.is_empty() || tracks.len() > MAX_PLAYLIST_TRACKS {
            return Err(Error::PlaylistSize(MAX_PLAYLIST_TRACKS));
        }
        let channel = self.channel(channel.as_str())?;
        let now = self.now();
        let item = |track| QueueItem {
            id: Uuid::nil(),
            track,
            user: owner.clone(),
            source: ItemSource::Playlist,
            queued_at: now,
            turn_at: now,
            duration: None,
            host: None,
        };
        let items: Vec<QueueItem> = tracks.into_iter().map(item).collect();
        self.answer(self.0.store.set_playlist(&channel, &items).await)?;
        self.0.metrics.playlists.inc();
        self.0.feeds.tell_changed(&channel);
        Ok(())
    }

    /// Ends the playlist of a channel; the track that is played goes on to its end.
    pub async fn stop_playlist(&self, channel: &ChannelId) -> Result<(), Error> {
        let channel = self.channel(channel.as_str())?;
        self.answer(self.0.store.set_playlist(&channel, &[]).await)
    }

    /// Returns the feeds of the queues.
    pub(crate) fn feeds(&self) -> &QueueFeeds {
        &self.0.feeds
    }

    /// Returns the number of open streams of events.
    pub(crate) fn event_streams(&self) -> &IntGauge {
        &self.0.metrics.event_streams
    }

    /// Returns the logouts, where there are any.
    pub(crate) fn revocations(&self) -> Option<&TokenRevocations> {
        self.0.revocations.as_deref()
    }

    /// Returns the clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Returns the right of what a user's token opens now.
    pub(crate) async fn begin_right(&self, user: &UserId, token_until: UnixMillis) -> Result<TokenRight, Error> {
        TokenRight::begin(self.revocations(), user, token_until).await.ok_or(Error::ListeningUnavailable)
    }

    /// Resolves when streams must end.
    pub(crate) async fn closing(&self) {
        self.0.tasks.closing().await;
    }

    /// Starts a task beside the requests.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(task);
    }

    /// Logs a failure of the store, if it is news.
    fn answer<T>(&self, answer: Result<T, QueueStoreError>) -> Result<T, Error> {
        let failures = &self.0.failures;
        match answer {
            Ok(answer) => {
                if failures.is_over(monotonic_now()) {
                    tracing::info!("queues of channels can be read and changed again");
                }
                Ok(answer)
            }
            Err(error) => {
                let error = error.to_string();
                if failures.is_news(&error, monotonic_now()) {
                    tracing::warn!(error, "queues of channels cannot be read or changed");
                }
                Err(Error::Unavailable)
            }
        }
    }
}

/// Returns an id by which items of one turn are played in the order in which they came.
fn ordered_id(now: UnixMillis) -> Uuid {
    let since = now - UnixMillis::EPOCH;
    Uuid::new_v7(Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos()))
}
