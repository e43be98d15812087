//! Limits and times of connections, the time of a stop, the level of the log and the cache over a reload.

use http::Method;
use serde_json::{Value, json};

use crate::reload::{refused, reload, start};
use crate::reload_listeners::has_ended;
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::tools::TempFolder;
use crate::support::{Gate, LIMIT, Object, ScriptedOrigin, config, eventually};

const REQUEST: &[u8] = b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n";

/// Status of the answer to `request`, and whether the connection ends with it.
async fn ask(raw: &mut Raw, request: &[u8]) -> (u16, bool) {
    raw.send(request).await;
    let answer = raw.response("GET", LIMIT).await.expect("an answer");
    (answer.status, answer.header("connection") == Some("close"))
}

#[tokio::test]
async fn limits_of_connections_change_for_new_ones() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    let gate = start(&mut config).await;
    let mut old = gate.raw().await;
    assert_eq!(ask(&mut old, REQUEST).await, (200, false));
    config["Server"]["Limits"]["MaxRequestsPerConnection"] = json!(1);
    config["Server"]["Limits"]["MaxRequestHeaderCount"] = json!(16);
    config["Server"]["Limits"]["MaxStreamsPerConnection"] = json!(3);
    reload(&gate, &config).await;
    let many = format!("GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n{}\r\n", "X-Many: 1\r\n".repeat(16));
    assert_eq!(ask(&mut old, many.as_bytes()).await, (200, false), "it keeps those that it came under");
    assert_eq!(ask(&mut gate.raw().await, many.as_bytes()).await.0, 431);
    assert_eq!(ask(&mut gate.raw().await, REQUEST).await, (200, true));
    let http2 = H2::connect(gate.address()).await;
    assert_eq!(http2.get("/stream/track.mp3", &[]).await.status, 200);
    assert_eq!(http2.most_streams(), 3);
    config["Server"]["Limits"] = json!({ "DataRateWindow": config::NEVER });
    config["Server"]["KeepAliveTimeout"] = json!("100ms");
    config["Server"]["HeaderTimeout"] = json!("100ms");
    reload(&gate, &config).await;
    let mut idle = gate.raw().await;
    assert_eq!(ask(&mut idle, REQUEST).await, (200, false));
    has_ended(&mut idle, "by the time of idle connections").await;
    let mut slow = gate.raw().await;
    slow.send(b"GET /stream").await;
    has_ended(&mut slow, "by the time of heads").await;
    assert_eq!(ask(&mut old, REQUEST).await, (200, false));
}

#[tokio::test]
async fn numbers_of_connections_change_and_open_ones_stay() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    let mut open = [gate.raw().await, gate.raw().await];
    for raw in &mut open {
        assert_eq!(ask(raw, REQUEST).await, (200, false));
    }
    for (section, key) in [(None, "MaxConnections"), (Some("Limits"), "MaxConnectionsPerAddress")] {
        let refused = async || gate.metric("tidegate_connections_refused_total", "").await;
        for (most, fits) in [(2, false), (3, true), (1, false)] {
            let server = &mut config["Server"];
            match section {
                Some(section) => server[section][key] = json!(most),
                None => server[key] = json!(most),
            }
            reload(&gate, &config).await;
            let before = refused().await;
            let mut more = gate.raw().await;
            more.send(REQUEST).await;
            let answer = more.response("GET", LIMIT).await;
            assert_eq!(answer.is_ok(), fits, "{key} of {most}");
            assert_eq!(refused().await > before, !fits, "{key} of {most}");
            drop(more);
            for raw in &mut open {
                assert_eq!(ask(raw, REQUEST).await, (200, false));
            }
            // Until the one that was let in has gone.
            eventually("two are left", async || {
                (gate.metric("tidegate_connections_open", "").await == 2.0).then_some(())
            })
            .await;
        }
        config["Server"]["MaxConnections"] = json!(1000);
    }
}

