//! To whom a URL is given, what it says, and that it plays.

use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};

use super::{ask, start, status, url, urls};
use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::tools::{self, TempFolder};
use crate::support::{Minio, Object, ScriptedOrigin, token};

#[tokio::test]
async fn a_url_plays_without_headers_and_tells_nobody() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = start(&urls(&origin.url(), "audio", &["env:OLD_KEY"])).await;
    let said = ask(&gate, "track", "alice").await;
    assert_eq!((&said["contentType"], &said["fileSizeBytes"]), (&json!("audio/mpeg"), &json!(5)));
    assert_eq!(said["supportsRangeRequests"], true);
    let path = url(&gate, "track", "alice").await;
    let token = path.split('/').nth(2).expect("a token");
    assert!(path.ends_with("/api/v1/tracks/track/stream") && token.len() <= 120, "{path}");
    for _ in 0..2 {
        let reply = gate.client().get(&path, &[]).await;
        assert_eq!((reply.is(200).text().as_str(), reply.header("referrer-policy")), ("music", "no-referrer"));
    }
    assert_eq!(gate.client().range(&path, "bytes=1-2").await.is(206).text(), "us");
    assert_eq!(gate.client().head(&path, &[]).await.is(200).header("content-length"), "5");
    // With a body too.
    let request = gate.client().request(Method::GET, &path).body("x");
    assert_eq!(request.send().await.expect("it answers").status(), 200);
    for request in origin.seen() {
        assert!(!format!("{request:?}").contains(token), "the store saw the token");
    }
    assert!(!gate.log().contains(token) && !gate.metrics().await.contains(token), "the token is in log or metrics");
}

#[tokio::test]
async fn a_real_player_plays_a_url_from_minio() {
    let Some(minio) = Minio::bucket().await else { return };
    let (Some(ffmpeg), Some(ffprobe)) = (tools::find("ffmpeg"), tools::find("ffprobe")) else { return };
    let folder = TempFolder::new("player");
    let file = folder.path().join("song.mp3");
    let made = std::process::Command::new(ffmpeg)
        .args(["-v", "error", "-f", "lavfi", "-i", "sine=duration=3", "-y"])
        .arg(&file)
        .status()
        .expect("ffmpeg starts");
    assert!(made.success());
    minio.put("song.mp3", std::fs::read(&file).expect("it is made")).await;
    let gate = start(&urls(&minio.url(), minio.name(), &["env:OLD_KEY"])).await;
    let said = ask(&gate, "song", "alice").await;
    let probed = tokio::process::Command::new(ffprobe)
        .args(["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"])
        .arg(said["streamUrl"].as_str().expect("a URL"))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("ffprobe starts");
    let duration: f64 = String::from_utf8_lossy(&probed.stdout).trim().parse().expect("a duration");
    assert!((2.9..3.2).contains(&duration), "{duration}");
}

#[tokio::test]
async fn a_url_is_good_for_its_track_and_by_a_known_key_only() {
    let origin = ScriptedOrigin::with_track("music").await;
    origin.put("/audio/other.mp3", Object::new("other"));
    let old = start(&urls(&origin.url(), "audio", &["env:OLD_KEY"])).await;
    let both = start(&urls(&origin.url(), "audio", &["env:NEW_KEY", "env:OLD_KEY"])).await;
    let new = start(&urls(&origin.url(), "audio", &["env:NEW_KEY"])).await;
    let path = url(&old, "track", "alice").await;
    assert_eq!((status(&old, &path).await, status(&both, &path).await, status(&new, &path).await), (200, 200, 401));
    let path = url(&both, "track", "alice").await;
    assert_eq!((status(&old, &path).await, status(&both, &path).await, status(&new, &path).await), (401, 200, 200));
    let middle = path.len() / 3;
    let swapped = if &path[middle..=middle] == "A" { "B" } else { "A" };
    let tampered = format!("{}{swapped}{}", &path[..middle], &path[middle + 1..]);
    let other = path.replace("tracks/track", "tracks/other");
    for path in [tampered, other, path.replace("/t/", "/t/x"), "/t/x/api/v1/tracks/track/stream".to_owned()] {
        let reply = both.client().get(&path, &[]).await;
        assert_eq!(reply.problem(401)["code"], "unauthorized", "{path}");
    }
    // It is leave to read one track, not to speak for the user.
    for (method, below) in [(Method::GET, "stream-url"), (Method::POST, "stream"), (Method::GET, "../../../logout")] {
        let path = path.replace("/track/stream", &format!("/track/{below}"));
        let status = both.client().request(method, &path).send().await.expect("it answers").status();
        assert!(status.is_client_error(), "{path}: {status}");
    }
}

