//! A user's way through a film: places that are kept, and the list of what can be continued.

use serde_json::json;

use super::{Cinema, LENGTH, MOVIE};
use crate::films::Viewer;

/// The film plays near its beginning.
const ANEW: &str = r#"
    await until("the beginning", () => !video.paused && video.currentTime > 0 && video.currentTime < 60);
    await plays();
    return null;
"#;

#[tokio::test]
async fn the_place_is_kept_at_a_pause_at_a_seek_and_when_the_page_is_closed() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("").await;
    cinema.run(r#"await plays(); await past(2.2); element("play").click(); await state("paused"); return null;"#).await;
    cinema.position_becomes("ada", "the place of the pause", |at| (2..10).contains(&at)).await;
    cinema.run("seek(50); return null;").await;
    cinema.position_becomes("ada", "the place of the seek", |at| at == 50).await;
    cinema.run(r#"element("play").click(); await past(52.5); return null;"#).await;
    cinema.browser.open("about:blank").await;
    cinema.position_becomes("ada", "the place where the page was closed", |at| at >= 52).await;
    cinema.visit("").await;
    let again = cinema.run("return await plays();").await;
    assert!(again.as_f64().is_some_and(|at| (52.0..80.0).contains(&at)), "it goes on there: {again}");
    cinema.browser.close().await;
}

#[tokio::test]
async fn the_place_is_kept_again_and_again_while_a_film_plays() {
    let Some(cinema) = Cinema::open(|config| config["Vod"]["ReportInterval"] = json!("2s")).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("").await;
    cinema.run("await plays(); return null;").await;
    let first = cinema.position_becomes("ada", "a first report", |at| at > 0).await;
    cinema.position_becomes("ada", "another report", |at| at > first).await;
    assert_eq!(cinema.run("return video.paused;").await, json!(false));
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_film_that_is_over_is_stopped_and_begins_anew_on_the_next_visit() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    for query in ["?player=hls", "?manifest=dash"] {
        cinema.visit(query).await;
        cinema.run(r#"await plays(); seek(117); await state("ended"); return null;"#).await;
        cinema.position_becomes("ada", "the end", |at| at >= i64::from(LENGTH) - 1).await;
        let stops = cinema.gate.access_lines();
        let stops = stops.iter().filter(|line| line["path"].as_str().is_some_and(|path| path.ends_with("/stop")));
        assert!(stops.count() > 0, "{query}: the session was stopped");
        cinema.run(&format!(r#"element("start").click(); {ANEW}"#)).await;
        cinema.run(r#"seek(117); await state("ended"); return null;"#).await;
        cinema.position_becomes("ada", "the end", |at| at >= i64::from(LENGTH) - 1).await;
        cinema.visit(query).await;
        cinema.run(ANEW).await;
    }
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_film_that_was_seen_begins_anew_also_where_its_manifest_came_only_at_the_second_try() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    let blocked = async |urls: serde_json::Value| {
        cinema.browser.command("Network.enable", json!({})).await;
        cinema.browser.command("Network.setBlockedURLs", json!({ "urls": urls })).await;
    };
    // What was left in the middle goes on there; what was seen to its end begins anew.
    for (query, manifest) in [("?manifest=dash", "*index.mpd*"), ("?player=hls", "*index.m3u8*")] {
        for (left, from, to) in [(LENGTH - 1, 0, 40), (60, 60, 100)] {
            let report = json!({ "position_seconds": left, "duration_seconds": LENGTH });
            // Each time another user: the page sends its last place when it is left, whenever that may arrive.
            let user = format!("user-{query}-{left}").replace(['?', '='], "");
            cinema.sign_in(&user).await;
            let viewer = Viewer::new(&cinema.gate, &user);
            viewer.post(&format!("{MOVIE}/progress"), report).await.is(200);
            blocked(json!([manifest])).await;
            cinema.visit(query).await;
            cinema.run(r#"await state("reconnecting"); return null;"#).await;
            blocked(json!([])).await;
            let at = cinema.run("return await plays();").await.as_f64().expect("seconds");
            assert!((f64::from(from)..f64::from(to)).contains(&at), "{query}, left at {left}: {at}");
        }
    }
    cinema.browser.close().await;
}

#[tokio::test]
async fn films_that_were_begun_are_listed_and_lead_to_their_pages() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    let viewer = Viewer::new(&cinema.gate, "ada");
    for number in 0..15 {
        let report = json!({ "position_seconds": 600 + number, "duration_seconds": 3600 });
        viewer.post(&format!("film{number}/progress"), report).await.is(200);
    }
    viewer
        .post(&format!("{MOVIE}/progress"), json!({ "position_seconds": 61, "duration_seconds": 1200 }))
        .await
        .is(200);
    cinema.sign_in("ada").await;
    cinema.browser.open(&format!("{}/watch/", cinema.gate.url())).await;
    let listed = r#"
        const links = () => [...document.querySelectorAll(".films a")];
        await until("a list", () => links().length > 0);
        const first = { count: links().length, name: links()[0].firstChild.textContent, left: links()[0].querySelector(".left").textContent };
        element("more").click();
        await until("more", () => links().length > 12);
        return { ...first, all: links().length, more: element("more").hidden, focus: document.activeElement === links()[12] };
    "#;
    let expected = json!({ "count": 12, "name": "dune", "left": "18:59 left", "all": 16, "more": true, "focus": true });
    assert_eq!(cinema.run(listed).await, expected);
    cinema.run(r#"document.querySelector(".films a").click(); return null;"#).await;
    let film = cinema
        .run(r#"const at = await plays(); await until("the others", () => !element("continue").hidden);
            return { at: Math.floor(at) >= 61, itself: [...document.querySelectorAll(".films a")].some(({ href }) => href.endsWith("/dune")) };"#)
        .await;
    assert_eq!(film, json!({ "at": true, "itself": false }));
    cinema.browser.close().await;
}
