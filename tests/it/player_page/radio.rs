//! Radio on the page: of the real module, with a scripted station behind it.

use http::Method;
use serde_json::json;

use super::Room;
use crate::catalogue::{admin, send};
use crate::radio::station::Station;

/// Opens the page with one station in the list.
async fn with_station() -> Option<(Room, Station)> {
    let room = Room::open(|config| config["Radio"] = json!({ "AllowedNetworks": ["127.0.0.1/32"] })).await?;
    let station = Station::start().await;
    station.set_title(b"Nina - Sinnerman");
    let added = json!({ "name": "One", "url": station.url("/live.mp3"), "genre": "jazz", "country": "UA" });
    send(&room.gate, Method::POST, "/api/v1/radio/streams", &admin(), Some(added)).await.is(201);
    room.visit("ada").await;
    Some((room, station))
}

const TUNE: &str = r#"
    await until("the place", () => element("go-radio"));
    element("go-radio").click();
    await until("the station", () => element("stations"));
    element("stations").querySelector("button").click();
    await until("sound", () => !audio.paused && audio.currentTime > 0.2);
"#;

#[tokio::test]
async fn a_station_is_listed_and_heard_and_its_titles_are_shown_as_they_change() {
    let Some((room, station)) = with_station().await else { return };
    let script = r#"
        await until("the title", () => element("artist").textContent === "Nina - Sinnerman");
        const tile = element("stations").querySelector("button");
        return [tile.querySelector(".title").textContent, tile.querySelector(".about").textContent, tile.getAttribute("aria-current"), document.title];
    "#;
    let seen = room.run(&format!("{TUNE}{script}")).await;
    assert_eq!(seen, json!(["One", "jazz · UA · MP3 · 128 kbit/s", "true", "Nina - Sinnerman – Tidegate"]));
    assert!(station.plays() >= 2, "the check when it was added, and the relay");
    station.set_title("Океан Ельзи - Без бою".as_bytes());
    let titles = r#"
        await until("another title", () => element("artist").textContent === "Океан Ельзи - Без бою");
        return [...element("titles").children].map(one => one.textContent);
    "#;
    assert_eq!(room.run(titles).await, json!(["Океан Ельзи - Без бою", "Nina - Sinnerman"]));
    // A track takes the place of the station, and the relay loses its listener.
    let track = r#"element("go-library").click(); await plays("Low Tide"); return [element("title").textContent, element("seek") !== null];"#;
    assert_eq!(room.run(track).await, json!(["Low Tide", true]));
    room.browser.close().await;
}

#[tokio::test]
async fn a_station_that_is_away_is_said_and_a_later_try_is_heard() {
    let Some((room, station)) = with_station().await else { return };
    station.cut(true);
    let away = r#"
        await until("the place", () => element("go-radio"));
        element("go-radio").click();
        await until("the station", () => element("stations"));
        element("stations").querySelector("button").click();
        return await until("words", () => element("told").textContent);
    "#;
    assert_eq!(room.run(away).await, json!("One does not answer"));
    station.come_back();
    // The server connects to it anew after a while, and says until then that it is away.
    let again = r#"
        await until("sound", async () => {
            if (!audio.getAttribute("src")) element("stations").querySelector("button").click();
            await wait(400);
            return audio.currentTime > 0.2;
        });
        return element("title").textContent;
    "#;
    assert_eq!(room.run(again).await, json!("One"));
    room.browser.close().await;
}
