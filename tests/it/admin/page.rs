//! The operator's page in a real browser.

use serde_json::{Value, json};

use super::streams::begin;
use crate::cache::TOKEN;
use crate::support::chromium::Chromium;
use crate::support::h2::H2;
use crate::support::looks::{assert_accessible, screen, wish};
use crate::support::origin::pattern;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually};

const LENGTH: usize = 64 << 20;

/// What the scripts below share.
const TOOLS: &str = r#"
    const element = id => document.getElementById(id);
    const state = wanted => until(wanted, () => document.body.dataset.state === wanted);
    const rows = id => [...element(id).tBodies[0]?.rows ?? []].map(row => [...row.cells].map(cell => cell.textContent));
    const signIn = async token => { element("token").value = token; element("signin").requestSubmit(); };
    const yes = async () => {
        await until("the question", () => element("ask").open);
        element("ask").querySelector("[value=yes]").click();
    };
"#;

/// A gate with the page, and a browser before it.
struct Desk {
    gate: Gate,
    origin: ScriptedOrigin,
    config: Value,
    browser: Chromium,
}

impl Desk {
    async fn open() -> Option<Self> {
        let browser = Chromium::start().await?;
        let origin = ScriptedOrigin::with_track("music").await;
        origin.put("/audio/long.mp3", Object::new(pattern(LENGTH)));
        let mut config = config::objects_both_ways(&origin.url(), "audio");
        config["Server"]["Listeners"][0]["H2c"] = json!(true);
        config["Server"]["ReloadOnChange"] = json!(false);
        config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
        let gate = Gate::start_with(&config, &[("ADMIN_TOKEN", TOKEN)]).await;
        let desk = Self { gate, origin, config, browser };
        desk.visit("").await;
        Some(desk)
    }

    async fn visit(&self, query: &str) {
        self.browser.open(&format!("http://{}/{query}", self.gate.admin_address())).await;
    }

    /// Runs the body of an async function in the page.
    async fn run(&self, body: &str) -> Value {
        self.browser.run(&format!("{TOOLS}{body}")).await
    }

