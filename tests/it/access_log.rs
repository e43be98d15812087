//! The operator's log: a line for every request however it ends, failures with their cause in the system's words, and every
//! change of a dependency's health.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::access_log_forms;
use crate::support::fault::{self, End, Step};
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually, gate, token};
use primitives::clock::monotonic_now;

const TRACK: &str = "/stream/track.mp3";

/// The access line of the request with that number, from 0.
async fn line(gate: &Gate, number: usize) -> Value {
    eventually("the access line", async || gate.access_lines().into_iter().nth(number)).await
}

/// A line of the log whose message contains `text`.
async fn message(gate: &Gate, text: &str) -> Value {
    let found = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains(text));
    let what = format!("a line with {text:?}");
    eventually(&what, async || gate.log_lines().into_iter().find(found)).await
}

#[tokio::test]
async fn an_access_line_says_who_asked_for_what_and_who_answered() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = Gate::start(&config::private_objects(&origin.url(), "audio")).await;
    let path = format!("{TRACK}?access_token={}", token::of("alice"));
    gate.client().get(&path, &[("user-agent", "player/1")]).await.is(200);
    let line = line(&gate, 0).await;
    for (field, expected) in [
        ("route", json!("stream")),
        ("method", json!("GET")),
        ("path", json!(TRACK)),
        ("host", json!(gate.address().to_string())),
        ("status", json!(200)),
        ("sent", json!(1000)),
        ("user_agent", json!("player/1")),
        ("client", json!("127.0.0.1")),
        ("user", json!("alice")),
        ("cluster", json!("main")),
        ("destination", json!("main")),
        ("attempts", json!(1)),
        ("module", json!(null)),
        ("error", json!(null)),
        ("key", json!(null)),
    ] {
        assert_eq!(line[field], expected, "{field} of {line}");
    }
    for field in ["first_byte_ms", "duration_ms"] {
        let micros = line[field].as_f64().expect("a number") * 1000.0;
        assert!((micros - micros.round()).abs() < 1e-6, "{field} of {line}");
    }
    assert!(!gate.log().contains("access_token"), "a query is in the log");
}

#[tokio::test]
async fn a_failure_names_server_object_and_cause_in_the_systems_words() {
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&["http://127.0.0.1:1".to_owned()]);
    let gate = Gate::start(&config).await;
    for (number, (path, cluster, destination)) in
        [(TRACK, "main", "main"), ("/web/x", "web", "d0")].into_iter().enumerate()
    {
        let reply = gate.client().get(path, &[]).await;
        assert!(reply.status.is_server_error());
        assert!(!reply.text().contains("refused") && !reply.text().contains("audio"), "{}", reply.text());
        let line = line(&gate, number).await;
        let error = line["error"].as_str().unwrap_or_else(|| panic!("no error in {line}"));
        for part in ["Connection refused (os error 111)", "http://127.0.0.1:1", cluster, destination] {
            assert!(error.contains(part), "no {part:?} in {line}");
        }
        assert_eq!((&line["cluster"], &line["destination"]), (&json!(cluster), &json!(destination)));
        let id = line["request_id"].clone();
        let failed = gate.log_lines().into_iter().find(|line| line["level"] == "WARN" && line["request_id"] == id);
        let failed = failed.unwrap_or_else(|| panic!("no failure line for {line}"));
        assert!(failed["message"].as_str().is_some_and(|text| text.contains("Connection refused")), "{failed}");
        assert_eq!(failed["path"], path);
    }
    let line = line(&gate, 0).await;
    assert_eq!((&line["store"], &line["bucket"], &line["key"]), (&json!("main"), &json!("audio"), &json!("track.mp3")));
}

#[tokio::test]
async fn a_body_that_breaks_and_a_try_that_was_mended_leave_their_causes() {
    let origin = ScriptedOrigin::with_track(pattern(1000)).await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    origin.script([Step::Body { send: 500, end: End::Close }]);
    gate.client().get(TRACK, &[]).await.is(200);
    let mended = line(&gate, 0).await;
    assert!(mended["error"].as_str().is_some_and(|error| error.contains("the body was cut off")), "{mended}");
    assert_eq!((&mended["failure"], &mended["resumes"]), (&json!(null), &json!(1)));
    origin.script([fault::WRONG_SIGNATURE]);
    gate.client().get(TRACK, &[]).await.is(502);
    let refused = line(&gate, 1).await;
    assert_eq!((&refused["failure"], &refused["key"]), (&json!("store_signature"), &json!("track.mp3")));
}

