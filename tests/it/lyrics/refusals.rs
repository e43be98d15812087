//! What is refused, and leaves nothing behind; and tracks that the caller may not have.

use super::*;
use crate::support::token;

/// Bodies of PUT that are refused, with the status.
fn refused() -> Vec<(Value, u16)> {
    let text = |text: &str| json!({ "texts": [{ "text": text }] });
    let formatted = |format: &str, text: &str| json!({ "texts": [{ "format": format, "text": text }] });
    let entities = r#"<!DOCTYPE tt [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><tt><body><p>&b;</p></body></tt>"#;
    vec![
        (json!({}), 422),
        (json!([]), 400),
        (json!({ "texts": "x" }), 400),
        (json!({ "texts": [{ "text": "x", "more": 1 }] }), 400),
        (json!({ "texts": [{ "text": "x", "kind": "other" }] }), 400),
        (json!({ "texts": [{ "text": "x", "format": "pdf" }] }), 400),
        (json!({ "texts": [{ "text": "x", "kind": "translation" }] }), 422),
        (json!({ "texts": [{ "text": "x" }, { "text": "y" }] }), 422),
        (json!({ "texts": [{ "text": "x", "lang": "not a language" }] }), 422),
        (json!({ "texts": [{ "text": "x" }], "instrumental": true }), 422),
        (json!({ "texts": [{ "text": "x" }], "title": "<b>Prelude</b>" }), 422),
        (json!({ "texts": [{ "text": "x" }], "artist": "two\nlines" }), 422),
        (json!({ "texts": [{ "text": "x" }], "album": "x".repeat(257) }), 422),
        (json!({ "texts": vec![json!({ "text": "x" }); 9] }), 422),
        (text(""), 422),
        (text("[ar:Ada]"), 422),
        (text("<script>alert(1)</script>"), 422),
        (text("[00:01.00]<b>One</b>"), 422),
        (text("1\n00:00:01,000 --> 00:00:02,000\n<script>x</script>\n"), 422),
        (formatted("ttml", "<tt><body><p>x"), 422),
        (formatted("ttml", entities), 422),
        (formatted("srt", "no times"), 422),
        (text(&"[00:01.00]".repeat(20_000)), 422),
        (text(&format!("{}{}", "[00:01.00]".repeat(3_000), "x".repeat(100_000))), 422),
        (text(&"a\n".repeat(100_000)), 422),
        (text(&"x".repeat(257 << 10)), 422),
        (text(&"x".repeat(513 << 10)), 413),
    ]
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("lyrics"));
    let gate = Gate::start(&lyrics(&origin.url(), &sqlite(&folder))).await;
    add(&gate, "track", "audio", "track.mp3").await;
    for (body, status) in refused() {
        let reply = send(&gate, Method::PUT, "/api/v1/lyrics/track", &bearer("alice"), Some(body.clone())).await;
        assert_eq!(reply.problem(status)["success"], json!(false), "{body:.80}");
    }
    ask(&gate, "track", "bob").await.problem(404);
    let long = "x".repeat(257);
    for (what, status) in [
        ("track?refresh=yes", 400),
        ("track?more=1", 400),
        ("a%00b", 400),
        (&*long, 400),
        ("none", 404),
        ("search", 400),
        ("search?artist=a", 400),
        ("search?artist=&song=b", 422),
        ("search?artist=a&song=%3Cb%3Ex", 422),
        (&*format!("search?artist={long}&song=b"), 422),
        ("cache/status", 403),
    ] {
        ask(&gate, what, "bob").await.problem(status);
    }
    gate.client().get("/api/v1/lyrics/track", &[]).await.problem(401);
    let status = send(&gate, Method::GET, "/api/v1/lyrics/cache/status", &admin(), None).await;
    let status: Value = serde_json::from_slice(&status.is(200).body).expect("JSON");
    assert_eq!((&status["total"], &status["edited"]), (&json!(1), &json!(0)), "only that the track has none");
}

#[tokio::test]
async fn who_may_not_stream_a_track_may_not_read_its_lyrics() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("lyrics"));
    origin.put("/audio/track.lrc", crate::support::Object::new("[00:01.00]Secret"));
    let mut config = lyrics(&origin.url(), &sqlite(&folder));
    config["Policies"]["Authorization"]["granted"] = json!({ "Grants": true });
    config["ReverseProxy"]["Routes"]["track"]["AuthorizationPolicy"] = json!("granted");
    let gate = Gate::start(&config).await;
    add(&gate, "track", "audio", "track.mp3").await;
    get(&gate, "track", "alice").await;
    let refused = ask(&gate, "track", "bob").await;
    let streamed = gate.client().get("/api/v1/tracks/track/stream", &[("authorization", &bearer("bob"))]).await;
    assert_eq!(refused.status, streamed.status, "as the stream is");
    assert!(!refused.text().contains("Secret"));
    refused.problem(403);
}

#[tokio::test]
async fn without_the_section_there_are_no_paths() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("lyrics"));
    let gate = Gate::start(&tracks(&origin.url(), &sqlite(&folder))).await;
    assert_eq!(ask(&gate, "track", "bob").await.problem(404)["code"], "no_route");
}

#[tokio::test]
async fn the_role_vip_has_the_elevated_class() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("lyrics"));
    let mut config = lyrics(&origin.url(), &sqlite(&folder));
    let limit = |permits: u32| json!({ "FixedWindow": { "PermitLimit": permits, "Window": "1d" } });
    config["Policies"]["RateLimiter"] = json!({ "standard": limit(1), "elevated": limit(2) });
    let gate = Gate::start(&config).await;
    add(&gate, "track", "audio", "track.mp3").await;
    let mut claims = token::claims("vera");
    claims["role"] = json!("vip");
    for (who, most) in [(bearer("bob"), 1), (format!("Bearer {}", token::with(&claims)), 2)] {
        let path = "/api/v1/lyrics/track";
        for _ in 0..most {
            send(&gate, Method::GET, path, &who, None).await.problem(404);
        }
        send(&gate, Method::GET, path, &who, None).await.problem(429);
    }
}
