//! Streaming URLs: they play without headers, for their user and track only, until they expire or are revoked; across
//! nodes, restarts and outages.

use std::process::Stdio;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::eventually::within;
use crate::support::h2::H2;
use crate::support::heard::Ending;
use crate::support::origin::pattern;
use crate::support::tools::{self, TempFolder};
use crate::support::{Gate, Minio, Object, Postgres, Redis, ScriptedOrigin, config, token};

/// The keys of path tokens.
pub const KEYS: [(&str, &str); 2] = [
    ("OLD_KEY", "the old key of path tokens, 32 bytes or more"),
    ("NEW_KEY", "the new key of path tokens, 32 bytes or more"),
];

/// `/api/v1/tracks/{id}/stream` from `bucket`, and streaming URLs by these keys.
pub fn urls(endpoint: &str, bucket: &str, keys: &[&str]) -> Value {
    let mut config = config::objects(endpoint, bucket);
    config["Auth"] = config::jwt();
    config["Auth"]["PathToken"] = json!({ "Keys": keys });
    config["ReverseProxy"]["Routes"]["stream"] = json!({
        "Match": { "Path": "/api/v1/tracks/{id}/stream" },
        "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": bucket, "Key": "{id}.mp3" } }],
    });
    config
}

/// A gate with both keys in its environment.
pub async fn start(config: &Value) -> Gate {
    Gate::start_with(config, &KEYS).await
}

/// What is given to `user` for `id`.
async fn ask(gate: &Gate, id: &str, user: &str) -> Value {
    let reply = send(gate, Method::GET, &format!("/api/v1/tracks/{id}/stream-url"), &bearer(user), None).await;
    assert_eq!(reply.is(200).header("cache-control"), "no-store");
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// Its path.
pub async fn url(gate: &Gate, id: &str, user: &str) -> String {
    let said = ask(gate, id, user).await;
    let url = said["streamUrl"].as_str().expect("a URL").to_owned();
    url.strip_prefix(&gate.url()).expect("it is a URL of this gate").to_owned()
}

/// The status of a GET without any header.
pub async fn status(gate: &Gate, path: &str) -> u16 {
    gate.client().get(path, &[]).await.status.as_u16()
}

/// A logout.
pub async fn log_out(gate: &Gate, user: &str) {
    send(gate, Method::POST, "/api/v1/logout", &bearer(user), None).await.is(204);
}

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

#[tokio::test]
async fn an_answer_is_kept_encrypted_in_redis_and_dropped_with_the_user() {
    let origin = ScriptedOrigin::with_track("music").await;
    let Some(redis) = Redis::start() else { return };
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["State"] = json!({ "Url": redis.url(), "Prefix": "tg:" });
    let (one, two) = (start(&config).await, start(&config).await);
    let first = url(&one, "track", "alice").await;
    origin.take_seen();
    assert_eq!(url(&two, "track", "alice").await, first, "the other node gives the same");
    assert!(origin.take_seen().is_empty(), "the store was asked once");
    let kept = redis.ask("STRLEN tg:stream:alice:track");
    assert!(!kept.starts_with(":0"), "{kept}");
    let token = first.split('/').nth(2).expect("a token");
    assert!(!redis_has(&redis, token), "the token stands in Redis as it is");
    let life: u64 = redis
        .ask("TTL tg:stream:alice:track")
        .trim_start_matches(':')
        .split("\r\n")
        .next()
        .and_then(|text| text.parse().ok())
        .expect("a number");
    assert!((3500..=3570).contains(&life), "{life}");
    let drop = |query: &str| format!("/api/v1/admin/stream-cache{query}");
    send(&one, Method::DELETE, &drop("?user_id=alice&track_id=track"), &bearer("alice"), None).await.problem(403);
    send(&one, Method::DELETE, &drop("?user_id=alice&track_id=track"), &admin(), None).await.is(204);
    assert!(redis.ask("STRLEN tg:stream:alice:track").starts_with(":0"));
    assert_eq!(status(&two, &first).await, 200, "it was forgotten, not revoked");
    let second = url(&one, "track", "alice").await;
    send(&one, Method::DELETE, &drop("?user_id=alice"), &admin(), None).await.is(204);
    assert_eq!(status(&one, &second).await, 401);
    let revoked = async || (status(&two, &second).await == 401).then_some(());
    within(Duration::from_secs(5), "the other node refuses it", revoked).await;
    let third = url(&two, "track", "alice").await;
    assert_eq!((status(&one, &third).await, status(&two, &third).await), (200, 200));
}

/// Whether the answer that is kept for Alice has `text` in it.
fn redis_has(redis: &Redis, text: &str) -> bool {
    let script = "return string.find(redis.call('GET',KEYS[1]),ARGV[1],1,true)and'found'or'absent'";
    let said = redis.ask(&format!("EVAL \"{script}\" 1 tg:stream:alice:track {text}"));
    assert!(said.contains("found") || said.contains("absent"), "{said}");
    said.contains("found")
}

#[tokio::test]
async fn what_was_revoked_stays_so_after_a_restart() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("urls");
    for database in [Some(sqlite(&folder)), Postgres::database().await].into_iter().flatten() {
        let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
        config["Database"] = json!({ "Url": database });
        let gate = start(&config).await;
        let (path, bobs) = (url(&gate, "track", "alice").await, url(&gate, "track", "bob").await);
        log_out(&gate, "alice").await;
        assert_eq!((status(&gate, &path).await, status(&gate, &bobs).await), (401, 200));
        drop(gate);
        let gate = start(&config).await;
        assert_eq!((status(&gate, &path).await, status(&gate, &bobs).await), (401, 200));
    }
}

