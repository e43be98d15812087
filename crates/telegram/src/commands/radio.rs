//! Radio stations: played on the user's players, and added by administrators.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::encode;
use crate::command::CommandName;
use crate::conversation::{Asker, Reply};
use crate::texts::fill;
use crate::user_api::{ApiRefusal, ApiRequest};

/// Stations that a user may choose from.
const MAX_CHOICES: usize = 8;
/// Longest name on a button, in characters.
const MAX_BUTTON: usize = 40;

/// Page of stations.
#[derive(Deserialize)]
struct Stations {
    items: Vec<Station>,
}

/// Station of the list.
#[derive(Deserialize)]
struct Station {
    id: String,
    name: String,
}

/// Station that is played.
#[derive(Deserialize)]
struct Played {
    station: Station,
}

/// Plays the station of a name, or lets the user choose one.
pub async fn play(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let texts = asker.texts();
    let path = format!("/api/v1/radio/streams?limit={MAX_CHOICES}&q={}", encode(argument));
    let found = asker.send(ApiRequest::new(Method::GET, path)).await.read::<Stations>()?.items;
    let is_exact = |station: &&Station| station.name.to_lowercase() == argument.to_lowercase();
    let chosen = found.iter().find(is_exact).or(found.first().filter(|_| found.len() == 1 && !argument.is_empty()));
    match chosen {
        Some(station) => play_station(asker, &station.id).await,
        None if found.is_empty() => Ok(Reply::text(texts.no_station)),
        None => {
            let row = |station: &Station| vec![(button(&station.name), format!("station:{}", station.id))];
            Ok(Reply::with_buttons(texts.choose_station, found.iter().map(row).collect()))
        }
    }
}

/// Plays a station on the user's players.
pub async fn play_station(asker: &Asker<'_>, id: &str) -> Result<Reply, ApiRefusal> {
    let body = json!({ "stream_id": id, "to_players": true });
    let played = asker.send(ApiRequest::json(Method::POST, "/api/v1/radio/play", body)).await.read::<Played>()?;
    Ok(Reply::text(fill(asker.texts().station_plays, &[&played.station.name])))
}

/// Adds a station: its address, and its name.
pub async fn add(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let Some((url, name)) = argument.split_once(char::is_whitespace) else {
        return Ok(Reply::text(asker.texts().usage_of(CommandName::AddRadio)));
    };
    let body = json!({ "url": url, "name": name.trim() });
    let added = asker.send(ApiRequest::json(Method::POST, "/api/v1/radio/streams", body)).await.read::<Station>()?;
    Ok(Reply::text(fill(asker.texts().station_added, &[&added.name])))
}

/// Returns a name as a button has it.
pub fn button(name: &str) -> String {
    match name.char_indices().nth(MAX_BUTTON) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
