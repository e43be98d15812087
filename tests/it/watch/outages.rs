//! Something is away while a film plays: the store, and the network of the viewer.

use serde_json::json;

use super::{Cinema, LENGTH};
use crate::support::minio::OwnMinio;

#[tokio::test]
async fn nobody_on_the_page_notices_a_store_that_is_away_for_ten_seconds() {
    let Some(mut minio) = OwnMinio::start() else { return };
    let bucket = minio.bucket("films").await;
    let Some(cinema) = Cinema::before(&bucket, |_| {}).await else { return };
    cinema.sign_in("ada").await;
    for (user, query) in [("ada", "?player=hls"), ("bob", "?manifest=dash")] {
        cinema.sign_in(user).await;
        cinema.visit(query).await;
        let begun = r#"
            await plays();
            await until("20 s ahead", () => ahead() > 20);
            window.waits = 0;
            video.addEventListener("waiting", () => { window.waits += 1; });
            return { at: video.currentTime, end: video.currentTime + ahead() };
        "#;
        let begun = cinema.run(begun).await;
        minio.kill();
        let seconds = |name: &str| begun[name].as_f64().expect("seconds");
        assert!(seconds("end") < f64::from(LENGTH) - 1.0, "{query}: all of the film was loaded before: {begun}");
        cinema.run(&format!("await past({}); return null;", seconds("at") + 10.0)).await;
        minio.restart();
        let after = format!(
            "await until('more of the film', () => video.currentTime + ahead() > {}); await plays();",
            seconds("end") + 2.0
        );
        let after =
            cinema.run(&format!("{after} return {{ waits: window.waits, state: document.body.dataset.state }};")).await;
        assert_eq!(after, json!({ "waits": 0, "state": "playing" }), "{query}");
    }
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_viewer_who_goes_offline_loses_no_place_and_the_film_goes_on_when_the_network_is_back() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("?player=hls").await;
    cinema.run("await plays(); await past(1); return null;").await;
    let network = async |is_offline: bool| {
        let conditions =
            json!({ "offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
        cinema.browser.command("Network.enable", json!({})).await;
        cinema.browser.command("Network.emulateNetworkConditions", conditions).await;
    };
    network(true).await;
    // A place that is not loaded, so that the player must ask.
    cinema.run(r#"seek(100); await state("reconnecting"); element("play").click(); return null;"#).await;
    network(false).await;
    cinema.position_becomes("ada", "the place that could not be sent", |at| at == 100).await;
    let goes_on =
        cinema.run("if (video.paused) element('play').click(); await past(100.5); return await plays();").await;
    assert!(goes_on.as_f64().is_some_and(|at| at > 100.0), "{goes_on}");
    // And over the end of the page: what could not be sent is sent by the next visit.
    network(true).await;
    cinema.run(r#"seek(30); element("play").click(); await until("a place that waits", () =>
        Object.keys(localStorage).some(key => key.includes("unsent") && JSON.parse(localStorage[key]).position_seconds === 30)); return null;"#).await;
    network(false).await;
    cinema.visit("?player=hls").await;
    let again = cinema.run("return await plays();").await;
    assert!(again.as_f64().is_some_and(|at| (30.0..60.0).contains(&at)), "{again}");
    cinema.browser.close().await;
}
