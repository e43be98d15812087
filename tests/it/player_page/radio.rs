//! Radio on the page: a real Icecast with ffmpeg as its source, heard by the browser and measured.

use http::Method;
use serde_json::{Value, json};

use super::Room;
use crate::catalogue::{admin, send};
use crate::player_sound::{MEASURES, TAP, assert_hertz};
use crate::radio::icecast::{Icecast, MP3};
use crate::support::chromium::Chromium;
use crate::support::user::ApiUser;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_is_heard_in_the_browser_and_its_titles_are_shown_as_they_change() {
    let Some(icecast) = Icecast::start() else { return };
    let Some(_source) = icecast.source("/live.mp3", MP3) else { return };
    icecast.has_mount("/live.mp3").await;
    icecast.tell_title("/live.mp3", "Nina - Sinnerman").await;
    let radio = json!({ "AllowedNetworks": ["127.0.0.1/32"] });
    let Some(room) = Room::open(|config| config["Radio"] = radio).await else { return };
    let station = json!({ "name": "One", "url": icecast.url("/live.mp3"), "genre": "jazz", "country": "UA" });
    send(&room.gate, Method::POST, "/api/v1/radio/streams", &admin(), Some(station)).await.is(201);
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": TAP })).await;
    room.visit("ada").await;
    let heard = r#"
        await until("the place", () => element("go-radio"));
        element("go-radio").click();
        const tile = await until("the station", () => element("stations")?.querySelector("button"));
        tile.click();
        await until("sound", () => window.tap && Math.max(...samples()) > 0.01);
        // Again where the sound had a gap: the machine may be busy with something else.
        await until("440 Hz", async () => { await settled(); return Math.abs(pitch() / 440 - 1) < 0.01; });
        await until("the title", () => element("artist").textContent === "Nina - Sinnerman");
        const about = tile.querySelector(".about").textContent;
        return { pitch: pitch(), shown: [element("title").textContent, about, tile.getAttribute("aria-current"), document.title] };
    "#;
    let heard = room.run(&format!("{MEASURES}{heard}")).await;
    assert_hertz(&heard, "pitch", 440.0);
    assert_eq!(heard["shown"], json!(["One", "jazz · UA · MP3 · 128 kbit/s", "true", "Nina - Sinnerman – Tidegate"]));
    icecast.tell_title("/live.mp3", "Okean - Bez boyu").await;
    let titles = r#"
        await until("another title", () => element("artist").textContent === "Okean - Bez boyu");
        return [...element("titles").children].map(one => one.textContent);
    "#;
    assert_eq!(room.run(titles).await, json!(["Okean - Bez boyu", "Nina - Sinnerman"]));
    // A track takes the place of the station, and the station is left.
    let track = r#"element("go-library").click(); await plays("Low Tide"); return element("title").textContent;"#;
    assert_eq!(room.run(track).await, json!("Low Tide"));
    room.browser.close().await;
}

/// Lists a station and has a schedule of ada's that begins it when it is told to; gives their ids.
async fn schedule_station(room: &Room, url: &str) -> (Value, String) {
    let station = json!({ "name": "One", "url": url });
    let station = send(&room.gate, Method::POST, "/api/v1/radio/streams", &admin(), Some(station)).await;
    let station: Value = serde_json::from_slice(&station.is(201).body).expect("JSON");
    let schedule = json!({ "name": "News", "stream_id": station["id"], "recurrence": "daily", "time": "04:00" });
    let made = ApiUser::new(&room.gate, "ada").send(Method::POST, "/api/v1/scheduler/schedules", Some(&schedule)).await;
    let made: Value = serde_json::from_slice(&made.is(201).body).expect("JSON");
    (station["id"].clone(), made["id"].as_str().expect("an id").to_owned())
}

/// Waits until the page hears events: a command reaches those who listen then.
const LISTENS: &str =
    r#"await until("the settings", () => localStorage.getItem("tidegate.player.sound.ada")); return null;"#;

fn with_schedules(config: &mut Value) {
    config["Radio"] = json!({ "AllowedNetworks": ["127.0.0.1/32"] });
    config["Schedules"] = json!({});
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_a_schedule_or_a_bot_begins_is_played_by_one_window() {
    let Some(icecast) = Icecast::start() else { return };
    let Some(_source) = icecast.source("/live.mp3", MP3) else { return };
    icecast.has_mount("/live.mp3").await;
    icecast.tell_title("/live.mp3", "Nina - Sinnerman").await;
    let Some(room) = Room::open(with_schedules).await else { return };
    room.visit("ada").await;
    let (station, schedule) = schedule_station(&room, &icecast.url("/live.mp3")).await;
    let first = room.browser.another_window(&format!("{}/player/", room.gate.url())).await;
    room.visit("ada").await;
    room.run(&format!(r#"await plays("Low Tide"); {LISTENS}"#)).await;
    let ada = ApiUser::new(&room.gate, "ada");
    ada.send(Method::POST, &format!("/api/v1/scheduler/schedules/{schedule}/run"), None).await.is(202);
    let played = r#"
        await until("the station", () => element("title").textContent === "One" && !audio.paused && audio.currentTime > 0.2);
        await until("the title", () => element("artist").textContent === "Nina - Sinnerman");
        return [element("told").textContent, document.body.dataset.state];
    "#;
    assert_eq!(room.run(played).await, json!(["News: One", "playing"]));
    let second = room.browser.to_window(&first).await;
    let silent = r#"
        await until("the command", () => localStorage.getItem("tidegate.player.command"));
        await wait(1500);
        return [element("title").textContent, audio.paused];
    "#;
    assert_eq!(room.run(silent).await, json!(["", true]));
    // A track takes the place of it, and a bot begins it again.
    room.browser.to_window(&second).await;
    room.run(r#"await plays("Night Ferry"); return null;"#).await;
    let command = json!({ "stream_id": station, "to_players": true });
    ada.send(Method::POST, "/api/v1/radio/play", Some(&command)).await.is(200);
    let played = r#"
        await until("the station", () => element("title").textContent === "One" && !audio.paused && audio.currentTime > 0.2);
        return element("told").textContent;
    "#;
    assert_eq!(room.run(played).await, json!("One begins"));
    room.browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_wants_a_click_first_shows_the_station_and_says_so() {
    let Some(icecast) = Icecast::start() else { return };
    let Some(_source) = icecast.source("/live.mp3", MP3) else { return };
    icecast.has_mount("/live.mp3").await;
    let Some(browser) = Chromium::start_silent().await else { return };
    let Some(room) = Room::open_before(browser, with_schedules).await else { return };
    room.visit("ada").await;
    let (_, schedule) = schedule_station(&room, &icecast.url("/live.mp3")).await;
    let run = format!("/api/v1/scheduler/schedules/{schedule}/run");
    room.run(LISTENS).await;
    ApiUser::new(&room.gate, "ada").send(Method::POST, &run, None).await.is(202);
    let shown = r#"
        await until("the station", () => element("title").textContent === "One");
        const said = await until("what is to be done", () => document.querySelector("footer [role=alert]")?.textContent);
        return [said, audio.paused, element("play").getAttribute("aria-label")];
    "#;
    assert_eq!(room.run(shown).await, json!(["Press Play to hear it", true, "Play"]));
    room.browser.click("#play").await;
    let heard = r#"
        await until("sound", () => !audio.paused && audio.currentTime > 0.2);
        return await until("the notice to go", () => document.querySelector("footer [role=alert]") === null);
    "#;
    assert_eq!(room.run(heard).await, json!(true));
    room.browser.close().await;
}
