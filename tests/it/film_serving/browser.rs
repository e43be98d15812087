//! Players of web pages, in a real browser, on a page of another site: hls.js plays HLS in two qualities, one of them
//! encrypted, and shaka plays DASH; both seek.

use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::players::theatre;
use crate::support::chromium::Chromium;
use crate::support::eventually;

const HLS: &str = include_str!("../../../crates/vod/src/page/vendor/hls.min.js");
const SHAKA: &str = include_str!("../../../crates/vod/src/page/vendor/shaka-player.dash.js");

const PAGE: &str = r#"<!doctype html><title>film</title><video id="video" muted playsinline></video>
<script src="/hls.js"></script><script src="/shaka.js"></script>"#;

/// What the page tells of its player, at any time.
const STATE: &str = r#"
    const video = document.getElementById("video");
    return { time: video.currentTime, duration: video.duration, width: video.videoWidth, ended: video.ended,
             error: window.failure || null, levels: [...(window.levels || [])] };
"#;

/// Waits until the player's state is as wanted.
async fn reaches(browser: &Chromium, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let state = browser.run(STATE).await;
        assert!(state["error"].is_null(), "{what}: {state}");
        wanted(&state).then_some(state)
    })
    .await
}

fn seconds(state: &Value, name: &str) -> f64 {
    state[name].as_f64().unwrap_or_default()
}

#[tokio::test]
async fn hls_js_and_shaka_play_a_film_on_a_page_of_another_site() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let page = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let Some(theatre) = theatre(&page).await else { return };
    let Some(browser) = Chromium::start().await else { return };
    let script = |text: &'static str| get(move || async move { ([("content-type", "text/javascript")], text) });
    let router = axum::Router::new().route("/", get(|| async { Html(PAGE) }));
    let router = router.route("/hls.js", script(HLS)).route("/shaka.js", script(SHAKA));
    let server = tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    let with_hls = r#"
        const hls = new Hls({ startLevel: 0 });
        window.levels = new Set();
        hls.on(Hls.Events.FRAG_CHANGED, (_, data) => window.levels.add(data.frag.level));
        hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) window.failure = data.type + " " + data.details; });
        // The other quality, whose segments are encrypted, from the next segment on.
        window.other = () => { hls.nextLevel = 1; };
        hls.loadSource(URL);
        hls.attachMedia(document.getElementById("video"));
        document.getElementById("video").play().catch(error => { window.failure = String(error); });
    "#;
    let with_shaka = r#"
        const player = new shaka.Player();
        await player.attach(document.getElementById("video"));
        player.addEventListener("error", event => { window.failure = "shaka " + event.detail.code; });
        await player.load(URL).catch(error => { window.failure = "shaka " + error.code + " " + error.data; });
        document.getElementById("video").play().catch(error => { window.failure = String(error); });
    "#;
    for (name, script, is_hls) in [("index.m3u8", with_hls, true), ("index.mpd", with_shaka, false)] {
        browser.open(&page).await;
        let url = theatre.url(name).await;
        browser.run(&script.replace("URL", &json!(url).to_string())).await;
        let playing = reaches(&browser, "it plays", |state| seconds(state, "time") > 0.5).await;
        assert_eq!((&playing["width"], seconds(&playing, "duration").round()), (&json!(320), 8.0), "{name}: {playing}");
        if is_hls {
            browser.run("window.other();").await;
        }
        browser.run("document.getElementById('video').currentTime = 5;").await;
        reaches(&browser, "it plays behind the place that was sought", |state| seconds(state, "time") > 5.3).await;
        let ended = reaches(&browser, "it ends", |state| state["ended"] == true).await;
        if is_hls {
            assert!(ended["levels"].as_array().is_some_and(|levels| levels.contains(&json!(1))), "{ended}");
        }
    }
    let lines = theatre.access_lines();
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line["status"].as_u64().is_some_and(|status| status >= 400 && status != 499))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(
        lines.iter().any(|line| line["path"].as_str().is_some_and(|path| path.contains("/keys/"))),
        "a key was fetched"
    );
    browser.close().await;
    server.abort();
}
