//! What the page shows where something is not there or does not answer, and that it goes on when the network is back.

use http::Method;
use serde_json::{Value, json};

use super::looks::assert_accessible;
use super::{Room, TOOLS, write};
use crate::radio::station::Station;
use crate::support::eventually;
use crate::support::user::ApiUser;

/// Answers of the server that have to be provoked: `failing` has pieces of paths, with the status of their answers, or `held`.
const FAILING: &str = r#"
    window.failing = JSON.parse(sessionStorage.getItem("failing") ?? "{}");
    const ask = window.fetch;
    window.fetch = (path, ...rest) => {
        const status = Object.entries(window.failing).find(([piece]) => String(path).includes(piece))?.[1];
        // One that is held is never answered.
        if (status === "held") return new Promise(() => {});
        return status ? Promise.resolve(new Response("{}", { status })) : ask(path, ...rest);
    };
"#;

/// States of the page, each with the script that provokes it, the text that it shows, and the script that ends it.
const STATES: [(&str, &str, &str, &str); 7] = [
    (
        "a track that cannot be had is passed over",
        r#"await plays("Low Tide"); failing["/t2/stream-url"] = 404; element("next").click();
           return await until("words", () => document.querySelector("footer [role=alert]")?.textContent);"#,
        "This track cannot be had.",
        r#"return await until("the one after it", () => element("title").textContent === "Вітер" && !audio.paused && !document.querySelector("footer [role=alert]"));"#,
    ),
    (
        "a track that is not answered for is tried again",
        r#"await plays("Low Tide"); failing["/t2/stream-url"] = 503; element("next").click();
           return await until("words", () => document.querySelector("footer [role=alert]")?.textContent);"#,
        "No answer. Trying again …",
        r#"return await until("sound", () => element("title").textContent === "Night Ferry" && audio.currentTime > 0.1 && !document.querySelector("footer [role=alert]"));"#,
    ),
    (
        "a station that does not answer",
        r#"element("go-radio").click(); failing["/radio/play"] = 503;
           (await until("the station", () => element("stations")?.querySelector("button"))).click();
           return await until("words", () => element("told").classList.contains("toast") && element("told").textContent);"#,
        "One does not answer",
        r#"element("stations").querySelector("button").click(); await until("the station", () => element("title").textContent === "One");
           element("go-library").click(); return true;"#,
    ),
    (
        "lyrics on their way",
        r#"failing["/lyrics/"] = "held"; await plays("Night Ferry"); element("show-lyrics").click();
           return await until("words", () => document.querySelector(".side [role=status]")?.textContent);"#,
        "Loading …",
        r#"await plays("Low Tide"); return await until("an answer", () => !document.querySelector(".side [role=status]"));"#,
    ),
    (
        "lyrics without times",
        r#"return await until("words", () => document.querySelector(".side .plain-lyrics")?.textContent);"#,
        "One line\nand another",
        r#"return element("lyrics-later") === null;"#,
    ),
    (
        "a track without words",
        r#"await plays("Night Ferry"); return await until("words", () => document.querySelector(".side h3")?.textContent);"#,
        "Instrumental",
        r#"element("close").click(); sessionStorage.setItem("failing", JSON.stringify({ "/api/v1/tracks?": "held" })); location.reload(); return true;"#,
    ),
    (
        "the library on its way",
        r#"return (await until("words", () => document.querySelector(".ghost") && document.querySelector('#view [role=status]')))?.textContent;"#,
        "Loading …",
        r#"sessionStorage.removeItem("failing"); return document.body.dataset.state === "loading";"#,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_state_says_what_it_is_and_the_page_goes_on() {
    let station = Station::start().await;
    let Some(room) = Room::with_everything(&station).await else { return };
    write(&room.folder, "Ada Lindqvist/Harbour/01 Low Tide.txt", b"One line\nand another\n");
    let instrumental = json!({ "instrumental": true });
    ApiUser::new(&room.gate, "ada").send(Method::PUT, "/api/v1/lyrics/t2", Some(&instrumental)).await.is(200);
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": FAILING })).await;
    room.visit("ada").await;
    for (what, provoked, text, ended) in STATES {
        let run = async |script: &str| {
            // Where the page begins anew there is none for a moment.
            let found = async || room.browser.run_where_there_is_one(&format!("{TOOLS}{script}")).await.ok();
            eventually(what, found).await
        };
        assert_eq!(run(provoked).await, json!(text), "{what}");
        assert_accessible(&room, what).await;
        assert_eq!(run(&format!("failing = {{}}; {ended}")).await, json!(true), "{what}");
    }
    room.browser.close().await;
}

#[tokio::test]
async fn a_pitch_that_this_browser_cannot_change_is_said_in_the_panel_of_the_sound() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.browser.command("Network.enable", json!({})).await;
    room.browser.command("Network.setBlockedURLs", json!({ "urls": ["*signalsmith*"] })).await;
    let failed = r#"
        await plays("Low Tide");
        element("show-sound").click();
        await until("the panel", () => element("pitch"));
        slide("pitch", 3);
        return await until("words", () => document.querySelector(".side [role=alert]")?.textContent);
    "#;
    assert_eq!(room.run(failed).await, json!("This browser cannot change the pitch here."));
    assert_accessible(&room, "a pitch that cannot be changed").await;
    room.browser.command("Network.setBlockedURLs", json!({ "urls": [] })).await;
    let works =
        r#"slide("pitch", 2); return await until("it works", () => !document.querySelector(".side [role=alert]"));"#;
    assert_eq!(room.run(works).await, json!(true));
    room.browser.close().await;
}

