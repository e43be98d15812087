//! The sound of the player page in a real browser: measured where it leaves the page for the device, by its samples.

use serde_json::{Value, json};

use crate::players::in_a_file;
use crate::support::Gate;
use crate::support::chromium::Chromium;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;

/// Taps whatever a page leads to the device, before its own scripts run.
pub const TAP: &str = r#"
    const connect = AudioNode.prototype.connect;
    AudioNode.prototype.connect = function (to, ...rest) {
        if (to instanceof AudioDestinationNode && to.context instanceof AudioContext) {
            window.tap ??= new AnalyserNode(to.context, { fftSize: 32768, smoothingTimeConstant: 0 });
            connect.call(this, window.tap);
        }
        return connect.call(this, to, ...rest);
    };
"#;

/// Measuring of the last 0.7 s that were heard; `until` is the page's or the one below.
pub const MEASURES: &str = r#"
    // Waits for so many seconds of sound, by the clock of the sound.
    const sounded = seconds => {
        const from = tap.context.currentTime;
        return until("sound", () => tap.context.currentTime - from >= seconds);
    };
    const samples = () => { const all = new Float32Array(tap.fftSize); tap.getFloatTimeDomainData(all); return all; };
    const bins = () => { const all = new Float32Array(tap.fftSize / 2); tap.getFloatFrequencyData(all); return all; };
    const heardSeconds = () => tap.fftSize / tap.context.sampleRate;
    const settled = () => sounded(heardSeconds() + 0.6);
    // The loudest frequency, between bins too.
    const pitch = () => {
        const all = bins(), best = all.reduce((best, value, n) => value > all[best] ? n : best, 1);
        const [before, at, after] = [all[best - 1], all[best], all[best + 1]];
        return (best + (before - after) / (before - 2 * at + after) / 2) * tap.context.sampleRate / tap.fftSize;
    };
    // Loudness of a tone in 512 samples.
    const amplitude = (all, from, hertz) => {
        const sums = [Math.cos, Math.sin].map(wave => {
            let sum = 0;
            for (let n = 0; n < 512; n++) sum += all[from + n] * wave(2 * Math.PI * hertz * n / tap.context.sampleRate);
            return sum / 256;
        });
        return Math.hypot(...sums);
    };
"#;

/// What the scripts below share: files that are made here.
const TOOLS: &str = r#"
    // A file of the samples that a function of the seconds gives.
    const file = (seconds, sample) => {
        const rate = 48000, length = seconds * rate, wav = new DataView(new ArrayBuffer(44 + 2 * length));
        const word = (at, text) => [...text].forEach((letter, n) => wav.setUint8(at + n, letter.charCodeAt(0)));
        word(0, "RIFF"); wav.setUint32(4, 36 + 2 * length, true); word(8, "WAVEfmt "); wav.setUint32(16, 16, true);
        wav.setUint16(20, 1, true); wav.setUint16(22, 1, true); wav.setUint32(24, rate, true);
        wav.setUint32(28, 2 * rate, true); wav.setUint16(32, 2, true); wav.setUint16(34, 16, true);
        word(36, "data"); wav.setUint32(40, 2 * length, true);
        for (let n = 0; n < length; n++) wav.setInt16(44 + 2 * n, 32767 * sample(n / rate), true);
        return URL.createObjectURL(new Blob([wav.buffer], { type: "audio/wav" }));
    };
    const tone = hertz => seconds => 0.4 * Math.sin(2 * Math.PI * hertz * seconds);
    const { AudioEngine } = await import("/player/assets/audio/engine.js");
    const { BANDS, PRESETS } = await import("/player/assets/audio/presets.js");
    const audio = new Audio(), engine = new AudioEngine(audio);
    audio.loop = true;
    const listen = async source => {
        audio.src = source;
        await engine.resume();
        await audio.play();
        await until("sound", () => Math.max(...samples()) > 0.01);
        await settled();
    };
    const loaded = part => performance.getEntriesByType("resource").filter(({ name }) => name.includes(part)).length;
"#;

/// A browser on the page of a gate.
struct Stage {
    browser: Chromium,
    gate: Gate,
    _folder: TempFolder,
}

