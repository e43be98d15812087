//! How the page looks and reads: by axe, in four languages, on small screens, enlarged, dark, with the system's colours.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::Cinema;
use crate::support::looks::{assert_accessible, assert_fits, screen, wish};

const AXE: &str = include_str!("vendor/axe.min.js");

#[test]
fn axe_is_the_one_that_was_published() {
    let sum: String = Sha256::digest(AXE).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum, "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c");
}

#[tokio::test]
async fn axe_finds_nothing_on_the_page_whatever_it_shows() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.browser.open(&format!("{}/watch/dune", cinema.gate.url())).await;
    cinema.run(r#"await state("signin"); return null;"#).await;
    assert_accessible(&cinema.browser, "sign in").await;
    cinema.sign_in("ada").await;
    for scheme in ["light", "dark"] {
        wish(&cinema.browser, [("prefers-color-scheme", scheme)]).await;
        // Languages differ in words, not in colours.
        let languages = if scheme == "light" { &["en", "es", "ru", "uk"][..] } else { &["en"] };
        for language in languages {
            cinema.visit(&format!("?lang={language}")).await;
            cinema.run(r#"await plays(); element("play").click(); await state("paused"); return null;"#).await;
            assert_accessible(&cinema.browser, &format!("{scheme}, {language}")).await;
        }
        cinema.run(r#"element("keys").click(); return null;"#).await;
        assert_accessible(&cinema.browser, &format!("the help, {scheme}")).await;
        cinema.browser.open(&format!("{}/watch/none", cinema.gate.url())).await;
        cinema.run(r#"await until("a notice", () => !element("notice").hidden); return null;"#).await;
        assert_accessible(&cinema.browser, &format!("a notice, {scheme}")).await;
        cinema.browser.open(&format!("{}/watch/", cinema.gate.url())).await;
        cinema.run(r#"await state("list"); return null;"#).await;
        assert_accessible(&cinema.browser, &format!("the list, {scheme}")).await;
    }
    cinema.browser.close().await;
}

#[tokio::test]
async fn the_language_changes_while_the_film_plays_and_is_remembered() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("").await;
    cinema.run("await plays(); await past(1); return null;").await;
    for (language, keyboard, state, fast) in [
        ("uk", "Клавіатура", "Фільм триває", "1,25×"),
        ("ru", "Клавиатура", "Идёт фильм", "1,25×"),
        ("es", "Teclado", "Reproduciendo", "1,25×"),
        ("en", "Keyboard", "Playing", "1.25×"),
    ] {
        let changed = format!(
            r#"const before = video.currentTime;
               choose("language", "{language}");
               await plays();
               return {{ on: video.currentTime > before, lang: document.documentElement.lang, keys: element("keys").title,
                   label: element("keys").getAttribute("aria-label"), state: element("state").textContent, fast: options("speed")[4] }};"#
        );
        let expected =
            json!({ "on": true, "lang": language, "keys": keyboard, "label": keyboard, "state": state, "fast": fast });
        assert_eq!(cinema.run(&changed).await, expected);
    }
    cinema.run(r#"choose("language", "uk"); return null;"#).await;
    cinema.visit("").await;
    let said = cinema
        .run(
            r#"await plays(); return [document.documentElement.lang, element("seek").getAttribute("aria-valuetext")];"#,
        )
        .await;
    assert!(said[0] == "uk" && said[1].as_str().is_some_and(|text| text.contains("2 хвилини")), "{said}");
    cinema.browser.close().await;
}

#[tokio::test]
async fn the_page_fits_a_small_screen_and_an_enlarged_one_and_takes_the_systems_colours() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("?lang=ru").await;
    cinema.run(r#"await plays(); await until("subtitles", () => options("subtitles").length > 1); return null;"#).await;
    // 360 px; 1280 px at 200 %; and 320 px, which is 1280 px at 400 % (WCAG 1.4.10).
    for pixels in [360, 640, 320] {
        screen(&cinema.browser, pixels, 800).await;
        assert_fits(&cinema.browser, &format!("{pixels} px")).await;
    }
    wish(&cinema.browser, [("forced-colors", "active"), ("prefers-reduced-motion", "reduce")]).await;
    let calm = r#"
        element("waiting").hidden = false;
        const style = id => getComputedStyle(element(id));
        return { animation: style("waiting").animationName, border: style("play").borderTopStyle, width: style("play").borderTopWidth };
    "#;
    assert_eq!(cinema.run(calm).await, json!({ "animation": "none", "border": "solid", "width": "2px" }));
    cinema.browser.close().await;
}
