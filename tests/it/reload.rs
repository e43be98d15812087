//! Reload of the configuration: by a signal, by a change of the file, and by the operator's request. What is under way
//! goes on, what has not changed is kept, and a file that cannot be used changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use http::Method;
use serde_json::{Value, json};

use crate::support::fault::{End, Step};
use crate::support::origin::pattern;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, LIMIT, Object, ScriptedOrigin, config, eventually, gate, token};

/// A gate whose file is only reloaded when it is asked to.
pub async fn start(config: &mut Value) -> Gate {
    config["Server"]["ReloadOnChange"] = json!(false);
    Gate::start(config).await
}

/// Writes `config` and reloads it; returns the report.
pub async fn reload(gate: &Gate, config: &Value) -> String {
    gate.rewrite(config);
    let report = gate.admin().send(Method::POST, "/reload", &[]).await;
    let report: Value = serde_json::from_slice(&report.is(200).body).expect("JSON");
    assert_eq!(report["outcome"], "reloaded", "{report}");
    report["report"].as_str().expect("a report").to_owned()
}

/// Writes `text` and has it refused; returns the report.
pub async fn refused(gate: &Gate, text: &str) -> String {
    fs::write(gate.config_file(), text).expect("it is written");
    let problem = gate.admin().send(Method::POST, "/reload", &[]).await.problem(422);
    problem["detail"].as_str().expect("a report").to_owned()
}

/// The file of `config`.
pub fn yaml(config: &Value) -> String {
    serde_yaml::to_string(config).expect("JSON is YAML")
}

#[tokio::test]
async fn sighup_puts_the_file_in_force() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    gate.client().get("/stream/track.mp3", &[]).await.is(200);
    gate.client().get("/other/track.mp3", &[]).await.problem(404);
    assert_eq!(gate.admin().get("/reload", &[]).await.is(200).text(), "null", "there was none yet");
    let routes = &mut config["ReverseProxy"]["Routes"];
    let mut other = routes["stream"].take();
    other["Match"]["Path"] = json!("/other/{**key}");
    *routes = json!({ "other": other });
    gate.rewrite(&config);
    gate.signal("HUP").await;
    eventually("the new route is there", async || {
        (gate.client().get("/other/track.mp3", &[]).await.status == 200).then_some(())
    })
    .await;
    gate.client().get("/stream/track.mp3", &[]).await.problem(404);
    let last: Value = serde_json::from_slice(&gate.admin().get("/reload", &[]).await.is(200).body).expect("JSON");
    assert_eq!((&last["outcome"], &last["cause"]), (&json!("reloaded"), &json!("SIGHUP")), "{last}");
    assert_eq!(gate.metric("tidegate_config_reloads_total", "reloaded").await, 1.0);
    assert_eq!(gate.metric("tidegate_config_last_reload_successful", "").await, 1.0);
    let at = gate.metric("tidegate_config_last_reload_success_timestamp_seconds", "").await;
    assert!((at - crate::support::token::now() as f64).abs() < 300.0, "{at}");
    assert!(gate.log().contains("configuration reloaded"), "{}", gate.log());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_is_reported_as_check_does() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    let bad: BTreeSet<_> =
        fs::read_dir("conf/bad").expect("a folder").map(|file| file.expect("a file").path()).collect();
    let files: Vec<_> = bad.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
    assert!(files.len() > 30);
    for file in &files {
        let text = fs::read_to_string(file).expect("a text");
        let report = refused(&gate, &text).await;
        let checked = gate::run(&["check", &gate.config_file().display().to_string()], &TempFolder::new("check")).await;
        assert!(checked.stderr.trim_end().ends_with(report.trim_end()), "{}\n{report}", checked.stderr);
        assert_eq!(gate.client().get("/stream/track.mp3", &[]).await.is(200).text(), "music", "{}", file.display());
    }
    fs::remove_file(gate.config_file()).expect("it is removed");
    let report = gate.admin().send(Method::POST, "/reload", &[]).await.problem(422);
    assert!(report["detail"].as_str().is_some_and(|text| text.contains("cannot be read")), "{report}");
    let count = gate.metric("tidegate_config_reloads_total", "refused").await;
    assert_eq!(count, files.len() as f64 + 1.0);
    assert_eq!(gate.metric("tidegate_config_last_reload_successful", "").await, 0.0);
    gate.client().get("/stream/track.mp3", &[]).await.is(200);
    reload(&gate, &config).await;
    assert_eq!(gate.metric("tidegate_config_last_reload_successful", "").await, 1.0);
}

