//! What every page in a browser is held against: axe, the screen's width, and the wishes of the system.

use serde_json::{Value, json};

use super::chromium::Chromium;

const AXE: &str = include_str!("../watch/vendor/axe.min.js");

/// What axe finds, by the rules of WCAG 2.2 A and AA and by best practice.
const JUDGE: &str = r#"
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await axe.run(document, { runOnly: { type: "tag", values: tags } });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.html} ${node.failureSummary}`).join(" | ")}`);
"#;

/// Controls that are beyond the screen, or too small to be pressed (WCAG 2.5.8); what can be scrolled sideways is not.
const FITS: &str = r#"
    await new Promise(done => setTimeout(done, 100));
    const targets = [...document.querySelectorAll("button, input, select, summary")]
        .filter(one => one.checkVisibility() && !one.closest(".cards:not(.wide)"));
    // A box or a button with a label is pressed by its label too.
    const target = one => (["radio", "checkbox"].includes(one.type) ? one.closest("label") ?? one : one);
    const size = one => { const { width, height } = target(one).getBoundingClientRect(); return Math.min(width, height); };
    const name = one => one.id || one.className || one.outerHTML;
    return { over: Math.max(0, document.documentElement.scrollWidth - innerWidth), count: targets.length > 0,
        small: targets.filter(one => size(one) < 24).map(name),
        out: targets.filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(name) };
"#;

/// Asserts that axe finds nothing on what the page shows.
pub async fn assert_accessible(browser: &Chromium, what: &str) {
    let found = browser.run(&format!("if (!window.axe) {{ {AXE} }} {JUDGE}")).await;
    assert_eq!(found, json!([]), "{what}");
}

/// Asserts that what is shown fits the screen, and that all of it is large enough to be pressed.
pub async fn assert_fits(browser: &Chromium, what: &str) {
    let fits = json!({ "over": 0, "count": true, "small": [], "out": [] });
    assert_eq!(browser.run(FITS).await, fits, "{what}");
}

/// Has the browser say that the system wishes these: names and values of media features.
pub async fn wish<const N: usize>(browser: &Chromium, wishes: [(&str, &str); N]) {
    let features: Value = wishes.map(|(name, value)| json!({ "name": name, "value": value })).into_iter().collect();
    browser.command("Emulation.setEmulatedMedia", json!({ "features": features })).await;
}

/// Gives the page a screen of so many CSS pixels.
pub async fn screen(browser: &Chromium, width: u32, height: u32) {
    let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    browser.command("Emulation.setDeviceMetricsOverride", metrics).await;
}
