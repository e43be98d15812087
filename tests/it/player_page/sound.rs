//! Sound by the page's own controls, measured where it leaves the page for the device.

use serde_json::{Value, json};

use super::Room;
use crate::player_sound::{MEASURES, TAP, assert_hertz, number};

/// Waits for a pitch, and that it stays: it is read again from samples that are all of later.
const PITCHES: &str = r#"
    const steady = async hertz => {
        await until(`${hertz} Hz`, () => Math.abs(pitch() / hertz - 1) < 0.01);
        await settled();
        return pitch();
    };
    const open = async panel => { element(`show-${panel}`).click(); await until("the panel", () => !element("side").hidden); };
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

#[tokio::test]
async fn a_chosen_preset_is_heard_with_its_gains() {
    let Some(room) = listening().await else { return };
    let script = r#"
        const level = hertz => bins()[Math.round(hertz * tap.fftSize / tap.context.sampleRate)];
        const levels = () => [62.5, 250, 1000].map(level);
        await plays("Night Ferry");
        await until("three tones", () => levels().every(one => one > -40));
        await settled();
        const before = levels();
        await open("sound");
        choose("preset", "rock");
        await until("another sound", () => Math.abs(levels()[2] - before[2]) > 3);
        await settled();
        return levels().map((one, n) => one - before[n]);
    "#;
    let found = heard(&room, script).await;
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
        const all = [];
        for (const to of [10, 20, 30, 40, 50, 12, 22]) all.push(await seek(to) ?? 9);
        return { median: [...all].sort((one, other) => one - other)[3], all };
    "#;
    let found = heard(&room, script).await;
    assert!((0.0..0.3).contains(&number(&found, "median")), "{found:#}");
    room.browser.close().await;
}
