//! Playing: the list, the search, the queue, seeking, places, and what other windows hear.

use http::Method;
use serde_json::json;

use super::Room;
use crate::support::eventually;
use crate::support::user::ApiUser;

#[tokio::test]
async fn the_library_lists_a_users_tracks_and_searches_them_in_any_case() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let all = r#"await until("three", () => listed().length === 3); return listed();"#;
    assert_eq!(room.run(all).await, json!(["Low Tide", "Night Ferry", "Вітер"]));
    for (search, found) in [("night harb", "Night Ferry"), ("вітер", "Вітер"), ("ADA LOW", "Low Tide")] {
        let script = format!(
            r#"slide("search", "{search}"); await until("one", () => listed().length === 1 && document.querySelector("h1").textContent.includes("{search}")); return listed()[0];"#
        );
        assert_eq!(room.run(&script).await, json!(found), "{search}");
    }
    let none = r#"slide("search", "hidden"); await until("nothing", () => document.querySelector(".empty")); return listed();"#;
    assert_eq!(room.run(none).await, json!([]), "a track of somebody else");
    room.browser.close().await;
}

#[tokio::test]
async fn a_track_plays_by_the_real_binary_and_a_seek_is_followed() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let seen = room
        .run(
            r#"await plays("Low Tide");
               slide("seek", 40);
               await until("second 40", () => audio.currentTime > 40.2);
               await until("a text", () => element("seek").getAttribute("aria-valuetext").startsWith("40 seconds") || element("seek").getAttribute("aria-valuetext").startsWith("41"));
               await until("what is loaded", () => /[1-9]/.test(element("loaded").getAttribute("aria-label")));
               return [element("seek").getAttribute("aria-valuetext").endsWith("of 1 minute"), navigator.mediaSession.metadata.title, document.title];"#,
        )
        .await;
    assert_eq!(seen, json!([true, "Low Tide", "Low Tide – Tidegate"]));
    room.browser.close().await;
}

#[tokio::test]
async fn the_queue_goes_on_by_itself_and_takes_what_is_added() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let seen = room
        .run(
            r#"await plays("Low Tide");
               element("show-queue").click();
               await until("the queue", () => element("queue"));
               document.querySelector('[data-id="t1"] .round').click();
               await until("four", () => element("queue").children.length === 4);
               slide("seek", 59.4);
               await until("the next one", () => element("title").textContent === "Night Ferry" && audio.currentTime > 0 && audio.currentTime < 30);
               element("next").click();
               await until("the third", () => element("title").textContent === "Вітер");
               element("previous").click();
               await until("back", () => element("title").textContent === "Night Ferry");
               return element("queue").querySelector("[aria-current] .title").textContent;"#,
        )
        .await;
    assert_eq!(seen, json!("Night Ferry"));
    room.browser.close().await;
}

#[tokio::test]
async fn a_reload_comes_back_to_the_track_and_its_place() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let script = r#"await plays("Night Ferry"); slide("seek", 30); await until("second 30", () => audio.currentTime > 30.2); element("play").click(); await state("paused"); return null;"#;
    room.run(script).await;
    room.position_becomes("ada", "t2", |at| (30_000..40_000).contains(&at)).await;
    room.open_page().await;
    let seen = room
        .run(
            r#"await until("the track", () => element("title")?.textContent === "Night Ferry" && audio.readyState > 0);
               const at = audio.currentTime;
               element("play").click();
               await until("sound", () => !audio.paused && audio.currentTime > at + 0.2);
               return at > 29 && at < 40;"#,
        )
        .await;
    assert_eq!(seen, json!(true));
    let continued = r#"return await until("the list", () => [...document.querySelectorAll("ul#continue .title")].map(one => one.textContent).join());"#;
    assert_eq!(room.run(continued).await, json!("Night Ferry"));
    room.browser.close().await;
}

#[tokio::test]
async fn the_place_is_saved_when_the_page_is_closed() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    // Beyond the last report, which was that of the seek.
    room.run(r#"await plays("Low Tide"); slide("seek", 20); await until("second 22", () => audio.currentTime > 22.5); return null;"#).await;
    room.browser.open("about:blank").await;
    room.position_becomes("ada", "t1", |at| at > 22_400).await;
    room.browser.close().await;
}

#[tokio::test]
async fn a_change_in_one_window_is_heard_in_the_other() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let first = room.browser.another_window(&format!("{}/player/", room.gate.url())).await;
    room.visit("ada").await;
    room.run(r#"choose("speed", "1.5"); return null;"#).await;
    let user = ApiUser::new(&room.gate, "ada");
    eventually("the server has it", async || {
        let reply = user.send(Method::GET, "/api/v1/playback/settings", None).await;
        String::from_utf8_lossy(&reply.body).contains("\"speed\":1.5").then_some(())
    })
    .await;
    room.browser.to_window(&first).await;
    let heard = r#"return await until("the speed", () => element("speed").value === "1.5");"#;
    assert_eq!(room.run(heard).await, json!(true));
    user.send(Method::PUT, "/api/v1/playback/pitch", Some(&json!({ "semitones": -3 }))).await.is(200);
    let pitch =
        r#"element("show-sound").click(); return await until("the pitch", () => element("pitch")?.value === "-3");"#;
    assert_eq!(room.run(pitch).await, json!(true));
    room.browser.close().await;
}

