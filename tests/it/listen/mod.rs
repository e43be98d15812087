//! The pages of the share relay in a real browser. What counts is what can be heard: the samples that come out are measured,
//! not the events that promise them.

mod away;
mod breaks;
mod chat;
mod looks;
mod recorded;
mod rules;
mod tab;

use std::f64::consts::TAU;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::chromium::Chromium;
use crate::support::{Gate, config};

const TOKEN: &str = "Bearer a-token-for-sharing";
const RATE: u32 = 44_100;
/// Stereo frames of a chunk.
const FRAMES: u32 = 4096;
/// The tone that is sent.
const HERTZ: f64 = 440.0;
const LOUDNESS: f64 = 0.4;
/// A picture of one pixel.
const COVER: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

/// What the scripts below share: waiting for a state of the page, and measuring the sound that comes out of `node`.
const TOOLS: &str = r#"
    const element = id => document.getElementById(id);
    const state = wanted => until(wanted, () => document.body.dataset.state === wanted);
    const page = () => import("/listen/assets/listen.js");
    const measure = async (context, node) => {
        const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
        node.connect(analyser);
        await new Promise(done => setTimeout(done, 800));
        const samples = new Float32Array(8192), bins = new Float32Array(4096);
        analyser.getFloatTimeDomainData(samples);
        analyser.getFloatFrequencyData(bins);
        node.disconnect(analyser);
        const loudest = bins.reduce((best, value, bin) => value > bins[best] ? bin : best, 0);
        const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
        return { hertz: loudest * context.sampleRate / 8192, rms: Math.sqrt(power) };
    };
    // A browser on a busy machine runs dry at first, until it keeps more ahead, and what a break of the line left out is
    // silence: sound is what has no break in it and is as loud as just before.
    const hear = async () => {
        const { source } = await page();
        const breaks = ({ underruns, skipped }) => underruns + skipped;
        let heard = { rms: 0 };
        await until("sound without a break", async () => {
            const before = breaks(source.figures), { rms } = heard;
            const measured = await measure(source.context, source.output);
            const shown = element("delay").textContent;
            heard = { ...measured, delay: source.delay, shown, ...source.figures };
            return source.sounding && breaks(heard) === before && heard.rms > 0.05
                && Math.abs(heard.rms / rms - 1) < 0.1;
        });
        return heard;
    };
    // The same for the <audio> element, whose sound can be led through one context for good.
    const hearFile = async () => {
        window.context ??= new AudioContext();
        window.sound ??= context.createMediaElementSource(element("stream"));
        let heard = { rms: 0 };
        await until("steady sound", async () => {
            const before = heard.rms;
            heard = await measure(context, sound);
            return heard.rms > 0.05 && Math.abs(heard.rms / before - 1) < 0.1;
        });
        return heard;
    };
"#;

async fn run(browser: &Chromium, body: &str) -> Value {
    browser.run(&format!("{TOOLS}{body}")).await
}

async fn gate() -> Gate {
    // A route that nobody needs here.
    let mut config = config::objects("http://127.0.0.1:9", "audio");
    config["Share"] = json!({});
    Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN)]).await
}

async fn post(gate: &Gate, path: &str, body: &Value) -> Value {
    let request = gate.client().request(http::Method::POST, path).header("authorization", TOKEN);
    let answer = request.header("content-type", "application/json").body(body.to_string()).send().await;
    answer.expect("it answers").error_for_status().expect("it is taken").json().await.expect("JSON")
}

/// A session with a host of the document that sends the tone until it is stopped; the address for listeners, good for
/// `ttl` seconds.
async fn share(gate: &Gate, ttl: u64) -> (String, JoinHandle<()>) {
    let id = post(gate, "/api/share/start", &json!({})).await["sessionId"].as_str().expect("an id").to_owned();
    let song = json!({"title": "A Tone", "artist": "Some Band", "lyrics": "[00:00.00]First line\n[59:00.00]Last line",
        "hasSyncedLyrics": true, "elapsedSeconds": 10.0, "totalSeconds": 3600.0, "thumbnailData": COVER,
        "timestamp": 1_700_000_000_000_i64});
    post(gate, &format!("/api/share/{id}/metadata"), &song).await;
    let ticket = post(gate, &format!("/api/v1/share/{id}/tickets"), &json!({"count": 3, "ttl": ttl})).await;
    let (client, path) = (gate.client(), format!("/api/share/{id}/audio"));
    let host = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_micros(u64::from(FRAMES) * 1_000_000 / u64::from(RATE)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for sequence in 0.. {
            ticks.tick().await;
            let request = client.request(http::Method::POST, &path).header("authorization", TOKEN);
            let label = [("x-sample-rate", u64::from(RATE)), ("x-channels", 2), ("x-timestamp", sequence)];
            let request = label.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let request =
                request.header("x-sequence-number", sequence).header("content-type", "application/octet-stream");
            let sent = request.body(tone(sequence)).send().await.expect("it answers");
            if sent.status() == http::StatusCode::NOT_FOUND {
                break;
            }
            assert!(sent.status().is_success(), "{}", sent.status());
        }
    });
    (ticket["listen_url"].as_str().expect("an address").to_owned(), host)
}

