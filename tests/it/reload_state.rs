//! State over a reload: what goes on, what is counted, and what is let go.

use std::fs;
use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::sqlite;
use crate::limits::{bearer, limited};
use crate::streaming_urls;
use crate::support::issuer::{JwksServer, Key};
use crate::support::origin::pattern;
use crate::support::redis::Redis;
use crate::support::tools::{self, TempFolder};
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually, token};

/// Writes `config` and reloads it.
async fn reload(gate: &Gate, config: &Value) {
    gate.rewrite(config);
    let report = gate.admin().send(Method::POST, "/reload", &[]).await;
    let report: Value = serde_json::from_slice(&report.is(200).body).expect("JSON");
    assert_eq!(report["outcome"], "reloaded", "{report}");
}

/// Open descriptors of the gate.
fn descriptors(gate: &Gate) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gate.process())).expect("it runs").count()
}

#[tokio::test]
async fn bytes_of_streams_under_way_are_counted_after_a_reload_that_changes_their_policy() {
    const LENGTH: usize = 600_000;
    let origin = ScriptedOrigin::with_track(pattern(LENGTH)).await;
    let folder = TempFolder::new("egress");
    let policy = |bytes: u64| {
        json!({
            "EgressQuota": { "Bytes": bytes, "Window": "30d" },
            "Bandwidth": { "BytesPerSecond": 100_000 },
            "PartitionBy": "User",
        })
    };
    let with = |bytes| {
        let mut config = limited(&origin, policy(bytes));
        config["Database"] = json!({ "Url": sqlite(&folder) });
        config["Server"]["ReloadOnChange"] = json!(false);
        config
    };
    let gate = Gate::start(&with(100_000_000)).await;
    let request = format!("GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\nAuthorization: {}\r\n\r\n", bearer("alice"));
    let mut first = gate.raw().await;
    first.send(request.as_bytes()).await;
    first.head().await.expect("a head");
    first.exactly(LENGTH / 6).await.expect("it goes on");
    reload(&gate, &with(101_000_000)).await;
    let mut second = gate.raw().await;
    second.send(request.as_bytes()).await;
    second.head().await.expect("a head");
    let (one, other) = tokio::join!(first.exactly(LENGTH - LENGTH / 6), second.exactly(LENGTH));
    assert!(one.is_ok() && other.is_ok());
    eventually("all bytes are counted", async || {
        let usage = gate.client().get("/api/v1/usage", &[("authorization", &bearer("alice"))]).await.is(200).text();
        usage.contains(&(2 * LENGTH).to_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_is_away_at_a_reload_takes_its_users_out_no_more_than_before() {
    let origin = ScriptedOrigin::with_track("music").await;
    let key = Key::generate("one", jsonwebtoken::Algorithm::ES256);
    let server = JwksServer::start(&[&key]).await;
    let mut config = config::private_objects(&origin.url(), "audio");
    config["Server"]["ReloadOnChange"] = json!(false);
    config["Auth"]["Jwt"]["Issuers"] = json!([{ "Issuer": "https://issuer.test", "Jwks": server.url() }]);
    let gate = Gate::start(&config).await;
    let mut claims = token::claims("alice");
    claims["iss"] = json!("https://issuer.test");
    let authorization = format!("Bearer {}", key.sign(&claims));
    let play = async || gate.client().get("/stream/track.mp3", &[("authorization", &authorization)]).await.status;
    assert_eq!(play().await, 200);
    server.set_down(true);
    config["Auth"]["Jwt"]["Leeway"] = json!("31s");
    reload(&gate, &config).await;
    assert_eq!(play().await, 200, "the keys are those from before");
    let more = json!({ "Issuer": "https://other.test", "Jwks": format!("{}/other", server.url()) });
    config["Auth"]["Jwt"]["Issuers"].as_array_mut().expect("a list").push(more);
    reload(&gate, &config).await;
    assert_eq!(play().await, 200, "and with another issuer beside it");
}

#[tokio::test]
async fn a_streaming_url_whose_key_is_gone_is_not_given_again() {
    let origin = ScriptedOrigin::with_track("music").await;
    let config = |key: &str| {
        let mut config = streaming_urls::urls(&origin.url(), "audio", &[key]);
        config["Server"]["ReloadOnChange"] = json!(false);
        config
    };
    let gate = streaming_urls::start(&config("env:OLD_KEY")).await;
    let old = streaming_urls::url(&gate, "track", "alice").await;
    assert_eq!(streaming_urls::status(&gate, &old).await, 200);
    assert_eq!(streaming_urls::url(&gate, "track", "alice").await, old, "it is kept");
    reload(&gate, &config("env:NEW_KEY")).await;
    assert_eq!(streaming_urls::status(&gate, &old).await, 401);
    let new = streaming_urls::url(&gate, "track", "alice").await;
    assert_eq!(streaming_urls::status(&gate, &new).await, 200);
}

#[tokio::test]
async fn embedded_stores_are_served_once_and_for_as_long_as_they_are_in_the_file() {
    let folder = TempFolder::new("stores");
    fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    fs::write(folder.path().join("objects/audio/track.mp3"), "music").expect("a file");
    let mut config = config::objects("http://127.0.0.1:9", "audio");
    config["Server"]["ReloadOnChange"] = json!(false);
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    let gate = Gate::start(&config).await;
    let play = async || gate.client().get("/stream/track.mp3", &[]).await.is(200).text();
    assert_eq!(play().await, "music");
    let before = descriptors(&gate);
    for minutes in [16, 15].repeat(5) {
        config["ObjectStores"]["main"]["PresignExpiry"] = json!(format!("{minutes}m"));
        reload(&gate, &config).await;
        assert_eq!(play().await, "music");
    }
    // One that is in the file for a time, and one of a file that is refused.
    let with = |name: &str, path: &str| {
        let mut config = config.clone();
        config["ObjectStores"][name] = json!({ "Embedded": path });
        config["ReverseProxy"]["Routes"][name] = config["ReverseProxy"]["Routes"]["stream"].clone();
        config["ReverseProxy"]["Routes"][name]["Match"]["Path"] = json!(format!("/{name}/{{**key}}"));
        config["ReverseProxy"]["Routes"][name]["Transforms"][0]["PresignedUrl"]["Store"] = json!(name);
        config
    };
    let second = folder.path().join("second").display().to_string();
    for _ in 0..5 {
        reload(&gate, &with("second", &second)).await;
        reload(&gate, &config).await;
        let mut refused = with("second", &second);
        let bad = with("third", "/dev/null/none");
        refused["ObjectStores"]["third"] = bad["ObjectStores"]["third"].clone();
        refused["ReverseProxy"]["Routes"]["third"] = bad["ReverseProxy"]["Routes"]["third"].clone();
        gate.rewrite(&refused);
        gate.admin().send(Method::POST, "/reload", &[]).await.problem(422);
    }
    // Connections of this test and idle ones to stores come and go.
    eventually("nothing is left of them", async || (descriptors(&gate) <= before + 4).then_some(())).await;
    assert_eq!(play().await, "music");
}

#[tokio::test]
async fn a_store_that_gets_another_address_serves_none_of_the_old_ones_objects_however_it_is_changed() {
    let (first, second) = (ScriptedOrigin::with_track("first").await, ScriptedOrigin::with_track("second").await);
    let folder = TempFolder::new("disk");
    let with = |origin: &ScriptedOrigin| {
        let mut config = config::objects_both_ways(&origin.url(), "audio");
        config["Server"]["ReloadOnChange"] = json!(false);
        config["Cache"] = json!({ "Disk": { "Path": folder.path(), "Size": "64MiB" } });
        config
    };
    let play = async |gate: &Gate| gate.client().get("/cached/track.mp3", &[]).await.is(200).text();
    let mut gate = Gate::start(&with(&first)).await;
    assert_eq!(play(&gate).await, "first");
    // The address changes while no route reaches the store by the cache.
    let mut between = with(&second);
    between["ReverseProxy"]["Routes"].as_object_mut().expect("routes").remove("cached");
    reload(&gate, &between).await;
    reload(&gate, &with(&second)).await;
    assert_eq!(play(&gate).await, "second");
    gate.stop().await;
    // And while the process is away.
    let gate = Gate::start(&with(&first)).await;
    assert_eq!(play(&gate).await, "first");
    first.put("/audio/track.mp3", Object::new("first"));
}

#[tokio::test]
async fn a_number_of_cores_that_changes_is_no_change_of_the_file() {
    let Some(taskset) = tools::find("taskset") else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["ReloadOnChange"] = json!(false);
    let gate = Gate::start(&config).await;
    let mut command = tokio::process::Command::new(taskset);
    command.args(["-acp", "0", &gate.process().to_string()]).stdout(Stdio::null());
    assert!(command.status().await.expect("it runs").success());
    config["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!("/moved/{**key}");
    reload(&gate, &config).await;
    gate.client().get("/moved/track.mp3", &[]).await.is(200);
}

#[tokio::test]
async fn connections_to_the_admin_address_are_few_and_end_without_a_whole_head() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let before = descriptors(&gate);
    let mut connections = Vec::new();
    for _ in 0..100 {
        let mut raw = crate::support::raw::Raw::connect(gate.admin_address()).await;
        raw.send(b"GET /livez HTTP/1.1\r\n").await;
        connections.push(raw);
    }
    gate.client().get("/stream/track.mp3", &[]).await.is(200);
    assert!(descriptors(&gate) < before + 80, "those beyond the limit wait to be accepted");
    // Others are served once the first are overdue.
    gate.admin().get("/livez", &[]).await.is(200);
    for mut raw in connections {
        eventually("it is closed", async || raw.has_ended().await.then_some(())).await;
    }
}

#[tokio::test]
async fn a_limit_that_becomes_one_of_another_kind_is_still_shared_by_redis() {
    let Some(redis) = Redis::start() else { return };
    let origin = ScriptedOrigin::with_track("music").await;
    let with = |limit: Value| {
        let mut config = limited(&origin, limit);
        config["State"] = json!({ "Url": redis.url() });
        config["Server"]["ReloadOnChange"] = json!(false);
        config
    };
    let bucket = json!({
        "TokenBucket": { "TokenLimit": 2, "TokensPerPeriod": 1, "ReplenishmentPeriod": "1h" },
        "PartitionBy": "User",
    });
    let window = |minutes: u32| json!({ "FixedWindow": { "PermitLimit": 3, "Window": format!("{minutes}m") }, "PartitionBy": "User" });
    let (one, two) = (Gate::start(&with(bucket.clone())).await, Gate::start(&with(bucket)).await);
    let passed = async |user: &str| {
        let (mut passed, authorization) = (0, bearer(user));
        for _ in 0..4 {
            for gate in [&one, &two] {
                let reply = gate.client().get("/stream/track.mp3", &[("authorization", &authorization)]).await;
                passed += usize::from(reply.status == 200);
            }
        }
        passed
    };
    assert_eq!(passed("alice").await, 2);
    for minutes in [600, 900] {
        for gate in [&one, &two] {
            reload(gate, &with(window(minutes))).await;
        }
        // A subject that had counts of the other kind, and one that had none.
        assert_eq!(passed("alice").await, 3);
        assert_eq!(passed(&format!("bob{minutes}")).await, 3);
    }
    assert!(!one.log().contains("limits are not shared"), "{}", one.log());
}

#[tokio::test]
async fn without_a_token_the_admin_address_is_for_nobody_s_page() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let ours = gate.admin_address().to_string();
    for headers in [
        vec![("origin", "http://evil.example")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("host", "evil.example:9901")],
        vec![("host", "127.0.0.1.evil.example"), ("origin", "http://127.0.0.1.evil.example")],
    ] {
        for (method, path) in [(Method::POST, "/reload"), (Method::GET, "/metrics")] {
            let refused = gate.admin().send(method, path, &headers).await;
            assert_eq!(refused.status, 403, "{headers:?}");
        }
    }
    for host in ["localhost:9901", "[::1]", &ours] {
        gate.admin().get("/metrics", &[("host", host)]).await.is(200);
    }
    gate.admin().get("/metrics", &[("origin", &format!("http://{ours}")), ("host", &ours)]).await.is(200);
    gate.admin().get("/livez", &[("host", "probe.example")]).await.is(200);
}

#[tokio::test]
async fn the_admin_token_is_the_one_in_its_file() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("token");
    let file = folder.path().join("token");
    fs::write(&file, "the first admin token").expect("it is written");
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Admin"]["Token"] = json!(format!("file:{}", file.display()));
    let gate = Gate::start(&config).await;
    let status =
        async |token: &str| gate.admin().get("/reload", &[("authorization", &format!("Bearer {token}"))]).await.status;
    assert_eq!(status("the first admin token").await, 200);
    fs::write(&file, "the second admin token").expect("it is written");
    // Asked for with the one that is good: who guesses too often is refused for a while.
    eventually("the old one is refused", async || (status("the first admin token").await == 401).then_some(())).await;
    assert_eq!(status("the second admin token").await, 200);
}
