//! Service of players: settings, reports, commands, and what listeners are told of them.

use std::sync::Arc;

use prometheus::Registry;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::Error;
use super::channel::{ChannelId, PlayerKey};
use super::channel_store::{ChannelSettings, ChannelStore, SettingsChange};
use super::event_hub::{EventHub, EventKind};
use super::event_relay::EventRelay;
use super::item_limit::ItemLimit;
use super::metrics::{ChangeKind, PlayerMetrics};
use super::playback_events::{self, TrackAction};
use super::record::{PlayState, PlayerRecord, PlayerReport, ReportEffect};
use super::settings::Settings;
use super::snapshot::MAX_SNAPSHOTS;
use super::sound::PlaybackSpeed;
use super::store::{self, PlayerStore, PlayerStoreError, ReplaceOutcome};
use super::sweep;
use super::view::{PlayerView, SeekView, SettingsView};
use crate::reports::PlaybackReporter;
use primitives::clock::{Clock, monotonic_now};
use primitives::failure_log::FailureLog;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::api::event_stream::{event_frame, event_json};
use server_kit::auth::revocation::TokenRevocations;
use server_kit::database::Database;
use server_kit::redis::Redis;

/// Tries to change a player that others change at the same time. Each that fails is one in which another change succeeded, so
/// that as many requests at once may all be served.
const MAX_ATTEMPTS: usize = 64;

/// What the service is made of.
pub struct PlayerServiceParts {
    /// Its settings.
    pub settings: Settings,
    /// Database of the settings of channels.
    pub database: Database,
    /// Redis; `None`: players are those of this node.
    pub redis: Option<Redis>,
    /// Takes playback events, where there are any.
    pub reporter: Option<PlaybackReporter>,
    /// Logouts, which end streams.
    pub revocations: Option<Arc<TokenRevocations>>,
    /// Tasks whose closing ends streams.
    pub streams: BackgroundTasks,
    /// Clock.
    pub clock: Clock,
}

/// Service of players. Clones share it.
#[derive(Clone)]
pub struct PlayerService(pub(super) Arc<ServiceState>);

/// State of the service.
pub(super) struct ServiceState {
    pub(super) settings: Settings,
    pub(super) channels: ChannelStore,
    pub(super) players: Arc<dyn PlayerStore>,
    pub(super) hub: EventHub,
    items: ItemLimit,
    /// Room for reading what holds, of all listeners together.
    pub(super) snapshots: Semaphore,
    relay: Option<EventRelay>,
    reporter: Option<PlaybackReporter>,
    pub(super) revocations: Option<Arc<TokenRevocations>>,
    pub(super) streams: BackgroundTasks,
    pub(super) clock: Clock,
    pub(super) metrics: PlayerMetrics,
    failures: FailureLog,
}

impl PlayerService {
    /// Starts the service; its tasks run among `tasks`.
    pub fn start(
        parts: PlayerServiceParts,
        tasks: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let PlayerServiceParts { settings, database, redis, reporter, revocations, streams, clock } = parts;
        let metrics = PlayerMetrics::register(registry)?;
        let hub = EventHub::new(&settings, metrics.clone());
        let relay = redis.clone().map(|redis| EventRelay::start(redis, hub.clone(), metrics.clone(), tasks));
        let this = Self(Arc::new(ServiceState {
            channels: ChannelStore::new(database, &settings),
            players: store::open(redis, &settings),
            reporter: reporter.filter(|_| settings.publish_events),
            settings,
            hub,
            items: ItemLimit::default(),
            snapshots: Semaphore::new(MAX_SNAPSHOTS),
            relay,
            revocations,
            streams,
            clock,
            metrics,
            failures: FailureLog::default(),
        }));
        tasks.spawn(sweep::run(this.clone(), tasks.clone()));
        Ok(this)
    }

