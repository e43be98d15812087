//! What routes share in the cache, what a store that fails does to it, what of a slice is kept, and purges that are hard to keep.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::cache::{TOKEN, cached, ended, is_idle};
use crate::catalogue::{admin, bearer, send, sqlite, tracks};
use crate::support::client::Reply;
use crate::support::fault::{self, End, Step};
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually};

const DEBUG: (&str, &str) = ("x-tidegate-debug", TOKEN);

#[tokio::test]
async fn routes_over_one_bucket_share_what_is_kept() {
    let body = pattern(1_000_000);
    let tag = Object::new(body.clone()).etag;
    let origin = ScriptedOrigin::with_track(body).await;
    let gate = cached(&origin, &[("again", "audio", "{**key}")]).await;
    gate.client().range("/cached/track.mp3", "bytes=0-9").await.is(206);
    eventually("nothing is under way", async || is_idle(&gate).await.then_some(())).await;
    origin.take_seen();
    gate.client().range("/again/track.mp3", "bytes=0-9").await.is(206);
    assert!(origin.take_seen().is_empty(), "the other route had it");
    // Of a version that is known, and of no other.
    gate.client().range("/again/track.mp3", "bytes=786422-786431").await.is(206);
    let asked: Vec<_> = origin.take_seen().iter().map(|seen| seen.header("if-match").map(str::to_owned)).collect();
    assert!(!asked.is_empty() && asked.iter().all(|condition| condition.as_ref() == Some(&tag)), "{asked:?}");
    // That there is none is known for all routes too, and has no age: the answer is made anew.
    for (path, state) in [("/cached/none", "miss"), ("/again/none", "negative")] {
        let reply = gate.client().get(path, &[DEBUG]).await;
        reply.problem(404);
        assert_eq!((reply.header("x-tidegate-cache"), reply.header("age")), (state, ""), "{path}");
    }
}

