//! Schedules, where they are switched on: their service over the database, their paths, and what performs their actions.

use serde_json::json;
use tokio::sync::mpsc::Receiver;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::StartError;
use super::modules::ModuleDependencies;
use crate::config::Settings;
use ::radio::RadioService;
use ::schedules::{
    ActionError, ActionKind, ActionMessage, ActionRun, ScheduleService, ScheduleServiceParts, ScheduledAction,
    action_channel, routes,
};
use playback::player::PlayerService;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};

/// Services by which actions are performed.
#[derive(Clone)]
pub struct ActionPerformer {
    /// Players, who are told what to play.
    pub players: Option<PlayerService>,
    /// Radio.
    pub radio: Option<RadioService>,
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
            Some(ActionMessage::Check { user: _, action, reply }) => tasks.spawn(async move {
                // Whoever asked may have left.
                let _ = reply.send(performer.check(&action).await);
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
        // Playlists and tracks wait for channels that play by themselves.
        match (&self.players, &self.radio) {
            (Some(_), Some(_)) => vec![ActionKind::Radio],
            _ => Vec::new(),
        }
    }

    async fn check(&self, action: &ScheduledAction) -> Result<(), ActionError> {
        match (action.kind, &self.radio) {
            (ActionKind::Radio, Some(radio)) => radio.station(station_id(action)?).await.map(drop).map_err(of_radio),
            (ActionKind::Radio | ActionKind::Playlist | ActionKind::Track, _) => Err(unsupported(action)),
        }
    }

    async fn run(&self, run: &ActionRun) -> Result<(), ActionError> {
        match (run.action.kind, &self.players, &self.radio) {
            (ActionKind::Radio, Some(players), Some(radio)) => {
                let station = station_id(&run.action)?;
                let radio = radio.play_for(&run.user, station, &run.channel).await.map_err(of_radio)?;
                let command = json!({
                    "channel_id": run.channel,
                    "schedule_id": run.schedule,
                    "schedule_name": run.schedule_name,
                    "radio": radio,
                });
                // From here on it takes effect, once.
                if run.begin().await && !players.send_play(&run.user, &run.channel, &command).await {
                    return Err(ActionError::Refused("there is no such channel".to_owned()));
                }
                Ok(())
            }
            (ActionKind::Radio | ActionKind::Playlist | ActionKind::Track, ..) => Err(unsupported(&run.action)),
        }
    }
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

fn unsupported(action: &ScheduledAction) -> ActionError {
    ActionError::Refused(format!("this server cannot begin {} on a channel", action.kind))
}