#[tokio::test]
async fn the_grace_of_a_stop_is_that_of_the_configuration_in_force() {
    let origin = ScriptedOrigin::with_track(pattern(30_000_000)).await;
    let mut config = config::objects(&origin.url(), "audio");
    let mut gate = start(&mut config).await;
    let mut stream = gate.raw().await;
    stream.send(REQUEST).await;
    stream.head().await.expect("a head");
    config["Server"]["ShutdownGrace"] = json!("0s");
    reload(&gate, &config).await;
    assert!(gate.stop().await.success());
    assert!(gate.log().contains("stopped with streams under way"), "{}", gate.log());
}

#[tokio::test]
async fn the_level_of_the_log_changes_with_a_reload() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] =
        json!([{ "Address": "127.0.0.1:0", "ProxyProtocol": { "TrustedSources": ["192.0.2.1"] } }]);
    let gate = start(&mut config).await;
    // Told at the level of debug: anybody can cause it.
    let said = || gate.log().matches("a connection of 127.0.0.1 is closed").count();
    let refusals_said = || gate.log().matches("reload refused").count();
    let connect = async || has_ended(&mut gate.raw().await, "nobody else may connect").await;
    for (level, says) in [("debug", true), ("warn", false), ("debug", true), ("info", false)] {
        config["Telemetry"] = json!({ "LogLevel": level });
        reload(&gate, &config).await;
        let (before, refusals) = (said(), refusals_said());
        connect().await;
        if says {
            eventually("it is said", async || (said() > before).then_some(())).await;
        }
        // The log is in order: once this is said, nothing that came before is missing.
        refused(&gate, "ReverseProxy: [").await;
        eventually("the refusal is said", async || (refusals_said() > refusals).then_some(())).await;
        assert_eq!(said() > before, says, "{level}");
    }
}

/// Objects of this many bytes are cached for an hour under `/cached/`, by these settings of the cache.
fn cached(origin: &ScriptedOrigin, cache: Value) -> Value {
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    config["Policies"]["OutputCache"]["long"] = json!({ "Ttl": "1h" });
    config["ReverseProxy"]["Routes"]["cached"]["OutputCachePolicy"] = json!("long");
    config["Cache"] = cache;
    config
}

/// GETs a cached object; true where the store was asked for it.
async fn asks_store(gate: &Gate, origin: &ScriptedOrigin, name: &str, body: &[u8]) -> bool {
    origin.take_seen();
    assert!(gate.client().get(&format!("/cached/{name}"), &[]).await.is(200).body == body);
    origin.take_seen().iter().any(|seen| seen.target.contains(name))
}

#[tokio::test]
async fn the_memory_of_the_cache_grows_and_shrinks_and_keeps_what_fits() {
    const OBJECT: usize = 2 << 20;
    let origin = ScriptedOrigin::with_track("music").await;
    let body = pattern(OBJECT);
    let names: Vec<String> = (0..20).map(|number| format!("object-{number}")).collect();
    for name in &names {
        origin.put(&format!("/audio/{name}"), Object::new(body.clone()));
    }
    let mut config = cached(&origin, json!({ "Memory": "64MiB" }));
    let gate = start(&mut config).await;
    for name in &names {
        assert!(asks_store(&gate, &origin, name, &body).await);
    }
    let used = async || gate.metric("tidegate_cache_memory_bytes", "").await as usize;
    assert!(used().await >= names.len() * OBJECT);
    config["Cache"]["Memory"] = json!("128MiB");
    reload(&gate, &config).await;
    for name in &names {
        assert!(!asks_store(&gate, &origin, name, &body).await, "{name} was kept");
    }
    config["Cache"]["Memory"] = json!("16MiB");
    reload(&gate, &config).await;
    let left = used().await;
    assert!((1..=16 << 20).contains(&left), "{left}");
    for name in &names {
        asks_store(&gate, &origin, name, &body).await;
    }
    assert!(used().await <= 16 << 20);
    config["Cache"]["Memory"] = json!("64MiB");
    reload(&gate, &config).await;
    for name in &names {
        asks_store(&gate, &origin, name, &body).await;
    }
    assert!(used().await > 32 << 20, "{}", used().await);
}

