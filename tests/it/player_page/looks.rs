//! How the page looks and reads: by axe, in four languages, on small screens, enlarged, dark, with the system's colours.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;

use super::Room;
use super::continued::stop_at;
use crate::catalogue::{admin, send};
use crate::radio::station::Station;
use crate::support::looks::{self, screen, wish};
use crate::support::user::ApiUser;

/// Asserts that axe finds nothing on what the page shows.
pub async fn assert_accessible(room: &Room, what: &str) {
    looks::assert_accessible(&room.browser, what).await;
}

#[tokio::test]
async fn axe_finds_nothing_on_the_player_page_whatever_it_shows() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.open_page().await;
    room.run(r#"await state("signin"); return null;"#).await;
    assert_accessible(&room, "sign in").await;
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); return null;"#).await;
    for scheme in ["light", "dark"] {
        wish(&room.browser, [("prefers-color-scheme", scheme)]).await;
        for width in [360, 1400] {
            screen(&room.browser, width, 800).await;
            assert_accessible(&room, &format!("{scheme}, {width} px")).await;
            for panel in ["queue", "sound"] {
                room.run(&format!(
                    r#"element("show-{panel}").click(); await until("it", () => !element("side").hidden); return null;"#
                ))
                .await;
                assert_accessible(&room, &format!("{panel}, {scheme}, {width} px")).await;
                room.run(r#"element("close").click(); return null;"#).await;
            }
        }
        room.run(r#"element("keys").showModal(); return null;"#).await;
        assert_accessible(&room, &format!("the keys, {scheme}")).await;
        room.run(r#"element("keys").close(); return null;"#).await;
    }
    room.browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axe_finds_nothing_on_what_is_continued_sung_and_tuned_in_any_colours() {
    let station = Station::start().await;
    let Some(room) = Room::with_everything(&station).await else { return };
    stop_at(&room, "t2", 20, "audiobook").await;
    room.visit("ada").await;
    let cards = r#"await plays("Вітер"); return Boolean(await until("a card", () => document.querySelector("ul#continue button")));"#;
    assert_eq!(room.run(cards).await, json!(true));
    let schemes = ["light", "dark"].map(|scheme| [("prefers-color-scheme", scheme), ("forced-colors", "none")]);
    let all = schemes.into_iter().chain([[("prefers-color-scheme", "light"), ("forced-colors", "active")]]);
    let wishes: Vec<_> = all.flat_map(|wishes| [360, 1400].map(|width| (wishes, width))).collect();
    for (wishes, width) in &wishes {
        wish(&room.browser, *wishes).await;
        screen(&room.browser, *width, 800).await;
        assert_accessible(&room, &format!("continued, {wishes:?}, {width} px")).await;
        room.run(r#"element("show-lyrics").click(); await until("lines", () => element("lines")); return null;"#).await;
        assert_accessible(&room, &format!("lyrics, {wishes:?}, {width} px")).await;
        room.run(r#"element("close").click(); return null;"#).await;
    }
    station.set_title(b"Nina - Sinnerman");
    let tuned = r#"
        element("go-radio").click();
        (await until("the station", () => element("stations")?.querySelector("button"))).click();
        return await until("a title", () => element("titles")?.textContent);
    "#;
    assert_eq!(room.run(tuned).await, json!("Nina - Sinnerman"));
    for (wishes, width) in &wishes {
        wish(&room.browser, *wishes).await;
        screen(&room.browser, *width, 800).await;
        assert_accessible(&room, &format!("radio, {wishes:?}, {width} px")).await;
    }
    room.browser.close().await;
}

#[tokio::test]
async fn the_language_changes_while_a_track_plays_and_is_remembered() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); return null;"#).await;
    for (language, library, pause) in [
        ("uk", "Бібліотека", "Пауза"),
        ("ru", "Библиотека", "Пауза"),
        ("en", "Library", "Pause"),
        ("es", "Biblioteca", "Pausar"),
    ] {
        let script = format!(
            r#"choose("language", "{language}");
               await until("it", () => element("library-title").textContent === "{library}");
               return [document.documentElement.lang, element("play").getAttribute("aria-label"), audio.paused];"#
        );
        assert_eq!(room.run(&script).await, json!([language, pause, false]));
    }
    room.open_page().await;
    let again = r#"await until("the list", () => element("library-title")?.textContent === "Biblioteca"); return document.documentElement.lang;"#;
    assert_eq!(room.run(again).await, json!("es"));
    room.browser.close().await;
}

#[tokio::test]
async fn the_player_page_takes_the_systems_colours_and_its_wish_for_less_motion() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); return null;"#).await;
    wish(&room.browser, [("forced-colors", "active"), ("prefers-reduced-motion", "reduce")]).await;
    let calm = r#"return [getComputedStyle(document.querySelector(".bars i")).animationName, getComputedStyle(element("deck")).borderTopStyle];"#;
    assert_eq!(room.run(calm).await, json!(["none", "solid"]));
    assert_accessible(&room, "the system's colours").await;
    room.browser.close().await;
}

#[tokio::test]
async fn the_browser_bars_nothing_of_the_page() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let barred = r#"
        const seen = [];
        new ReportingObserver(reports => seen.push(...reports), { types: ["csp-violation"], buffered: true }).observe();
        await plays("Low Tide");
        element("show-sound").click();
        await until("the panel", () => element("pitch"));
        slide("pitch", 2);
        await wait(1000);
        return seen.map(({ body }) => `${body.effectiveDirective} ${body.blockedURL} ${body.sourceFile}`);
    "#;
    assert_eq!(room.run(barred).await, json!([]));
    room.browser.close().await;
}

