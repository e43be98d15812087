//! Signatures: made anew, of one request each, by keys that are read again.

use serde_json::json;

use super::{TRACK, gate};
use crate::support::ScriptedOrigin;
use crate::support::fault;
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;

#[tokio::test]
async fn an_expired_url_is_signed_again_at_most_twice() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    origin.script([fault::EXPIRED, fault::EXPIRED]);
    gate.client().get(TRACK, &[]).await.is(200);
    let seen = origin.take_seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.connection == seen[0].connection), "a 403 must not cost the connection");
    origin.always(fault::EXPIRED);
    let reply = gate.client().get(TRACK, &[]).await;
    reply.problem(503);
    assert_eq!((reply.header("retry-after"), reply.header("x-retry-url")), ("1", TRACK));
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(gate.metric("novatune_stream_url_expired_total", "").await, 5.0);
    for attempt in ["1", "2"] {
        let retried = gate.metric("novatune_stream_retry_total", &format!("attempt=\"{attempt}\"")).await;
        assert!(retried >= 1.0, "attempt {attempt}");
    }
    origin.reset();
    gate.client().get(TRACK, &[]).await.is(200);
}

#[tokio::test]
async fn an_absurd_date_of_the_store_spoils_no_later_signature() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    for absurd in [fault::EXPIRED_IN_9999, fault::EXPIRED_IN_1970] {
        origin.script([absurd]);
        gate.client().get(TRACK, &[]).await.is(200);
        gate.client().get(TRACK, &[("range", "bytes=0-9")]).await.is(206);
    }
    assert_eq!(origin.seen().len(), 6);
}

#[tokio::test]
async fn a_plain_403_to_a_kept_signature_is_answered_by_a_new_one() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    gate.client().get(TRACK, &[]).await.is(200);
    origin.script([fault::DENIED]);
    gate.client().get(TRACK, &[]).await.is(200);
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(gate.metric("novatune_stream_retry_total", "attempt=\"1\"").await, 1.0);
}

#[tokio::test]
async fn a_denied_key_costs_one_request_more_in_an_interval_however_many_ask() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    origin.always(fault::DENIED);
    gate.client().get("/stream/never-served.mp3", &[]).await.problem(404);
    assert_eq!(origin.take_seen().len(), 1, "a denial of a new signature is one");
    origin.reset();
    gate.client().get(TRACK, &[]).await.is(200);
    origin.reset();
    origin.always(fault::DENIED);
    let mut players = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = gate.client();
        players.spawn(async move {
            client.get(TRACK, &[]).await.problem(404);
        });
    }
    while let Some(player) = players.join_next().await {
        player.expect("every player is answered");
    }
    assert_eq!(origin.take_seen().len(), 21);
    for _ in 0..5 {
        gate.client().get(TRACK, &[]).await.problem(404);
    }
    assert_eq!(origin.seen().len(), 5);
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_the_store_refuses_them() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let folder = TempFolder::new("keys");
    let file = folder.path().join("access");
    std::fs::write(&file, "first-key").expect("a file");
    let gate = gate(&origin.url(), |config| {
        config["ObjectStores"]["main"]["Credentials"]["AccessKey"] = json!(format!("file:{}", file.display()));
    })
    .await;
    gate.client().get(TRACK, &[]).await.is(200);
    for (refusal, name) in [(fault::UNKNOWN_KEY, "second-key"), (fault::WRONG_SIGNATURE, "third-key")] {
        std::fs::write(&file, name).expect("a file");
        origin.take_seen();
        origin.script([refusal]);
        gate.client().get(TRACK, &[]).await.is(200);
        let by: Vec<bool> = origin.seen().iter().map(|asked| asked.query().contains(&format!("={name}%2F"))).collect();
        assert_eq!(by, [false, true], "{name}");
    }
}

#[tokio::test]
async fn a_request_carries_a_signature_of_its_own_method_and_nothing_of_the_client() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = gate(&origin.url(), |_| {}).await;
    let headers = [
        ("authorization", "Bearer abc"),
        ("cookie", "session=abc"),
        ("x-forwarded-for", "1.2.3.4"),
        ("origin", "https://app.test"),
        ("accept-encoding", "gzip"),
        ("x-anything", "else"),
        ("referer", "https://app.test/"),
    ];
    let path = format!("{TRACK}?response-content-type=text/html&partNumber=1&anything=else");
    gate.client().get(&path, &headers).await.is(200);
    gate.client().head(&path, &headers).await.is(200);
    let seen = origin.seen();
    for request in &seen {
        let mut names: Vec<&str> = request.query().split('&').filter_map(|pair| pair.split('=').next()).collect();
        names.sort_unstable();
        let signed = ["Algorithm", "Credential", "Date", "Expires", "Signature", "SignedHeaders"];
        assert_eq!(names, signed.map(|name| format!("X-Amz-{name}")), "{}", request.target);
        assert!(request.query().contains("SignedHeaders=host&") || request.query().ends_with("SignedHeaders=host"));
        assert_eq!(request.header("host"), Some(origin.address().to_string().as_str()));
        assert_eq!(
            (request.header("user-agent"), request.header("accept-encoding")),
            (Some("tidegate"), Some("identity"))
        );
        for (name, value) in headers {
            assert_ne!(request.header(name), Some(value), "{name} went to the store");
        }
    }
    let signature =
        |index: usize| seen[index].query().split("X-Amz-Signature=").nth(1).map(|rest| rest[..64].to_owned());
    assert_ne!(signature(0), signature(1), "GET and HEAD are signed apart");
}