#[tokio::test]
async fn a_key_that_needs_a_restart_is_named_and_nothing_else_of_the_file_is_taken() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    for (section, key, value) in [
        ("Server", "Threads", json!(1)),
        ("Server", "UpgradeTimeout", json!("10s")),
        ("State", "Url", json!("redis://127.0.0.1:1")),
        ("Database", "Url", json!("sqlite://tidegate.db")),
        ("Telemetry", "AccessLog", json!({ "Format": "text" })),
    ] {
        let mut changed = config.clone();
        changed[section][key] = value;
        changed["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!("/moved/{**key}");
        let report = refused(&gate, &yaml(&changed)).await;
        assert!(report.contains("cannot be changed without a restart") && report.contains(section), "{report}");
        gate.client().get("/stream/track.mp3", &[]).await.is(200);
    }
}

#[tokio::test]
async fn a_change_of_the_file_is_taken_however_it_is_made() {
    let origin = ScriptedOrigin::with_track("music").await;
    let path = |name: &str| format!("/{name}/track.mp3");
    let config = |name: &str| {
        let mut config = config::objects(&origin.url(), "audio");
        config["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!(format!("/{name}/{{**key}}"));
        config
    };
    let gate = Gate::start(&config("start")).await;
    let file = gate.config_file();
    let folder = file.parent().expect("a folder");
    let in_force = async |name: &str| {
        eventually(name, async || (gate.client().get(&path(name), &[]).await.status == 200).then_some(())).await;
    };
    in_force("start").await;
    gate.rewrite(&config("written"));
    in_force("written").await;
    // As editors and `kubectl` do: another file under the same name.
    fs::write(folder.join("new.yaml"), yaml(&config("renamed"))).expect("it is written");
    fs::rename(folder.join("new.yaml"), &file).expect("it is renamed");
    in_force("renamed").await;
    // As Kubernetes mounts a ConfigMap: the file is a link through a link to a folder, which is exchanged.
    for name in ["first", "second"] {
        fs::create_dir(folder.join(name)).expect("a folder");
        fs::write(folder.join(name).join("tidegate.yaml"), yaml(&config(name))).expect("it is written");
        symlink(name, folder.join("data.new")).expect("a link");
        fs::rename(folder.join("data.new"), folder.join("data")).expect("it is renamed");
        if name == "first" {
            symlink("data/tidegate.yaml", folder.join("link.yaml")).expect("a link");
            fs::rename(folder.join("link.yaml"), &file).expect("it is renamed");
        }
        in_force(name).await;
    }
    fs::write(&file, "ReverseProxy: [").expect("it is written");
    eventually("the mistake is said", async || gate.log().contains("reload refused").then_some(())).await;
    gate.client().get(&path("second"), &[]).await.is(200);
}

/// Clients of this test; the section `reload` of the load test has 1,000 streams and 200 WebSockets (`loadtest/run reload`).
const STREAMS: usize = 50;
const WEB_SOCKETS: usize = 10;

#[tokio::test]
async fn streams_and_websockets_under_way_go_on_by_the_rules_that_they_began_with() {
    use futures::{SinkExt, StreamExt};
    let origin = ScriptedOrigin::with_track(pattern(30_000_000)).await;
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] =
        config::cluster(&[format!("http://{}", crate::plain::upgrade::echo().await)]);
    let gate = start(&mut config).await;
    let (mut streams, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        let mut raw = gate.raw().await;
        raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
        let head = raw.head().await.expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        streams.push(raw);
    }
    for _ in 0..WEB_SOCKETS {
        let url = format!("ws://{}/plain/echo", gate.address());
        sockets.push(tokio_tungstenite::connect_async(url).await.expect("it opens").0);
    }
    let names = ["a", "b", "stream"];
    for round in 0..20 {
        let mut changed = config.clone();
        let routes = &mut changed["ReverseProxy"]["Routes"];
        let route = routes["stream"].take();
        // In every second one there is no way to the WebSockets' server any more.
        let plain = routes["plain"].take();
        *routes = json!({ names[round % names.len()]: route });
        if round % 2 == 0 {
            routes["plain"] = plain;
        } else {
            changed["ReverseProxy"].as_object_mut().expect("an object").remove("Clusters");
        }
        reload(&gate, &changed).await;
        for socket in &mut sockets {
            socket.send(format!("{round}").into()).await.expect("it is open");
            let heard = socket.next().await.expect("it is open").expect("a message");
            assert_eq!(heard.to_text().expect("text"), format!("{round}"));
        }
    }
    let whole = pattern(30_000_000);
    for mut stream in streams {
        assert!(stream.exactly(whole.len()).await.expect("the whole body") == whole);
    }
    assert_eq!(gate.metric("tidegate_config_reloads_total", "reloaded").await, 20.0);
}