#[tokio::test]
async fn a_cache_with_other_slices_or_another_disk_takes_the_place_of_the_one_before() {
    let origin = ScriptedOrigin::with_track("music").await;
    let (body, long) = (pattern(3_000_000), pattern(30_000_000));
    for name in ["kept", "purged"] {
        origin.put(&format!("/audio/{name}"), Object::new(body.clone()));
    }
    origin.put("/audio/long", Object::new(long.clone()));
    let folder = TempFolder::new("reloaded-cache");
    let disk = |name: &str| json!({ "Path": folder.path().join(name), "Size": "64MiB" });
    let mut config = cached(&origin, json!({ "Memory": "256MiB" }));
    let gate = start(&mut config).await;
    let asks = async |name: &str| asks_store(&gate, &origin, name, &body).await;
    let purge = async |name: &str| {
        let sent = gate.admin().request(Method::POST, "/cache/purge").json(&json!({ "key": name })).send().await;
        assert!(sent.expect("an answer").status().is_success());
    };
    assert!(asks("kept").await && !asks("kept").await);
    // A reader of the cache that is replaced under it.
    let mut reader = gate.raw().await;
    reader.send(b"GET /cached/long HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    reader.head().await.expect("a head");
    for (cache, begins_empty) in [
        (json!({ "Memory": "256MiB", "SliceSize": "64KiB" }), true),
        (json!({ "Memory": "256MiB", "Disk": disk("one") }), true),
        // Too small for what it is divided into: opened anew, with the disk of the one before.
        (json!({ "Memory": "4MiB", "Disk": disk("one") }), false),
        (json!({ "Memory": "4MiB", "Disk": disk("other") }), true),
        // Back at the first folder, which has kept its content.
        (json!({ "Memory": "256MiB", "Disk": disk("one") }), false),
        (json!({ "Memory": "256MiB" }), true),
    ] {
        let waits = gate.log().matches("used from now on").count();
        if let Some(path) = cache["Disk"]["Path"].as_str()
            && cache["Disk"] != config["Cache"]["Disk"]
        {
            // One that was used before is closed beside the reload.
            let lock = std::path::Path::new(path).join("lock");
            let is_free = || std::fs::File::open(&lock).map_or(true, |file| file.try_lock().is_ok());
            eventually("the folder is free", async || is_free().then_some(())).await;
        }
        let shared = cache["Disk"] == config["Cache"]["Disk"] && !cache["Disk"].is_null();
        config["Cache"] = cache;
        reload(&gate, &config).await;
        if shared {
            eventually("it has the disk", async || {
                (gate.log().matches("used from now on").count() > waits).then_some(())
            })
            .await;
        }
        assert_eq!(asks("kept").await, begins_empty, "{}", config["Cache"]);
        assert!(asks("purged").await, "{}", config["Cache"]);
        purge("purged").await;
        assert!(!asks("kept").await && asks("purged").await, "{}", config["Cache"]);
        purge("purged").await;
    }
    assert!(reader.exactly(long.len()).await.expect("the whole body") == long);
    assert!(!gate.log().contains("cannot be used"), "{}", gate.log());
    assert_eq!(gate.metric("tidegate_cache_disk_errors_total", "").await, 0.0);
}

#[tokio::test]
async fn the_first_route_with_a_cache_policy_opens_the_cache() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = cached(&origin, json!({ "Memory": "64MiB" }));
    let policy = config["ReverseProxy"]["Routes"]["cached"]["OutputCachePolicy"].take();
    config["ReverseProxy"]["Routes"]["cached"]["OutputCachePolicy"] = json!("Disable");
    let gate = start(&mut config).await;
    let asks = async || asks_store(&gate, &origin, "track.mp3", b"music").await;
    let purge = async || {
        let sent = gate.admin().request(Method::POST, "/cache/purge").json(&json!({ "all": true })).send().await;
        sent.expect("an answer").status().as_u16()
    };
    assert!(asks().await && asks().await);
    assert_eq!(purge().await, 404);
    config["ReverseProxy"]["Routes"]["cached"]["OutputCachePolicy"] = policy;
    reload(&gate, &config).await;
    assert!(asks().await && !asks().await);
    assert_eq!(purge().await, 200);
    assert!(asks().await);
    assert_eq!(gate.metric("tidegate_cache_purges_total", "").await, 1.0);
}