#[tokio::test]
async fn fields_can_be_left_out() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Telemetry"]["AccessLog"]["Fields"] = json!(["method", "status", "duration_ms"]);
    let gate = Gate::start(&config).await;
    gate.client().get(TRACK, &[]).await.is(200);
    let line = line(&gate, 0).await;
    let mut names: Vec<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["duration_ms", "level", "message", "method", "status", "target", "timestamp"]);
}

#[tokio::test]
async fn a_modules_request_names_its_module() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    for (number, (path, module, route)) in [
        ("/health", json!("health"), json!(null)),
        ("/openapi.json", json!("openapi"), json!(null)),
        ("/x", json!(null), json!("none")),
    ]
    .into_iter()
    .enumerate()
    {
        gate.client().get(path, &[]).await;
        let line = line(&gate, number).await;
        assert_eq!((&line["module"], &line["route"], &line["path"]), (&module, &route, &json!(path)));
    }
}

#[tokio::test]
async fn a_token_in_a_path_is_masked_good_or_not() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    gate.client().get("/t/canarytoken.canarymac/stream/track.mp3", &[]).await;
    assert_eq!(line(&gate, 0).await["path"], "/t/***/stream/track.mp3");
    assert!(!gate.log().contains("canary"), "{}", gate.log());
}

/// Sends signals to a gate with a stream under way, until it has ended; the stream's access line, and the time from the last
/// signal to the end.
async fn cut(grace: &str, signals: usize) -> (Value, Duration) {
    let origin = ScriptedOrigin::with_track(pattern(30_000_000)).await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["ShutdownGrace"] = json!(grace);
    let mut gate = Gate::start(&config).await;
    let mut raw = gate.raw().await;
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    raw.head().await.expect("a header");
    let mut begun = monotonic_now();
    for _ in 0..signals {
        begun = monotonic_now();
        gate.signal("TERM").await;
        eventually("it is stopping", async || gate.log().contains("stopping").then_some(())).await;
    }
    assert!(gate.ended().await.success());
    let took = begun.elapsed();
    let said = async || gate.log_lines().pop().filter(|line| line["message"] == "stopped with streams under way");
    eventually("the last line says that some were cut", said).await;
    (line(&gate, 0).await, took)
}

#[tokio::test]
async fn a_stream_cut_at_the_end_of_the_grace_leaves_an_access_line() {
    const GRACE: Duration = Duration::from_millis(300);
    let (line, took) = cut("300ms", 1).await;
    assert_eq!((&line["status"], &line["failure"], &line["path"]), (&json!(200), &json!("stopped"), &json!(TRACK)));
    assert!(line["sent"].as_u64().is_some_and(|sent| sent > 0), "{line}");
    assert!(took >= GRACE, "{took:?}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_leaves_the_line_too() {
    // It would go on for longer than the test.
    let (line, _) = cut(config::NEVER, 2).await;
    assert_eq!(line["failure"], "stopped");
}

#[tokio::test]
async fn every_change_of_health_is_one_line() {
    let (origin, checked) = (ScriptedOrigin::with_track("music").await, ScriptedOrigin::start().await);
    checked.always(fault::NO_SUCH_KEY);
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["web"] = config::plain_route("/web/{**rest}", "web");
    config["ReverseProxy"]["Clusters"]["web"] = config::cluster(&["http://127.0.0.1:1".to_owned()]);
    config["ReverseProxy"]["Routes"]["checked"] = config::plain_route("/checked/{**rest}", "checked");
    config["ReverseProxy"]["Clusters"]["checked"] = config::cluster(&[checked.url()]);
    config["ReverseProxy"]["Clusters"]["checked"]["HealthCheck"]["Active"] =
        json!({ "Enabled": true, "Interval": "100ms" });
    let gate = Gate::start(&config).await;
    let failed = message(&gate, "destination `d0` of cluster `checked`").await;
    assert!(failed["message"].as_str().is_some_and(|text| text.contains("status 404")), "{failed}");
    message(&gate, "of cluster `checked` (http://127.0.0.1").await;
    let out = message(&gate, "is out of use: its health check says so").await;
    assert_eq!((&out["cluster"], &out["level"]), (&json!("checked"), &json!("WARN")));
    checked.put("/", Object::new("fine"));
    checked.reset();
    message(&gate, "passes its health check again").await;
    eventually("the breaker opens", async || {
        gate.client().get("/web/x", &[]).await;
        gate.log().contains("(breaker)").then_some(())
    })
    .await;
    let opened = message(&gate, "(breaker)").await;
    assert_eq!((&opened["cluster"], &opened["destination"]), (&json!("web"), &json!("d0")));
}

#[tokio::test]
async fn a_damaged_cache_folder_is_one_line_with_a_count() {
    const TRACKS: usize = 40;
    let (origin, folder) = (ScriptedOrigin::start().await, TempFolder::new("damaged"));
    for number in 0..TRACKS {
        origin.put(&format!("/audio/{number}"), Object::new(pattern(200_000)));
    }
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    config["Cache"] = json!({ "Disk": { "Path": folder.path().join("cache"), "Size": "64MiB" } });
    let mut gate = Gate::start(&config).await;
    for number in 0..TRACKS {
        gate.client().get(&format!("/stream/{number}"), &[]).await.is(200);
    }
    gate.stop().await;
    let mode = std::fs::metadata(folder.path().join("cache")).expect("the cache's folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "it holds objects in the clear");
    let gate = Gate::start(&config).await;
    for file in std::fs::read_dir(folder.path().join("cache/slices")).expect("the cache's folder") {
        let file = std::fs::File::options().write(true).open(file.expect("a file").path()).expect("it can be opened");
        file.set_len(0).expect("it can be cut");
    }
    for number in 0..TRACKS {
        gate.client().get(&format!("/stream/{number}"), &[]).await.is(200);
    }
    let told = message(&gate, "the disk cache is damaged or cannot be used").await;
    assert!(told["count"].as_u64().is_some_and(|count| count > 1), "{told}");
    let lines = gate.log_lines();
    let foreign = lines.iter().filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with("foyer")));
    assert_eq!(foreign.count(), 0);
    assert!(!gate.log().contains("Backtrace") && !gate.log().contains("backtrace"), "{}", gate.log());
}