#[tokio::test]
async fn a_websocket_goes_on_over_reloads() {
    use futures::{SinkExt, StreamExt};
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] =
        config::cluster(&[format!("http://{}", crate::plain::upgrade::echo().await)]);
    let gate = start(&mut config).await;
    let url = format!("ws://{}/plain/echo", gate.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("it opens");
    for name in ["one", "other"] {
        // The route and its cluster are no more.
        config["ReverseProxy"] = json!({ "Routes": { name: config::plain_route("/{**rest}", name) },
            "Clusters": { name: config::cluster(&["http://127.0.0.1:9".to_owned()]) } });
        reload(&gate, &config).await;
        socket.send(name.into()).await.expect("it is open");
        let heard = socket.next().await.expect("it is open").expect("a message");
        assert_eq!(heard.to_text().expect("text"), name);
    }
}

#[tokio::test]
async fn what_has_not_changed_is_kept() {
    let origin = ScriptedOrigin::with_track("music").await;
    origin.put("/back/page", Object::new("page"));
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Routes"]["back"] = config::plain_route("/back/{**rest}", "back");
    config["Policies"]["RateLimiter"] = json!({
        "few": { "FixedWindow": { "PermitLimit": 3, "Window": "10m" }, "PartitionBy": "Route" },
        "more": { "FixedWindow": { "PermitLimit": 1, "Window": "10m" }, "PartitionBy": "Route" },
    });
    config["ReverseProxy"]["Routes"]["few"] = config["ReverseProxy"]["Routes"]["back"].clone();
    config["ReverseProxy"]["Routes"]["few"]["Match"]["Path"] = json!("/few/{**rest}");
    config["ReverseProxy"]["Routes"]["few"]["RateLimiterPolicy"] = json!("few");
    config["ReverseProxy"]["Routes"]["more"] = config["ReverseProxy"]["Routes"]["few"].clone();
    config["ReverseProxy"]["Routes"]["more"]["Match"]["Path"] = json!("/more/{**rest}");
    config["ReverseProxy"]["Routes"]["more"]["RateLimiterPolicy"] = json!("more");
    let gate = start(&mut config).await;
    let status = async |path: &str| gate.client().get(path, &[]).await.status;
    assert_eq!(status("/cached/track.mp3").await, 200);
    assert_eq!(status("/back/page").await, 200);
    assert_eq!([status("/few/x").await, status("/few/x").await], [404, 404]);
    assert_eq!([status("/more/x").await, status("/more/x").await], [404, 429]);
    let connections: BTreeSet<usize> = origin.take_seen().into_iter().map(|seen| seen.connection).collect();
    config["Policies"]["RateLimiter"]["more"]["FixedWindow"]["PermitLimit"] = json!(2);
    let mut second = config["ReverseProxy"]["Routes"]["back"].clone();
    second["Match"]["Path"] = json!("/second/{**rest}");
    config["ReverseProxy"]["Routes"]["second"] = second;
    reload(&gate, &config).await;
    // The cache: the store is not asked for the object again.
    assert_eq!(status("/cached/track.mp3").await, 200);
    assert!(!origin.take_seen().iter().any(|seen| seen.target.contains("track.mp3")));
    // The pool: the connection that was idle is used.
    assert_eq!(status("/back/page").await, 200);
    let used: BTreeSet<usize> = origin.take_seen().into_iter().map(|seen| seen.connection).collect();
    assert!(used.is_subset(&connections), "{used:?} {connections:?}");
    // The counts of a policy that has not changed; one that has begins anew.
    assert_eq!([status("/few/x").await, status("/few/x").await], [404, 429]);
    assert_eq!([status("/more/x").await, status("/more/x").await, status("/more/x").await], [404, 404, 429]);
}

