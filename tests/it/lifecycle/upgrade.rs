//! Upgrades: a new process takes the sockets over, and no client notices; a new process that fails changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::TRACK;
use super::process::Upgradable;
use crate::support::fault::{End, Step};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::tools::TempFolder;
use crate::support::{Object, ScriptedOrigin, config, curl, eventually, tools};

const LIMIT: Duration = Duration::from_secs(20);
const KIB: usize = 1 << 10;
/// Length of a track that a player takes a second or two for.
const TRACK_LENGTH: usize = 1024 * KIB;
/// Players that a piece of a track reaches four times before it is over. There are 200, and `h2load` beside them, in the
/// section `upgrades` of the load test (`loadtest/run upgrades`): so many would make this test one of minutes.
const PLAYERS: usize = 50;

/// Counts of a load over upgrades.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    whole: AtomicUsize,
    faults: std::sync::Mutex<Vec<String>>,
}

impl Load {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.whole.fetch_add(1, Ordering::Relaxed);
            }
            Err(fault) => self.faults.lock().expect("no holder panics").push(fault),
        }
    }
}

/// Asks for small ranges on connections that it keeps for as long as it is let.
async fn ask_in_a_loop(load: Arc<Load>, address: std::net::SocketAddr, body: Arc<Vec<u8>>) {
    while !load.is_over() {
        let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
            load.count(Err("a connection is refused".to_owned()));
            continue;
        };
        let mut raw = Raw::over(stream);
        while !load.is_over() {
            raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\nRange: bytes=100-1099\r\n\r\n").as_bytes()).await;
            match raw.response("GET", LIMIT).await {
                Ok(answer) if answer.status == 206 && answer.body == body[100..1100] => {
                    load.count(Ok(()));
                    if answer.header("connection") == Some("close") {
                        break;
                    }
                }
                Ok(answer) => load.count(Err(format!("another answer: {}", answer.head))),
                Err(error) => {
                    load.count(Err(format!("no answer: {error}")));
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Reads tracks as a player does, piece by piece.
async fn play_in_a_loop(load: Arc<Load>, address: std::net::SocketAddr, body: Arc<Vec<u8>>) {
    while !load.is_over() {
        let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
            load.count(Err("a player is refused".to_owned()));
            continue;
        };
        let mut raw = Raw::over(stream);
        raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
        let outcome = async {
            raw.head().await.map_err(|error| format!("a player gets no answer: {error}"))?;
            let mut taken = 0;
            while taken < body.len() {
                let length = (64 * KIB).min(body.len() - taken);
                let piece =
                    raw.exactly(length).await.map_err(|error| format!("a stream is cut at {taken}: {error}"))?;
                if piece != body[taken..taken + length] {
                    return Err("a stream has other bytes".to_owned());
                }
                taken += length;
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            Ok(())
        };
        load.count(outcome.await);
    }
}

/// Has a program ask over and over; each of its runs must end well.
async fn run_in_a_loop(load: Arc<Load>, program: PathBuf, arguments: Vec<String>) {
    while !load.is_over() {
        let output = Command::new(&program).args(&arguments).kill_on_drop(true).output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        load.count(if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", program.display())) });
    }
}

/// Starts all clients of the load.
fn begin(load: &Arc<Load>, gate: &Upgradable, body: &Arc<Vec<u8>>, (curl, ffmpeg): (PathBuf, PathBuf)) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        clients.spawn(ask_in_a_loop(Arc::clone(load), gate.address, Arc::clone(body)));
    }
    for _ in 0..PLAYERS {
        clients.spawn(play_in_a_loop(Arc::clone(load), gate.address, Arc::clone(body)));
    }
    let url = format!("{}{TRACK}", gate.url());
    // Ten requests of a run on one connection, where that is kept; over HTTP/2 curl 7.88 can send only one by prior knowledge.
    for (way, requests) in [("--http1.1", 10), ("--http2-prior-knowledge", 1)] {
        let mut arguments = vec!["-sSf".to_owned(), "--max-time".to_owned(), "20".to_owned(), way.to_owned()];
        for _ in 0..requests {
            arguments.extend([
                "-r".to_owned(),
                "0-999".to_owned(),
                "-o".to_owned(),
                "/dev/null".to_owned(),
                url.clone(),
            ]);
        }
        clients.spawn(run_in_a_loop(Arc::clone(load), curl.clone(), arguments));
    }
    let music = format!("{}/stream/music.flac", gate.url());
    let arguments = ["-v", "error", "-xerror", "-readrate", "2", "-i", &music, "-f", "null", "-"];
    let arguments = arguments.map(str::to_owned).to_vec();
    clients.spawn(run_in_a_loop(Arc::clone(load), ffmpeg, arguments));
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_loop_and_players_notice_nothing_of_ten_upgrades() {
    let (Some(curl), Some(ffmpeg)) = (curl::find(), tools::find("ffmpeg")) else { return };
    let body = Arc::new(pattern(TRACK_LENGTH));
    let music = Command::new(&ffmpeg)
        .args(["-v", "error", "-f", "lavfi", "-i", "sine=duration=4", "-f", "flac", "-"])
        .output()
        .await
        .expect("ffmpeg runs");
    let origin = ScriptedOrigin::with_track(body.to_vec()).await;
    origin.put("/audio/music.flac", Object::new(music.stdout));
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    let mut gate = Upgradable::start(&config).await;
    let load = Arc::new(Load::default());
    let mut clients = begin(&load, &gate, &body, (curl, ffmpeg));
    let mut processes = vec![gate.process()];
    for number in 0..10 {
        let before = load.whole.load(Ordering::Relaxed);
        eventually("the load goes on", async || (load.whole.load(Ordering::Relaxed) > before + 20).then_some(())).await;
        let ended = gate.upgrade(true).await;
        assert_eq!(ended.code, Some(0), "upgrade {number}: {}{}\n{}", ended.stdout, ended.stderr, gate.log());
        processes.push(gate.process());
    }
    load.stop.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    let faults = load.faults.lock().expect("no holder panics").clone();
    assert!(
        faults.is_empty(),
        "{} of {}: {:#?}",
        faults.len(),
        load.whole.load(Ordering::Relaxed),
        &faults[..faults.len().min(5)]
    );
    processes.dedup();
    assert_eq!(processes.len(), 11, "each upgrade is another process");
    let last = processes.pop().expect("there are eleven");
    for process in processes {
        gate.has_ended(process).await;
    }
    assert!(gate.first_ended().await.success());
    assert_eq!(gate.said("stopped with streams under way").len(), 0);
    gate.signal(last, "TERM").await;
    gate.has_ended(last).await;
    assert!(!gate.folder().join("pid").exists(), "the last one takes its file away");
}

#[tokio::test]
async fn a_new_process_that_fails_leaves_the_old_one_serving_and_says_why() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["UpgradeTimeout"] = json!("2s");
    let mut gate = Upgradable::start(&config).await;
    let (first, good) = (gate.process(), std::fs::read_to_string(gate.folder().join("tidegate.yaml")).expect("text"));
    let mut failures = 0;
    let mut fails = async |gate: &Upgradable, reason: &str| {
        let ended = gate.upgrade(true).await;
        assert_eq!(ended.code, Some(1), "{reason}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(reason), "{reason}: {}", ended.stderr);
        failures += 1;
        let said =
            async || Some(gate.said("the upgrade failed, and this process goes on")).filter(|it| it.len() == failures);
        let said = eventually("the log says it once", said).await;
        assert!(said.last().is_some_and(|line| line["error"].as_str().is_some_and(|text| text.contains(reason))));
        gate.client().get(TRACK, &[]).await.is(200);
        gate.admin().get("/readyz", &[]).await.is(200);
        assert_eq!(gate.process(), first);
    };
    gate.reconfigure(&good.replace("Listeners", "Listners"));
    // The command finds that itself, where it knows the configuration.
    let refused = gate.upgrade(false).await;
    assert_eq!(refused.code, Some(64), "{}", refused.stderr);
    assert!(refused.stderr.contains("Listners") && gate.said("upgrade").is_empty(), "{}", refused.stderr);
    fails(&gate, "exit status: 64").await;
    gate.reconfigure(&good);
    gate.replace_program("exit 3");
    fails(&gate, "exit status: 3").await;
    gate.replace_program("kill -9 $$");
    fails(&gate, "signal: 9").await;
    gate.replace_program("exec sleep 1000");
    fails(&gate, "not ready within 2s").await;
    std::fs::remove_file(gate.folder().join("tidegate")).expect("it is there");
    fails(&gate, "cannot be started").await;
    gate.restore_program();
    let ended = gate.upgrade(false).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_ne!(gate.process(), first);
    gate.client().get(TRACK, &[]).await.is(200);
    gate.has_ended(first).await;
}

#[tokio::test]
async fn an_upgrade_changes_the_configuration_and_keeps_the_sockets() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0" }, { "Address": "127.0.0.1:0" }]);
    let mut gate = Upgradable::start(&config).await;
    let first = gate.process();
    // A connection that the system has completed, and that asks only after the upgrade.
    let mut silent = Raw::connect(gate.address).await;
    let good = std::fs::read_to_string(gate.folder().join("tidegate.yaml")).expect("text");
    gate.reconfigure(&good.replace("/stream/{**key}", "/renamed/{**key}"));
    gate.signal(first, "USR2").await;
    eventually("another process serves", async || (gate.process() != first).then_some(())).await;
    gate.client().get("/renamed/track.mp3", &[]).await.is(200);
    gate.client().get(TRACK, &[]).await.is(404);
    gate.admin().get("/readyz", &[]).await.is(200);
    silent.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    let answer = silent.response("GET", LIMIT).await.expect("the old process answers what it has accepted");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    gate.has_ended(first).await;
    assert!(gate.said("no longer listening").is_empty());
}

#[tokio::test]
async fn an_upgrade_waits_for_the_process_before_and_a_stop_ends_the_wait() {
    let origin = ScriptedOrigin::with_track(pattern(30 << 20)).await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    config["Server"]["ShutdownGrace"] = json!("1h");
    let mut gate = Upgradable::start(&config).await;
    let first = gate.process();
    let mut stream = Raw::connect(gate.address).await;
    stream.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    stream.head().await.expect("a head");
    let mut http2 = H2::connect(gate.address).await;
    assert_eq!(http2.get("/openapi.json", &[]).await.status, 200);
    assert_eq!(gate.upgrade(true).await.code, Some(0));
    let second = gate.process();
    http2.ended().await.expect("GOAWAY, so that the client goes to the new process");
    let folder = TempFolder::new("asked");
    let ask = async |process: u32| {
        let id = process.to_string();
        crate::support::gate::run(&["upgrade", "--pid", &id, "--timeout", "1s"], &folder).await
    };
    let ended = ask(second).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no outcome within 1s, and the request is withdrawn"), "{}", ended.stderr);
    let withdrawn = async || (gate.said("the upgrade was withdrawn").len() == 1).then_some(());
    eventually("the log says so", withdrawn).await;
    assert_eq!(gate.process(), second, "the first one has a stream");
    // The first one answers too, while its stream goes on.
    let ended = ask(first).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&format!("the process {first} is ending")), "{}", ended.stderr);
    gate.signal(second, "USR2").await;
    let queued = async || {
        let ended = ask(second).await;
        ended.stderr.contains("an upgrade is under way already").then_some(())
    };
    eventually("the upgrade that the signal asked for is under way", queued).await;
    stream.reset();
    gate.has_ended(first).await;
    eventually("the upgrade goes on", async || (gate.process() != second).then_some(())).await;
    let third = gate.process();
    gate.has_ended(second).await;
    // A program that is not ready when the stop comes.
    gate.replace_program("echo $$ >started; exec sleep 1000");
    gate.signal(third, "USR2").await;
    let started = || std::fs::read_to_string(gate.folder().join("started")).ok().filter(|id| id.ends_with('\n'));
    let fourth = eventually("the new process starts", async || started()).await;
    gate.signal(third, "TERM").await;
    gate.has_ended(third).await;
    gate.has_ended(fourth.trim().parse().expect("a process id")).await;
}

#[tokio::test]
async fn what_is_no_tidegate_is_not_signalled() {
    let folder = TempFolder::new("stranger");
    let mut stranger = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().expect("sleep starts");
    let id = stranger.id().expect("it runs").to_string();
    let ended = crate::support::gate::run(&["upgrade", "--pid", &id], &folder).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no Tidegate"), "{}", ended.stderr);
    assert!(stranger.try_wait().expect("it can be asked").is_none(), "it was ended");
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["Server"]["PidFile"] = json!(folder.path().join("absent"));
    let file = crate::support::gate::write_config(&folder, &config);
    let file = file.to_str().expect("text");
    let ended = crate::support::gate::run(&["upgrade", "-c", file], &folder).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("PidFile"), "{}", ended.stderr);
    config["Nonsense"] = json!(true);
    crate::support::gate::write_config(&folder, &config);
    let ended = crate::support::gate::run(&["upgrade", "-c", file], &folder).await;
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
}

