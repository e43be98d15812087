//! Screens of any size: everything fits and can be pressed, and each function is there on all of them.

use serde_json::json;

use super::Room;
use crate::radio::station::Station;
use crate::support::looks::{assert_fits, screen};

/// Width of a screen in pixels, with what is in the deck there, and what in the panels of queue and sound.
type WidthLayout = (u32, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// Asserts that each of these can be seen.
async fn assert_shown(room: &Room, ids: &[&str], what: &str) {
    let missing = format!(
        "await wait(100); return {}.filter(id => !element(id)?.checkVisibility({{ opacityProperty: true }}));",
        json!(ids)
    );
    assert_eq!(room.run(&missing).await, json!([]), "{what}");
}

async fn open(room: &Room, panel: &str) {
    let script = format!(
        r#"if (element("show-{panel}").ariaExpanded !== "true") element("show-{panel}").click();
           await until("the panel", () => !element("side").hidden && element("show-{panel}").ariaExpanded === "true"); return null;"#
    );
    room.run(&script).await;
}

async fn close(room: &Room) {
    room.run(r#"element("close")?.click(); await until("it", () => element("side").hidden); return null;"#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_player_page_fits_a_small_screen_and_an_enlarged_one_whatever_it_shows() {
    let station = Station::start().await;
    let Some(room) = Room::with_everything(&station).await else { return };
    // 360 px; 1400 px at 200 %; and 320 px, which is 1280 px at 400 % (WCAG 1.4.10).
    let sizes = [360, 700, 320];
    room.open_page().await;
    room.run(r#"await state("signin"); choose("language", "ru"); return null;"#).await;
    for pixels in sizes {
        screen(&room.browser, pixels, 740).await;
        assert_fits(&room.browser, &format!("sign in, {pixels} px")).await;
    }
    room.visit("ada").await;
    room.run(r#"await plays("Вітер"); return null;"#).await;
    for pixels in sizes {
        screen(&room.browser, pixels, 740).await;
        assert_fits(&room.browser, &format!("the library, {pixels} px")).await;
        for panel in ["queue", "sound", "lyrics"] {
            open(&room, panel).await;
            assert_fits(&room.browser, &format!("{panel}, {pixels} px")).await;
        }
        close(&room).await;
        room.run(r#"element("show-keys").click(); await until("help", () => element("keys").open); return null;"#)
            .await;
        assert_fits(&room.browser, &format!("the keys, {pixels} px")).await;
        room.run(r#"element("keys").close(); element("go-radio").click(); await until("stations", () => element("stations")); return null;"#).await;
        assert_fits(&room.browser, &format!("radio, {pixels} px")).await;
        room.run(r#"element("go-library").click(); return null;"#).await;
    }
    let tuned = r#"
        element("go-radio").click();
        (await until("the station", () => element("stations")?.querySelector("button"))).click();
        return await until("its name", () => element("title").textContent === "One");
    "#;
    assert_eq!(room.run(tuned).await, json!(true));
    for pixels in sizes {
        screen(&room.browser, pixels, 740).await;
        assert_fits(&room.browser, &format!("a station that plays, {pixels} px")).await;
    }
    room.browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_function_is_there_on_a_screen_of_any_width() {
    let station = Station::start().await;
    let Some(room) = Room::with_everything(&station).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Вітер"); return null;"#).await;
    let always = [
        "search",
        "language",
        "show-keys",
        "sign-out",
        "go-library",
        "go-radio",
        "previous",
        "play",
        "next",
        "seek",
        "elapsed",
        "length",
        "title",
        "show-queue",
        "show-sound",
        "show-lyrics",
    ];
    let (queue, sound) = (
        ["clear", "close"],
        ["speed-stop", "track-speed", "pitch", "preset", "band-0", "band-9", "sleep", "reset", "close"],
    );
    // What is in the deck of this width, and what is in the panels instead.
    let widths: [WidthLayout; 5] = [
        (320, &[], &["queue-shuffle", "queue-repeat"], &["sound-volume", "sound-mute"]),
        (360, &[], &["queue-shuffle", "queue-repeat"], &["sound-volume", "sound-mute"]),
        (700, &["shuffle", "repeat", "speed", "mute"], &[], &["sound-volume", "sound-mute"]),
        (1000, &["shuffle", "repeat", "speed", "mute"], &[], &["sound-volume", "sound-mute"]),
        (1400, &["shuffle", "repeat", "speed", "mute", "volume"], &[], &[]),
    ];
    for (pixels, deck, in_queue, in_sound) in widths {
        screen(&room.browser, pixels, 740).await;
        assert_shown(&room, &[&always, deck].concat(), &format!("{pixels} px")).await;
        for (panel, ids) in [
            ("queue", [&queue, in_queue].concat()),
            ("sound", [&sound, in_sound].concat()),
            ("lyrics", vec!["lyrics-earlier", "lyrics-later", "lines", "close"]),
        ] {
            open(&room, panel).await;
            assert_shown(&room, &ids, &format!("{panel}, {pixels} px")).await;
        }
        close(&room).await;
    }
    room.browser.close().await;
}

#[tokio::test]
async fn what_the_panels_have_in_the_place_of_the_deck_does_what_the_deck_does() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); return null;"#).await;
    screen(&room.browser, 360, 740).await;
    open(&room, "queue").await;
    let order = r#"
        element("queue-shuffle").click();
        element("queue-repeat").click();
        await until("both", () => element("queue-shuffle").ariaPressed === "true" && element("queue-repeat").ariaLabel === "Repeat: all");
        return [element("shuffle").ariaPressed, element("repeat").ariaLabel];
    "#;
    assert_eq!(room.run(order).await, json!(["true", "Repeat: all"]));
    open(&room, "sound").await;
    let volume = r#"
        slide("sound-volume", 40);
        element("sound-mute").click();
        await until("both", () => element("sound-mute").ariaPressed === "true" && element("volume").value === "40");
        return [localStorage.getItem("tidegate.player.volume"), element("mute").ariaPressed];
    "#;
    assert_eq!(room.run(volume).await, json!(["40", "true"]));
    room.browser.close().await;
}