#[tokio::test]
async fn a_destination_that_is_out_of_use_stays_so_when_another_is_added() {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    let mut config = config::empty();
    // Nobody listens on port 1.
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&["http://127.0.0.1:1".to_owned()]);
    config["ReverseProxy"]["Routes"]["back"] = config::plain_route("/{**rest}", "back");
    let gate = start(&mut config).await;
    let is_open =
        async || gate.metric("tidegate_destination_state", r#"destination="d0",state="healthy""#).await == 0.0;
    eventually("the breaker opens", async || {
        gate.client().get("/x", &[]).await;
        is_open().await.then_some(())
    })
    .await;
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&["http://127.0.0.1:1".to_owned(), origin.url()]);
    reload(&gate, &config).await;
    assert!(is_open().await, "its breaker did not begin anew");
    for _ in 0..10 {
        gate.client().get("/x", &[]).await.is(200);
    }
}

#[tokio::test]
async fn keys_of_issuers_policies_and_stores_change_with_the_file() {
    const OTHER: &str = "another secret of the integration tests, 32 bytes too";
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::private_objects(&origin.url(), "audio");
    let folder = TempFolder::new("keys");
    let secret = folder.path().join("secret");
    fs::write(&secret, token::SECRET).expect("it is written");
    config["Auth"]["Jwt"]["Issuers"][0]["Secret"] = json!(format!("file:{}", secret.display()));
    let access = folder.path().join("access");
    fs::write(&access, "FIRSTACCESSKEY").expect("it is written");
    config["ObjectStores"]["main"]["Credentials"]["AccessKey"] = json!(format!("file:{}", access.display()));
    let gate = start(&mut config).await;
    let play = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let reply = gate.client().get("/stream/track.mp3", &[("authorization", &authorization)]).await;
        (reply.status, origin.take_seen().last().map(|seen| seen.target.clone()).unwrap_or_default())
    };
    let (old, new) = (token::of("alice"), token::signed(&token::claims("alice"), OTHER));
    let (status, target) = play(&old).await;
    assert!(status == 200 && target.contains("FIRSTACCESSKEY"), "{status} {target}");
    assert_eq!(play(&new).await.0, 401);
    fs::write(&secret, OTHER).expect("it is written");
    fs::write(&access, "SECONDACCESSKEY").expect("it is written");
    config["Policies"]["Authorization"]["vip"] = json!({ "Require": [{ "Claim": "role", "In": ["vip"] }] });
    reload(&gate, &config).await;
    assert_eq!(play(&old).await.0, 401, "its key is gone");
    let (status, target) = play(&new).await;
    assert!(status == 200 && target.contains("SECONDACCESSKEY"), "{status} {target}");
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("vip");
    reload(&gate, &config).await;
    assert_eq!(play(&new).await.0, 403);
}

#[tokio::test]
async fn a_store_under_another_address_gives_none_of_the_old_ones_objects() {
    let (first, second) = (ScriptedOrigin::with_track("first").await, ScriptedOrigin::with_track("second").await);
    let mut config = config::objects_both_ways(&first.url(), "audio");
    let gate = start(&mut config).await;
    assert_eq!(gate.client().get("/cached/track.mp3", &[]).await.is(200).text(), "first");
    config["ObjectStores"]["main"] = config::store(&second.url());
    reload(&gate, &config).await;
    assert_eq!(gate.client().get("/cached/track.mp3", &[]).await.is(200).text(), "second");
    gate.admin().get("/readyz", &[]).await.is(200);
}

