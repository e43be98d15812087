//! Controls: the list of speeds, the system's media controls, the Tab key, and where the focus goes.

use serde_json::json;

use super::Room;
use crate::radio::station::Station;
use crate::support::looks::screen;
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
    const place = MediaSession.prototype.setPositionState;
    MediaSession.prototype.setPositionState = function (state) {
        window.media.place = state;
        return place.call(this, state);
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
        const actions = Object.keys(media).filter(name => name !== "place").sort().join();
        const seen = [actions, session.metadata.artist, session.playbackState];
        const isAt = (position, playbackRate) => JSON.stringify(media.place) === JSON.stringify({ duration: audio.duration, position, playbackRate });
        media.pause({ action: "pause" });
        await state("paused");
        seen.push(audio.paused, session.playbackState);
        media.seekto({ action: "seekto", seekTime: 30 });
        await until("second 30", () => audio.currentTime === 30 && isAt(30, 1));
        choose("speed", "1.5");
        await until("the speed is told", () => isAt(30, 1.5));
        choose("speed", "1");
        media.seekforward({ action: "seekforward" });
        await until("ten on", () => audio.currentTime === 40 && isAt(40, 1));
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

/// Keys of the keyboard, as WebDriver names them.
const LEFT: char = '\u{E012}';
const UP: char = '\u{E013}';
const RIGHT: char = '\u{E014}';
const DOWN: char = '\u{E015}';
const ESCAPE: char = '\u{E00C}';

#[tokio::test]
async fn each_key_of_the_help_does_what_it_says_and_none_does_where_they_are_off() {
    let Some(room) = Room::open(|config| config["Lyrics"] = json!({})).await else { return };
    room.visit("ada").await;
    let begin = r#"await plays("Low Tide"); element("play").click(); await state("paused"); slide("seek", 30); await until("second 30", () => audio.currentTime === 30); document.activeElement.blur(); return null;"#;
    room.run(begin).await;
    let at = |seconds: u32| format!(r#"() => audio.currentTime === {seconds}"#);
    let is = |id: &str, value: &str| format!(r#"() => element("{id}")?.value === "{value}""#);
    let panel =
        |name: &str| format!(r#"() => element("side-title")?.textContent === "{name}" && !element("side").hidden"#);
    let closed = || r#"() => element("side").hidden"#.to_owned();
    let keys = [
        ('l', at(40)),
        ('j', at(30)),
        (RIGHT, at(35)),
        (LEFT, at(30)),
        ('9', at(54)),
        ('0', at(0)),
        (DOWN, is("volume", "95")),
        (UP, is("volume", "100")),
        ('<', is("speed", "0.95")),
        ('>', is("speed", "1")),
        ('q', panel("Queue")),
        ('y', panel("Lyrics")),
        ('e', panel("Sound")),
        ('[', is("pitch", "-1")),
        (']', is("pitch", "0")),
        (ESCAPE, closed()),
        ('n', r#"() => element("title").textContent === "Night Ferry" && !audio.paused"#.to_owned()),
        ('k', r#"() => audio.paused"#.to_owned()),
        // From the beginning it is the track before.
        ('0', at(0)),
        ('p', r#"() => element("title").textContent === "Low Tide""#.to_owned()),
        ('m', r#"() => element("mute").ariaPressed === "true""#.to_owned()),
        ('?', r#"() => element("keys").open"#.to_owned()),
    ];
    for (key, wanted) in keys {
        room.browser.press(key).await;
        assert_eq!(
            room.run(&format!(r#"return await until("{}", {wanted});"#, u32::from(key))).await,
            json!(true),
            "{key}"
        );
    }
    room.run(r#"element("keys-on").click(); element("keys").close(); document.activeElement.blur(); return null;"#)
        .await;
    for key in ['m', 'q', '<'] {
        room.browser.press(key).await;
    }
    // The help is the one that opens still, and it comes after them.
    room.browser.press('?').await;
    let off = r#"await until("the help", () => element("keys").open);
        return [element("mute").ariaPressed, element("side").hidden, element("speed").value, localStorage.getItem("tidegate.player.keys")];"#;
    assert_eq!(room.run(off).await, json!(["true", true, "1", "off"]));
    room.browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tab_key_reaches_every_control_of_the_deck_the_panels_and_the_radio() {
    let station = Station::start().await;
    let Some(room) = Room::with_everything(&station).await else { return };
    // Wide enough for all of the deck.
    screen(&room.browser, 1400, 800).await;
    room.visit("ada").await;
    room.run(r#"await plays("Вітер"); document.activeElement.blur(); return null;"#).await;
    let deck = [
        "search",
        "language",
        "show-keys",
        "sign-out",
        "go-library",
        "go-radio",
        "shuffle",
        "previous",
        "play",
        "next",
    ];
    let more = ["repeat", "seek", "speed", "show-sound", "show-lyrics", "show-queue", "mute", "volume"];
    for id in deck.into_iter().chain(more) {
        tab_to(&room, &format!("at.id === '{id}'")).await;
    }
    // An arrow is the slider's own while it has the focus.
    room.browser.press(LEFT).await;
    assert_eq!(
        room.run(r#"return await until("quieter", () => localStorage.getItem("tidegate.player.volume") === "95");"#)
            .await,
        json!(true)
    );
    tab_to(&room, "at.id === 'show-sound'").await;
    enter(&room, r#"await until("the sound", () => element("pitch"))"#).await;
    for id in ["reset", "close", "speed-stop", "track-speed", "pitch", "preset", "band-0", "band-4", "band-9", "sleep"]
    {
        tab_to(&room, &format!("at.id === '{id}'")).await;
    }
    tab_to(&room, "at.id === 'pitch'").await;
    room.browser.press(RIGHT).await;
    assert_eq!(room.run(r#"return await until("higher", () => document.querySelector(".field output").textContent && element("pitch").ariaValueText === "+1 semitone");"#).await, json!(true));
    tab_to(&room, "at.id === 'show-lyrics'").await;
    enter(&room, r#"await until("lines", () => element("lines"))"#).await;
    tab_to(&room, "at.id === 'lyrics-later'").await;
    enter(&room, r#"await until("later", () => document.querySelector(".offset output").textContent === "-0.1 s")"#)
        .await;
    tab_to(&room, "at.id === 'lyrics-earlier'").await;
    tab_to(&room, "at.closest('#lines li:nth-child(2)')").await;
    enter(&room, r#"await until("the second line", () => element("lines").children[1].hasAttribute("aria-current"))"#)
        .await;
    tab_to(&room, "at.id === 'close'").await;
    enter(&room, r#"await until("it is closed", () => element("side").hidden)"#).await;
    tab_to(&room, "at.id === 'go-radio'").await;
    enter(&room, r#"await until("stations", () => element("stations"))"#).await;
    tab_to(&room, "at.closest('#stations')").await;
    enter(&room, r#"await until("the station", () => element("title").textContent === "One")"#).await;
    tab_to(&room, "at.id === 'sign-out'").await;
    enter(&room, r#"await state("signin")"#).await;
    room.browser.close().await;
}