impl Stage {
    /// Opens one; `None` where the browser is missing and not required.
    async fn open() -> Option<Self> {
        let browser = Chromium::start().await?;
        let folder = TempFolder::new("player-sound");
        let mut config = in_a_file(&folder);
        config["Player"] = json!({});
        let gate = Gate::start(&config).await;
        browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": TAP })).await;
        browser.open(&format!("{}/player/", gate.url())).await;
        Some(Self { browser, gate, _folder: folder })
    }

    /// Runs the body of an async function in the page.
    async fn run(&self, body: &str) -> Value {
        self.browser.run(&format!("{TOOLS}{MEASURES}{body}")).await
    }
}

pub fn number(found: &Value, name: &str) -> f64 {
    found[name].as_f64().unwrap_or_else(|| panic!("no {name}: {found:#}"))
}

/// Fails unless the frequency is the expected one within 1 %.
#[track_caller]
pub fn assert_hertz(found: &Value, name: &str, expected: f64) {
    assert!((number(found, name) / expected - 1.0).abs() < 0.01, "{name} is not {expected} Hz: {found:#}");
}

#[tokio::test]
async fn speed_changes_how_fast_a_track_goes_and_not_its_pitch() {
    let Some(stage) = Stage::open().await else { return };
    let heard = r#"
        await listen(file(20, tone(440)));
        const found = { plain: pitch() };
        for (const speed of [2, 0.5, 1.25]) {
            engine.setSpeed(speed);
            await settled();
            const [track, real] = [audio.currentTime, tap.context.currentTime];
            await until("two seconds", () => tap.context.currentTime - real > 2);
            const passed = (audio.currentTime - track + audio.duration) % audio.duration;
            found[`at${speed}`] = pitch();
            found[`rate${speed}`] = passed / (tap.context.currentTime - real);
        }
        return { ...found, stretch: loaded("signalsmith") };
    "#;
    let heard = stage.run(heard).await;
    assert_hertz(&heard, "plain", 440.0);
    for (name, speed) in [("2", 2.0), ("0.5", 0.5), ("1.25", 1.25)] {
        assert_hertz(&heard, &format!("at{name}"), 440.0);
        let rate = number(&heard, &format!("rate{name}"));
        assert!((rate / speed - 1.0).abs() < 0.1, "speed {speed} is {rate}: {heard:#}");
    }
    assert_eq!(heard["stretch"], 0, "what changes the pitch is loaded where it is changed only");
    stage.browser.close().await;
}

#[tokio::test]
async fn semitones_change_the_pitch_and_at_another_speed_too() {
    let Some(stage) = Stage::open().await else { return };
    let heard = r#"
        await listen(file(20, tone(440)));
        const found = {};
        for (const semitones of [12, -12, 7]) {
            found[`said${semitones}`] = await engine.setSemitones(semitones);
            await settled();
            found[`at${semitones}`] = pitch();
        }
        found.late = engine.latency;
        engine.setSpeed(2);
        engine.setSemitones(12);
        await settled();
        found.both = pitch();
        engine.setSpeed(1);
        engine.setSemitones(0);
        await settled();
        found.back = pitch();
        found.less = found.late - engine.latency;
        const seen = [];
        const observer = new ReportingObserver(reports => seen.push(...reports), { types: ["csp-violation"], buffered: true });
        observer.observe();
        seen.push(...observer.takeRecords());
        await sounded(0.1);
        return { ...found, barred: seen.map(({ body }) => `${body.effectiveDirective} ${body.blockedURL}`) };
    "#;
    let heard = stage.run(heard).await;
    for (name, hertz) in [("12", 880.0), ("-12", 220.0), ("7", 440.0 * 2_f64.powf(7.0 / 12.0))] {
        assert_eq!(heard[format!("said{name}")], true, "{heard:#}");
        assert_hertz(&heard, &format!("at{name}"), hertz);
    }
    assert_hertz(&heard, "both", 880.0);
    assert_hertz(&heard, "back", 440.0);
    assert!(number(&heard, "less") > 0.05, "a changed pitch is late, and the engine says so: {heard:#}");
    assert_eq!(heard["barred"], json!([]));
    stage.browser.close().await;
}

