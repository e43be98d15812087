//! Schedules, where they are switched on: their service over the database, their paths, and what performs their actions.

use serde_json::json;
use tokio::sync::mpsc::Receiver;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::StartError;
use super::modules::ModuleDependencies;
use crate::config::Settings;
use ::channels::channel::ChannelId;
use ::channels::{ChannelService, MAX_PLAYLIST_TRACKS};
use ::playlists::PlaylistService;
use ::radio::RadioService;
use ::schedules::{
    ActionError, ActionKind, ActionMessage, ActionRun, ActionUser, ScheduleService, ScheduleServiceParts,
    ScheduledAction, action_channel, routes,
};
use playback::player::PlayerService;
use primitives::ids::TrackId;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::error::Error as ApiError;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};

/// Services by which actions are performed.
#[derive(Clone)]
pub struct ActionPerformer {
    /// Players, who are told what to play.
    pub players: Option<PlayerService>,
    /// Radio.
    pub radio: Option<RadioService>,
    /// Channels that everybody hears.
    pub channels: Option<ChannelService>,
    /// Playlists.
    pub playlists: Option<PlaylistService>,
}

/// Starts schedules; returns their paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    performer: ActionPerformer,
) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, services, metrics, limiters, .. } = dependencies;
    // The settings name both where there are schedules.
    let (Some(settings), Some(database)) = (&all.schedules, &storage.database) else { return Ok(Vec::new()) };
    let (actions, messages) = action_channel(&performer.supported());
    services.spawn(perform(performer, messages, (*services).clone()));
    let parts = ScheduleServiceParts {
        settings: settings.clone(),
        database: database.clone(),
        actions,
        tasks: (*services).clone(),
        clock: (*clock).clone(),
    };
    let service = ScheduleService::start(parts, metrics.registry())?;
    Ok(vec![limit_routes(routes(service), limiters, RateLimitClass::STANDARD)])
}

/// Answers messages until the tasks stop; each run is a task of its own, and schedules bound their number.
async fn perform(performer: ActionPerformer, mut messages: Receiver<ActionMessage>, tasks: BackgroundTasks) {
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            () = tasks.stopping() => return,
        };
        let performer = performer.clone();
        match message {
            None => return,
            Some(ActionMessage::Check { user, channel, action, reply }) => tasks.spawn(async move {
                // Whoever asked may have left.
                let _ = reply.send(performer.check(&user, &channel, &action).await);
            }),
            Some(ActionMessage::Run(run)) => tasks.spawn(async move {
                let result = performer.run(&run).await;
                run.finish(result);
            }),
        }
    }
}

impl ActionPerformer {
    /// Returns the kinds of actions that can be performed: another kind is refused when it is to be scheduled.
    fn supported(&self) -> Vec<ActionKind> {
        let is_played = self.channels.as_ref().is_some_and(ChannelService::are_played);
        let kinds = [
            (ActionKind::Radio, self.players.is_some() && self.radio.is_some()),
            (ActionKind::Playlist, is_played && self.playlists.is_some()),
            (ActionKind::Track, is_played),
        ];
        kinds.into_iter().filter(|(_, is_supported)| *is_supported).map(|(kind, _)| kind).collect()
    }

    async fn check(&self, user: &ActionUser, channel: &str, action: &ScheduledAction) -> Result<(), ActionError> {
        match (action.kind, &self.radio, &self.channels) {
            (ActionKind::Radio, Some(radio), _) => radio.station(station_id(action)?).await.map(drop).map_err(of_radio),
            (ActionKind::Playlist | ActionKind::Track, _, Some(channels)) => {
                channel_for(channels, user, channel)?;
                let tracks = self.tracks(user, action).await?;
                if let (ActionKind::Track, Some(track)) = (action.kind, tracks.first()) {
                    channels.check_track(track, &user.id).await.map_err(of_track)?;
                }
                Ok(())
            }
            (ActionKind::Radio | ActionKind::Playlist | ActionKind::Track, ..) => Err(unsupported(action)),
        }
    }

