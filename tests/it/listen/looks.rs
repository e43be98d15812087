//! How the pages of the share relay look and read: by axe, in four languages, on small screens, enlarged, dark, with the
//! system's colours.

use serde_json::json;

use super::{begin, gate, run, share};
use crate::support::chromium::Chromium;
use crate::support::looks::{assert_accessible, assert_fits, screen, wish};

/// Screens and languages: a desk, a phone, 1280 px at 400 % and 1400 px at 200 % (WCAG 1.4.10).
const SCREENS: [(u32, &str); 4] = [(1280, "en"), (360, "ru"), (320, "es"), (700, "uk")];

async fn judge(browser: &Chromium, what: &str) {
    assert_accessible(browser, what).await;
    assert_fits(browser, what).await;
}

#[tokio::test]
async fn axe_finds_nothing_on_the_listen_page_and_it_fits_a_phone_in_each_language() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    for scheme in ["light", "dark"] {
        wish(&browser, [("prefers-color-scheme", scheme)]).await;
        for (width, language) in SCREENS {
            screen(&browser, width, 800).await;
            let what = format!("{scheme}, {language}, {width} px");
            browser.open(&format!("{}/listen/000000?lang={language}", gate.url())).await;
            run(&browser, r#"await state("denied"); return null;"#).await;
            judge(&browser, &format!("no ticket, {what}")).await;
            // A session of its own: a ticket is for so many listeners at once.
            let (link, host) = share(&gate, 600).await;
            browser.open(&format!("{}{link}&lang={language}", gate.url())).await;
            let ready = r#"await state("ready"); await until("a song", () => element("artist").textContent === "Some Band"); return document.documentElement.lang;"#;
            assert_eq!(run(&browser, ready).await, json!(language));
            judge(&browser, &format!("ready, {what}")).await;
            let live = r#"
                element("play").click();
                await state("live");
                document.querySelector("details").open = true;
                await until("figures", () => element("figures").children.length > 0);
                await until("a line", () => document.querySelector('#lyrics [aria-current]'));
                element("warning").hidden = false;
                return null;
            "#;
            run(&browser, live).await;
            judge(&browser, &format!("live, {what}")).await;
            host.abort();
        }
    }
    wish(&browser, [("forced-colors", "active")]).await;
    assert_accessible(&browser, "the system's colours").await;
    let outlined = r#"return [getComputedStyle(document.querySelector('#lyrics [aria-current]')).outlineStyle, getComputedStyle(element("play")).borderTopStyle];"#;
    assert_eq!(run(&browser, outlined).await, json!(["solid", "solid"]));
    browser.close().await;
}

#[tokio::test]
async fn axe_finds_nothing_on_the_host_page_and_it_fits_a_phone_in_each_language() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let open = async |query: &str| browser.open(&format!("{}/listen/host{query}", gate.url())).await;
    for scheme in ["light", "dark"] {
        wish(&browser, [("prefers-color-scheme", scheme)]).await;
        for (width, language) in SCREENS {
            screen(&browser, width, 800).await;
            open(&format!("?lang={language}")).await;
            let idle = r#"await state("idle"); return document.documentElement.lang;"#;
            assert_eq!(run(&browser, idle).await, json!(language));
            judge(&browser, &format!("idle, {scheme}, {language}, {width} px")).await;
        }
        open("").await;
        begin(&browser).await;
        for (width, _) in SCREENS {
            screen(&browser, width, 800).await;
            judge(&browser, &format!("sharing, {scheme}, {width} px")).await;
        }
        run(&browser, r#"element("stop").click(); await state("idle"); return null;"#).await;
    }
    wish(&browser, [("forced-colors", "active")]).await;
    assert_accessible(&browser, "the system's colours").await;
    browser.close().await;
}
