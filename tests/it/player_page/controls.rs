//! Controls: the list of speeds, the system's media controls, the Tab key, and where the focus goes.

use serde_json::json;

use super::Room;
use crate::support::token;

#[tokio::test]
async fn each_of_the_22_stops_of_the_speed_is_what_the_track_plays_at() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let script = r#"
        await plays("Low Tide");
        element("show-sound").click();
        await until("the panel", () => element("speed-stop"));
        const stops = [...element("speed").options].map(({ value }) => value);
        const played = [];
        for (const stop of stops) {
            choose("speed", stop);
            await until(`speed ${stop}`, () => audio.playbackRate === Number(stop) && audio.preservesPitch);
            played.push(element("speed-stop").value);
        }
        for (const n of [0, 10, 21]) {
            slide("speed-stop", n);
            await until(`stop ${n}`, () => audio.playbackRate === Number(stops[n]));
        }
        return [stops.map(Number), played.map(Number), element("speed-stop").getAttribute("aria-valuetext")];
    "#;
    let stops = [
        0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9,
        2.0,
    ];
    let sliders: Vec<u32> = (0..22).collect();
    let seen = room.run(script).await;
    let found: Vec<f64> = seen[0].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect();
    assert_eq!(found, stops);
    assert_eq!(seen[1], json!(sliders));
    assert_eq!(seen[2], json!("2×"));
    room.browser.close().await;
}

/// Keeps what the page gives to the browser for the media keys, since a headless browser has no such keys.
const HANDLERS: &str = r#"
    const given = MediaSession.prototype.setActionHandler;
    window.media = {};
    MediaSession.prototype.setActionHandler = function (action, handler) {
        window.media[action] = handler;
        return given.call(this, action, handler);
    };
"#;

#[tokio::test]
async fn the_systems_media_controls_play_pause_seek_and_change_the_track() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": HANDLERS })).await;
    room.visit("ada").await;
    let script = r#"
        const session = navigator.mediaSession;
        await plays("Low Tide");
        const seen = [Object.keys(media).sort().join(), session.metadata.artist, session.playbackState];
        media.pause({ action: "pause" });
        await state("paused");
        seen.push(audio.paused, session.playbackState);
        media.seekto({ action: "seekto", seekTime: 30 });
        await until("second 30", () => audio.currentTime === 30);
        media.seekforward({ action: "seekforward" });
        await until("ten on", () => audio.currentTime === 40);
        media.seekbackward({ action: "seekbackward", seekOffset: 25 });
        await until("25 back", () => audio.currentTime === 15);
        media.play({ action: "play" });
        await until("sound", () => !audio.paused && audio.currentTime > 15.2);
        media.nexttrack({ action: "nexttrack" });
        await until("the next", () => session.metadata.title === "Night Ferry" && audio.currentTime > 0);
        media.previoustrack({ action: "previoustrack" });
        await until("the one before", () => session.metadata.title === "Low Tide");
        return seen;
    "#;
    let actions = "nexttrack,pause,play,previoustrack,seekbackward,seekforward,seekto";
    assert_eq!(room.run(script).await, json!([actions, "Ada Lindqvist", "playing", true, "paused"]));
    room.browser.close().await;
}

const TAB: char = '\u{E004}';
const ENTER: char = '\u{E007}';

/// Presses Tab until the focus is where the expression `wanted` says, of `at`: the focused element.
async fn tab_to(room: &Room, wanted: &str) {
    for _ in 0..80 {
        let is_there = format!("const at = document.activeElement; return Boolean({wanted});");
        if room.run(&is_there).await == json!(true) {
            return;
        }
        room.browser.press(TAB).await;
    }
    panic!("the Tab key never reaches {wanted}");
}

/// Presses Enter, and waits for what the script waits for.
async fn enter(room: &Room, then: &str) {
    room.browser.press(ENTER).await;
    assert_eq!(room.run(&format!("{then}; return true;")).await, json!(true), "{then}");
}

#[tokio::test]
async fn the_tab_key_reaches_sign_in_tracks_panels_and_their_tools_and_the_focus_comes_back() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.open_page().await;
    room.run(r#"await state("signin"); return null;"#).await;
    tab_to(&room, "at.id === 'token'").await;
    room.run(&format!(r#"element("token").value = "{}"; return null;"#, token::of("ada"))).await;
    enter(&room, r#"await until("the list", () => listed().length === 3)"#).await;
    tab_to(&room, "at.matches('[data-id=\"t1\"] .track-play')").await;
    enter(&room, r#"await until("sound", () => !audio.paused && element("title").textContent === "Low Tide")"#).await;
    tab_to(&room, "at.matches('[data-id=\"t2\"] .round')").await;
    enter(&room, r#"await until("a notice", () => element("told").textContent === "Night Ferry is in the queue")"#)
        .await;
    tab_to(&room, "at.id === 'show-queue'").await;
    enter(&room, r#"await until("the queue", () => element("queue")?.children.length === 4 && document.activeElement.id === "side-title")"#).await;
    tab_to(&room, "at.closest('#queue') && at.getAttribute('aria-label') === 'Move Low Tide down'").await;
    enter(&room, r#"await until("it is moved", () => element("queue").children[1].querySelector("[aria-current] .title")?.textContent === "Low Tide" && document.activeElement.getAttribute("aria-label") === "Move Low Tide down")"#).await;
    tab_to(&room, "at.closest('#queue') && at.getAttribute('aria-label') === 'Remove Вітер from the queue'").await;
    enter(&room, r#"await until("it is gone", () => element("queue").children.length === 3 && element("queue").contains(document.activeElement))"#).await;
    tab_to(&room, "at.id === 'close'").await;
    enter(
        &room,
        r#"await until("the focus", () => element("side").hidden && document.activeElement.id === "show-queue")"#,
    )
    .await;
    tab_to(&room, "at.id === 'show-keys'").await;
    enter(
        &room,
        r#"await until("help", () => element("keys").open && element("keys").contains(document.activeElement))"#,
    )
    .await;
    tab_to(&room, "at.closest('#keys button')").await;
    enter(
        &room,
        r#"await until("the focus", () => !element("keys").open && document.activeElement.id === "show-keys")"#,
    )
    .await;
    room.browser.close().await;
}
