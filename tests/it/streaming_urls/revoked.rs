//! Logouts: over restarts, nodes and outages, and in live streams.

use http::Method;
use serde_json::json;

use super::{log_out, start, status, url, urls};
use crate::catalogue::{admin, bearer, send, sqlite};
use crate::support::h2::H2;
use crate::support::heard::Ending;
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Object, Postgres, Redis, ScriptedOrigin, config, eventually, fault};

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
    eventually("the other node refuses it", revoked).await;
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
async fn what_only_one_process_knows_of_streaming_urls_ends_with_it() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    let gate = start(&config).await;
    let path = url(&gate, "track", "alice").await;
    log_out(&gate, "alice").await;
    assert_eq!(status(&gate, &path).await, 401);
    drop(gate);
    // Nothing is configured that could keep it.
    assert_eq!(status(&start(&config).await, &path).await, 200);
    // A key that nobody configured is another one in each process.
    config["Auth"]["PathToken"] = json!({});
    let gate = start(&config).await;
    let path = url(&gate, "track", "alice").await;
    assert_eq!(status(&gate, &path).await, 200);
    drop(gate);
    assert_eq!(status(&start(&config).await, &path).await, 401);
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
        for _ in 0..3 {
            assert_eq!(status(&gate, &path).await, 200);
        }
        out().await.problem(503);
        if postgres.is_alive() {
            postgres.thaw();
        } else {
            postgres.restart();
        }
        let back = async || (out().await.status == 204).then_some(());
        eventually("PostgreSQL is used again", back).await;
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
        eventually("the other node refuses it", refused).await;
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
        assert_eq!(status(&gate, &path).await, 200);
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
    eventually("Redis is used again", back).await;
    assert_eq!(status(&gate, &path).await, 401);
}

/// How a stream of `gate` ends that a player reads slowly while its user logs out at `other`.
async fn live(gate: &Gate, other: &Gate, headers: &str, path: &str, length: usize) -> usize {
    let mut raw = gate.raw().await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate\r\n{headers}Connection: close\r\n\r\n").as_bytes()).await;
    let head = raw.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    raw.exactly(65_536).await.expect("it streams");
    log_out(other, "alice").await;
    let ended = async || gate.access_lines().into_iter().find(|line| line["failure"] == "revoked");
    eventually("the stream ends", ended).await;
    let (rest, closed) = raw.up_to(length).await;
    assert!(closed, "the connection was closed");
    65_536 + rest.len()
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
    let read = live(&one, &two, "", &path, LENGTH).await;
    assert!(read < LENGTH, "{read} bytes");
    let headers = format!("Authorization: {}\r\n", bearer("alice"));
    let read = live(&two, &one, &headers, "/api/v1/tracks/long/stream", LENGTH).await;
    assert!(read < LENGTH, "{read} bytes");
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
    let ended = async || gate.access_lines().into_iter().find(|line| line["failure"] == "revoked");
    eventually("the stream ends", ended).await;
    let heard = revoked.finish().await;
    assert!(matches!(heard.end, Ending::Broken(_)), "{:?} after {} bytes", heard.end, heard.body.len());
    assert!(heard.body.len() < LENGTH);
    assert_eq!(connection.get(&alices, &[]).await.status, 401);
    other.finish().await.is(200, &pattern(LENGTH));
}

#[tokio::test]
async fn a_request_that_waits_for_its_store_ends_with_a_logout() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("urls");
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Database"] = json!({ "Url": sqlite(&folder) });
    config["Auth"]["EndRevokedStreams"] = json!(true);
    config["Policies"]["Timeout"] = json!({ "patient": { "Unavailable": "5m" } });
    config["ReverseProxy"]["Routes"]["stream"]["TimeoutPolicy"] = json!("patient");
    let gate = start(&config).await;
    let path = url(&gate, "track", "alice").await;
    origin.always(fault::refuse(503, "SlowDown", "come back later"));
    let revoked = async {
        eventually("the store is asked", async || (!origin.seen().is_empty()).then_some(())).await;
        log_out(&gate, "alice").await;
    };
    let client = gate.client();
    let (answer, ()) = tokio::join!(client.get(&path, &[]), revoked);
    answer.problem(401);
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

#[tokio::test]
async fn a_live_stream_of_a_plain_route_ends_too_however_slowly_it_is_read() {
    const LENGTH: usize = 64 << 20;
    let origin = ScriptedOrigin::start().await;
    origin.put("/plain/long.mp3", Object::new(pattern(LENGTH)));
    let folder = TempFolder::new("urls");
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    config["Database"] = json!({ "Url": sqlite(&folder) });
    config["Auth"]["EndRevokedStreams"] = json!(true);
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Routes"]["plain"]["AuthorizationPolicy"] = json!("Default");
    let gate = start(&config).await;
    let headers = format!("Authorization: {}\r\n", bearer("alice"));
    let read = live(&gate, &gate, &headers, "/plain/long.mp3", LENGTH).await;
    assert!(read < LENGTH, "{read} bytes");
}

#[tokio::test]
async fn a_logout_is_there_where_live_streams_end_by_it_and_nothing_else_knows_of_it() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &[]);
    config["Auth"].as_object_mut().expect("an object").remove("PathToken");
    let gate = start(&config).await;
    send(&gate, Method::POST, "/api/v1/logout", &bearer("alice"), None).await.problem(404);
    config["Auth"]["EndRevokedStreams"] = json!(true);
    let gate = start(&config).await;
    log_out(&gate, "alice").await;
    send(&gate, Method::POST, "/api/v1/logout", "", None).await.problem(401);
}
