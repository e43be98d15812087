//! The largest paint of the page (`-- --nocapture` shows the figures), and its picture in `docs/`, which is made by hand:
//! `cargo test --test it watch::measured -- --ignored`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Cinema;

/// Loads that are measured.
const ROUNDS: usize = 5;
/// Milliseconds within which the largest paint counts as good (Core Web Vitals).
const GOOD: u64 = 2500;
/// Largest paint of the page in milliseconds, once the film has played for a while.
const LARGEST: &str = r#"
    await plays();
    await past(1);
    const entries = await new Promise(done => new PerformanceObserver(list => done(list.getEntries()))
        .observe({ type: "largest-contentful-paint", buffered: true }));
    const [first] = performance.getEntriesByName("first-contentful-paint");
    const last = entries.at(-1);
    return { largest: Math.round(last.startTime), of: last.element?.id ?? last.element?.tagName, first: Math.round(first.startTime),
        bytes: performance.getEntriesByType("resource").filter(({ name }) => name.includes("/watch/")).reduce((sum, one) => sum + one.transferSize, 0) };
"#;

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figures are worth knowing")]
async fn the_largest_paint_comes_soon_on_a_processor_that_is_four_times_slower() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.browser.command("Emulation.setCPUThrottlingRate", json!({ "rate": 4 })).await;
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        cinema.browser.command("Network.clearBrowserCache", json!({})).await;
        cinema.visit("").await;
        let seen = cinema.run(LARGEST).await;
        eprintln!("{seen}");
        all.push(seen["largest"].as_u64().expect("milliseconds"));
    }
    all.sort_unstable();
    // The best of them: the others say what else the machine does meanwhile.
    assert!(all[0] < GOOD, "{all:?} ms");
    eprintln!("largest paint, 4x slower: median {} ms, worst {} ms", all[ROUNDS / 2], all[ROUNDS - 1]);
    cinema.browser.close().await;
}

#[tokio::test]
#[ignore = "writes docs/film-page.png"]
async fn a_picture_of_the_film_page() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    let viewer = crate::films::Viewer::new(&cinema.gate, "ada");
    for (film, seconds) in [("heat", 2400), ("solaris", 600)] {
        let report = json!({ "position_seconds": seconds, "duration_seconds": 6000 });
        viewer.post(&format!("{film}/progress"), report).await.is(200);
    }
    cinema.sign_in("ada").await;
    let metrics = json!({ "width": 1000, "height": 1010, "deviceScaleFactor": 1, "mobile": false });
    cinema.browser.command("Emulation.setDeviceMetricsOverride", metrics).await;
    cinema.visit("").await;
    let shown = r#"
        await plays();
        choose("subtitles", [...element("subtitles").options].find(({ text }) => text === "English").value);
        seek(45);
        await past(45.5);
        element("play").click();
        await state("paused");
        await until("the list", () => !element("continue").hidden);
        document.activeElement.blur();
        await new Promise(done => setTimeout(done, 500));
        return null;
    "#;
    cinema.run(shown).await;
    let picture = cinema.browser.command("Page.captureScreenshot", json!({ "format": "png" })).await;
    let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/film-page.png"), bytes).expect("it is written");
    cinema.browser.close().await;
}
