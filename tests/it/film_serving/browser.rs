//! Players of web pages, in a real browser, on a page of another site: hls.js plays HLS in two qualities, one of them
//! encrypted, and shaka plays DASH; both seek. The grant is in the path, in a cookie or in a header.

use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::players::{MOVIE, theatre};
use crate::support::chromium::Chromium;
use crate::support::{eventually, token};

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

/// A page of another site with both players.
struct Page {
    origin: String,
    server: JoinHandle<()>,
}

impl Page {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let script = |text: &'static str| get(move || async move { ([("content-type", "text/javascript")], text) });
        let router = axum::Router::new().route("/", get(|| async { Html(PAGE) }));
        let router = router.route("/hls.js", script(HLS)).route("/shaka.js", script(SHAKA));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { origin, server }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Starts the film from the page, with the token where `WAY` says, and plays it to its end by hls.js and by shaka.
const OTHER_WAYS: &str = r#"
    const start = async manifest_type => {
        const answer = await fetch(`${GATE}/api/v1/stream/${MOVIE}`, { method: "POST", credentials: "include",
            headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
            body: JSON.stringify({ manifest_type, grant: WAY }) });
        if (!answer.ok) throw `${answer.status} ${await answer.text()}`;
        return answer.json();
    };
    const video = document.getElementById("video");
    const ends = async what => {
        await until(`${what} ended`, () => { if (window.failure) throw window.failure; return video.ended; });
        return Math.round(video.duration);
    };
    const hls = await start("hls");
    const player = new Hls({ xhrSetup: request => {
        if (WAY === "cookie") request.withCredentials = true;
        else request.setRequestHeader("X-Film-Grant", hls.grant);
    } });
    player.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) window.failure = `${data.type} ${data.details}`; });
    player.loadSource(hls.manifest_url);
    player.attachMedia(video);
    await video.play();
    const seen = [await ends("hls.js")];
    player.destroy();
    const dash = await start("dash");
    const shaka_player = new shaka.Player();
    shaka_player.getNetworkingEngine().registerRequestFilter((_, request) => {
        if (WAY === "cookie") request.allowCrossSiteCredentials = true;
        else request.headers["X-Film-Grant"] = dash.grant;
    });
    await shaka_player.attach(video);
    await shaka_player.load(dash.manifest_url);
    await video.play();
    seen.push(await ends("shaka"));
    return { seen, urls: [hls.manifest_url, dash.manifest_url] };
"#;

#[tokio::test]
async fn hls_js_and_shaka_play_a_film_whose_grant_is_in_a_cookie_or_in_a_header() {
    let page = Page::open().await;
    let Some(theatre) = theatre(&page.origin).await else { return };
    let Some(browser) = Chromium::start().await else { return };
    // A cookie of another site has to be `Secure`.
    browser.command("Security.setIgnoreCertificateErrors", json!({ "ignore": true })).await;
    for way in ["cookie", "header"] {
        browser.open(&page.origin).await;
        let user = token::of(way);
        let values = [("GATE", theatre.tls_origin().as_str()), ("MOVIE", MOVIE), ("TOKEN", &user), ("WAY", way)]
            .map(|(name, value)| format!("const {name} = {};", json!(value)));
        let played = browser.run(&format!("{} {OTHER_WAYS}", values.concat())).await;
        assert_eq!(played["seen"], json!([8, 8]), "{way}: {played}");
        for url in played["urls"].as_array().expect("two URLs") {
            assert!(
                url.as_str().is_some_and(|url| url.contains(&format!("/v/{MOVIE}/movies/{MOVIE}/index."))),
                "{url}"
            );
        }
    }
    browser.close().await;
}

#[tokio::test]
async fn hls_js_and_shaka_play_a_film_on_a_page_of_another_site() {
    let page = Page::open().await;
    let Some(theatre) = theatre(&page.origin).await else { return };
    let Some(browser) = Chromium::start().await else { return };
    let with_hls = r#"
        const hls = new Hls({ startLevel: 0, cmcd: {} });
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
        player.configure({ cmcd: { enabled: true } });
        await player.attach(document.getElementById("video"));
        player.addEventListener("error", event => { window.failure = "shaka " + event.detail.code; });
        await player.load(URL).catch(error => { window.failure = "shaka " + error.code + " " + error.data; });
        document.getElementById("video").play().catch(error => { window.failure = String(error); });
    "#;
    for (name, script, is_hls) in
        [("index.m3u8", with_hls, true), ("index.mpd", with_shaka, false), ("ranges/index.mpd", with_shaka, false)]
    {
        browser.open(&page.origin).await;
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
    // Both have told of their playback, in the query, which needs no preflight.
    let told = async |playback: &str| {
        theatre.metric("tidegate_vod_cmcd_requests_total", &format!("playback=\"{playback}\"")).await
    };
    assert!(told("smooth").await > 0.0 && told("malformed").await == 0.0);
    browser.close().await;
}