#[tokio::test]
async fn a_pitch_that_cannot_be_changed_is_said_and_the_track_sounds_on() {
    let Some(stage) = Stage::open().await else { return };
    let block = async |urls: Value| {
        stage.browser.command("Network.enable", json!({})).await;
        stage.browser.command("Network.setBlockedURLs", json!({ "urls": urls })).await;
    };
    block(json!(["*signalsmith*"])).await;
    let failed = r#"
        await listen(file(20, tone(440)));
        const found = { said: await engine.setSemitones(12) };
        await settled();
        Object.assign(window, { engine, pitch, settled });
        return { ...found, at: pitch() };
    "#;
    let failed = stage.run(failed).await;
    assert_eq!(failed["said"], false);
    assert_hertz(&failed, "at", 440.0);
    block(json!([])).await;
    let again = "const said = await window.engine.setSemitones(12); await window.settled(); return { said, at: window.pitch() };";
    let again = stage.browser.run(again).await;
    assert_eq!(again["said"], true);
    assert_hertz(&again, "at", 880.0);
    stage.browser.close().await;
}

/// Presets, with the gain in dB that makes room: the negative peak of the summed response of the filters at 48 kHz, as
/// NumPy computes it. (`custom` is the user's.)
const PREAMPS: [(&str, f64); 11] = [
    ("flat", 0.0),
    ("rock", -5.6),
    ("jazz", -3.4),
    ("pop", -3.0),
    ("hiphop", -5.4),
    ("dance", -6.0),
    ("metal", -4.3),
    ("electronic", -5.6),
    ("acoustic", -4.5),
    ("classical", -3.4),
    ("lofi", -4.0),
];

#[tokio::test]
async fn each_preset_is_heard_with_the_gains_that_the_server_knows_and_never_louder_than_before() {
    let Some(stage) = Stage::open().await else { return };
    let ada = ApiUser::new(&stage.gate, "ada");
    // All bands at once, each loud enough to be measured and their sum below what the limiter holds.
    let heard = r#"
        await listen(file(10, seconds => BANDS.reduce((all, hertz, n) => all + 0.04 * Math.sin(2 * Math.PI * hertz * seconds + n), 0)));
        const levels = () => {
            const all = bins();
            return BANDS.map(hertz => all[Math.round(hertz * tap.fftSize / tap.context.sampleRate)]);
        };
        const before = levels(), found = { names: Object.keys(PRESETS), presets: PRESETS };
        for (const preset of found.names) {
            engine.setEqualizer({ preset, bands: [] });
            await settled();
            const now = levels();
            found[preset] = now.map((level, n) => level - before[n]);
        }
        engine.setEqualizer({ preset: "flat", bands: [] });
        await settled();
        found.flatAgain = levels().map((level, n) => level - before[n]);
        return found;
    "#;
    let heard = stage.run(heard).await;
    assert_eq!(heard["names"], json!(PREAMPS.map(|(name, _)| name)), "the page has the server's presets");
    let gains = |list: &Value| -> Vec<f64> {
        list.as_array().expect("a list").iter().map(|gain| gain.as_f64().expect("dB")).collect()
    };
    for (preset, preamp) in PREAMPS {
        let said = ada.send(http::Method::PUT, "/api/v1/playback/equalizer", Some(&json!({ "preset": preset }))).await;
        let said: Value = serde_json::from_slice(&said.is(200).body).expect("JSON");
        let wanted = gains(&said["equalizer"]["bands"]);
        assert_eq!(gains(&heard["presets"][preset]), wanted, "{preset} is the same here and on the server");
        for (band, (gain, found)) in wanted.iter().zip(gains(&heard[preset])).enumerate() {
            let expected = gain + preamp;
            assert!((found - expected).abs() < 1.0, "{preset}, band {band}: {found} dB, expected {expected}");
            assert!(found < 0.5, "{preset}, band {band}: {found} dB, louder than the recording");
        }
    }
    assert!(gains(&heard["flatAgain"]).iter().all(|gain| gain.abs() < 0.1), "{}", heard["flatAgain"]);
    stage.browser.close().await;
}

/// Largest step between two samples of a tone of 100 Hz, in the 0.7 s around each change. What the machine does (a buffer
/// that comes too late) is heard once, and what a change does each time: so the best of three counts.
const STEPS: &str = r#"
    await listen(file(60, tone(100)));
    const step = () => samples().reduce((largest, value, n, all) => n ? Math.max(largest, Math.abs(value - all[n - 1])) : 0, 0);
    const found = { nothing: step() };
    const change = async (name, act) => {
        await act();
        await sounded(heardSeconds() - 0.15);
        found[name] = Math.min(found[name] ?? Infinity, step());
        await sounded(0.2);
    };
    const preset = preset => engine.setEqualizer({ preset, bands: [] });
    for (let n = 0; n < 3; n++) { CHANGES }
    return found;
