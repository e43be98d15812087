//! The sound of a tab, as Chromium itself captures it.

use serde_json::json;

use super::{TOKEN, gate, run};
use crate::support::chromium::{Chromium, SHARED_TAB};

#[tokio::test]
async fn the_sound_of_a_tab_is_heard_on_the_listen_page() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    browser.open(&format!("data:text/html,<title>{SHARED_TAB}</title>")).await;
    let play = r#"
        const context = new AudioContext(), tone = new OscillatorNode(context, { frequency: 880 });
        tone.connect(new GainNode(context, { gain: 0.4 })).connect(context.destination);
        tone.start();
        window.kept = tone;
        return context.state;
    "#;
    assert_eq!(browser.run(play).await, "running");
    browser.another_window(&format!("{}/listen/host", gate.url())).await;
    let share = r#"
        await state("idle");
        document.querySelector("[name=source][value=tab]").click();
        element("token").value = TOKEN;
        element("start").click();
        await state("sharing");
        await until("a link", () => element("link").value);
        return element("link").value;
    "#;
    let link = run(&browser, &share.replace("TOKEN", &json!(TOKEN).to_string())).await;
    let host = browser.another_window(link.as_str().expect("a link")).await;
    let listen = r#"
        await state("ready");
        element("play").click();
        await state("live");
        return hear();
    "#;
    let heard = run(&browser, listen).await;
    assert!(heard["hertz"].as_f64().is_some_and(|hertz| (hertz / 880.0 - 1.0).abs() < 0.07), "{heard:#}");
    assert!(heard["rms"].as_f64().is_some_and(|rms| rms > 0.14 && rms < 0.31), "{heard:#}");
    let listener = browser.to_window(&host).await;
    run(&browser, r#"element("stop").click(); await state("idle"); return null;"#).await;
    browser.to_window(&listener).await;
    run(&browser, r#"await state("ended"); return null;"#).await;
    browser.close().await;
}
