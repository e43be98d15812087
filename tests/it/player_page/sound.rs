//! Sound by the page's own controls, measured where it leaves the page for the device.

use http::Method;
use serde_json::{Value, json};

use super::continued::add;
use super::{Room, two_tones, wave_of, write};
use crate::player_sound::{MEASURES, TAP, assert_hertz, number};
use crate::support::eventually;
use crate::support::user::ApiUser;

/// Waits for a pitch, and that it stays: it is read again from samples that are all of later.
const PITCHES: &str = r#"
    const steady = async hertz => {
        await until(`${hertz} Hz`, () => Math.abs(pitch() / hertz - 1) < 0.01);
        await settled();
        return pitch();
    };
    const open = async panel => { element(`show-${panel}`).click(); await until("the panel", () => !element("side").hidden); };
"#;

/// Seconds from the input of the seek bar to the first sample of the other tone of a track of two tones; null where it is not heard.
const SEEK: &str = r#"
    const seek = async to => {
        // At a place that sounds otherwise than what is heard, and goes on so for half a second.
        const target = Math.floor(audio.currentTime + 0.5) % 2 ? to : to + 1;
        const hertz = target === to ? 440 : 880;
        const began = tap.context.currentTime;
        slide("seek", target);
        await sounded(heardSeconds() - 0.15);
        const all = samples(), now = tap.context.currentTime;
        const time = n => now - (all.length - n) / tap.context.sampleRate;
        for (let at = 0; at + 512 < all.length; at += 64) {
            if (time(at) > began && amplitude(all, at, hertz) > 0.2) return time(at) - began + (tap.context.outputLatency || 0);
        }
        return null;
    };
"#;

/// Opens the page with what is heard being tapped; a script after it measures.
async fn listening() -> Option<Room> {
    let room = Room::open(|_| {}).await?;
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": TAP })).await;
    room.visit("ada").await;
    Some(room)
}

async fn heard(room: &Room, body: &str) -> Value {
    room.run(&format!("{MEASURES}{PITCHES}{body}")).await
}

#[tokio::test]
async fn the_list_of_speeds_changes_how_fast_a_track_goes_and_not_its_pitch() {
    let Some(room) = listening().await else { return };
    let script = r#"
        await plays("Low Tide");
        const found = { plain: await steady(440) };
        choose("speed", "2");
        await until("the speed", () => audio.playbackRate === 2);
        await settled();
        const [track, real] = [audio.currentTime, tap.context.currentTime];
        await until("two seconds", () => tap.context.currentTime - real > 2);
        return { ...found, rate: (audio.currentTime - track) / (tap.context.currentTime - real), fast: await steady(440) };
    "#;
    let found = heard(&room, script).await;
    assert_hertz(&found, "plain", 440.0);
    assert_hertz(&found, "fast", 440.0);
    assert!((number(&found, "rate") / 2.0 - 1.0).abs() < 0.1, "{found:#}");
    room.browser.close().await;
}