#[tokio::test]
async fn the_fields_of_an_access_line_are_those_of_the_page() {
    let page = include_str!("../../docs/operations.md");
    let table = page.split("| field | meaning |").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a table");
    let firsts = table.lines().filter_map(|row| row.strip_prefix("| `")?.split(" | ").next());
    let listed: BTreeSet<&str> =
        firsts.flat_map(|cell| cell.split(['`', ',', ' '])).filter(|it| !it.is_empty()).collect();
    let origin = ScriptedOrigin::with_track(pattern(500_000)).await;
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    config["Auth"] = config::jwt();
    config["ReverseProxy"]["Routes"]["cached"]["AuthorizationPolicy"] = json!("Default");
    // Of the requests alone: the collector is away.
    config["Telemetry"]["Otlp"] = json!({ "Endpoint": "http://127.0.0.1:1", "SampleRate": 1 });
    let gate = Gate::start(&config).await;
    let (agent, bearer) = ("a".repeat(300), format!("Bearer {}", token::of("alice")));
    gate.client().get("/cached/track.mp3", &[("authorization", &bearer), ("user-agent", &agent)]).await.is(200);
    origin.script([Step::Body { send: 100_000, end: End::Reset }]);
    gate.client().get(TRACK, &[]).await.is(200);
    origin.always(Step::Silence(End::Reset));
    gate.client().get(TRACK, &[]).await.problem(502);
    gate.client().get("/cached/track.mp3", &[("authorization", "Bearer x.y.z")]).await.problem(401);
    gate.client().get("/health", &[]).await;
    let lines = eventually("five lines", async || Some(gate.access_lines()).filter(|lines| lines.len() == 5)).await;
    assert_eq!(lines[0]["user_agent"].as_str().map(str::len), Some(256));
    assert!(lines.iter().all(|line| line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z'))), "{lines:#?}");
    assert_eq!((&lines[0]["cache"], &lines[1]["cache"]), (&json!("miss"), &Value::Null));
    assert_eq!((&lines[2]["failure"], &lines[1]["failure"]), (&json!("store_closed"), &Value::Null));
    let members = lines.iter().flat_map(|line| line.as_object().expect("an object"));
    let written: BTreeSet<&str> =
        members.filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str()).collect();
    let of_every_line = BTreeSet::from(["level", "message", "target"]);
    let written: BTreeSet<&str> = written.difference(&of_every_line).copied().collect();
    assert_eq!(written, listed, "lines have other fields than docs/operations.md");
}

/// A gate whose access log is the file at `path`.
async fn with_file(path: &Path) -> (ScriptedOrigin, Value, Gate) {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Telemetry"]["AccessLog"]["File"] = json!(path);
    let gate = Gate::start(&config).await;
    (origin, config, gate)
}

/// Waits for `count` lines in the file at `path`.
async fn lines_of(path: &Path, count: usize) -> Vec<Value> {
    let lines = access_log_forms::lines_of(path, count).await;
    lines.iter().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[tokio::test]
async fn access_lines_go_to_their_file_which_is_opened_anew_after_rotation() {
    let folder = TempFolder::new("access-log");
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (_origin, config, mut gate) = with_file(&path).await;
    gate.client().get(TRACK, &[]).await.is(200);
    let lines = lines_of(&path, 1).await;
    assert_eq!((&lines[0]["path"], &lines[0]["target"]), (&json!(TRACK), &json!("access")));
    let mode = std::fs::metadata(&path).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o637, 0o600, "{mode:o}: nobody but its owner and group reads it");
    std::fs::rename(&path, &moved).expect("it is moved");
    gate.client().get(TRACK, &[]).await.is(200);
    lines_of(&moved, 2).await;
    assert!(!path.exists(), "it is written on until the signal");
    gate.signal("USR1").await;
    message(&gate, "(Telemetry.AccessLog.File) is open anew").await;
    gate.client().get("/absent", &[]).await.is(404);
    lines_of(&path, 1).await;
    lines_of(&moved, 2).await;
    assert!(gate.log_lines().iter().all(|line| line["target"] != "access"), "{}", gate.log());
    // Another file needs a restart.
    let mut other = config.clone();
    other["Telemetry"]["AccessLog"] = json!({});
    gate.rewrite(&other);
    let refused = gate.admin().send(http::Method::POST, "/reload", &[]).await;
    assert!(refused.text().contains("Telemetry.AccessLog.File"), "{}", refused.text());
    // What a stop cuts has its line too, and a start goes on with the file.
    let mut raw = gate.raw().await;
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    raw.head().await.expect("a head");
    gate.stop().await;
    lines_of(&path, 2).await;
    let gate = Gate::start(&config).await;
    gate.client().get(TRACK, &[]).await.is(200);
    lines_of(&path, 3).await;
}

#[tokio::test]
async fn a_disk_that_takes_no_lines_costs_lines_and_no_request() {
    let (_origin, _, gate) = with_file(Path::new("/dev/full")).await;
    for _ in 0..5 {
        gate.client().get(TRACK, &[]).await.is(200);
    }
    let lost = async || (gate.metric("tidegate_access_log_lost_lines_total", "").await == 5.0).then_some(());
    eventually("all are counted", lost).await;
    let told = message(&gate, "cannot be written, and its lines are lost").await;
    assert!(told["error"].as_str().is_some_and(|error| error.contains("No space left on device")), "{told}");
    let times = gate.log().matches("cannot be written, and its lines are lost").count();
    assert_eq!(times, 1, "{}", gate.log());
    assert_eq!(gate.access_lines().len(), 0);

    let folder = TempFolder::new("access-log");
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).expect("a folder");
    let (_origin, _, gate) = with_file(&logs.join("access.log")).await;
    gate.client().get(TRACK, &[]).await.is(200);
    lines_of(&logs.join("access.log"), 1).await;
    std::fs::remove_dir_all(&logs).expect("it is removed");
    gate.client().get(TRACK, &[]).await.is(200);
    let lost = async || (gate.metric("tidegate_access_log_lost_lines_total", "").await == 1.0).then_some(());
    eventually("it is counted", lost).await;
    message(&gate, "No such file or directory").await;
    std::fs::create_dir(&logs).expect("a folder");
    gate.client().get(TRACK, &[]).await.is(200);
    lines_of(&logs.join("access.log"), 1).await;
}

