//! How the page looks and reads: by axe, in four languages, on small screens, enlarged, dark, with the system's colours.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::Room;
use crate::catalogue::{admin, send};
use crate::support::user::ApiUser;

const AXE: &str = include_str!("../watch/vendor/axe.min.js");

/// What axe finds, by the rules of WCAG 2.2 A and AA and by best practice.
const JUDGE: &str = r#"
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await axe.run(document, { runOnly: { type: "tag", values: tags } });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.html} ${node.failureSummary}`).join(" | ")}`);
"#;

/// Asserts that axe finds nothing on what the page shows.
pub async fn assert_accessible(room: &Room, what: &str) {
    let found = room.browser.run(&format!("if (!window.axe) {{ {AXE} }} {JUDGE}")).await;
    assert_eq!(found, json!([]), "{what}");
}

async fn media(room: &Room, features: Value) {
    room.browser.command("Emulation.setEmulatedMedia", json!({ "features": features })).await;
}

async fn screen(room: &Room, width: u32, height: u32) {
    let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    room.browser.command("Emulation.setDeviceMetricsOverride", metrics).await;
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
        media(&room, json!([{ "name": "prefers-color-scheme", "value": scheme }])).await;
        for width in [360, 1400] {
            screen(&room, width, 800).await;
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
async fn the_player_page_fits_a_small_screen_and_an_enlarged_one_and_takes_the_systems_colours() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"choose("language", "ru"); await plays("Low Tide"); return null;"#).await;
    // 360 px; 1400 px at 200 %; and 320 px, which is 1280 px at 400 % (WCAG 1.4.10).
    for pixels in [360, 700, 320] {
        screen(&room, pixels, 740).await;
        for panel in ["queue", "sound"] {
            room.run(&format!(r#"element("show-{panel}").click(); return null;"#)).await;
            let seen = r#"
                await wait(100);
                const targets = [...document.querySelectorAll("button, input, select")].filter(one => one.checkVisibility() && !one.closest(".cards"));
                const size = one => { const { width, height } = one.getBoundingClientRect(); return Math.min(width, height); };
                return { over: document.documentElement.scrollWidth - innerWidth, count: targets.length > 10,
                    small: targets.filter(one => size(one) < 24).map(one => one.id || one.className),
                    out: targets.filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.id || one.className) };
            "#;
            let fits = json!({ "over": 0, "count": true, "small": [], "out": [] });
            assert_eq!(room.run(seen).await, fits, "{panel}, {pixels} px");
        }
        room.run(r#"element("close")?.click(); return null;"#).await;
    }
    media(&room, json!([{ "name": "forced-colors", "value": "active" }, { "name": "prefers-reduced-motion", "value": "reduce" }])).await;
    let calm = r#"return [getComputedStyle(document.querySelector(".bars i")).animationName, getComputedStyle(element("deck")).borderTopStyle];"#;
    assert_eq!(room.run(calm).await, json!(["none", "solid"]));
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
    // The median: one load while the machine does something else says nothing about the page, most of them do.
    assert!(all[LOADS / 2] < GOOD, "{all:?} ms");
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
    screen(&room, 1280, 800).await;
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
        media(&room, json!([{ "name": "prefers-color-scheme", "value": scheme }])).await;
        room.run("await wait(400); return null;").await;
        let picture = room.browser.command("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), bytes).expect("it is written");
    }
    room.browser.close().await;
}