#[tokio::test]
async fn without_postgresql_urls_go_on_playing_and_a_logout_is_never_left_open() {
    let origin = ScriptedOrigin::with_track("music").await;
    let Some(mut postgres) = Postgres::start() else { return };
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Database"] = json!({ "Url": postgres.url() });
    let gate = start(&config).await;
    let out = async || send(&gate, Method::POST, "/api/v1/logout", &bearer("alice"), None).await;
    for away in [Postgres::freeze, Postgres::kill] {
        let path = url(&gate, "track", "alice").await;
        assert_eq!(status(&gate, &path).await, 200);
        away(&mut postgres);
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(status(&gate, &path).await, 200);
        }
        out().await.problem(503);
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        if postgres.is_alive() {
            postgres.thaw();
        } else {
            postgres.restart();
        }
        let back = async || (out().await.status == 204).then_some(());
        within(Duration::from_secs(30), "PostgreSQL is used again", back).await;
        assert_eq!(status(&gate, &path).await, 401);
    }
}

#[tokio::test]
async fn urls_and_logouts_are_kept_in_a_cluster_of_redis() {
    let origin = ScriptedOrigin::with_track("music").await;
    let Some(cluster) = Redis::cluster().await else { return };
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["State"] = json!({ "Url": cluster[0].cluster_url() });
    let (one, two) = (start(&config).await, start(&config).await);
    for user in ["alice", "bob", "carol", "dave"] {
        let path = url(&one, "track", user).await;
        assert_eq!(url(&two, "track", user).await, path, "the other node gives the same");
        log_out(&one, user).await;
        let refused = async || (status(&two, &path).await == 401).then_some(());
        within(Duration::from_secs(10), "the other node refuses it", refused).await;
    }
}

#[tokio::test]
async fn without_redis_urls_go_on_playing() {
    let origin = ScriptedOrigin::with_track("music").await;
    let Some(mut redis) = Redis::start() else { return };
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["State"] = json!({ "Url": redis.url() });
    let gate = start(&config).await;
    let path = url(&gate, "track", "alice").await;
    redis.freeze();
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(status(&gate, &path).await, 200);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    send(&gate, Method::POST, "/api/v1/logout", &bearer("alice"), None).await.problem(503);
    redis.thaw();
    redis.kill();
    assert_eq!(status(&gate, &path).await, 200);
    redis.restart();
    let back = async || {
        let reply = send(&gate, Method::POST, "/api/v1/logout", &bearer("alice"), None).await;
        (reply.status == 204).then_some(())
    };
    within(Duration::from_secs(10), "Redis is used again", back).await;
    assert_eq!(status(&gate, &path).await, 401);
}

