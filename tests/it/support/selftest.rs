//! The support code itself: a double that lies by accident would make every other test worthless.

use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::fault::{self, End, Step};
use super::issuer::{JwksServer, Key};
use super::origin::{Object, ScriptedOrigin, pattern};
use super::raw::Raw;
use super::{Client, chromium::Chromium, eventually};

const TRACK: &str = "/audio/track.mp3";

#[tokio::test]
async fn the_origin_serves_ranges_conditionals_and_head() {
    let body = pattern(1000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let client = Client::new(origin.url());
    let whole = client.get(TRACK, &[]).await;
    assert_eq!(whole.is(200).body, body);
    let table = [
        ("bytes=0-0", 206, "bytes 0-0/1000", 0..1),
        ("bytes=900-", 206, "bytes 900-999/1000", 900..1000),
        ("bytes=-100", 206, "bytes 900-999/1000", 900..1000),
        ("bytes=500-5000", 206, "bytes 500-999/1000", 500..1000),
        ("bytes=0-1,4-5", 200, "", 0..1000),
    ];
    for (range, status, content_range, bytes) in table {
        let part = client.range(TRACK, range).await;
        assert_eq!(part.is(status).header("content-range"), content_range, "{range}");
        assert_eq!(part.body, body[bytes], "{range}");
    }
    client.range(TRACK, "bytes=1000-").await.is(416);
    client.range(TRACK, "bytes=-0").await.is(416);
    client.get(TRACK, &[("if-none-match", whole.header("etag"))]).await.is(304);
    client.get(TRACK, &[("if-match", "\"other\"")]).await.is(412);
    let head = client.head(TRACK, &[]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (whole.status, "1000", 0));
    assert!(client.get("/audio/other.mp3", &[]).await.is(404).text().contains("NoSuchKey"));
    origin.put("/audio/empty", Object::new(""));
    client.range("/audio/empty", "bytes=0-").await.is(416);
    let seen = origin.seen();
    assert_eq!((seen[1].header("Range"), seen[1].path()), (Some("bytes=0-0"), TRACK));
    assert!(seen.iter().all(|request| request.connection == 1), "connections are kept alive");
}

#[tokio::test]
async fn the_origin_follows_its_script_and_then_serves_again() {
    let origin = ScriptedOrigin::with_track("music").await;
    let client = Client::new(origin.url());
    origin.script([fault::EXPIRED, fault::DENIED, fault::TOO_MANY, fault::REDIRECT, fault::CHANGED_ETAG]);
    assert!(client.get(TRACK, &[]).await.is(403).text().contains("Request has expired"));
    let denied = client.head(TRACK, &[]).await;
    assert_eq!(denied.is(403).header("x-minio-error-code"), "AccessDenied");
    assert_eq!(client.get(TRACK, &[]).await.is(429).header("retry-after"), "60");
    assert!(client.get(TRACK, &[]).await.is(302).header("location").contains("X-Amz-Signature"));
    assert_eq!(client.get(TRACK, &[]).await.is(200).header("etag"), "\"another-version\"");
    origin.script([fault::WHOLE, fault::NO_CONTENT_RANGE]);
    assert_eq!(client.range(TRACK, "bytes=1-2").await.is(200).text(), "music");
    assert_eq!(client.range(TRACK, "bytes=1-2").await.is(206).text(), "us");
    client.get(TRACK, &[]).await.is(200);
}

#[tokio::test]
async fn the_origin_cuts_resets_stalls_and_notices_a_client_that_leaves() {
    let origin = ScriptedOrigin::with_track(pattern(100_000)).await;
    let ask = format!("GET {TRACK} HTTP/1.1\r\nHost: origin\r\n\r\n");
    let second = Duration::from_secs(1);
    let endings = [(End::Close, "UnexpectedEof"), (End::Reset, "ConnectionReset"), (End::Stall, "TimedOut")];
    for (end, kind) in endings {
        for step in [Step::Silence(end), Step::Body { send: 500, end }] {
            origin.script([step.clone()]);
            let mut raw = Raw::connect(origin.address()).await;
            raw.send(ask.as_bytes()).await;
            let error = raw.response("GET", second).await.expect_err("the response is not whole");
            assert_eq!(format!("{:?}", error.kind()), kind, "{step:?}");
        }
    }
    eventually("every connection is closed", async || (origin.open_connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_browser_runs_a_script_in_a_page() {
    let Some(browser) = Chromium::start().await else { return };
    browser.open("data:text/html,<title>hello</title>").await;
    let title = browser.run("return await Promise.resolve(document.title);").await;
    assert_eq!(title, "hello");
    browser.close().await;
}

#[tokio::test]
async fn the_issuer_signs_what_its_published_keys_verify() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = Key::generate("key", algorithm);
        let server = JwksServer::start(&[&key]).await;
        let client = super::client::plain();
        let set: JwkSet = client.get(server.url()).send().await.expect("an answer").json().await.expect("a key set");
        let public = DecodingKey::from_jwk(set.find("key").expect("the key by its id")).expect("a good key");
        let mut rules = Validation::new(algorithm);
        rules.set_audience(&["tidegate"]);
        let token = key.sign(&super::token::claims("alice"));
        let read = jsonwebtoken::decode::<serde_json::Value>(&token, &public, &rules).expect("the token is verified");
        assert_eq!(read.claims["sub"], "alice");
        server.set_down(true);
        assert_eq!(client.get(server.url()).send().await.expect("an answer").status(), 500);
        assert_eq!(server.asked(), 2);
    }
}