#[tokio::test]
async fn proxies_whose_connections_are_not_counted_and_the_deadline_of_requests_change_with_a_reload() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Limits"] = json!({ "MaxConnectionsPerAddress": 1 });
    let gate = start(&mut config).await;
    let request = b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n";
    let mut kept = gate.raw().await;
    kept.send(request).await;
    assert_eq!(kept.response("GET", LIMIT).await.expect("an answer").status, 200);
    assert!(gate.raw().await.response("GET", LIMIT).await.is_err());
    config["Server"]["TrustedProxies"] = json!(["127.0.0.1"]);
    config["Server"]["Limits"]["RequestTimeout"] = json!("1s");
    reload(&gate, &config).await;
    let mut second = gate.raw().await;
    origin.script([Step::Silence(End::Stall)]);
    second.send(request).await;
    assert_eq!(second.response("GET", LIMIT).await.expect("an answer").status, 408);
}

/// The configuration whose route asks for a token, or does not.
fn guarded(origin: &ScriptedOrigin, policy: &str) -> Value {
    let mut config = config::private_objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!(policy);
    config
}

async fn anonymous_status(gate: &Gate) -> u16 {
    gate.client().get("/stream/track.mp3", &[]).await.status.as_u16()
}

#[tokio::test]
async fn the_file_is_put_in_force_whatever_it_was_when_it_was_looked_at() {
    let origin = ScriptedOrigin::with_track("music").await;
    let closed = guarded(&origin, "Default");
    let gate = Gate::start(&closed).await;
    assert_eq!(anonymous_status(&gate).await, 401);
    // Opened by a request, and written back before anything has looked at it.
    reload(&gate, &guarded(&origin, "Anonymous")).await;
    assert_eq!(anonymous_status(&gate).await, 200);
    gate.rewrite(&closed);
    eventually("the file is in force", async || (anonymous_status(&gate).await == 401).then_some(())).await;
    // Refused, and as before at once.
    refused(&gate, "ReverseProxy: [").await;
    gate.rewrite(&closed);
    eventually("the metric says that the file is in force", async || {
        (gate.metric("tidegate_config_last_reload_successful", "").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_changed_while_the_process_starts_is_put_in_force() {
    let origin = ScriptedOrigin::with_track("music").await;
    // The first question to the bucket has no answer: the start waits a second for it.
    origin.readiness(Step::Silence(End::Stall));
    let (open, closed) = (guarded(&origin, "Anonymous"), guarded(&origin, "Default"));
    let gate = Gate::start_while(&open, async |file| {
        eventually("the bucket is asked", async || (origin.open_connections() > 0).then_some(())).await;
        fs::write(file, yaml(&closed)).expect("it is written");
    })
    .await;
    eventually("the file is in force", async || (anonymous_status(&gate).await == 401).then_some(())).await;
}

#[tokio::test]
async fn a_file_that_was_refused_is_tried_again() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&guarded(&origin, "Anonymous")).await;
    let folder = TempFolder::new("keys");
    let secret = folder.path().join("secret");
    let mut changed = guarded(&origin, "Default");
    changed["Auth"]["Jwt"]["Issuers"][0]["Secret"] = json!(format!("file:{}", secret.display()));
    gate.rewrite(&changed);
    eventually("it is refused", async || gate.log().contains("reload refused").then_some(())).await;
    assert_eq!(anonymous_status(&gate).await, 200);
    fs::write(&secret, token::SECRET).expect("it is written");
    eventually("the file is in force", async || (anonymous_status(&gate).await == 401).then_some(())).await;
}

#[tokio::test]
async fn a_secret_that_is_written_again_is_in_force_without_being_asked_for() {
    const OTHER: &str = "another secret of the integration tests, 32 bytes too";
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = guarded(&origin, "Default");
    let folder = TempFolder::new("keys");
    let secret = folder.path().join("secret");
    fs::write(&secret, token::SECRET).expect("it is written");
    config["Auth"]["Jwt"]["Issuers"][0]["Secret"] = json!(format!("file:{}", secret.display()));
    let gate = Gate::start(&config).await;
    let authorization = format!("Bearer {}", token::of("alice"));
    let play = async || gate.client().get("/stream/track.mp3", &[("authorization", &authorization)]).await.status;
    assert_eq!(play().await, 200);
    fs::write(&secret, OTHER).expect("it is written");
    eventually("the old secret is gone", async || (play().await == 401).then_some(())).await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_taken_half() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = guarded(&origin, "Anonymous");
    config["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!("/stream/{**key}");
    let gate = start(&mut config).await;
    let marked = |config: &Value| format!("{}...\n", yaml(config));
    fs::write(gate.config_file(), marked(&config)).expect("it is written");
    gate.admin().send(Method::POST, "/reload", &[]).await.is(200);
    // Whole as YAML, and without the line that the file in force ends with.
    let report = refused(&gate, &yaml(&config)).await;
    assert!(report.contains("`...`") && report.contains("written half"), "{report}");
    fs::write(gate.config_file(), marked(&config)).expect("it is written");
    gate.admin().send(Method::POST, "/reload", &[]).await.is(200);
    // Asked for in the middle of a write, which goes on.
    fs::write(gate.config_file(), "ReverseProxy: [").expect("it is written");
    let client = gate.admin();
    let asked = tokio::spawn(async move { client.send(Method::POST, "/reload", &[]).await });
    let mut moved = config.clone();
    moved["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!("/moved/{**key}");
    fs::write(gate.config_file(), marked(&moved)).expect("it is written");
    asked.await.expect("an answer").is(200);
    gate.client().get("/moved/track.mp3", &[]).await.is(200);
}

#[tokio::test]
async fn what_is_no_regular_file_of_a_bounded_size_is_refused_and_blocks_nothing() {
    let origin = ScriptedOrigin::with_track("music").await;
    let config = guarded(&origin, "Anonymous");
    let gate = Gate::start(&config).await;
    let file = gate.config_file();
    let path = file.display().to_string();
    let large = format!("{}# {}\n", yaml(&config), "x".repeat(5 << 20));
    for (command, reason) in [
        (vec!["mkfifo", &path], "it is a FIFO; expected a regular file"),
        (vec!["ln", "-s", "/dev/zero", &path], "it is a device"),
        (vec!["mkdir", &path], "it is a folder"),
    ] {
        fs::remove_file(&file).expect("it is removed");
        let made = std::process::Command::new(command[0]).args(&command[1..]).status().expect("it runs");
        assert!(made.success());
        // Found by a look, and by a question.
        eventually(reason, async || gate.log().contains(reason).then_some(())).await;
        let report = gate.admin().send(Method::POST, "/reload", &[]).await.problem(422);
        assert!(report["detail"].as_str().is_some_and(|text| text.contains(reason)), "{report}");
        assert_eq!(gate.metric("tidegate_config_last_reload_successful", "").await, 0.0);
        fs::remove_dir(&file).or_else(|_| fs::remove_file(&file)).expect("it is removed");
        gate.rewrite(&config);
        eventually("the good file is found", async || {
            (gate.metric("tidegate_config_last_reload_successful", "").await == 1.0).then_some(())
        })
        .await;
    }
    let report = refused(&gate, &large).await;
    assert!(report.contains("longer than 4194304 bytes"), "{report}");
    gate.rewrite(&guarded(&origin, "Default"));
    eventually("changes are seen as before", async || (anonymous_status(&gate).await == 401).then_some(())).await;
}

#[tokio::test]
async fn a_reload_whose_asker_leaves_is_made_all_the_same() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = guarded(&origin, "Anonymous");
    let gate = start(&mut config).await;
    gate.rewrite(&guarded(&origin, "Default"));
    let mut raw = crate::support::raw::Raw::connect(gate.admin_address()).await;
    raw.send(b"POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("it was taken", async || (gate.metric("tidegate_config_reloads_total", "").await >= 0.0).then_some(()))
        .await;
    drop(raw);
    eventually("it is in force", async || (anonymous_status(&gate).await == 401).then_some(())).await;
    let last: Value = serde_json::from_slice(&gate.admin().get("/reload", &[]).await.is(200).body).expect("JSON");
    assert_eq!(last["outcome"], "reloaded", "{last}");
}
