//! A session that is recorded, as it is seen on the pages.

use serde_json::json;

use super::{TOKEN, begin, run};
use crate::support::chromium::Chromium;
use crate::support::{Gate, Minio, config};

#[tokio::test]
async fn everybody_sees_that_a_session_is_recorded() {
    let Some(browser) = Chromium::start().await else { return };
    let Some(minio) = Minio::bucket().await else { return };
    let mut config = config::objects(&minio.url(), minio.name());
    config["Share"] = json!({"Recording": {"Store": "main", "Bucket": minio.name()}});
    let gate = Gate::start_with(&config, &[("BEARER_TOKEN", TOKEN)]).await;
    browser.open(&format!("{}/listen/host", gate.url())).await;
    let host = begin(&browser).await;
    let mut other = browser.another_window(host["link"].as_str().expect("a link")).await;
    run(&browser, r#"await state("ready"); return null;"#).await;
    for said in ["This session is being recorded", ""] {
        other = browser.to_window(&other).await;
        run(&browser, r#"element("record").click(); return null;"#).await;
        other = browser.to_window(&other).await;
        let seen = r#"await until("a word", () => element("recording").textContent === SAID); return null;"#;
        run(&browser, &seen.replace("SAID", &json!(said).to_string())).await;
    }
    browser.close().await;
}