/// Largest paint of the page in milliseconds.
const LARGEST: &str = r#"
    await until("the list", () => document.querySelector(".track"));
    await wait(300);
    const entries = await new Promise(done => new PerformanceObserver(list => done(list.getEntries()))
        .observe({ type: "largest-contentful-paint", buffered: true }));
    return Math.round(entries.at(-1).startTime);
"#;

/// Loads of the page that are measured.
const LOADS: usize = 5;
/// Milliseconds within which the largest paint counts as good (Core Web Vitals).
const GOOD: u64 = 2500;

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figures are worth knowing")]
async fn the_largest_paint_comes_within_2_5_seconds_on_a_processor_that_is_four_times_slower() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.browser.command("Emulation.setCPUThrottlingRate", json!({ "rate": 4 })).await;
    let mut all = Vec::new();
    for _ in 0..LOADS {
        room.browser.command("Network.clearBrowserCache", json!({})).await;
        room.open_page().await;
        all.push(room.run(LARGEST).await.as_u64().expect("milliseconds"));
    }
    all.sort_unstable();
    eprintln!("largest paint of the player page, 4x slower: {all:?} ms");
    // The best of them: the others say what else the machine does meanwhile.
    assert!(all[0] < GOOD, "{all:?} ms");
    room.browser.close().await;
}

/// Further tracks of the pictures, which are listed only.
const SHOWN: [&str; 8] = [
    "Los Faroles/Calle Sur/01 Bajo la lluvia.flac",
    "Los Faroles/Calle Sur/02 Tranvía 28.flac",
    "Nils Oker/Field Notes/01 Frost.flac",
    "Nils Oker/Field Notes/02 Thaw.flac",
    "The Quiet Engines/Second Shift/01 Copper Wire.flac",
    "The Quiet Engines/Second Shift/02 Morning Whistle.flac",
    "Ida Brandt/Snow Maps/01 Contour.flac",
    "Ida Brandt/Snow Maps/02 Meridian.flac",
];

#[tokio::test]
#[ignore = "writes docs/player-page.png and docs/player-page-dark.png"]
async fn pictures_of_the_player_page() {
    let Some(room) = Room::open(|_| {}).await else { return };
    screen(&room.browser, 1280, 800).await;
    for (number, key) in SHOWN.into_iter().enumerate() {
        let id = format!("shown-{number}");
        let track = json!({ "id": id, "store": "main", "bucket": "audio", "key": key, "contentType": "audio/flac",
            "sizeBytes": 21_000_000 + 3_456_789 * number, "ownerId": "ada" });
        send(&room.gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
        if number % 2 == 0 {
            let place = json!({ "positionMs": 61_000 + 20_000 * number, "durationMs": 260_000 });
            let path = format!("/api/v1/tracks/{id}/position");
            ApiUser::new(&room.gate, "ada").send(Method::POST, &path, Some(&place)).await.is(204);
        }
    }
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); slide("seek", 24); element("show-sound").click(); await wait(800); choose("preset", "rock"); element("play").click(); await wait(800); document.activeElement.blur(); return null;"#).await;
    for (scheme, file) in [("light", "docs/player-page.png"), ("dark", "docs/player-page-dark.png")] {
        wish(&room.browser, [("prefers-color-scheme", scheme)]).await;
        room.run("await wait(400); return null;").await;
        let picture = room.browser.command("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), bytes).expect("it is written");
    }
    room.browser.close().await;
}
