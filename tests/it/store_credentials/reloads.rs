//! Reloads that change stores with providers, and stores that no route reads from.

use serde_json::json;

use super::stand_in::{Keys, TokenService, token_of};
use super::{HOUR, TRACK, probed, web_identity, with_credentials};
use crate::reload::{refused, reload, start, yaml};
use crate::support::fault::Step;
use crate::support::origin::ScriptedOrigin;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, config};

fn token() -> (TempFolder, String) {
    let folder = TempFolder::new("token");
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token").expect("a file");
    let path = file.display().to_string();
    (folder, path)
}

#[tokio::test]
async fn a_reload_that_would_leave_a_store_without_keys_is_refused_with_the_reason() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let (_folder, file) = token();
    let mut all = config::objects(&store.url(), "audio");
    let gate = start(&mut all).await;
    let error = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>\
                 <Message>No provider found</Message></Error></ErrorResponse>";
    service.does(Step::Answer(Answer::new(400, "text/xml", error)));
    all["ObjectStores"]["main"]["Credentials"] = web_identity(&service, &file);
    let report = refused(&gate, &yaml(&all)).await;
    let said =
        "the store `main` has credentials now, and its provider gives none: InvalidIdentityToken: No provider found";
    assert!(report.contains(said), "{report}");
    gate.client().get(TRACK, &[]).await.is(200);
    assert!(store.take_seen()[0].query().contains("X-Amz-Credential=tidegate-test%2F"), "the old ones");
    let faults = gate.admin().get("/clusters", &[]).await.is(200).text();
    assert!(!faults.contains("cannot be renewed"), "{faults}");
    service.gives(&Keys::new("ONE", HOUR.as_secs()));
    reload(&gate, &all).await;
    gate.client().get(TRACK, &[]).await.is(200);
    assert_eq!(token_of(&store.take_seen()[0]).as_deref(), Some("token-of-ONE"));
}

#[tokio::test]
async fn a_reload_with_an_equal_provider_asks_nothing() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let (_folder, file) = token();
    service.gives(&Keys::new("ONE", HOUR.as_secs()));
    let mut all = with_credentials(&store, web_identity(&service, &file));
    let gate = start(&mut all).await;
    assert_eq!(service.questions().len(), 1);
    all["ObjectStores"]["main"]["PresignExpiry"] = json!("20m");
    reload(&gate, &all).await;
    gate.client().get(TRACK, &[]).await.is(200);
    let seen = store.take_seen();
    assert!(seen[0].query().contains("X-Amz-Expires=1200"), "{}", seen[0].target);
    assert_eq!(token_of(&seen[0]).as_deref(), Some("token-of-ONE"));
    assert_eq!(service.questions().len(), 0);
}

#[tokio::test]
async fn a_store_that_no_route_reads_from_has_its_keys_and_its_line_too() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let (_folder, file) = token();
    service.gives(&Keys::new("ONE", HOUR.as_secs()));
    let mut all = config::objects(&store.url(), "audio");
    all["ObjectStores"]["spare"] = config::store(&store.url());
    all["ObjectStores"]["spare"]["Credentials"] = web_identity(&service, &file);
    let line = probed(&all, "credentials of the store `spare` (web-identity)", &[]).await;
    assert!(line.contains("  good ") && line.contains(" valid until "), "{line}");
    service.questions();
    let gate = Gate::start(&all).await;
    assert_eq!(service.questions().len(), 1, "the start waits for it");
    assert!(gate.metric("tidegate_store_credentials_expiry_timestamp_seconds", "store=\"spare\"").await > 0.0);
}
