//! What is refused, and leaves nothing behind.

use super::songs::wave;
use super::*;

const LIMIT: usize = 10 << 20;

#[tokio::test]
async fn what_is_no_clip_is_refused_and_nothing_is_kept() {
    let folder = TempFolder::new("recognition");
    let config = without_store(&sqlite(&folder), &folder);
    let gate = Gate::start(&config).await;
    run_index(&config, &folder, &[]).await;
    let alice = bearer("alice");
    let text = b"this is a text, whatever its name says".repeat(100);
    let garbage = [b"\xff\xfb\x90\x64".as_slice(), &[0x55; 5000]].concat();
    let mut large = wave(&[0; 48_000]);
    large.resize(LIMIT + 1, 0);
    // A box of MPEG-4 that says it is larger than anything.
    let bomb =
        [b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42\0\0\0\x01moov\x7f\xff\xff\xff\xff\xff\xff\xff".as_slice(), &[0; 500]]
            .concat();
    for (clip, status) in [
        (text.as_slice(), 415),
        (b"".as_slice(), 415),
        (b"fLaC\0\0\0\x22", 415),
        (&garbage, 422),
        (&bomb, 422),
        (&wave(&[0; 16_000]), 422),
        (
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x01\0\0\0\x01\0\0\0\x02\0\x10\0data\xff\xff\xff\xff",
            422,
        ),
        (&large, 413),
    ] {
        let said = identify(&gate, "alice", clip).await.problem(status);
        assert!(!said["detail"].as_str().unwrap_or_default().is_empty(), "{said}");
    }
    // As large as may be.
    large.truncate(LIMIT);
    identify(&gate, "alice", &large).await.is(200);
    let clip = wave(&[0; 48_000]);
    for (body, status) in [
        (form(&[]), 400),
        (form(&[("clip", "a.mp3", &clip)]), 400),
        (form(&[("file", "a.mp3", &clip), ("file", "b.mp3", &clip)]), 400),
        (b"no form".to_vec(), 400),
        (form(&[("file", "a.mp3", &clip)])[..1000].to_vec(), 400),
    ] {
        send_form(&gate, &alice, body).await.problem(status);
    }
    let request = gate.client().request(Method::POST, "/api/v1/recognition/identify").header("authorization", &alice);
    let response = request.header("content-type", "audio/mpeg").body(clip.clone()).send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 415);
    send_form(&gate, "Bearer nonsense", form(&[("file", "a.mp3", &clip)])).await.problem(401);
    let history = send(&gate, Method::GET, "/api/v1/recognition/history", &alice, None).await;
    assert_eq!(json_of(history.is(200))["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn clips_have_a_limit_of_their_own() {
    let folder = TempFolder::new("recognition");
    let mut config = without_store(&sqlite(&folder), &folder);
    config["Policies"]["RateLimiter"]["recognition"] = json!({ "FixedWindow": { "PermitLimit": 2, "Window": "1h" } });
    let gate = Gate::start(&config).await;
    run_index(&config, &folder, &[]).await;
    let clip = wave(&[0; 48_000]);
    for status in [200, 200, 429] {
        identify(&gate, "alice", &clip).await.is(status);
    }
    identify(&gate, "bob", &clip).await.is(200);
    let history = send(&gate, Method::GET, "/api/v1/recognition/history", &bearer("alice"), None).await;
    assert_eq!(json_of(history.is(200))["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn without_its_section_there_is_no_recognition_and_metrics_are_there_from_the_first_scrape() {
    let folder = TempFolder::new("recognition");
    let mut config = without_store(&sqlite(&folder), &folder);
    let gate = Gate::start(&config).await;
    let page = gate.metrics().await;
    for outcome in ["matched", "unmatched", "refused", "unavailable"] {
        assert!(page.contains(&format!("tidegate_recognition_clips_total{{outcome=\"{outcome}\"}} 0")), "{outcome}");
    }
    assert!(page.contains("tidegate_recognition_search_seconds_count 0"));
    config["Recognition"] = json!({ "Enabled": false });
    let gate = Gate::start(&config).await;
    identify(&gate, "alice", b"").await.problem(404);
}
