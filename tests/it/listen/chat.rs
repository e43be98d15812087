//! The chat between the pages: the host's, a listener's by WebSocket, and one's by events and requests.

use super::{begin, gate, run};
use crate::support::chromium::Chromium;

const SPEAK: &str = r#"
    const speak = (name, what) => {
        element("name").value = name;
        element("message").value = what;
        element("say").requestSubmit();
    };
    const lines = () => [...element("messages").querySelectorAll("p")].map(line =>
        `${line.querySelector("bdi").textContent}: ${line.lastChild.textContent}`);
    const said = what => until(what, () => lines().includes(what));
    const chat = open => until("a chat", () => element("chat").hidden !== open);
"#;

async fn speak(browser: &Chromium, body: &str) {
    run(browser, &format!("{SPEAK}{body} return null;")).await;
}

#[tokio::test]
async fn the_host_and_its_listeners_write_to_each_other() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    browser.open(&format!("{}/listen/host", gate.url())).await;
    let host = begin(&browser).await;
    let link = host["link"].as_str().expect("a link");
    let hosting = browser.another_window(link).await;
    speak(&browser, r#"await chat(true); speak("Ann", "hi <b>"); await said("Ann: hi <b>");"#).await;
    let listening = browser.to_window(&hosting).await;
    speak(&browser, r#"await said("Ann: hi <b>"); speak("Bob", "welcome"); await said("Bob: welcome");"#).await;
    browser.to_window(&listening).await;
    let marked = r#"
        await said("Bob: welcome");
        if (element("messages").querySelectorAll(".badge").length !== 1) throw "the host is not marked";
    "#;
    speak(&browser, marked).await;
    browser.open(&format!("{link}&codec=ogg")).await;
    let remembered = r#"
        await said("Bob: welcome");
        // The last one that was given in this browser.
        if (element("name").value !== "Bob") throw "the name is forgotten";
        speak("Ann", "by request");
        await said("Ann: by request");
        speak("Ann", "\u0007");
        await until("a refusal", () => !element("refusal").hidden && element("message").value === "\u0007");
    "#;
    speak(&browser, remembered).await;
    for (action, open) in [
        (r#"await said("Ann: by request"); element("switch").click();"#, false),
        (r#"element("switch").click();"#, true),
    ] {
        browser.to_window(&hosting).await;
        speak(&browser, action).await;
        browser.to_window(&listening).await;
        speak(&browser, &format!("await chat({open});")).await;
    }
    browser.close().await;
}