/// How a stream of `gate` ends that a player reads slowly while its user logs out at `other`.
async fn live(gate: &Gate, other: &Gate, headers: &str, path: &str, length: usize) -> (usize, Duration) {
    let mut raw = gate.raw().await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate\r\n{headers}Connection: close\r\n\r\n").as_bytes()).await;
    let head = raw.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    raw.exactly(65_536).await.expect("it streams");
    log_out(other, "alice").await;
    let began = Instant::now();
    let ended = async || {
        let line = gate.access_lines().into_iter().find(|line| line["failure"] == "revoked");
        line.map(|_| began.elapsed())
    };
    let took = within(Duration::from_secs(7), "the stream ends", ended).await;
    let (rest, closed) = raw.up_to(length).await;
    assert!(closed, "the connection was closed");
    (65_536 + rest.len(), took)
}

#[tokio::test]
async fn a_live_stream_of_a_revoked_user_ends_within_five_seconds_by_switch() {
    const LENGTH: usize = 64 << 20;
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/long.mp3", Object::new(pattern(LENGTH)));
    let Some(redis) = Redis::start() else { return };
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["State"] = json!({ "Url": redis.url() });
    config["Auth"]["EndRevokedStreams"] = json!(true);
    let (one, two) = (start(&config).await, start(&config).await);
    let path = url(&one, "long", "alice").await;
    let (read, took) = live(&one, &two, "", &path, LENGTH).await;
    assert!(read < LENGTH && took < Duration::from_secs(5), "{read} bytes, {took:?}");
    let headers = format!("Authorization: {}\r\n", bearer("alice"));
    let (read, took) = live(&two, &one, &headers, "/api/v1/tracks/long/stream", LENGTH).await;
    assert!(read < LENGTH && took < Duration::from_secs(5), "{read} bytes, {took:?}");
}

#[tokio::test]
async fn over_http_2_a_revoked_stream_is_reset_and_the_others_of_its_connection_play_on() {
    const LENGTH: usize = 16 << 20;
    let origin = ScriptedOrigin::with_track("music").await;
    origin.put("/audio/long.mp3", Object::new(pattern(LENGTH)));
    let Some(postgres) = Postgres::database().await else { return };
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    config["Database"] = json!({ "Url": postgres });
    config["Auth"]["EndRevokedStreams"] = json!(true);
    let gate = start(&config).await;
    let (alices, bobs) = (url(&gate, "long", "alice").await, url(&gate, "long", "bob").await);
    let connection = H2::connect(gate.address()).await;
    let ranges = [("range", "bytes=1-2")];
    let part = connection.get(&alices, &ranges).await;
    assert_eq!((part.status, part.header("content-range")), (206, &*format!("bytes 1-2/{LENGTH}")));
    let (mut revoked, mut other) = (connection.open(&alices, &[]).await, connection.open(&bobs, &[]).await);
    revoked.take(100_000).await;
    other.take(100_000).await;
    log_out(&gate, "alice").await;
    let began = Instant::now();
    let ended = async || gate.access_lines().into_iter().find(|line| line["failure"] == "revoked");
    within(Duration::from_secs(5), "the stream ends", ended).await;
    let heard = revoked.finish().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(heard.end, Ending::Broken(_)), "{:?} after {} bytes", heard.end, heard.body.len());
    assert!(heard.body.len() < LENGTH);
    assert_eq!(connection.get(&alices, &[]).await.status, 401);
    other.finish().await.is(200, &pattern(LENGTH));
}

#[tokio::test]
async fn no_name_of_a_user_undoes_the_logout_of_another() {
    let Some(redis) = Redis::start() else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    origin.put("/audio/alice.mp3", Object::new("music"));
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["State"]["Url"] = json!(redis.url());
    let gate = start(&config).await;
    let path = url(&gate, "track", "alice").await;
    log_out(&gate, "alice").await;
    for (user, track) in [("gen", "alice"), ("gen:alice", "track"), ("stream.gen", "alice")] {
        send(&gate, Method::GET, &format!("/api/v1/tracks/{track}/stream-url"), &bearer(user), None).await.is(200);
    }
    // A node that remembers nothing.
    let fresh = start(&config).await;
    assert_eq!(status(&fresh, &path).await, 401);
}
