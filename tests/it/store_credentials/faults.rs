//! Token services that are away, stall and lie.

use super::stand_in::{Keys, TokenService, token_of};
use super::{HOUR, TRACK, web_identity, with_credentials};
use crate::support::eventually::eventually;
use crate::support::fault::{End, Step};
use crate::support::origin::ScriptedOrigin;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, gate};

/// A folder with a token in the file `token`.
fn token() -> (TempFolder, String) {
    let folder = TempFolder::new("token");
    let file = folder.path().join("token");
    std::fs::write(&file, "canary-token").expect("a file");
    let path = file.display().to_string();
    (folder, path)
}

#[tokio::test]
async fn the_old_keys_serve_while_the_token_service_is_away_and_no_longer_than_they_are_good() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let (_folder, file) = token();
    service.gives(&Keys::new("ONE", 12));
    let gate = Gate::start(&with_credentials(&store, web_identity(&service, &file))).await;
    service.does(Step::Answer(Answer::new(500, "text/plain", "canary-secret")));
    eventually("the failure is in the log", async || gate.log().contains("the old ones are used until").then_some(()))
        .await;
    gate.client().get(TRACK, &[]).await.is(200);
    assert!(store.take_seen().iter().all(|seen| token_of(seen).as_deref() == Some("token-of-ONE")));
    let faults = gate.admin().get("/admin/upstreams", &[]).await.text();
    assert!(faults.contains("credentials of main cannot be renewed by the provider web-identity"), "{faults}");
    let refused = eventually("the keys have ended", async || {
        let reply = gate.client().get(TRACK, &[]).await;
        (reply.status.as_u16() != 200).then_some(reply)
    })
    .await;
    assert_eq!(refused.status.as_u16(), 503);
    assert!(refused.text().contains("store_credentials"), "{}", refused.text());
    assert!(refused.headers.contains_key("retry-after"));
    eventually("the end is in the log", async || gate.log().contains("the old ones ended at").then_some(())).await;
    assert!(gate.metric("tidegate_store_credentials_renewals_total", "outcome=\"failed\"").await >= 1.0);
    assert_eq!(gate.metric("tidegate_store_credentials_expiry_timestamp_seconds", "store=\"main\"").await, 0.0);
    service.gives(&Keys::new("TWO", HOUR.as_secs()));
    eventually("it is served again", async || {
        (gate.client().get(TRACK, &[]).await.status.as_u16() == 200).then_some(())
    })
    .await;
    assert!(!gate.log().contains("canary"), "{}", gate.log());
}

#[tokio::test]
async fn a_token_service_that_stalls_holds_up_neither_the_start_nor_a_request_for_long() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let (_folder, file) = token();
    service.does(Step::Silence(End::Stall));
    let gate = Gate::start(&with_credentials(&store, web_identity(&service, &file))).await;
    let refused = gate.client().get(TRACK, &[]).await;
    refused.is(503);
    assert!(refused.text().contains("store_credentials"), "{}", refused.text());
    assert!(store.seen().is_empty(), "nothing is sent without a signature");
    service.gives(&Keys::new("ONE", HOUR.as_secs()));
    eventually("it is served", async || (gate.client().get(TRACK, &[]).await.status.as_u16() == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn answers_that_are_no_keys_are_refused_with_the_reason_and_without_their_content() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let (folder, file) = token();
    let configuration = gate::write_config(&folder, &with_credentials(&store, web_identity(&service, &file)));
    let error = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>\
                 <Message>No OpenIDConnect provider found</Message></Error></ErrorResponse>";
    let without_end = Keys::new("ONE", 60).xml();
    let without_end = String::from_utf8(without_end.body).expect("text").replace("Expiration", "Ending");
    for (step, reason) in [
        (Step::Answer(Keys::ended("ONE", 60).xml()), "it gave keys that ended already"),
        (Step::Answer(Keys::new("", 60).xml()), "it gave an access key or a secret key that is none"),
        (Step::Answer(Answer::new(200, "text/xml", without_end)), "expiration"),
        (Step::Answer(Answer::new(200, "text/html", "<html>canary-secret</html>")), ""),
        (Step::Answer(Answer::new(400, "text/xml", error)), "InvalidIdentityToken"),
        (Step::Answer(Answer::new(200, "text/xml", " ".repeat(100_000))), "more than 65536 bytes"),
        (Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<"), ""),
        (Step::Answer(Answer::new(302, "text/plain", "").with("Location", "http://127.0.0.1:1/")), ""),
    ] {
        let name = format!("{step:?}");
        service.does(step);
        let probed = gate::run(&["check", "--probe", &configuration.display().to_string()], &folder).await;
        let line = probed.stdout.lines().find(|line| line.contains("credentials of the store `main` (web-identity)"));
        let line = line.unwrap_or_else(|| panic!("{name}: {}{}", probed.stdout, probed.stderr));
        assert!(line.contains("FAILED") && line.contains(reason), "{name}: {line}");
        let all = format!("{}{}", probed.stdout, probed.stderr);
        assert!(!all.contains("canary"), "{name}: {all}");
    }
    assert!(store.seen().is_empty());
}