#[tokio::test]
async fn the_disk_cache_goes_to_the_new_process_when_the_old_one_has_ended() {
    let (origin, folder) = (ScriptedOrigin::with_track(pattern(30 << 20)).await, TempFolder::new("handed-cache"));
    for name in ["kept", "purged"] {
        origin.put(&format!("/audio/{name}"), Object::new(pattern(200_000)));
    }
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    config["Cache"] = json!({ "Disk": { "Path": folder.path().join("cache"), "Size": "64MiB" } });
    config["Policies"]["OutputCache"]["long"] = json!({ "Ttl": "1h" });
    config["ReverseProxy"]["Routes"]["cached"]["OutputCachePolicy"] = json!("long");
    let mut gate = Upgradable::start(&config).await;
    let first = gate.process();
    for name in ["kept", "purged"] {
        gate.client().get(&format!("/cached/{name}"), &[]).await.is(200);
    }
    let mut stream = Raw::connect(gate.address).await;
    stream.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    stream.head().await.expect("a head");
    assert_eq!(gate.upgrade(true).await.code, Some(0));
    eventually("it waits", async || (!gate.said("caching in memory until it is free").is_empty()).then_some(())).await;
    let purge = gate.admin().request(http::Method::POST, "/cache/purge").json(&json!({ "key": "purged" }));
    assert!(purge.send().await.expect("an answer").status().is_success());
    stream.reset();
    gate.has_ended(first).await;
    eventually("it has the disk", async || (!gate.said("used from now on").is_empty()).then_some(())).await;
    // Only the disk has it.
    origin.take_seen();
    gate.client().get("/cached/kept", &[]).await.is(200);
    assert!(origin.seen().iter().all(|seen| !seen.target.contains("kept")), "{:?}", origin.seen());
    gate.client().get("/cached/purged", &[]).await.is(200);
    assert!(origin.seen().iter().any(|seen| seen.target.contains("purged")), "it was purged before");
    let second = gate.process();
    assert_eq!(gate.upgrade(true).await.code, Some(0));
    gate.has_ended(second).await;
    origin.always(Step::Silence(End::Close));
    eventually("the next one has it", async || (gate.said("used from now on").len() >= 2).then_some(())).await;
    gate.client().get("/cached/kept", &[]).await.is(200);
}

