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
        return await until("a place that waits", () => JSON.parse(localStorage.getItem("tidegate.player.places.ada") ?? "{}").t1?.positionMs > 44000);
    "#;
    assert_eq!(room.run(kept).await, json!(true));
    room.browser.command("Network.emulateNetworkConditions", offline(false)).await;
    room.position_becomes("ada", "t1", |at| at > 44_000).await;
    let gone = r#"return await until("nothing waits", () => localStorage.getItem("tidegate.player.places.ada") === null && !element("offline"));"#;
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

#[tokio::test]
async fn the_speed_of_a_track_is_remembered_and_that_of_the_others_is_not_changed() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let script = r#"
        await plays("Low Tide");
        choose("speed", "1.5");
        await until("faster", () => audio.playbackRate === 1.5);
        element("show-sound").click();
        (await until("the box", () => element("track-speed"))).click();
        choose("speed", "1.25");
        await until("slower", () => audio.playbackRate === 1.25);
        await plays("Night Ferry");
        await until("the speed of all", () => audio.playbackRate === 1.5 && !element("track-speed").checked);
        return element("speed").value;
    "#;
    assert_eq!(room.run(script).await, json!("1.5"));
    let user = ApiUser::new(&room.gate, "ada");
    eventually("the server has it", async || {
        let reply = user.send(Method::GET, "/api/v1/playback/settings?track_id=t1", None).await;
        String::from_utf8_lossy(&reply.body).contains("\"track_speed\":1.25").then_some(())
    })
    .await;
    // After a reload it is the server's.
    room.open_page().await;
    let again = r#"
        await plays("Low Tide");
        await until("its speed", () => audio.playbackRate === 1.25 && element("speed").value === "1.25");
        element("show-sound").click();
        await until("the box", () => element("track-speed")?.checked);
        element("track-speed").click();
        await until("the speed of all", () => audio.playbackRate === 1.5);
        return element("track-speed").checked;
    "#;
    assert_eq!(room.run(again).await, json!(false));
    eventually("the server has forgotten it", async || {
        let reply = user.send(Method::GET, "/api/v1/playback/settings?track_id=t1", None).await;
        String::from_utf8_lossy(&reply.body).contains("\"track_speed\":null").then_some(())
    })
    .await;
    room.browser.close().await;
}

#[tokio::test]
async fn the_sleep_timer_stops_after_its_time_or_with_the_track() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let script = r#"
        await plays("Low Tide");
        element("show-sound").click();
        await until("the panel", () => element("sleep"));
        choose("sleep", "15");
        await until("what is left", () => /^1[45]:\d\d left$/.test(element("sleep-left")?.textContent));
        const now = Date.now;
        Date.now = () => now() + 15 * 60_000;
        await state("paused");
        Date.now = now;
        const seen = [audio.paused, element("told").textContent, element("sleep").value];
        choose("sleep", "track");
        element("play").click();
        await until("sound", () => !audio.paused);
        slide("seek", 59.4);
        await until("the next track", () => element("title").textContent === "Night Ferry");
        await state("paused");
        return [...seen, audio.paused, element("sleep").value];
    "#;
    let seen = json!([true, "The sleep timer has stopped the player", "off", true, "off"]);
    assert_eq!(room.run(script).await, seen);
    room.browser.close().await;
}

#[tokio::test]
async fn a_change_of_another_player_is_heard_while_an_own_one_is_on_its_way() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let held = r#"
        const ask = window.fetch;
        let sent;
        const isSent = new Promise(done => { sent = done; });
        const released = new Promise(done => { window.release = done; });
        window.fetch = async (path, ...rest) => {
            if (String(path).endsWith("/playback/speed")) { sent(); await released; }
            return ask(path, ...rest);
        };
        choose("speed", "1.5");
        await isSent;
        element("show-sound").click();
        return null;
    "#;
    room.run(held).await;
    let user = ApiUser::new(&room.gate, "ada");
    user.send(Method::PUT, "/api/v1/playback/pitch", Some(&json!({ "semitones": -3 }))).await.is(200);
    let heard = r#"
        await until("the pitch", () => element("pitch")?.value === "-3");
        window.release();
        await until("the answer", () => performance.getEntriesByType("resource").some(({ name }) => name.endsWith("/playback/speed")));
        return [element("speed").value, element("pitch").value];
    "#;
    assert_eq!(room.run(heard).await, json!(["1.5", "-3"]));
    room.browser.close().await;
}

#[tokio::test]
async fn what_another_player_did_before_does_not_stop_this_one() {
    let Some(room) = Room::open(|_| {}).await else { return };
    let user = ApiUser::new(&room.gate, "ada");
    let report = json!({ "session_id": "other", "seq": 1, "track_id": "t2", "state": "playing", "position_ms": 1000 });
    user.send(Method::POST, "/api/v1/playback/report", Some(&report)).await.is(200);
    // The page learns of it when its own track has begun to be loaded, and before its report is taken.
    let late = r#"
        const ask = window.fetch;
        window.fetch = async (path, ...rest) => {
            if (String(path).includes("/playback/report")) await window.told;
            const answer = await ask(path, ...rest);
            if (String(path).includes("/playback/events")) await window.begun;
            return answer;
        };
        window.told = new Promise(done => { window.tell = done; });
        window.begun = new Promise(done => { window.begin = done; });
    "#;
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": late })).await;
    room.visit("ada").await;
    let script = r#"
        await plays("Low Tide");
        window.begin();
        const at = audio.currentTime;
        await until("a second more", () => audio.currentTime > at + 1 || document.body.dataset.state === "paused");
        window.tell();
        return [document.body.dataset.state, element("told").textContent];
    "#;
    assert_eq!(room.run(script).await, json!(["playing", ""]));
    // What it does now does.
    let at =
        json!({ "session_id": "other again", "seq": 1, "track_id": "t2", "state": "playing", "position_ms": 1000 });
    eventually("the page has reported", async || {
        let reply = user.send(Method::GET, "/api/v1/playback/position", None).await;
        String::from_utf8_lossy(&reply.body).contains("\"track_id\":\"t1\"").then_some(())
    })
    .await;
    user.send(Method::POST, "/api/v1/playback/report", Some(&at)).await.is(200);
    let taken = r#"await state("paused"); return element("told").textContent;"#;
    assert_eq!(room.run(taken).await, json!("Playing goes on in another window"));
    room.browser.close().await;
}

#[tokio::test]
async fn a_track_that_is_chosen_while_the_last_one_comes_back_is_the_one_that_plays() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Night Ferry"); element("play").click(); await state("paused"); return null;"#).await;
    // Where the user was is told only after another track plays.
    let late = r#"
        localStorage.removeItem("tidegate.player.places.ada");
        const ask = window.fetch;
        window.fetch = async (path, options) => {
            if (String(path).includes("/t2/position?") && options.method !== "POST") { window.isAsked = true; await window.chosen; }
            return ask(path, options);
        };
        window.chosen = new Promise(done => { window.choose = done; });
    "#;
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": late })).await;
    room.open_page().await;
    let script = r#"
        await until("the question", () => window.isAsked);
        await plays("Low Tide");
        window.choose();
        const at = audio.currentTime;
        await until("a second more", () => audio.currentTime > at + 1 || element("title").textContent !== "Low Tide");
        return [element("title").textContent, document.body.dataset.state];
    "#;
    assert_eq!(room.run(script).await, json!(["Low Tide", "playing"]));
    room.browser.close().await;
}