#[tokio::test]
async fn a_file_of_the_access_log_that_cannot_be_is_refused() {
    let folder = TempFolder::new("access-log");
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    for (path, format, reason) in [
        (folder.path().join("absent/access.log"), "json", "there is no folder"),
        (folder.path().to_owned(), "json", "is a folder"),
        (folder.path().join("access.log"), "off", "`Format` is `off`"),
    ] {
        config["Telemetry"]["AccessLog"] = json!({ "File": path, "Format": format });
        let file = gate::write_config(&folder, &config).display().to_string();
        let checked = gate::run(&["check", &file], &folder).await;
        assert_eq!(checked.code, Some(64), "{reason}: {}", checked.stdout);
        let place = "Telemetry.AccessLog.File";
        assert!(checked.stderr.contains(reason) && checked.stderr.contains(place), "{reason}: {}", checked.stderr);
    }
    // A FIFO that nobody reads: whoever opens it would wait.
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("it runs").success());
    config["Telemetry"]["AccessLog"] = json!({ "File": fifo });
    let file = gate::write_config(&folder, &config).display().to_string();
    let started = gate::run(&["serve", "-c", &file], &folder).await;
    assert_eq!(started.code, Some(1), "{}", started.stderr);
    assert!(started.stderr.contains("cannot be opened"), "{}", started.stderr);
}