#[tokio::test]
async fn a_unix_socket_that_is_handed_over_gets_the_mode_of_the_new_configuration() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("socket");
    let socket = folder.path().join("tidegate.sock");
    let mut config = config::objects(&origin.url(), "audio");
    let listener = json!({ "Address": format!("unix:{}", socket.display()), "SocketMode": "0666" });
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0" }, listener]);
    let gate = Upgradable::start(&config).await;
    let mode = || {
        let metadata = std::fs::metadata(&socket).expect("the socket is there");
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    };
    assert_eq!(mode(), 0o666);
    let text = std::fs::read_to_string(gate.folder().join("tidegate.yaml")).expect("text");
    gate.reconfigure(&text.replace("0666", "0600"));
    let ended = gate.upgrade(true).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(mode(), 0o600);
}

#[tokio::test]
async fn a_file_of_the_process_id_that_was_left_behind_signals_nobody() {
    let folder = TempFolder::new("left");
    let mut config = config::objects("http://127.0.0.1:9", "audio");
    config["Server"]["PidFile"] = json!(folder.path().join("pid"));
    let file = crate::support::gate::write_config(&folder, &config);
    // Another program that has the id by now, and that handles the signal.
    let script = "trap 'echo signalled > signalled' USR2; echo $$ > pid; while :; do sleep 1; done";
    let mut other = Command::new("sh");
    let mut other = other.args(["-c", script]).current_dir(folder.path()).kill_on_drop(true).spawn().expect("it runs");
    let pid = folder.path().join("pid");
    eventually("it runs", async || std::fs::read_to_string(&pid).is_ok_and(|text| !text.is_empty()).then_some(()))
        .await;
    let asked = ["upgrade", "-c", &file.display().to_string(), "--timeout", "1s"];
    let ended = crate::support::gate::run(&asked, &folder).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("was left behind"), "{}", ended.stderr);
    // A signal would be handled by the shell before its end is.
    other.kill().await.expect("it runs");
    assert!(!folder.path().join("signalled").exists());
}

