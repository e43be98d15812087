//! A host whose line is gone, as its listeners see it, and the secret with which it comes back.

use serde_json::json;

use super::{begin, gate, run};
use crate::support::chromium::Chromium;
use crate::support::cutter::Cutter;
use crate::support::eventually;

/// How often the page has asked for a ticket with its token.
const ASKED: &str = r#"
    return performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/tickets")).length;
"#;

#[tokio::test]
async fn listeners_see_that_the_host_is_away_and_it_comes_back_without_its_token() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let wire = Cutter::to(gate.address()).await;
    browser.open(&format!("{}/listen/host", wire.url())).await;
    let host = begin(&browser).await;
    let asked = run(&browser, ASKED).await;
    assert_eq!(asked, json!(2), "one for listeners, one for itself");
    let before = wire.taken();
    wire.cut();
    eventually("the host connects again", async || (wire.taken() > before).then_some(())).await;
    run(&browser, r#"await state("sharing"); return null;"#).await;
    assert_eq!(run(&browser, ASKED).await, asked);
    let link = host["link"].as_str().expect("a link").replace(wire.url().as_str(), &gate.url());
    let hosting = browser.another_window(&link).await;
    run(&browser, r#"await state("ready"); element("play").click(); await state("live"); return null;"#).await;
    wire.shut();
    let away = run(&browser, r#"await state("away"); return element("state").textContent;"#).await;
    assert_eq!(away, "The host is away. The sound will go on.");
    let listening = browser.to_window(&hosting).await;
    run(&browser, r#"await state("reconnecting"); return null;"#).await;
    wire.mend();
    run(&browser, r#"await state("sharing"); return null;"#).await;
    browser.to_window(&listening).await;
    run(&browser, r#"await state("live"); await hear(); return null;"#).await;
    browser.close().await;
}