    /// Returns the settings of a channel, and the speed of `track`.
    pub async fn settings(&self, key: &PlayerKey, track: Option<&TrackId>) -> Result<SettingsView, Error> {
        let settings = self.channel(key).await?;
        let Some(track) = track else { return Ok(SettingsView::new(&settings, None)) };
        let speed = self.0.channels.track_speed(&key.user, track.as_str()).await?;
        Ok(SettingsView::new(&settings, Some((track.as_str(), speed))))
    }

    /// Changes the settings of a channel.
    pub async fn change(
        &self,
        key: &PlayerKey,
        change: SettingsChange,
        kind: ChangeKind,
    ) -> Result<SettingsView, Error> {
        let changed = self.0.channels.change(key, change, self.now()).await?.ok_or(Error::NoSuchChannel)?;
        self.0.metrics.count_change(kind);
        let view = SettingsView::new(&changed, None);
        self.publish(key, EventKind::Settings, &view).await;
        Ok(view)
    }

    /// Changes the speed of a channel, and of what is played there now.
    pub async fn set_speed(&self, key: &PlayerKey, speed: PlaybackSpeed) -> Result<SettingsView, Error> {
        let change = SettingsChange { speed: Some(speed), ..SettingsChange::default() };
        let view = self.change(key, change, ChangeKind::Speed).await?;
        self.apply_speed(key, speed, None).await;
        Ok(view)
    }

    /// Remembers the speed of a track, or forgets it, and changes that of the track where it is played now.
    pub async fn set_track_speed(
        &self,
        key: &PlayerKey,
        track: &TrackId,
        speed: Option<PlaybackSpeed>,
    ) -> Result<SettingsView, Error> {
        let settings = self.channel(key).await?;
        self.0.channels.set_track_speed(&key.user, track, speed, self.now()).await?;
        self.0.metrics.count_change(ChangeKind::TrackSpeed);
        let view = SettingsView::new(&settings, Some((track.as_str(), speed)));
        self.publish(key, EventKind::Settings, &view).await;
        self.apply_speed(key, speed.unwrap_or(settings.speed), Some(track)).await;
        Ok(view)
    }

    /// Goes to another position in what is played; returns the settings and the position.
    pub async fn seek(&self, key: &PlayerKey, position: i64) -> Result<(SettingsView, i64), Error> {
        let target = |record: &PlayerRecord, _| match record.duration {
            Some(duration) if position > duration => Err(Error::PastEnd(duration)),
            _ => Ok(position),
        };
        self.go_to(key, ChangeKind::Seek, target).await
    }

    /// Goes back by so many milliseconds, to the beginning at most.
    pub async fn rewind(&self, key: &PlayerKey, millis: i64) -> Result<(SettingsView, i64), Error> {
        let target = |record: &PlayerRecord, now| Ok(record.position_at(now).saturating_sub(millis).max(0));
        self.go_to(key, ChangeKind::Rewind, target).await
    }

