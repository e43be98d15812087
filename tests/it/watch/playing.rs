//! The film is played: by hls.js, by shaka, and by the browser itself.

use http::Method;
use serde_json::json;

use super::{Cinema, LENGTH, MOVIE, assert_nothing_was_barred};
use crate::films::Viewer;

/// Chooses a quality, a language and subtitles, and seeks; returns what was seen.
const USE: &str = r#"
    await plays();
    const first = { title: element("title").textContent, length: Math.round(video.duration) };
    await until("qualities", () => options("quality").length === 3);
    const heights = [];
    for (const wanted of ["360p", "180p"]) {
        const option = [...element("quality").options].find(({ text }) => text === wanted);
        choose("quality", option.value);
        heights.push(await until(wanted, () => video.videoHeight === parseInt(wanted, 10) && video.videoHeight));
    }
    const spanish = await until("tracks of sound", () => [...element("audio").options].find(({ text }) => /^espa|^span/i.test(text)));
    choose("audio", spanish.value);
    const english = await until("subtitles", () => [...element("subtitles").options].find(({ text }) => text === "English"));
    choose("subtitles", english.value);
    seek(81);
    await past(81.3);
    const cue = await until("a line", () => {
        const track = [...video.textTracks].find(({ mode }) => mode === "showing");
        return track?.activeCues?.[0]?.text;
    });
    choose("speed", "1.5");
    await plays();
    return { ...first, heights, cue, audio: element("audio").selectedOptions[0].text, rate: video.playbackRate,
        subtitles: element("subtitles").selectedOptions[0].text, files: loaded() };
"#;

/// Files among those that were loaded.
fn count(seen: &serde_json::Value, part: &str) -> usize {
    let files = seen["files"].as_array().expect("a list").iter();
    files.filter(|file| file.as_str().is_some_and(|file| file.contains(part))).count()
}

/// The player tells of its playback (CMCD, CTA-5004), in a form that is understood.
async fn assert_playback_was_told(cinema: &Cinema, has_estimate: bool) {
    let count = async |name: &str, labels: &str| cinema.gate.metric(&format!("tidegate_vod_{name}"), labels).await;
    assert_eq!(count("cmcd_requests_total", "playback=\"malformed\"").await, 0.0);
    // shaka makes no estimate of files that are as small as these.
    assert!(!has_estimate || count("throughput_bits_per_second_count", "").await > 0.0);
    for (name, labels) in [
        ("cmcd_requests_total", "playback=\"smooth\""),
        ("bitrate_bits_per_second_count", ""),
        ("buffer_seconds_count", ""),
    ] {
        assert!(count(name, labels).await > 0.0, "{name}");
    }
}

#[tokio::test]
async fn hls_js_plays_a_film_on_the_page_with_its_qualities_sound_and_subtitles() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("?player=hls").await;
    let seen = cinema.run(USE).await;
    assert_eq!((&seen["title"], &seen["length"]), (&json!("A Film of Sand"), &json!(LENGTH)), "{seen}");
    assert_eq!((&seen["heights"], &seen["audio"]), (&json!([360, 180]), &json!("Español")), "{seen}");
    assert!(seen["cue"].as_str().is_some_and(|cue| cue.starts_with("Line 4")), "{seen}");
    assert_eq!((&seen["rate"], &seen["subtitles"]), (&json!(1.5), &json!("English")), "{seen}");
    assert!(count(&seen, "/es_0") > 0, "Spanish was fetched: {seen}");
    assert_eq!((count(&seen, "hls-1.7.4.min.js"), count(&seen, "shaka")), (1, 0), "only what is needed: {seen}");
    assert_nothing_was_barred(&cinema).await;
    assert_playback_was_told(&cinema, true).await;
    // The language of subtitles is remembered, and so is the place.
    cinema.visit("?player=hls").await;
    let again = cinema
        .run(r#"await plays(); await until("subtitles", () => element("subtitles").selectedOptions[0]?.text === "English");
            return { at: video.currentTime };"#)
        .await;
    assert!(again["at"].as_f64().is_some_and(|at| at > 80.0), "{again}");
    cinema.browser.close().await;
}