#[tokio::test]
async fn a_url_is_given_to_whoever_may_have_the_track() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Policies"]["Authorization"]["vip"] = json!({ "Require": [{ "Claim": "role", "Equals": "vip" }] });
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("vip");
    let gate = start(&config).await;
    let path = "/api/v1/tracks/track/stream-url";
    send(&gate, Method::GET, path, &bearer("bob"), None).await.problem(403);
    gate.client().get(path, &[]).await.problem(401);
    let mut claims = token::claims("bob");
    claims["role"] = json!("vip");
    let vip = format!("Bearer {}", token::with(&claims));
    let reply = send(&gate, Method::GET, path, &vip, None).await;
    let said: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
    let url = said["streamUrl"].as_str().expect("a URL").replace(&gate.url(), "");
    assert_eq!(status(&gate, &url).await, 200);
    send(&gate, Method::GET, "/api/v1/tracks/none/stream-url", &vip, None).await.problem(404);
}

#[tokio::test]
async fn a_url_ends_with_the_grant_that_it_was_given_for() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("urls");
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Database"] = json!({ "Url": sqlite(&folder) });
    config["Policies"]["Authorization"]["granted"] = json!({ "Grants": true });
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("granted");
    let gate = start(&config).await;
    let (grants, asked) = ("/api/v1/admin/grants", "/api/v1/tracks/track/stream-url");
    for _ in 0..2 {
        send(&gate, Method::GET, asked, &bearer("bob"), None).await.problem(403);
        let grant = json!({ "userId": "bob", "trackId": "track" });
        send(&gate, Method::POST, grants, &admin(), Some(grant)).await.is(201);
        let path = url(&gate, "track", "bob").await;
        assert_eq!(status(&gate, &path).await, 200);
        let given = format!("{grants}?user_id=bob&track_id=track");
        send(&gate, Method::DELETE, &given, &admin(), None).await.is(204);
        assert_eq!(status(&gate, &path).await, 403, "the URL outlived the grant");
    }
}

#[tokio::test]
async fn what_a_url_says_of_a_track_is_the_catalogues_and_changes_with_it() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("urls");
    let mut config = tracks(&origin.url(), &sqlite(&folder));
    config["Auth"]["PathToken"] = json!({ "Keys": ["env:OLD_KEY"] });
    let gate = start(&config).await;
    for (content_type, size) in [("audio/ogg", 7), ("audio/flac", 8)] {
        let track = json!({ "id": "track", "store": "main", "bucket": "audio", "key": "track.mp3",
            "contentType": content_type, "sizeBytes": size });
        send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
        for _ in 0..2 {
            let said = ask(&gate, "track", "alice").await;
            assert_eq!((&said["contentType"], &said["fileSizeBytes"]), (&json!(content_type), &json!(size)));
        }
        send(&gate, Method::DELETE, "/api/v1/admin/tracks/track", &admin(), None).await.is(204);
    }
}

#[tokio::test]
async fn a_url_begins_with_what_the_caller_sees() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Server"]["TrustedProxies"] = json!(["127.0.0.0/8"]);
    let gate = start(&config).await;
    let headers = [
        ("authorization", bearer("alice")),
        ("x-forwarded-proto", "https".into()),
        ("x-forwarded-host", "media.test".into()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply = gate.client().get("/api/v1/tracks/track/stream-url", &headers).await;
    assert!(reply.is(200).text().contains("\"https://media.test/t/"), "{}", reply.text());
    // An IPv4 proxy is the same one on an IPv6 listener.
    config["Server"]["Listeners"] = json!([{ "Address": "[::]:0" }]);
    let gate = start(&config).await;
    let client = crate::support::Client::new(format!("http://127.0.0.1:{}", gate.address().port()));
    let reply = client.get("/api/v1/tracks/track/stream-url", &headers).await;
    assert!(reply.is(200).text().contains("\"https://media.test/t/"), "{}", reply.text());
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0" }]);
    config["Server"]["PublicUrl"] = json!("https://public.test");
    let gate = start(&config).await;
    let reply = gate.client().get("/api/v1/tracks/track/stream-url", &headers).await;
    assert!(reply.is(200).text().contains("\"https://public.test/t/"), "{}", reply.text());
    config["Server"].as_object_mut().expect("a map").retain(|name, _| name != "TrustedProxies" && name != "PublicUrl");
    let gate = start(&config).await;
    let reply = gate.client().get("/api/v1/tracks/track/stream-url", &headers).await;
    assert!(reply.is(200).text().contains(&format!("\"{}/t/", gate.url())), "{}", reply.text());
}