/// The chunk of this number: stereo floats, the same on both sides.
fn tone(sequence: u64) -> Vec<u8> {
    let first = sequence * u64::from(FRAMES);
    let sample = |frame: u64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a short test of a tone")]
        let value = ((frame as f64 * HERTZ / f64::from(RATE)).fract() * TAU).sin() as f32 * LOUDNESS as f32;
        value.to_le_bytes()
    };
    (first..first + u64::from(FRAMES)).flat_map(|frame| [sample(frame), sample(frame)].concat()).collect()
}

/// Fails unless the tone was heard, at the page's usual volume (80 %, squared) or more; the page may play up to 5 % faster
/// or slower to keep what it has ahead.
fn assert_is_tone(heard: &Value) {
    let number = |name: &str| heard[name].as_f64().unwrap_or_else(|| panic!("no {name}: {heard:#}"));
    assert!((number("hertz") / HERTZ - 1.0).abs() < 0.07, "{heard:#}");
    let loud = LOUDNESS / 2_f64.sqrt();
    assert!(number("rms") > 0.5 * loud && number("rms") < 1.1 * loud, "{heard:#}");
}

#[tokio::test]
async fn a_browser_plays_what_a_host_sends_and_says_when_it_is_over() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let (link, host) = share(&gate, 600).await;
    browser.open(&format!("{}{link}", gate.url())).await;
    let shown = run(
        &browser,
        r#"
        await state("ready");
        await until("a cover", () => element("cover").complete && element("cover").naturalWidth > 0);
        const text = id => element(id).textContent;
        return { title: text("title"), artist: text("artist"), listeners: text("listeners"), page: document.title };
    "#,
    );
    let expected =
        json!({"title": "A Tone", "artist": "Some Band", "listeners": "1 listener", "page": "A Tone – Some Band"});
    assert_eq!(shown.await, expected);
    let play = r#"
        element("play").click();
        await state("live");
        const heard = await hear();
        await until("a line", () => document.querySelector("[aria-current]"));
        return { ...heard, line: document.querySelector("[aria-current]").textContent };
    "#;
    let heard = run(&browser, play).await;
    assert_is_tone(&heard);
    assert_eq!((&heard["codec"], &heard["line"]), (&json!("opus"), &json!("First line")), "{heard:#}");
    assert!(heard["delay"].as_f64().is_some_and(|delay| (0.1..5.0).contains(&delay)), "{heard:#}");
    assert!(heard["shown"].as_str().is_some_and(|shown| shown.starts_with("live −")), "{heard:#}");
    let id = link.split(['/', '?']).nth(2).expect("an id");
    post(&gate, &format!("/api/share/{id}/stop"), &json!({})).await;
    host.await.expect("the host is told the end");
    let end = run(
        &browser,
        r#"
        await state("ended");
        await until("silence", () => element("play").disabled);
        return element("state").textContent;
    "#,
    );
    assert_eq!(end.await, "The session has ended.");
    browser.close().await;
}

#[tokio::test]
async fn without_webcodecs_a_browser_plays_a_file_or_floats() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let (link, host) = share(&gate, 600).await;
    browser.open(&format!("{}{link}&codec=ogg&lang=uk", gate.url())).await;
    let heard = run(
        &browser,
        r#"
        await state("ready");
        element("play").click();
        await state("live");
        return { ...await hearFile(), title: element("title").textContent, play: element("play").textContent,
            language: document.documentElement.lang, listeners: element("listeners").textContent };
    "#,
    );
    let heard = heard.await;
    assert_is_tone(&heard);
    let said = [&heard["title"], &heard["play"], &heard["language"], &heard["listeners"]];
    assert_eq!(said, ["A Tone", "Пауза", "uk", "1 слухач"], "{heard:#}");
    browser.open(&format!("{}{link}&codec=f32", gate.url())).await;
    let heard =
        run(&browser, r#"await state("ready"); element("play").click(); await state("live"); return await hear();"#);
    let heard = heard.await;
    assert_is_tone(&heard);
    assert_eq!(heard["codec"], "f32");
    host.abort();
    browser.close().await;
}