"#;

/// Fails where a change is heard as more than the steepest part of a tone of 200 Hz at twice the loudness.
async fn assert_no_click(changes: &str) {
    let Some(stage) = Stage::open().await else { return };
    let heard = stage.run(&STEPS.replace("CHANGES", changes)).await;
    for (name, step) in heard.as_object().expect("steps") {
        assert!(step.as_f64().is_some_and(|step| step > 0.001 && step < 0.023), "{name}: {heard:#}");
    }
    stage.browser.close().await;
}

#[tokio::test]
async fn a_change_of_the_equalizer_makes_no_click() {
    let changes = r#"
        for (const name of ["rock", "lofi", "flat", "dance"]) await change(name, () => preset(name));
        await change("dragged", async () => {
            for (let gain = -12; gain <= 12; gain += 2) {
                engine.setEqualizer({ preset: "custom", bands: [gain, gain, gain, 0, 0, 0, 0, 0, 0, 0] });
                await sounded(0.02);
            }
        });
        await change("restless", async () => { for (const name of ["flat", "dance", "flat"]) { preset(name); await sounded(0.03); } });
    "#;
    assert_no_click(changes).await;
}

#[tokio::test]
async fn a_change_of_speed_or_volume_makes_no_click() {
    let changes = r#"
        for (const speed of [2, 0.5, 1.1, 1]) await change(`speed ${speed}`, () => engine.setSpeed(speed));
        await change("restless", async () => { for (const speed of [1.1, 1.3, 1.5, 1]) { engine.setSpeed(speed); await sounded(0.03); } });
        for (const volume of [0.1, 1]) await change(`volume ${volume}`, () => engine.setVolume(volume));
    "#;
    assert_no_click(changes).await;
}

#[tokio::test]
async fn a_change_of_pitch_makes_no_click() {
    let changes = r#"
        await engine.setSemitones(0);
        for (const semitones of [12, 3, -12, 0, -5, 0]) await change(`pitch ${semitones}`, () => engine.setSemitones(semitones));
        await change("restless", async () => { for (const semitones of [3, 0, 5, 0]) { engine.setSemitones(semitones); await sounded(0.07); } });
    "#;
    assert_no_click(changes).await;
}

#[tokio::test]
async fn a_seek_is_heard_within_300_ms_whether_the_pitch_is_changed_or_not() {
    let Some(stage) = Stage::open().await else { return };
    // By the clock of the sound, from the call to the first sample of the other tone; the median of ten, since one of them on a
    // machine that is busy with something else says nothing about the page. One that is not heard counts as late.
    let heard = r#"
        await listen(file(20, seconds => tone(seconds < 10 ? 440 : 880)(seconds)));
        const seek = async (to, hertz) => {
            const began = tap.context.currentTime;
            audio.currentTime = to;
            await sounded(heardSeconds() - 0.15);
            const all = samples(), now = tap.context.currentTime;
            let at = 0;
            while (at + 512 < all.length && amplitude(all, at, hertz) < 0.2) at += 64;
            if (at + 512 >= all.length) return null;
            return now - (all.length - at) / tap.context.sampleRate - began + tap.context.outputLatency;
        };
        const median = async (factor) => {
            const all = [];
            for (let n = 0; n < 5; n++) {
                all.push(await seek(12, 880 * factor) ?? 9);
                await sounded(0.3);
                all.push(await seek(2, 440 * factor) ?? 9);
                await sounded(0.3);
            }
            return all.sort((one, other) => one - other)[5];
        };
        const plain = await median(1);
        Object.assign(window, { engine, median, settled });
        return { plain };
    "#;
    let plain = stage.run(heard).await;
    let shifted = stage
        .browser
        .run(
            "await window.engine.setSemitones(12); await window.settled(); return { shifted: await window.median(2) };",
        )
        .await;
    for (found, name) in [(&plain, "plain"), (&shifted, "shifted")] {
        assert!((0.0..0.3).contains(&number(found, name)), "{found:#}");
    }
    stage.browser.close().await;
}
