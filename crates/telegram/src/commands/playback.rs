//! Speed, pitch and position of the user's players on the channel `main`.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::command::{CommandName, parse_number, parse_position, show_position};
use crate::conversation::{Asker, Reply};
use crate::texts::fill;
use crate::user_api::{ApiRefusal, ApiRequest};

/// Speeds that have a button.
const SPEEDS: [[&str; 3]; 2] = [["0.5", "0.75", "1"], ["1.25", "1.5", "2"]];
/// Changes of pitch that have one.
const PITCHES: [&str; 5] = ["-2", "-1", "0", "1", "2"];

/// Settings of a channel.
#[derive(Deserialize)]
struct Settings {
    speed: f64,
    semitones: i64,
}

/// Position after a command.
#[derive(Deserialize)]
struct Position {
    position_ms: i64,
}

/// Sets the speed, or shows it with buttons.
pub async fn speed(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let settings = match argument {
        "" => settings(asker).await?,
        text => {
            let Some(speed) = parse_number(text) else { return Ok(usage(asker, CommandName::Speed)) };
            let request = ApiRequest::json(Method::PUT, "/api/v1/playback/speed", json!({ "speed": speed }));
            asker.send(request).await.read::<Settings>()?
        }
    };
    let button = |speed: &str| (format!("{speed}×"), format!("speed:{speed}"));
    let rows = SPEEDS.iter().map(|row| row.iter().map(|speed| button(speed)).collect()).collect();
    Ok(Reply::with_buttons(fill(asker.texts().speed, &[&settings.speed.to_string()]), rows))
}

/// Sets the change of pitch, or shows it with buttons.
pub async fn pitch(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let settings = match argument {
        "" => settings(asker).await?,
        text => {
            let Some(semitones) = parse_number(text) else { return Ok(usage(asker, CommandName::Pitch)) };
            let request = ApiRequest::json(Method::PUT, "/api/v1/playback/pitch", json!({ "semitones": semitones }));
            asker.send(request).await.read::<Settings>()?
        }
    };
    let row = PITCHES.iter().map(|pitch| ((*pitch).to_owned(), format!("pitch:{pitch}"))).collect();
    Ok(Reply::with_buttons(fill(asker.texts().pitch, &[&settings.semitones.to_string()]), vec![row]))
}

/// Goes to a position.
pub async fn seek(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let Some(position) = parse_position(argument) else { return Ok(usage(asker, CommandName::Seek)) };
    go(asker, ApiRequest::json(Method::POST, "/api/v1/playback/seek", json!({ "position_ms": position }))).await
}

/// Goes back by so many seconds, by the API's own number where none is written.
pub async fn rewind(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let body = match (argument, parse_number(argument)) {
        ("", _) => json!({}),
        (_, Some(seconds)) => json!({ "seconds": seconds }),
        (_, None) => return Ok(usage(asker, CommandName::Rewind)),
    };
    go(asker, ApiRequest::json(Method::POST, "/api/v1/playback/rewind", body)).await
}

async fn go(asker: &Asker<'_>, request: ApiRequest) -> Result<Reply, ApiRefusal> {
    let text = match asker.send(request).await.read::<Position>() {
        Ok(Position { position_ms }) => fill(asker.texts().position, &[&show_position(position_ms)]),
        Err(ApiRefusal::Conflict(_)) => asker.texts().nothing_plays.to_owned(),
        Err(refusal) => return Err(refusal),
    };
    Ok(Reply::text(text))
}

async fn settings(asker: &Asker<'_>) -> Result<Settings, ApiRefusal> {
    asker.send(ApiRequest::new(Method::GET, "/api/v1/playback/settings")).await.read()
}

fn usage(asker: &Asker<'_>, name: CommandName) -> Reply {
    Reply::text(asker.texts().usage_of(name))
}