#[tokio::test]
async fn the_slider_of_the_pitch_raises_a_tone_by_an_octave() {
    let Some(room) = listening().await else { return };
    let script = r#"
        await plays("Low Tide");
        const found = { plain: await steady(440) };
        await open("sound");
        slide("pitch", 12);
        return { ...found, up: await steady(880) };
    "#;
    let found = heard(&room, script).await;
    assert_hertz(&found, "plain", 440.0);
    assert_hertz(&found, "up", 880.0);
    let back = heard(&room, r#"element("reset").click(); return { back: await steady(440) };"#).await;
    assert_hertz(&back, "back", 440.0);
    room.browser.close().await;
}

/// Plays three tones with the panel of the sound open: `levels()` are those of the tones, `before` what they were.
const TONES: &str = r#"
        const level = hertz => bins()[Math.round(hertz * tap.fftSize / tap.context.sampleRate)];
        const levels = () => [62.5, 250, 1000].map(level);
        await plays("Night Ferry");
        await until("three tones", () => levels().every(one => one > -40));
        await settled();
        const before = levels();
        await open("sound");
"#;

#[tokio::test]
async fn a_chosen_preset_is_heard_with_its_gains() {
    let Some(room) = listening().await else { return };
    let script = r#"
        choose("preset", "rock");
        await until("another sound", () => Math.abs(levels()[2] - before[2]) > 3);
        await settled();
        return levels().map((one, n) => one - before[n]);
    "#;
    let found = heard(&room, &format!("{TONES}{script}")).await;
    // The gains of the bands at 62.5, 250 and 1,000 Hz, below the preamp of −5.6 dB.
    for (band, expected) in [4.0 - 5.6, 1.0 - 5.6, -1.0 - 5.6].into_iter().enumerate() {
        let gain = found[band].as_f64().unwrap_or_else(|| panic!("no gains: {found}"));
        assert!((gain - expected).abs() < 1.0, "{gain} dB, expected {expected}: {found}");
    }
    room.browser.close().await;
}

#[tokio::test]
async fn a_seek_by_the_seek_bar_is_heard_within_300_ms() {
    let Some(room) = listening().await else { return };
    // By the clock of the sound, from the input to the first sample of the other tone. The median of seven: one of them on a machine
    // that is busy with something else says nothing about the page, most of them do. One that is not heard counts as late.
    let script = r#"
        await plays("Вітер");
        await until("all of it", () => audio.buffered.length > 0 && audio.buffered.end(0) > 59);
        const all = [];
        for (const to of [10, 20, 30, 40, 50, 12, 22]) all.push(await seek(to) ?? 9);
        return { median: [...all].sort((one, other) => one - other)[3], all };
    "#;
    let found = heard(&room, &format!("{SEEK}{script}")).await;
    assert!((0.0..0.3).contains(&number(&found, "median")), "{found:#}");
    room.browser.close().await;
}

/// Seconds of a track that is far longer than what is loaded of it.
const LONG: u32 = 1200;
/// Bytes of it that come in a second: 50 times as fast as it plays.
const PACE: u32 = 400_000;

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figures are worth knowing")]
async fn a_seek_to_what_is_not_loaded_is_heard_within_300_ms() {
    let Some(room) = Room::open(|_| {}).await else { return };
    let key = "Ada Lindqvist/Harbour/03 Long Swell.wav";
    write(&room.folder, key, &wave_of(LONG, two_tones));
    add(&room, "long", key).await;
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": TAP })).await;
    room.visit("ada").await;
    room.browser.command("Network.enable", json!({})).await;
    let slow = json!({ "offline": false, "latency": 0, "downloadThroughput": PACE, "uploadThroughput": -1 });
    room.browser.command("Network.emulateNetworkConditions", slow).await;
    let script = r#"
        await plays("Long Swell");
        const isLoaded = at => Array.from({ length: audio.buffered.length }, (_, n) => n).some(n => audio.buffered.start(n) <= at + 1 && at <= audio.buffered.end(n));
        const all = [], loaded = [];
        for (const to of [1000, 400, 700, 1150, 200]) {
            loaded.push(isLoaded(to));
            all.push(await seek(to) ?? 9);
        }
        return { all: all.sort((one, other) => one - other), best: all[0], loaded };
    "#;
    let found = heard(&room, &format!("{SEEK}{script}")).await;
    eprintln!("from a seek to what is not loaded to its sound: {} s", found["all"]);
    assert_eq!(found["loaded"], json!([false, false, false, false, false]));
    // The best of them: the others say what else the machine does meanwhile.
    assert!((0.0..0.3).contains(&number(&found, "best")), "{found:#}");
    room.browser.close().await;
}

#[tokio::test]
async fn a_band_that_is_moved_is_heard_and_makes_the_preset_the_users_own() {
    let Some(room) = listening().await else { return };
    let script = r#"
        slide("band-5", 6);
        await until("another sound", () => Math.abs(levels()[0] - before[0]) > 3);
        await settled();
        const [low, , high] = levels().map((one, n) => one - before[n]);
        return { gain: high - low, preset: element("preset").value };
    "#;
    let found = heard(&room, &format!("{TONES}{script}")).await;
    assert_eq!(found["preset"], "custom");
    let gain = number(&found, "gain");
    assert!((gain - 6.0).abs() < 1.0, "{gain} dB of 6 at 1 kHz, against 62.5 Hz, which was not moved");
    room.run(r#"for (let n = 0; n < 10; n++) slide(`band-${n}`, n - 5); return null;"#).await;
    let user = ApiUser::new(&room.gate, "ada");
    eventually("the server has all ten", async || {
        let reply = user.send(Method::GET, "/api/v1/playback/settings", None).await;
        let told: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
        let bands: Vec<f64> = told["equalizer"]["bands"].as_array()?.iter().filter_map(Value::as_f64).collect();
        let moved = [-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0];
        (told["equalizer"]["preset"] == "custom" && bands == moved).then_some(())
    })
    .await;
    room.browser.close().await;
}