#[tokio::test]
async fn shaka_plays_a_film_on_the_page_with_its_qualities_sound_and_subtitles() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("?manifest=dash").await;
    let seen = cinema.run(USE).await;
    assert_eq!((&seen["title"], &seen["length"]), (&json!("dune"), &json!(LENGTH)), "{seen}");
    assert_eq!(seen["heights"], json!([360, 180]), "{seen}");
    assert!(seen["cue"].as_str().is_some_and(|cue| cue.starts_with("Line 4")), "{seen}");
    assert_eq!((&seen["rate"], &seen["subtitles"]), (&json!(1.5), &json!("English")), "{seen}");
    assert_eq!(
        (count(&seen, "/hls-"), count(&seen, "shaka-player-5.2.12.dash.js")),
        (0, 1),
        "only what is needed: {seen}"
    );
    assert_nothing_was_barred(&cinema).await;
    assert_playback_was_told(&cinema, false).await;
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_browser_that_plays_hls_by_itself_needs_no_script_for_it_and_goes_on_where_the_viewer_was() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    let viewer = Viewer::new(&cinema.gate, "ada");
    viewer.start(MOVIE).await.is(200);
    viewer.report(MOVIE, 60).await.is(200);
    cinema.visit("?player=native").await;
    // Chromium has done so since 142.
    let can = cinema.run("return video.canPlayType('application/vnd.apple.mpegurl');").await;
    assert_ne!(can, "", "this Chromium is too old");
    let seen = cinema
        .run(
            "const begun = await plays(); seek(90); await past(90.5); await plays();
             return { begun, files: loaded(), length: Math.round(video.duration) };",
        )
        .await;
    assert!(seen["begun"].as_f64().is_some_and(|at| (60.0..75.0).contains(&at)), "{seen}");
    assert_eq!(seen["length"], json!(LENGTH), "{seen}");
    assert_eq!((count(&seen, "/hls-"), count(&seen, "shaka")), (0, 0), "{seen}");
    // And it is taken away as from the others.
    let revoke = "/api/v1/admin/stream-sessions?user_id=ada";
    Viewer::admin(&cinema.gate).send(Method::DELETE, revoke, None).await.is(204);
    cinema.run(r#"await state("stopped"); return null;"#).await;
    cinema.browser.close().await;
}

#[tokio::test]
async fn the_keyboard_controls_the_film_and_can_be_switched_off() {
    const RIGHT: char = '\u{E014}';
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("").await;
    cinema.run("await plays(); document.activeElement.blur(); return null;").await;
    let browser = &cinema.browser;
    browser.press('k').await;
    cinema.run(r#"await state("paused"); return null;"#).await;
    let at = "return video.currentTime;";
    let mut before = cinema.run(at).await.as_f64().expect("a time");
    for (key, by) in [('l', 10.0), ('j', -10.0), (RIGHT, 5.0)] {
        browser.press(key).await;
        let now = cinema.run(at).await.as_f64().expect("a time");
        assert!((now - before - by).abs() < 0.1 || now == 0.0, "{key:?}: {before} {now}");
        before = now;
    }
    for (key, wanted) in [
        ('5', "Math.abs(video.currentTime - video.duration / 2) < 0.1"),
        ('m', "video.muted"),
        ('>', "video.playbackRate === 1.25"),
        ('<', "video.playbackRate === 1"),
        ('c', "[...video.textTracks].some(({ mode }) => mode === 'showing')"),
        ('f', "document.fullscreenElement === element('player')"),
        ('f', "document.fullscreenElement === null"),
        (' ', "!video.paused"),
        ('?', "element('help').open"),
    ] {
        browser.press(key).await;
        let script = format!("await until({:?}, () => {wanted}); return null;", key.to_string());
        cinema.run(&script).await;
    }
    // Keys of one letter can be switched off (WCAG 2.1.4), for the next visit too.
    cinema.run(r#"element("keys-on").click(); element("close").click(); video.pause(); await state("paused"); return null;"#).await;
    browser.press('k').await;
    assert_eq!(cinema.run("return video.paused;").await, json!(true));
    cinema.visit("").await;
    assert_eq!(cinema.run("return element('keys-on').checked;").await, json!(false));
    cinema.browser.close().await;
}

/// A browser in which nothing can be shown above other windows.
const WITHOUT_PICTURE: &str =
    r#"Object.defineProperty(Document.prototype, "pictureInPictureEnabled", { get: () => false });"#;

#[tokio::test]
async fn a_film_goes_on_in_a_picture_above_other_windows_where_the_browser_has_that() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("").await;
    let shown = r#"await plays(); document.activeElement.blur();
        return [document.pictureInPictureEnabled, !element("pip").hidden];"#;
    let shown = cinema.run(shown).await;
    assert_eq!(shown[0], shown[1], "the button is there where it does something");
    if shown[0] == true {
        // By the keyboard first, then by the button: a browser asks for one of them.
        let picture = |is_on: bool| {
            format!(
                r#"await until("a picture", () => (document.pictureInPictureElement === video) === {is_on}
                    && element("pip").getAttribute("aria-pressed") === "{is_on}");
                   await plays();
                   return null;"#
            )
        };
        cinema.browser.press('p').await;
        cinema.run(&picture(true)).await;
        cinema.run(r#"element("pip").focus(); return null;"#).await;
        cinema.browser.press(' ').await;
        cinema.run(&picture(false)).await;
        cinema.browser.press(' ').await;
        cinema.run(&picture(true)).await;
        // A film that is taken away is not shown there any longer.
        Viewer::admin(&cinema.gate)
            .send(Method::DELETE, "/api/v1/admin/stream-sessions?user_id=ada", None)
            .await
            .is(204);
        cinema.run(r#"await state("stopped"); await until("no picture", () => !document.pictureInPictureElement); return null;"#).await;
    }
    cinema.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WITHOUT_PICTURE })).await;
    cinema.visit("").await;
    cinema.run("await plays(); document.activeElement.blur(); return null;").await;
    cinema.browser.press('p').await;
    let without = r#"await plays(); return [element("pip").hidden, document.pictureInPictureElement];"#;
    assert_eq!(cinema.run(without).await, json!([true, null]), "no button, and its key does nothing");
    cinema.browser.close().await;
}