    async fn go_to(
        &self,
        key: &PlayerKey,
        kind: ChangeKind,
        target: impl Fn(&PlayerRecord, UnixMillis) -> Result<i64, Error>,
    ) -> Result<(SettingsView, i64), Error> {
        let settings = self.channel(key).await?;
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let record = self.player(key).await?.filter(|record| record.state != PlayState::Stopped);
            let record = record.ok_or(Error::NothingPlays)?;
            let position = target(&record, now)?;
            let next = record.seek(position, now);
            if !self.replace(key, Some(&record), &next).await? {
                continue;
            }
            self.0.metrics.count_change(kind);
            let command = SeekView {
                channel_id: key.channel.as_str().to_owned(),
                track_id: next.track.clone(),
                position_ms: position,
                revision: next.revision,
            };
            self.publish(key, EventKind::Seek, &command).await;
            self.publish_player(key, &next).await;
            self.publish_actions(key, vec![TrackAction::seek(&next, now)]).await;
            return Ok((SettingsView::new(&settings, None), position));
        }
        Err(Error::Busy)
    }

    /// Returns the player of a channel, and its change of pitch.
    pub async fn position(&self, key: &PlayerKey) -> Result<(PlayerView, i64), Error> {
        let settings = self.channel(key).await?;
        let view = match self.player(key).await? {
            Some(record) => PlayerView::new(&key.channel, &record, self.now()),
            None => PlayerView::idle(&settings),
        };
        Ok((view, settings.semitones))
    }

    /// Takes a report. Returns true if it was no late one, and the player as it is then.
    pub async fn report(&self, key: &PlayerKey, report: PlayerReport) -> Result<(bool, PlayerView), Error> {
        let metrics = &self.0.metrics;
        let taken = self.take_report(key, report).await;
        match &taken {
            Ok((true, _)) => metrics.reports_applied.inc(),
            Ok((false, _)) | Err(Error::NoSuchChannel | Error::TooManyItems(_)) => metrics.reports_ignored.inc(),
            Err(_) => metrics.reports_failed.inc(),
        }
        taken
    }

    async fn take_report(&self, key: &PlayerKey, report: PlayerReport) -> Result<(bool, PlayerView), Error> {
        let mut item_speed = None;
        for _ in 0..MAX_ATTEMPTS {
            let before = self.player(key).await?;
            let now = self.now();
            let effect = PlayerRecord::effect(before.as_ref(), &report);
            let next = match (effect, &before) {
                (ReportEffect::Ignored, Some(before)) => {
                    return Ok((false, PlayerView::new(&key.channel, before, now)));
                }
                (ReportEffect::Ignored, None) => return Ok((false, PlayerView::idle(&self.channel(key).await?))),
                (ReportEffect::Update, Some(before)) => before.update(report.clone(), now),
                (ReportEffect::NewItem | ReportEffect::Update, _) => {
                    let speed = match item_speed {
                        Some(speed) => speed,
                        None => {
                            self.0.items.count(&key.user, monotonic_now()).map_err(Error::TooManyItems)?;
                            *item_speed.insert(self.open_item(key, &report.track).await?)
                        }
                    };
                    PlayerRecord::begin(before.as_ref(), report.clone(), speed, now)
                }
            };
            if !self.replace(key, before.as_ref(), &next).await? {
                continue;
            }
            if before.is_none() {
                self.require_channel(key).await?;
            }
            if before.as_ref().is_none_or(|before| before.is_news(&next)) {
                self.publish_player(key, &next).await;
            }
            self.publish_actions(key, TrackAction::of_report(before.as_ref(), &next, effect, now)).await;
            return Ok((true, PlayerView::new(&key.channel, &next, now)));
        }
        Err(Error::Busy)
    }

    /// Opens the channel for an item, and returns the item's speed. The players of channels that are dropped for it go first.
    async fn open_item(&self, key: &PlayerKey, track: &str) -> Result<PlaybackSpeed, Error> {
        let (settings, dropped) = self.0.channels.open(key, self.now()).await?;
        for dropped in &dropped {
            self.remove_player(dropped).await?;
        }
        Ok(self.0.channels.track_speed(&key.user, track).await?.unwrap_or(settings.speed))
    }

    /// Drops a new player whose channel was dropped between its opening and the player's first record, as happens to a user
    /// who opens many at once: whoever has dropped the channel has found no player.
    async fn require_channel(&self, key: &PlayerKey) -> Result<(), Error> {
        match self.channel(key).await {
            Ok(_) => Ok(()),
            // Where that cannot be told it goes too, and the next report brings it back.
            Err(error) => {
                self.remove_player(key).await?;
                Err(if error == Error::NoSuchChannel { Error::Busy } else { error })
            }
        }
    }

    async fn remove_player(&self, key: &PlayerKey) -> Result<(), Error> {
        self.0.players.remove_player(key).await.map_err(|error| self.store_failed(&error))
    }

    /// Stops a player that has not reported for too long; returns false if it was changed meanwhile.
    pub(super) async fn close(&self, key: &PlayerKey, record: &PlayerRecord) -> Result<bool, Error> {
        let closed = record.close(self.now());
        if !self.replace(key, Some(record), &closed).await? {
            return Ok(false);
        }
        self.0.metrics.closed.inc();
        self.publish_player(key, &closed).await;
        let ended = closed.in_state(PlayState::Paused);
        self.publish_actions(key, TrackAction::end(&ended, self.now()).into_iter().collect()).await;
        Ok(true)
    }

    /// Returns the settings of a channel of the user.
    pub(super) async fn channel(&self, key: &PlayerKey) -> Result<ChannelSettings, Error> {
        match self.0.channels.get(key).await? {
            Some(settings) => Ok(settings),
            None if key.channel.is_main() => Ok(ChannelSettings::initial(key.channel.clone())),
            None => Err(Error::NoSuchChannel),
        }
    }

    /// Moves the clock of what is played at another speed. A failure is made good by the player's next report.
    async fn apply_speed(&self, key: &PlayerKey, speed: PlaybackSpeed, track: Option<&TrackId>) {
        for _ in 0..MAX_ATTEMPTS {
            let Ok(Some(record)) = self.player(key).await else { return };
            let is_meant = track.is_none_or(|track| track.as_str() == record.track);
            if !is_meant || record.speed == speed || record.state == PlayState::Stopped {
                return;
            }
            let next = record.with_speed(speed, self.now());
            match self.replace(key, Some(&record), &next).await {
                Ok(true) => return self.publish_player(key, &next).await,
                Ok(false) => {}
                Err(_) => return,
            }
        }
    }

    pub(super) async fn player(&self, key: &PlayerKey) -> Result<Option<PlayerRecord>, Error> {
        self.0.players.get(key).await.map_err(|error| self.store_failed(&error))
    }

    /// Stores `next` in the place of `before`; returns false if that was replaced meanwhile.
    async fn replace(
        &self,
        key: &PlayerKey,
        before: Option<&PlayerRecord>,
        next: &PlayerRecord,
    ) -> Result<bool, Error> {
        let known = before.map(|before| before.revision);
        let outcome = self.0.players.replace(key, known, next, next.deadline(&self.0.settings)).await;
        match outcome.map_err(|error| self.store_failed(&error))? {
            ReplaceOutcome::Replaced => {
                if self.0.failures.is_over(monotonic_now()) {
                    tracing::info!("live players can be kept and read again");
                }
                Ok(true)
            }
            ReplaceOutcome::Changed => Ok(false),
            ReplaceOutcome::Full => Err(Error::Busy),
        }
    }

    pub(super) fn store_failed(&self, error: &PlayerStoreError) -> Error {
        if self.0.failures.is_news(&error.0, monotonic_now()) {
            tracing::warn!(%error, "live players cannot be kept or read");
        }
        Error::Unavailable
    }

    async fn publish_player(&self, key: &PlayerKey, record: &PlayerRecord) {
        let view = PlayerView::new(&key.channel, record, self.now());
        self.publish(key, EventKind::Player, &view).await;
    }

    /// Tells the players of a user's channel to play something: `command` says what. Fails where the user has no such channel.
    pub async fn send_play(&self, user: &UserId, channel: &str, command: &impl Serialize) -> Result<(), Error> {
        let channel = ChannelId::parse(channel).ok_or(Error::NoSuchChannel)?;
        let key = PlayerKey { user: user.clone(), channel };
        self.channel(&key).await?;
        self.publish(&key, EventKind::Play, command).await;
        Ok(())
    }

    /// Tells the listeners of this node and the other nodes.
    async fn publish(&self, key: &PlayerKey, kind: EventKind, data: &impl Serialize) {
        let json = event_json(data);
        self.0.metrics.published.inc();
        self.0.hub.deliver(key, kind, &event_frame(kind.name(), &json));
        if let Some(relay) = &self.0.relay {
            relay.publish(key, kind, &json).await;
        }
    }

    async fn publish_actions(&self, key: &PlayerKey, actions: Vec<TrackAction>) {
        if let Some(reporter) = &self.0.reporter {
            playback_events::publish(reporter, key, actions).await;
        }
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.0.clock.unix_millis()
    }
}