#[tokio::test]
async fn a_server_that_comes_back_gets_the_places_that_waited() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); await wait(500); return null;"#).await;
    let offline =
        |offline: bool| json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    room.browser.command("Network.enable", json!({})).await;
    room.browser.command("Network.emulateNetworkConditions", offline(true)).await;
    let kept = r#"
        slide("seek", 45);
        element("play").click();
        await until("the notice", () => element("offline"));
        return await until("a place that waits", () => JSON.parse(localStorage.getItem("tidegate.player.places") ?? "{}").t1?.positionMs > 44000);
    "#;
    assert_eq!(room.run(kept).await, json!(true));
    room.browser.command("Network.emulateNetworkConditions", offline(false)).await;
    room.position_becomes("ada", "t1", |at| at > 44_000).await;
    let gone = r#"return await until("nothing waits", () => localStorage.getItem("tidegate.player.places") === null && !element("offline"));"#;
    assert_eq!(room.run(gone).await, json!(true));
    room.browser.close().await;
}

#[tokio::test]
async fn everything_is_reached_by_the_keyboard() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); document.activeElement.blur(); return null;"#).await;
    for (key, what) in [
        (' ', r#"await state("paused")"#),
        ('k', r#"await state("playing")"#),
        ('5', r#"await until("the middle", () => audio.currentTime > 29.5)"#),
        ('j', r#"await until("ten back", () => audio.currentTime < 25)"#),
        ('>', r#"await until("faster", () => element("speed").value === "1.1")"#),
        ('m', r#"await until("mute", () => element("mute").getAttribute("aria-pressed") === "true")"#),
        ('e', r#"await until("sound", () => element("preset"))"#),
        (']', r#"await until("higher", () => element("pitch").value === "1")"#),
        ('\u{E00C}', r#"await until("closed", () => element("side").hidden)"#),
        ('n', r#"await until("next", () => element("title").textContent === "Night Ferry")"#),
        ('?', r#"await until("help", () => element("keys").open)"#),
        ('\u{E00C}', r#"await until("closed", () => !element("keys").open)"#),
        ('/', r#"await until("search", () => document.activeElement.id === "search")"#),
        // Typed, not a command.
        (
            'n',
            r#"await until("typed", () => element("search").value === "n" && element("title").textContent === "Night Ferry")"#,
        ),
    ] {
        room.browser.press(key).await;
        assert!(room.run(&format!("{what}; return true;")).await == json!(true), "{key}");
    }
    room.browser.close().await;
}

/// Lyrics of ten lines, a second each, which the page asks for as it would the server.
const LYRICS: &str = r#"
    const ask = window.fetch;
    const lines = Array.from({ length: 10 }, (_, n) => ({ start_ms: 1000 * n + 500, end_ms: null, text: `Line ${n}`,
        words: [{ start_ms: 1000 * n + 500, text: "Line " }, { start_ms: 1000 * n + 900, text: `${n}` }] }));
    window.fetch = (path, ...rest) => String(path).includes("/lyrics/")
        ? Promise.resolve(Response.json({ lang: "en", plain: null, instrumental: false, synced: lines, texts: [] })) : ask(path, ...rest);
"#;

#[tokio::test]
async fn lines_of_lyrics_are_marked_within_a_tenth_of_a_second_and_a_click_seeks() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let script = format!(
        r#"{LYRICS}
           await plays("Low Tide");
           element("show-lyrics").click();
           await until("lines", () => element("lines")?.children.length === 10);
           const late = [];
           new MutationObserver(changes => changes.forEach(({{ target, oldValue }}) => {{
               const n = [...element("lines").children].indexOf(target);
               if (oldValue === null && target.hasAttribute("aria-current")) late.push(Math.abs(Number(element("lines").dataset.heard) - n - 0.5));
           }})).observe(element("lines"), {{ subtree: true, attributes: true, attributeOldValue: true, attributeFilter: ["aria-current"] }});
           await until("seven lines", () => late.length >= 7);
           const median = late.slice(1).sort((one, other) => one - other)[3];
           element("lines").children[1].querySelector("button").click();
           await until("the second line", () => audio.currentTime < 2.6 && element("lines").children[1].hasAttribute("aria-current"));
           await until("its words", () => element("lines").children[1].querySelectorAll(".sung").length >= 1);
           return median;"#
    );
    let late = room.run(&script).await;
    // The median: one frame of a busy machine may come late.
    assert!(late.as_f64().is_some_and(|late| late < 0.1), "{late}");
    room.browser.close().await;
}