#[tokio::test]
async fn who_has_no_ticket_or_comes_too_late_is_told_so() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    let (link, host) = share(&gate, 600).await;
    let (without, _) = link.split_once('?').expect("a ticket");
    let id = without.rsplit('/').next().expect("an id");
    post(&gate, &format!("/api/share/{id}/stop"), &json!({})).await;
    host.await.expect("the host is told the end");
    let bad = format!("{without}?ticket=made-up");
    for (path, state) in
        [(without, "denied"), (&bad, "denied"), (&link, "gone"), (&format!("{link}&codec=ogg"), "gone")]
    {
        browser.open(&format!("{}{path}", gate.url())).await;
        let said = run(&browser, &format!(r#"await state("{state}"); return element("play").disabled;"#)).await;
        assert_eq!(said, json!(true), "{path}");
    }
    browser.close().await;
}

/// What a person does on the host page: chooses a tone of 880 Hz and its words, and starts.
const HOST: &str = r#"
    const rate = 48000, length = 120 * rate, file = new DataView(new ArrayBuffer(44 + 2 * length));
    const word = (at, text) => [...text].forEach((letter, n) => file.setUint8(at + n, letter.charCodeAt(0)));
    word(0, "RIFF"); file.setUint32(4, 36 + 2 * length, true); word(8, "WAVEfmt "); file.setUint32(16, 16, true);
    file.setUint16(20, 1, true); file.setUint16(22, 1, true); file.setUint32(24, rate, true);
    file.setUint32(28, 2 * rate, true); file.setUint16(32, 2, true); file.setUint16(34, 16, true);
    word(36, "data"); file.setUint32(40, 2 * length, true);
    for (let n = 0; n < length; n++) file.setInt16(44 + 2 * n, 13000 * Math.sin(2 * Math.PI * 880 * n / rate), true);
    const give = (id, given) => {
        const transfer = new DataTransfer();
        transfer.items.add(given);
        element(id).files = transfer.files;
        element(id).dispatchEvent(new Event("change"));
    };
    await state("idle");
    give("file", new File([file.buffer], "Other Band - Higher.wav", { type: "audio/wav" }));
    give("lyrics", new File(["[00:00.00]Sung\n[10:00.00]Unsung"], "words.lrc"));
    element("token").value = TOKEN;
    element("start").click();
    await state("sharing");
    await until("a link", () => element("link").value);
    return { link: element("link").value, token: element("token").value, title: element("title").value };
"#;

/// Does that on the host page, which is open.
async fn begin(browser: &Chromium) -> Value {
    run(browser, &HOST.replace("TOKEN", &json!(TOKEN).to_string())).await
}

/// Shares a file by the host page, after `before` was run in it, and listens in another window.
async fn share_a_file(before: &str) {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    browser.open(&format!("{}/listen/host", gate.url())).await;
    run(&browser, before).await;
    let host = begin(&browser).await;
    assert_eq!((&host["token"], &host["title"]), (&json!(""), &json!("Higher")), "the token is on the page no longer");
    let window = browser.another_window(host["link"].as_str().expect("a link")).await;
    let listen = r#"
        await state("ready");
        element("play").click();
        await state("live");
        const heard = await hear();
        await until("a line", () => document.querySelector("[aria-current]"));
        return { ...heard, line: document.querySelector("[aria-current]").textContent, page: document.title };
    "#;
    let heard = run(&browser, listen).await;
    assert!(heard["hertz"].as_f64().is_some_and(|hertz| (hertz / 880.0 - 1.0).abs() < 0.07), "{heard:#}");
    assert_eq!((&heard["line"], &heard["page"]), (&json!("Sung"), &json!("Higher – Other Band")), "{heard:#}");
    let listener = browser.to_window(&window).await;
    let stop = r#"
        await until("a listener", () => element("listeners").textContent === "1 listener");
        if (!element("record").hidden) throw "this server cannot record";
        element("stop").click();
        await state("idle");
        return element("state").textContent;
    "#;
    assert_eq!(run(&browser, stop).await, "The session has ended.");
    browser.to_window(&listener).await;
    run(&browser, r#"await state("ended"); return null;"#).await;
    browser.close().await;
}

#[tokio::test]
async fn a_file_that_the_host_page_shares_is_heard_on_the_listen_page() {
    let refused = r#"
        await state("idle");
        element("token").value = "wrong";
        element("start").click();
        await until("a refusal", () => element("state").textContent.includes("does not take this token"));
        await until("another try", () => !element("start").disabled);
        return null;
    "#;
    share_a_file(refused).await;
}

#[tokio::test]
async fn a_browser_that_does_not_encode_shares_floats() {
    share_a_file("delete window.AudioEncoder; return null;").await;
}