async fn with_failures() -> Option<Room> {
    let change = |config: &mut Value| {
        config["Radio"] = json!({});
        config["Lyrics"] = json!({});
    };
    let room = Room::open(change).await?;
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": FAILING })).await;
    room.visit("ada").await;
    Some(room)
}

#[tokio::test]
async fn a_library_that_fails_or_is_not_there_is_told_and_asked_for_again() {
    let Some(room) = with_failures().await else { return };
    let failed = r#"
        await until("the list", () => listed().length === 3);
        failing["/api/v1/tracks?"] = 503;
        slide("search", "low");
        const told = await until("a notice", () => element("view").querySelector("[role=alert] h2")?.textContent);
        return told;
    "#;
    assert_eq!(room.run(failed).await, json!("The library cannot be loaded"));
    assert_accessible(&room, "a library that fails").await;
    let again = r#"
        failing = {};
        element("view").querySelector("[role=alert] button").click();
        await until("the search", () => listed().join() === "Low Tide");
        failing["/api/v1/tracks?"] = 404;
        slide("search", "");
        return await until("a notice", () => element("view").querySelector(".empty h2")?.textContent);
    "#;
    assert_eq!(room.run(again).await, json!("There is no catalogue"));
    assert_accessible(&room, "no library").await;
    room.browser.close().await;
}

#[tokio::test]
async fn stations_that_cannot_be_loaded_are_told_and_radio_that_is_not_there_is_not_shown() {
    let Some(room) = with_failures().await else { return };
    let empty = r#"
        (await until("the place", () => element("go-radio"))).click();
        return await until("none", () => element("view").querySelector(".empty h2")?.textContent);
    "#;
    assert_eq!(room.run(empty).await, json!("There are no stations yet"));
    assert_accessible(&room, "radio without stations").await;
    let failed = r#"
        failing["/api/v1/radio/streams"] = 503;
        slide("search", "one");
        return await until("a notice", () => element("view").querySelector("[role=alert] h2")?.textContent);
    "#;
    assert_eq!(room.run(failed).await, json!("The stations cannot be loaded"));
    assert_accessible(&room, "radio that fails").await;
    let again = r#"
        failing = {};
        element("view").querySelector("[role=alert] button").click();
        const found = await until("an answer", () => !element("view").querySelector("[role=alert]") && element("view").querySelector(".empty h2")?.textContent);
        sessionStorage.setItem("failing", JSON.stringify({ "/api/v1/radio/streams": 404 }));
        return found;
    "#;
    assert_eq!(room.run(again).await, json!("Nothing found"));
    room.open_page().await;
    let gone = r#"await until("the list", () => listed().length === 3); return element("go-radio");"#;
    assert_eq!(room.run(gone).await, Value::Null);
    room.browser.close().await;
}

#[tokio::test]
async fn axe_finds_nothing_on_the_panel_of_lyrics_whatever_it_shows() {
    let Some(room) = with_failures().await else { return };
    let folder = "Мар’яна Гай/Степ/01 Вітер";
    write(&room.folder, &format!("{folder}.lrc"), b"[la:en]\n[00:00.50]One\n[00:01.50]Two\n");
    write(&room.folder, &format!("{folder}.uk.lrc"), "[00:00.50]Раз\n[00:01.50]Два\n".as_bytes());
    let lines = r#"
        await plays("Вітер");
        element("show-lyrics").click();
        (await until("the switch", () => document.querySelector(".other-lyrics input"))).click();
        return await until("a translation", () => element("lines").querySelector(".below")?.textContent);
    "#;
    assert_eq!(room.run(lines).await, json!("Раз"));
    assert_accessible(&room, "lyrics with a translation").await;
    room.run(
        r#"await plays("Low Tide"); return await until("none", () => document.querySelector(".side h3") && true);"#,
    )
    .await;
    assert_accessible(&room, "no lyrics").await;
    let failed = r#"
        failing["/lyrics/"] = 503;
        await plays("Night Ferry");
        return await until("a notice", () => document.querySelector(".side [role=alert]") && true);
    "#;
    assert_eq!(room.run(failed).await, json!(true));
    assert_accessible(&room, "lyrics that fail").await;
    room.browser.close().await;
}