    async fn run(&self, run: &ActionRun) -> Result<(), ActionError> {
        match (run.action.kind, &self.players, &self.radio, &self.channels) {
            (ActionKind::Radio, Some(players), Some(radio), _) => play_station(players, radio, run).await,
            (ActionKind::Playlist | ActionKind::Track, _, _, Some(channels)) => {
                // Judged anew: the configuration, or the playlist, may be another one by now.
                let channel = channel_for(channels, &run.user, &run.channel)?;
                let tracks = self.tracks(&run.user, &run.action).await?;
                // From here on it takes effect, once.
                if run.begin().await {
                    channels.start_playlist(&channel, tracks, &run.user.id).await.map_err(of_channels)?;
                }
                Ok(())
            }
            (ActionKind::Radio | ActionKind::Playlist | ActionKind::Track, ..) => Err(unsupported(&run.action)),
        }
    }

    /// Returns the tracks of a playlist of the user, or the one track.
    async fn tracks(&self, user: &ActionUser, action: &ScheduledAction) -> Result<Vec<TrackId>, ActionError> {
        let refused = |reason: &str| ActionError::Refused(reason.to_owned());
        let tracks = match (action.kind, &self.playlists) {
            (ActionKind::Track, _) => {
                vec![TrackId::parse(action.target.as_str()).ok_or_else(|| refused("that is no id of a track"))?]
            }
            (ActionKind::Playlist, Some(playlists)) => {
                let id = Uuid::parse_str(&action.target).map_err(|_| refused("that is no id of a playlist"))?;
                playlists.tracks_of(&user.id, id).await.map_err(of_playlists)?
            }
            (ActionKind::Radio | ActionKind::Playlist, _) => return Err(unsupported(action)),
        };
        match tracks.len() {
            1..=MAX_PLAYLIST_TRACKS => Ok(tracks),
            _ => Err(of_channels(::channels::Error::PlaylistSize(MAX_PLAYLIST_TRACKS))),
        }
    }
}

/// Tells the players of the user's channel to play a station.
async fn play_station(players: &PlayerService, radio: &RadioService, run: &ActionRun) -> Result<(), ActionError> {
    let (user, station) = (&run.user.id, station_id(&run.action)?);
    let radio = radio.play_for(user, station, &run.channel).await.map_err(of_radio)?;
    let command = json!({
        "channel_id": run.channel,
        "schedule_id": run.schedule,
        "schedule_name": run.schedule_name,
        "radio": radio,
    });
    // From here on it takes effect, once.
    if run.begin().await {
        players.send_play(user, &run.channel, &command).await.map_err(of_players)?;
    }
    Ok(())
}

/// Returns the channel of this name, where a user of this role may schedule what everybody hears.
fn channel_for(channels: &ChannelService, user: &ActionUser, name: &str) -> Result<ChannelId, ActionError> {
    let channel = channels.channel(name).map_err(of_channels)?;
    if !channels.may_schedule(user.role) {
        let reason = "everybody hears this channel, and the role of the user may not schedule what is played there";
        return Err(ActionError::Forbidden(reason.to_owned()));
    }
    Ok(channel)
}

fn station_id(action: &ScheduledAction) -> Result<Uuid, ActionError> {
    Uuid::parse_str(&action.target).map_err(|_| ActionError::Refused("that is no id of a station".to_owned()))
}

fn of_radio(error: ::radio::Error) -> ActionError {
    match error {
        ::radio::Error::NoSuchStation => ActionError::Refused(error.to_string()),
        error => ActionError::Unavailable(error.to_string()),
    }
}

fn of_players(error: playback::player::Error) -> ActionError {
    match error {
        playback::player::Error::NoSuchChannel => ActionError::Refused(error.to_string()),
        error => ActionError::Unavailable(error.to_string()),
    }
}

fn of_playlists(error: ::playlists::Error) -> ActionError {
    match error {
        ::playlists::Error::NoSuchPlaylist => ActionError::Refused(error.to_string()),
        error => ActionError::Unavailable(error.to_string()),
    }
}

fn of_channels(error: ::channels::Error) -> ActionError {
    match error {
        ::channels::Error::NoSuchChannel | ::channels::Error::PlaylistSize(_) => {
            ActionError::Refused(error.to_string())
        }
        error => ActionError::Unavailable(error.to_string()),
    }
}

fn of_track(error: ApiError) -> ActionError {
    let reason = format!("the track cannot be played: {}", error.detail());
    if error.status().is_server_error() { ActionError::Unavailable(reason) } else { ActionError::Refused(reason) }
}

fn unsupported(action: &ScheduledAction) -> ActionError {
    ActionError::Refused(format!("this server cannot begin {} on a channel", action.kind))
}
