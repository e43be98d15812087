//! Radio on the page: a real Icecast with ffmpeg as its source, heard by the browser and measured.

use http::Method;
use serde_json::json;

use super::Room;
use crate::catalogue::{admin, send};
use crate::player_sound::{MEASURES, TAP, assert_hertz};
use crate::radio::icecast::{Icecast, MP3};

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