#[tokio::test]
async fn sound_goes_on_when_the_network_is_back_and_what_was_changed_meanwhile_is_sent() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); return null;"#).await;
    let network =
        |offline: bool| json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    room.browser.command("Network.enable", json!({})).await;
    room.browser.command("Network.emulateNetworkConditions", network(true)).await;
    // A track that is not loaded yet, and settings of the sound.
    let offline = r#"
        await until("the notice", () => element("offline"));
        element("next").click();
        const told = await until("words", () => document.querySelector("footer [role=alert]")?.textContent);
        choose("speed", "1.25");
        element("show-sound").click();
        await until("the panel", () => element("pitch"));
        slide("pitch", 2);
        choose("preset", "rock");
        await until("it is heard here", () => element("preset").value === "rock" && element("speed").value === "1.25");
        return [told, element("title").textContent, audio.currentTime];
    "#;
    let told = json!(["Offline: playing goes on with the connection.", "Night Ferry", 0]);
    assert_eq!(room.run(offline).await, told);
    room.browser.command("Network.emulateNetworkConditions", network(false)).await;
    let heard = r#"
        await until("sound", () => !audio.paused && audio.currentTime > 0.2 && !document.querySelector("footer [role=alert]"));
        return [audio.playbackRate, element("title").textContent];
    "#;
    assert_eq!(room.run(heard).await, json!([1.25, "Night Ferry"]));
    let user = ApiUser::new(&room.gate, "ada");
    eventually("the server has them", async || {
        let reply = user.send(Method::GET, "/api/v1/playback/settings", None).await;
        let told: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
        let (speed, pitch, preset) = (&told["speed"], &told["semitones"], &told["equalizer"]["preset"]);
        ((speed, pitch, preset) == (&json!(1.25), &json!(2), &json!("rock"))).then_some(())
    })
    .await;
    room.browser.close().await;
}

#[tokio::test]
async fn what_was_changed_without_the_network_is_sent_though_the_page_was_closed() {
    let Some(room) = Room::open(|config| config["Radio"] = json!({})).await else { return };
    let other = room.browser.another_window("about:blank").await;
    room.visit("ada").await;
    room.run(r#"await plays("Low Tide"); return null;"#).await;
    room.browser.command("Network.enable", json!({})).await;
    let offline = json!({ "offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    room.browser.command("Network.emulateNetworkConditions", offline).await;
    let changed = r#"
        (await until("the place", () => element("go-radio"))).click();
        await until("the notice", () => element("radio-title") && element("offline"));
        choose("speed", "1.25");
        element("show-sound").click();
        (await until("the box", () => element("track-speed"))).click();
        choose("speed", "1.5");
        slide("pitch", 2);
        slide("seek", 45);
        const waiting = () => Object.keys(JSON.parse(localStorage.getItem("tidegate.player.changes.ada") ?? "{}")).sort().join();
        await until("what waits", () => waiting() === "semitones,speed,track t1" && element("offline").textContent.includes("1 place is kept"));
        return element("notice").getAttribute("role");
    "#;
    assert_eq!(room.run(changed).await, json!("status"));
    assert_accessible(&room, "the notice that there is no network").await;
    room.browser.close_window(&other).await;
    let user = ApiUser::new(&room.gate, "ada");
    let told = async || {
        let reply = user.send(Method::GET, "/api/v1/playback/settings?track_id=t1", None).await;
        let told: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
        json!([told["speed"], told["semitones"], told["track_speed"]])
    };
    assert_eq!(told().await, json!([1.0, 0, null]), "nothing of it was sent");
    room.visit("ada").await;
    eventually("the server has the settings", async || (told().await == json!([1.25, 2, 1.5])).then_some(())).await;
    room.position_becomes("ada", "t1", |at| at > 44_900).await;
    let sent = r#"
        await until("nothing waits", () => Object.keys(localStorage).every(key => !/changes|places/.test(key)) && !element("offline"));
        await until("the track", () => audio.readyState > 0);
        return [element("speed").value, audio.playbackRate];
    "#;
    assert_eq!(room.run(sent).await, json!(["1.5", 1.5]));
    room.browser.close().await;
}
