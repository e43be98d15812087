//! Lines that break, of the host and of listeners: what counts is how long nothing was heard.

use serde_json::{Value, json};

use super::{assert_is_tone, begin, gate, run, share};
use crate::support::chromium::Chromium;
use crate::support::cutter::Cutter;
use crate::support::eventually;

/// Longest silence after a break, in milliseconds.
const SILENCE: f64 = 3000.0;

/// Watches what is heard from now on: `longest` silence, and `now` in ms since there was sound.
const WATCH: &str = r#"
    const { source } = await page();
    const analyser = new AnalyserNode(source.context, { fftSize: 1024 });
    source.output.connect(analyser);
    const samples = new Float32Array(1024);
    const watched = window.watched = { longest: 0, now: 0 };
    let last = performance.now();
    setInterval(() => {
        analyser.getFloatTimeDomainData(samples);
        const now = performance.now();
        if (samples.some(sample => Math.abs(sample) > 0.05)) last = now;
        watched.now = now - last;
        watched.longest = Math.max(watched.longest, watched.now);
    }, 20);
"#;

/// Listens a second time, to the frames as they come: `epochs`, packets that are missing (`holes`), `next` number.
const COUNT: &str = r#"
    const { read } = await import("/listen/assets/frame.js");
    const counted = window.counted = { epochs: 0, holes: 0, next: null };
    const address = location.href.replace(/^http/, "ws").replace("/listen/", "/api/v1/share/").replace("?", "/ws?");
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
        if (!(data instanceof ArrayBuffer)) return counted.epochs += JSON.parse(data).type === "hello" ? 1 : 0;
        const { sequence, packets } = read(data);
        if (counted.next !== null && sequence !== counted.next) counted.holes += 1;
        counted.next = sequence + packets.length;
    };
    await until("frames", () => counted.next !== null);
"#;

fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or_else(|| panic!("no {name}: {of:#}"))
}

#[tokio::test]
async fn a_host_whose_line_breaks_goes_on_and_nothing_of_what_it_sends_is_lost() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let wire = Cutter::to(gate.address()).await;
    browser.open(&format!("{}/listen/host", wire.url())).await;
    let host = begin(&browser).await;
    let link = host["link"].as_str().expect("a link").replace(wire.url().as_str(), &gate.url());
    let page = browser.another_window(&link).await;
    run(&browser, r#"await state("ready"); element("play").click(); await state("live"); await hear(); return null;"#)
        .await;
    run(&browser, &format!("{COUNT}{WATCH} return null;")).await;
    let before = wire.taken();
    wire.cut();
    eventually("the host connects again", async || (wire.taken() > before).then_some(())).await;
    let on = r#"
        const until_then = window.counted.next + 100;
        await until("frames from after the break", () => window.counted.next > until_then);
        return window.counted;
    "#;
    let counted = run(&browser, on).await;
    assert_eq!((&counted["epochs"], &counted["holes"]), (&json!(1), &json!(0)), "{counted:#}");
    // Now for longer: until the page says so.
    let listener = browser.to_window(&page).await;
    wire.shut();
    run(&browser, r#"await state("reconnecting"); return null;"#).await;
    wire.mend();
    run(&browser, r#"await state("sharing"); return null;"#).await;
    browser.to_window(&listener).await;
    let watched = r#"
        await until("sound", () => window.watched.now < 100);
        await hear();
        return window.watched;
    "#;
    let watched = run(&browser, watched).await;
    assert!(number(&watched, "longest") <= SILENCE, "{watched:#}");
    browser.close().await;
}

#[tokio::test]
async fn a_listener_whose_line_breaks_comes_back_with_its_ticket_while_that_is_good() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let (link, host) = share(&gate, 600).await;
    let wire = Cutter::to(gate.address()).await;
    browser.open(&format!("{}{link}", wire.url())).await;
    let play = r#"await state("ready"); element("play").click(); await state("live"); await hear();"#;
    run(&browser, &format!("{play}{WATCH} return null;")).await;
    for broken in [Cutter::cut, Cutter::shut] {
        let breaks = run(&browser, "return (await page()).source.figures.breaks;").await;
        broken(&wire);
        let broke = r#"
            const { source } = await page();
            await until("a break", () => source.figures.breaks > BEFORE);
            return null;
        "#;
        run(&browser, &broke.replace("BEFORE", &breaks.to_string())).await;
        wire.mend();
        let heard = run(&browser, r#"await state("live"); return { ...await hear(), ...window.watched };"#).await;
        assert_is_tone(&heard);
        assert!(number(&heard, "longest") <= SILENCE, "{heard:#}");
    }
    // A network that says nothing: the page must notice by itself.
    wire.hang();
    run(&browser, r#"await state("reconnecting"); return null;"#).await;
    wire.mend();
    assert_is_tone(&run(&browser, r#"await state("live"); return await hear();"#).await);
    host.abort();
    let (link, host) = share(&gate, 1).await;
    browser.open(&format!("{}{link}", wire.url())).await;
    let said = eventually("the ticket is too old", async || {
        let now =
            run(&browser, "return { state: document.body.dataset.state, said: element('state').textContent };").await;
        if now["state"] == "ready" {
            wire.cut();
        }
        (now["state"] == "denied").then_some(now)
    });
    assert_eq!(said.await["said"], "This link is no longer valid. Ask for a new one.");
    host.abort();
    browser.close().await;
}

#[tokio::test]
async fn a_file_that_breaks_is_played_again() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let (link, host) = share(&gate, 600).await;
    let wire = Cutter::to(gate.address()).await;
    browser.open(&format!("{}{link}&codec=ogg", wire.url())).await;
    let play = r#"await state("ready"); element("play").click(); await state("live"); return await hearFile();"#;
    assert_is_tone(&run(&browser, play).await);
    // For a moment, which the browser mends without a word, and until the page says so.
    let before = wire.taken();
    wire.cut();
    eventually("the file and the events are opened again", async || (wire.taken() >= before + 2).then_some(())).await;
    assert_is_tone(&run(&browser, r#"await state("live"); return await hearFile();"#).await);
    wire.shut();
    run(&browser, r#"await state("reconnecting"); return null;"#).await;
    wire.mend();
    assert_is_tone(&run(&browser, r#"await state("live"); return await hearFile();"#).await);
    host.abort();
    browser.close().await;
}