    async fn sign_in(&self) {
        self.run(&format!(r#"await state("signin"); await signIn("{TOKEN}"); await state("ready"); return null;"#))
            .await;
    }
}

#[tokio::test]
async fn the_operator_signs_in_by_the_token_which_only_the_tab_keeps() {
    let Some(desk) = Desk::open().await else { return };
    let refused = desk
        .run(
            r#"await state("signin");
               await signIn("wrong");
               return await until("it is refused", () => !element("signin-refused").hidden && element("signin-refused").textContent);"#,
        )
        .await;
    assert_eq!(refused, "This token was not accepted.");
    desk.sign_in().await;
    let kept = desk
        .run(
            r#"return [Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.search];"#,
        )
        .await;
    assert_eq!(kept, json!([[TOKEN], [], "", ""]));
    // It outlives a reload of the page, and leaves with the operator.
    desk.visit("").await;
    desk.run(r#"await state("ready"); element("leave").click(); return null;"#).await;
    desk.run(r#"await state("signin"); return null;"#).await;
    desk.browser.close().await;
}

#[tokio::test]
async fn the_page_shows_streams_in_pages_and_ends_one() {
    let Some(desk) = Desk::open().await else { return };
    let mut streams = Vec::new();
    for _ in 0..60 {
        let mut raw = desk.gate.raw().await;
        begin(&mut raw, "/stream/long.mp3", "").await;
        streams.push(raw);
    }
    desk.sign_in().await;
    let shown = desk
        .run(
            r#"await until("a page", () => rows("streams").length === 50);
               const total = element("streams-total").textContent;
               const first = rows("streams")[0];
               element("streams-next").click();
               await until("the next page", () => rows("streams").length === 10);
               element("streams-first").click();
               await until("the first page again", () => rows("streams").length === 50);
               return [total, first[1], first[2], first[4], element("streams-next").hidden];"#,
        )
        .await;
    assert_eq!(shown, json!(["60 in all", "stream", "127.0.0.1", "HTTP/1.1", false]));
    let said = desk
        .run(
            r#"element("streams").querySelector("tbody button").click();
               await until("the question", () => element("ask").open);
               const question = element("ask-text").textContent;
               await yes();
               await until("one fewer", () => element("streams-total").textContent === "59 in all");
               return question;"#,
        )
        .await;
    let said = said.as_str().expect("a question");
    assert!(said.starts_with("End the stream ") && said.contains(" of stream to 127.0.0.1?"), "{said}");
    let (rest, closed) = streams.remove(0).up_to(LENGTH).await;
    assert!(closed && rest.len() < LENGTH - 65_536, "{} bytes", rest.len());
    desk.browser.close().await;
}

#[tokio::test]
async fn the_page_purges_the_cache_and_reloads_what_it_has_compared() {
    let Some(mut desk) = Desk::open().await else { return };
    for _ in 0..2 {
        desk.gate.client().get("/cached/track.mp3", &[]).await.is(200);
    }
    desk.origin.take_seen();
    desk.sign_in().await;
    let purged = desk
        .run(
            r#"await until("the cache", () => !element("cache").hidden && element("cache-counts").textContent.includes("50"));
               element("purge-value").value = "track.mp3";
               element("purge").requestSubmit();
               await yes();
               return await until("it is said", () => element("purge-said").textContent);"#,
        )
        .await;
    assert_eq!(purged, "Purged.");
    desk.gate.client().get("/cached/track.mp3", &[]).await.is(200);
    assert!(!desk.origin.take_seen().is_empty(), "it was fetched anew");
    desk.config["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!("/music/{**key}");
    desk.gate.rewrite(&desk.config);
    let compared = desk
        .run(
            r#"element("compare").click();
               await until("the difference", () => rows("changes").length === 1);
               const change = rows("changes")[0];
               element("reload").click();
               await yes();
               await until("it is in force", () => element("reload-said").textContent === "The file is in force.");
               element("settings").open = true;
               await until("the keys", () => rows("settings-keys").length > 10);
               element("settings-filter").value = "Admin.Token";
               element("settings-filter").dispatchEvent(new Event("input"));
               return [change, rows("settings-keys")[0].slice(0, 2)];"#,
        )
        .await;
    let change = json!(["ReverseProxy.Routes.stream.Match.Path", "/stream/{**key}", "/music/{**key}"]);
    assert_eq!(compared[0], change);
    assert_eq!(compared[1][0], "Server.Admin.Token");
    assert!(!compared[1].to_string().contains(TOKEN), "{compared}");
    desk.gate.client().get("/music/track.mp3", &[]).await.is(200);
    // A file that is none is told with its report, and nothing is asked.
    std::fs::write(desk.gate.config_file(), "Nonsense: true\n").expect("a file");
    let report = desk
        .run(r#"element("reload").click(); return await until("a report", () => !element("report").hidden && element("report").textContent);"#)
        .await;
    assert!(report.as_str().is_some_and(|report| report.contains("Nonsense")), "{report}");
    desk.browser.close().await;
}

#[tokio::test]
async fn axe_finds_nothing_on_the_admin_page_and_it_fits_a_phone_in_each_language() {
    let Some(desk) = Desk::open().await else { return };
    desk.run(r#"await state("signin"); return null;"#).await;
    assert_accessible(&desk.browser, "sign in").await;
    let connection = H2::connect(desk.gate.address()).await;
    let mut stream = connection.open("/stream/long.mp3", &[]).await;
    stream.take(1000).await;
    desk.gate.client().get("/nowhere", &[]).await.is(404);
    let failed = async || desk.gate.access_lines().into_iter().find(|line| line["failure"] == "no_route");
    eventually("an error", failed).await;
    desk.sign_in().await;
    let filled = r#"
        await state("ready");
        await until("all lists", () => ["streams", "destinations", "routes", "errors"].every(id => rows(id).length > 0));
        element("settings").open = true;
        await until("the keys", () => rows("settings-keys").length > 10);
        return { over: Math.max(0, document.documentElement.scrollWidth - innerWidth), lang: document.documentElement.lang,
            out: [...document.querySelectorAll("button, input, select")].filter(one => one.checkVisibility())
                .filter(one => one.getBoundingClientRect().right > innerWidth).map(one => one.id) };
    "#;
    for scheme in ["light", "dark"] {
        wish(&desk.browser, [("prefers-color-scheme", scheme)]).await;
        for (width, language) in [(1280, "en"), (360, "ru"), (320, "es"), (360, "uk")] {
            screen(&desk.browser, width, 800).await;
            desk.visit(&format!("?lang={language}")).await;
            let seen = desk.run(filled).await;
            assert_eq!(seen, json!({ "over": 0, "lang": language, "out": [] }), "{width} px");
            assert_accessible(&desk.browser, &format!("{scheme}, {language}, {width} px")).await;
        }
    }
    desk.browser.close().await;
}