#[tokio::test]
async fn whatever_way_a_store_fails_what_is_cached_serves_on() {
    let ways = [
        Some(fault::INTERNAL_ERROR),
        Some(fault::SLOW_DOWN),
        Some(fault::TOO_MANY),
        Some(Step::Silence(End::Reset)),
        Some(Step::Silence(End::Stall)),
        Some(Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Le")),
        // Nobody listens any more.
        None,
    ];
    for way in ways {
        let origin = ScriptedOrigin::with_track("music").await;
        let mut config = config::objects_both_ways(&origin.url(), "audio");
        config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
        config["Policies"]["OutputCache"]["brief"] = json!({ "Ttl": "0s", "StaleWhileRevalidate": "0s" });
        config["Policies"]["Timeout"]["short"] = json!({ "FirstByte": "300ms" });
        config["ReverseProxy"]["Routes"]["cached"]["OutputCachePolicy"] = json!("brief");
        config["ReverseProxy"]["Routes"]["cached"]["TimeoutPolicy"] = json!("short");
        let gate = Gate::start_with(&config, &[("ADMIN_TOKEN", TOKEN)]).await;
        gate.client().get("/cached/track.mp3", &[]).await.is(200);
        let revalidated = gate.client().get("/cached/track.mp3", &[DEBUG]).await;
        assert_eq!(revalidated.header("x-tidegate-cache"), "revalidated");
        match way.clone() {
            Some(step) => origin.always(step),
            None => drop(origin),
        }
        let reply = gate.client().get("/cached/track.mp3", &[DEBUG]).await;
        assert_eq!((reply.is(200).text().as_str(), reply.header("x-tidegate-cache")), ("music", "stale"), "{way:?}");
    }
}

#[tokio::test]
async fn a_slice_that_is_nearly_whole_when_its_player_leaves_is_kept() {
    let origin = ScriptedOrigin::with_track(pattern(1_000_000)).await;
    let gate = cached(&origin, &[]).await;
    origin.always(Step::Trickle { pieces: 8, pause: Duration::from_millis(50) });
    let mut player = gate.raw().await;
    player.send(b"GET /cached/track.mp3 HTTP/1.1\r\nHost: x\r\nRange: bytes=262144-524287\r\n\r\n").await;
    player.head().await.expect("an answer");
    player.exactly(200_000).await.expect("it has begun");
    player.reset();
    eventually("the slice is whole", async || (ended(&gate, "whole").await == 1.0).then_some(())).await;
    assert_eq!(ended(&gate, "cancelled").await, 0.0);
    let hit = gate.client().get("/cached/track.mp3", &[("range", "bytes=262144-524287"), DEBUG]).await;
    assert_eq!(hit.is(206).header("x-tidegate-cache"), "hit");
    assert_eq!(origin.seen().len(), 1);
}

async fn purge(gate: &Gate, scope: &Value) -> Value {
    let request = gate.admin().request(Method::POST, "/cache/purge").bearer_auth(TOKEN).json(scope);
    let reply = request.send().await.expect("it answers").error_for_status().expect("it purges");
    reply.json().await.expect("JSON")
}

#[tokio::test]
async fn the_purge_of_a_catalogue_route_purges_everything() {
    let origin = ScriptedOrigin::with_track("old").await;
    origin.put("/other/elsewhere.mp3", Object::new("old"));
    let folder = TempFolder::new("purge");
    let mut config = tracks(&origin.url(), &sqlite(&folder));
    let mut direct = config::object_route("/direct/{**key}", "main", "other", "{**key}");
    direct["OutputCachePolicy"] = json!("Default");
    config["ReverseProxy"]["Routes"]["direct"] = direct;
    config["ReverseProxy"]["Routes"]["track"]["OutputCachePolicy"] = json!("Default");
    let gate = Gate::start(&config).await;
    let track = json!({ "id": "one", "store": "main", "bucket": "audio", "key": "track.mp3" });
    send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    let both = async |text: &str| {
        let track: Reply = gate.client().get("/api/v1/tracks/one/stream", &[("authorization", &bearer("bob"))]).await;
        let direct = gate.client().get("/direct/elsewhere.mp3", &[]).await;
        assert_eq!((track.is(200).text().as_str(), direct.is(200).text().as_str()), (text, text));
    };
    both("old").await;
    origin.put("/audio/track.mp3", Object::new("new"));
    origin.put("/other/elsewhere.mp3", Object::new("new"));
    both("old").await;
    purge(&gate, &json!({ "route": "track" })).await;
    both("new").await;
}

#[tokio::test]
async fn a_purge_that_cannot_be_written_says_so_and_holds() {
    let origin = ScriptedOrigin::with_track("old").await;
    let folder = TempFolder::new("purge");
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    config["Cache"] = json!({ "Disk": { "Path": folder.path().join("cache"), "Size": "64MiB" } });
    let gate = Gate::start(&config).await;
    assert_eq!(gate.client().get("/cached/track.mp3", &[]).await.is(200).text(), "old");
    origin.put("/audio/track.mp3", Object::new("new"));
    let scope = json!({ "key": "another" });
    assert_eq!(purge(&gate, &scope).await, json!({ "purged": scope, "durable": true }));
    assert_eq!(gate.client().get("/cached/track.mp3", &[]).await.is(200).text(), "old");
    // Where the list is written before it is put in place.
    std::fs::create_dir(folder.path().join("cache/purges.new")).expect("the name is free");
    let scope = json!({ "key": "track.mp3" });
    assert_eq!(purge(&gate, &scope).await, json!({ "purged": scope, "durable": false }));
    assert_eq!(gate.client().get("/cached/track.mp3", &[]).await.is(200).text(), "new");
}

#[tokio::test]
async fn the_cache_counts_what_it_serves_asks_and_drops() {
    let origin = ScriptedOrigin::with_track(pattern(1_000_000)).await;
    origin.put("/audio/short.mp3", Object::new(pattern(100_000)));
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    config["Cache"] = json!({ "SliceSize": "16KiB", "Memory": "256KiB" });
    let gate = Gate::start(&config).await;
    let count = async |name: &str, labels: &str| gate.metric(&format!("tidegate_cache_{name}"), labels).await;
    for _ in 0..2 {
        gate.client().get("/cached/short.mp3", &[]).await.is(200);
        eventually("nothing is under way", async || {
            (count("fills_total", "").await == count("fills_ended_total", "").await).then_some(())
        })
        .await;
    }
    for (name, labels, expected) in [
        ("bytes_total", "source=\"store\"", 100_000.0),
        ("bytes_total", "source=\"memory\"", 100_000.0),
        ("bytes_total", "source=\"disk\"", 0.0),
        ("fills_total", "", 7.0),
        ("requests_total", "state=\"miss\"", 1.0),
        ("requests_total", "state=\"hit\"", 1.0),
        ("evictions_total", "", 0.0),
    ] {
        assert_eq!(count(name, labels).await, expected, "{name} {labels}");
    }
    assert!(count("read_ahead_total", "").await >= 1.0);
    assert!((100_000.0..=262_144.0).contains(&count("memory_bytes", "").await));
    gate.client().head("/cached/track.mp3", &[]).await.is(200);
    assert!(count("questions_total", "").await >= 1.0);
    gate.client().get("/cached/track.mp3", &[]).await.is(200);
    assert!(count("evictions_total", "").await >= 1.0);
    purge(&gate, &json!({ "all": true })).await;
    assert_eq!(count("purges_total", "").await, 1.0);
}