#[tokio::test]
async fn an_upgrade_that_was_withdrawn_does_not_come_later() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Upgradable::start(&config::objects(&origin.url(), "audio")).await;
    let first = gate.process();
    gate.replace_program("echo $$ >started; exec sleep 1000");
    let (id, folder) = (first.to_string(), TempFolder::new("asked"));
    let asked = ["upgrade", "--pid", &id, "--timeout", "1s"];
    let ended = crate::support::gate::run(&asked, &folder).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("the request is withdrawn"), "{}", ended.stderr);
    let started = std::fs::read_to_string(gate.folder().join("started")).expect("the new process was started");
    let started = format!("/proc/{}", started.trim());
    eventually("it was ended", async || (!std::path::Path::new(&started).exists()).then_some(())).await;
    gate.client().get(TRACK, &[]).await.is(200);
    // The next one begins anew.
    gate.restore_program();
    let ended = gate.upgrade(true).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_ne!(gate.process(), first);
}

#[tokio::test]
async fn another_process_neither_blocks_an_upgrade_nor_makes_up_its_outcome() {
    use std::io::Write as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Upgradable::start(&config::objects(&origin.url(), "audio")).await;
    let first = gate.process();
    // Sockets of this process whose names look like those of the other one's.
    let name = |end: &str| SocketAddr::from_abstract_name(format!("tidegate-upgrade-{first}{end}")).expect("a name");
    let _blocked = UnixDatagram::bind_addr(&name("")).expect("a free name");
    let forged = UnixListener::bind_addr(&name("-0")).expect("a free name");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = forged.accept() {
            // Whoever has seen the peer's id does not read it.
            let _ = stream.write_all(b"{\"upgraded\":666}");
        }
    });
    let ended = gate.upgrade(true).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let second = gate.process();
    assert_ne!(second, first);
    assert!(ended.stdout.contains(&format!("the process {second} has taken over")), "{}", ended.stdout);
}

