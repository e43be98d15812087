//! Schedules of the user: the list, a playlist at a time of each day, and deleting one.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::encode;
use super::radio::button;
use crate::command::CommandName;
use crate::conversation::{Asker, Reply};
use crate::texts::fill;
use crate::user_api::{ApiRefusal, ApiRequest};

/// Schedules that are listed.
const MAX_LISTED: usize = 10;
/// Pages of playlists that are looked through.
const MAX_PAGES: usize = 10;

/// Page of schedules.
#[derive(Deserialize)]
struct Schedules {
    items: Vec<Schedule>,
}

/// Schedule, as far as it can be read.
#[derive(Deserialize)]
struct Schedule {
    id: String,
    name: Option<String>,
    sentence: Option<String>,
}

/// Page of playlists.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Playlists {
    items: Vec<Playlist>,
    next_cursor: Option<String>,
}

/// Playlist.
#[derive(Deserialize)]
struct Playlist {
    id: String,
    name: String,
}

/// Lists the schedules, or makes one: a time and the name of a playlist.
pub async fn schedule(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    if argument.is_empty() {
        return list(asker).await;
    }
    let Some((time, name)) = argument.split_once(char::is_whitespace).map(|(time, name)| (time, name.trim())) else {
        return Ok(Reply::text(asker.texts().usage_of(CommandName::Schedule)));
    };
    let Some(playlist) = find_playlist(asker, name).await? else {
        return Ok(Reply::text(fill(asker.texts().no_playlist, &[name])));
    };
    let zone = &asker.telegram.0.settings.time_zone;
    let body = json!({ "name": playlist.name, "playlist_id": playlist.id, "recurrence": "daily", "time": time, "timezone": zone });
    let path = format!("/api/v1/scheduler/schedules?lang={}", asker.language.code());
    let made = asker.send(ApiRequest::json(Method::POST, path, body)).await.read::<Schedule>()?;
    let buttons = vec![vec![delete_button(asker, &made)]];
    Ok(Reply::with_buttons(fill(asker.texts().scheduled, &[&describe(&made)]), buttons))
}

/// Deletes a schedule.
pub async fn delete(asker: &Asker<'_>, id: &str) -> Result<Reply, ApiRefusal> {
    let path = format!("/api/v1/scheduler/schedules/{}", encode(id));
    asker.send(ApiRequest::new(Method::DELETE, path)).await.accepted()?;
    Ok(Reply::text(asker.texts().schedule_deleted))
}

async fn list(asker: &Asker<'_>) -> Result<Reply, ApiRefusal> {
    // An administrator would else be shown everybody's.
    let (user, lang) = (encode(asker.user.id.as_str()), asker.language.code());
    let path = format!("/api/v1/scheduler/schedules?limit={MAX_LISTED}&user_id={user}&lang={lang}");
    let found = asker.send(ApiRequest::new(Method::GET, path)).await.read::<Schedules>()?.items;
    if found.is_empty() {
        return Ok(Reply::text(asker.texts().no_schedules));
    }
    let text = found.iter().map(describe).collect::<Vec<_>>().join("\n");
    Ok(Reply::with_buttons(text, found.iter().map(|schedule| vec![delete_button(asker, schedule)]).collect()))
}

/// Finds a playlist of the user by its name, whatever the case.
async fn find_playlist(asker: &Asker<'_>, name: &str) -> Result<Option<Playlist>, ApiRefusal> {
    let path = format!("/api/v1/playlists?limit=100&user_id={}", encode(asker.user.id.as_str()));
    let mut cursor = String::new();
    for _ in 0..MAX_PAGES {
        let page = asker.send(ApiRequest::new(Method::GET, format!("{path}{cursor}"))).await.read::<Playlists>()?;
        let found = page.items.into_iter().find(|playlist| playlist.name.to_lowercase() == name.to_lowercase());
        let next = match (found, page.next_cursor) {
            (Some(found), _) => return Ok(Some(found)),
            (None, Some(next)) => next,
            (None, None) => return Ok(None),
        };
        cursor = format!("&cursor={}", encode(&next));
    }
    Ok(None)
}

fn describe(schedule: &Schedule) -> String {
    let name = schedule.name.as_deref().unwrap_or("?");
    format!("{name}: {}", schedule.sentence.as_deref().unwrap_or("?"))
}

fn delete_button(asker: &Asker<'_>, schedule: &Schedule) -> (String, String) {
    let name = button(schedule.name.as_deref().unwrap_or("?"));
    (fill(asker.texts().delete, &[&name]), format!("unschedule:{}", schedule.id))
}
