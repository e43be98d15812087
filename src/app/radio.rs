//! Radio, where it is switched on: its service over the open connections, and its paths.

use std::sync::Arc;

use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::events::EventServices;
use super::modules::ModuleDependencies;
use crate::config::Settings;
use ::radio::{PlayerCommand, RadioService, RadioServiceParts, TicketKeySource};
use playback::player::PlayerService;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::auth::path_token::PathTokenSigner;

/// Purpose of the keys that tickets are signed with: it parts them from what else is made of the keys of path tokens.
const TICKET_PURPOSE: &str = "tickets of radio stations";
/// Class of opening a stream. A ticket has no user's token, so requests are counted by address.
const STREAM_CLASS: RateLimitClass = RateLimitClass::without_users("radio");

/// Starts radio, which can have `players` play a station; returns its service and its paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    players: Option<&PlayerService>,
    events: Option<&EventServices>,
) -> Result<(Option<RadioService>, Vec<OpenApiRouter>), StartError> {
    let ModuleDependencies { storage, clock, tasks, services, metrics, limiters, revocations, .. } = dependencies;
    // The settings name both where there is radio.
    let (Some(settings), Some(database)) = (&all.radio, &storage.database) else { return Ok((None, Vec::new())) };
    let parts = RadioServiceParts {
        settings: settings.clone(),
        database: database.clone(),
        ticket_keys: ticket_keys(dependencies.path_tokens),
        revocations: revocations.cloned(),
        players: players.cloned().map(player_command),
        events: events.map(|events| events.events.clone()),
        streams: (*tasks).clone(),
        tasks: (*services).clone(),
        clock: (*clock).clone(),
    };
    let service = RadioService::start(parts, metrics.registry())?;
    let routes = vec![
        limit_routes(::radio::admin_routes(service.clone()), limiters, RateLimitClass::STRICT),
        limit_routes(::radio::routes(service.clone()), limiters, RateLimitClass::STANDARD),
        limit_routes(::radio::stream_routes(service.clone()), limiters, STREAM_CLASS),
    ];
    Ok((Some(service), routes))
}

/// Returns what has a user's players of a channel play a station.
fn player_command(players: PlayerService) -> PlayerCommand {
    Arc::new(move |user, radio| {
        let players = players.clone();
        Box::pin(async move {
            let channel = radio.channel_id.clone();
            let command = json!({ "channel_id": &channel, "schedule_id": null, "schedule_name": null, "radio": radio });
            Ok(players.send_play(&user, &channel, &command).await?)
        })
    })
}

/// Returns the keys of tickets: those of path tokens, which all nodes share, else one of this process.
fn ticket_keys(path_tokens: Option<&Arc<PathTokenSigner>>) -> TicketKeySource {
    match path_tokens.cloned() {
        Some(signer) => Arc::new(move || signer.derive_keys(TICKET_PURPOSE)),
        None => {
            let own: [u8; 32] = rand::random();
            Arc::new(move || vec![own])
        }
    }
}