#[tokio::test]
async fn another_user_is_refused_an_upgrade() {
    // Only root can become another user.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Upgradable::start(&config::objects(&origin.url(), "audio")).await;
    let first = gate.process();
    // The user `nobody`, who may not read this checkout: the program is opened before the user is changed.
    let program = std::fs::File::open(env!("CARGO_BIN_EXE_tidegate")).expect("it is there");
    let mut asked = Command::new("setpriv");
    asked.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/dev/stdin", "upgrade", "--pid"]);
    asked.arg(first.to_string()).current_dir("/").stdin(program);
    let ended = asked.output().await.expect("setpriv, of Debian's util-linux, runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("only root and the user of the process may ask for its upgrade"), "{said}");
    assert_eq!(gate.process(), first);
    gate.client().get(TRACK, &[]).await.is(200);
}

#[tokio::test]
async fn a_new_process_takes_over_though_nobody_reads_its_standard_output() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut gate = Upgradable::start(&config::objects(&origin.url(), "audio")).await;
    let first = gate.process();
    gate.fill_stdout();
    let ended = gate.upgrade(true).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let second = gate.process();
    assert_ne!(second, first);
    gate.client().get(TRACK, &[]).await.is(200);
    gate.has_ended(first).await;
    gate.signal(second, "TERM").await;
    gate.has_ended(second).await;
}

#[tokio::test]
async fn the_file_of_the_process_id_names_the_process_that_goes_on() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["UpgradeTimeout"] = json!("2s");
    let gate = Upgradable::start(&config).await;
    let first = gate.process();
    // A program that writes its own id there, and is never ready.
    gate.replace_program("echo $$ >pid; exec sleep 1000");
    let ended = crate::support::gate::run(&["upgrade", "--pid", &first.to_string()], &TempFolder::new("asked")).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(gate.process(), first);
    gate.restore_program();
    let ended = gate.upgrade(false).await;
    assert_eq!(ended.code, Some(0), "the file has its lock: {}", ended.stderr);
}
