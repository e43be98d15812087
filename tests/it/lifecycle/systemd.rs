//! systemd: what it is told, sockets that it passes, and the units that are shipped. A datagram socket stands in for its
//! side of notifications; `systemd-socket-activate` and `systemd-analyze` are its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::process::Command;
use tokio::time::timeout;

use super::TRACK;
use super::process::Upgradable;
use crate::support::gate::{command, write_config};
use crate::support::service::free_port;
use crate::support::tools::TempFolder;
use crate::support::{Client, ScriptedOrigin, config, curl, eventually, tools};

const LIMIT: Duration = Duration::from_secs(20);

/// systemd's end of `NOTIFY_SOCKET`.
struct Notifications(UnixDatagram);

impl Notifications {
    fn bind(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).expect("the path is free"))
    }

    /// The variables of the next message.
    async fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = timeout(LIMIT, self.0.recv(&mut buffer)).await.expect("a message in time").expect("it is open");
        String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
    }

    /// Waits for a message of this one variable, over signs of life.
    async fn expect(&self, variable: &str) {
        loop {
            let message = self.next().await;
            if message != ["WATCHDOG=1"] {
                assert_eq!(message, [variable]);
                return;
            }
        }
    }
}

#[tokio::test]
async fn systemd_is_told_of_every_step() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("notify"));
    let path = folder.path().join("notify");
    let notifications = Notifications::bind(&path);
    let environment = [("NOTIFY_SOCKET", path.to_str().expect("text")), ("WATCHDOG_USEC", "200000")];
    let mut gate = Upgradable::start_with(&config::objects(&origin.url(), "audio"), &environment).await;
    let first = gate.process();
    notifications.expect("READY=1").await;
    for _ in 0..3 {
        assert_eq!(notifications.next().await, ["WATCHDOG=1"]);
    }
    gate.signal(first, "HUP").await;
    let reload = loop {
        let message = notifications.next().await;
        if message != ["WATCHDOG=1"] {
            break message;
        }
    };
    let [reloading, time] = reload.as_slice() else { panic!("{reload:?}") };
    assert_eq!(reloading, "RELOADING=1");
    let micros = time.strip_prefix("MONOTONIC_USEC=").and_then(|micros| micros.parse::<u64>().ok());
    let up = std::fs::read_to_string("/proc/uptime").expect("Linux has it");
    let up: f64 = up.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("seconds");
    assert!(micros.is_some_and(|micros| (micros as f64 / 1e6 - up).abs() < 60.0), "{time} at {up}");
    notifications.expect("READY=1").await;
    gate.signal(first, "USR2").await;
    // From the new process, which is not the main one yet, and then from the former one.
    notifications.expect("READY=1").await;
    let second = gate.process();
    notifications.expect(&format!("MAINPID={second}")).await;
    gate.has_ended(first).await;
    gate.signal(second, "TERM").await;
    notifications.expect("STOPPING=1").await;
    gate.has_ended(second).await;
}

/// Starts the gate by `systemd-socket-activate`, which listens on `ports` and starts it at the first connection.
fn activate(program: &Path, folder: &TempFolder, file: &Path, ports: &[u16], names: &str) -> tokio::process::Child {
    let mut activate = Command::new(program);
    for port in ports {
        activate.args(["-l", &format!("127.0.0.1:{port}")]);
    }
    activate.arg(format!("--fdname={names}"));
    for (name, value) in config::ENVIRONMENT {
        activate.args(["-E", &format!("{name}={value}")]);
    }
    activate.arg(env!("CARGO_BIN_EXE_tidegate")).args(["serve", "-c"]).arg(file);
    activate.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    activate.kill_on_drop(true).spawn().expect("it starts")
}

#[tokio::test]
async fn sockets_that_systemd_passes_are_used_by_name_and_handed_on() {
    let Some(program) = tools::find("systemd-socket-activate") else { return };
    if curl::find().is_none() {
        return;
    }
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("activated"));
    let (web, admin) = (free_port(), free_port());
    let mut config = config::objects(&origin.url(), "audio");
    // Never opened: these addresses are not this machine's.
    config["Server"]["Listeners"] = json!([{ "Address": "192.0.2.1:80", "Socket": "web" }]);
    config["Server"]["Admin"] = json!({ "Address": "127.0.0.1:1", "Socket": "admin" });
    config["Server"]["PidFile"] = json!(folder.path().join("pid"));
    let file = write_config(&folder, &config);
    let mut child = activate(&program, &folder, &file, &[web, admin], "web:admin");
    let url = format!("http://127.0.0.1:{web}{TRACK}");
    eventually("systemd listens", async || TcpStream::connect(("127.0.0.1", web)).await.ok().map(drop)).await;
    let answer = curl::get(&url, curl::Version::Http1, &[]).await;
    assert_eq!((answer.exit, answer.body.as_slice()), (0, b"music".as_slice()));
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let ready = timeout(LIMIT, lines.next_line()).await.expect("in time").expect("text").expect("a line");
    assert!(ready.contains(&format!("127.0.0.1:{web}")) && ready.contains(&format!("127.0.0.1:{admin}")), "{ready}");
    let operator = Client::new(format!("http://127.0.0.1:{admin}"));
    operator.get("/livez", &[]).await.is(200);
    let process = || std::fs::read_to_string(folder.path().join("pid")).unwrap_or_default().trim().to_owned();
    let first = process();
    let upgraded = crate::support::gate::run(&["upgrade", "--pid", &first], &folder).await;
    assert_eq!(upgraded.code, Some(0), "{}", upgraded.stderr);
    let second = process();
    assert_ne!(first, second);
    assert_eq!(curl::get(&url, curl::Version::Http1, &[]).await.exit, 0);
    operator.get("/livez", &[]).await.is(200);
    let killed = Command::new("kill").arg(&second).status().await.expect("kill runs");
    assert!(killed.success());
    eventually("it ends", async || (!Path::new(&format!("/proc/{second}")).exists()).then_some(())).await;
    assert!(timeout(LIMIT, child.wait()).await.expect("in time").expect("it ends").success());
}

#[tokio::test]
async fn a_reload_keeps_the_sockets_that_systemd_has_passed() {
    let Some(program) = tools::find("systemd-socket-activate") else { return };
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("activated"));
    let (web, admin, more) = (free_port(), free_port(), free_port());
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["ReloadOnChange"] = json!(false);
    config["Server"]["Listeners"] = json!([{ "Address": "192.0.2.1:80", "Socket": "web" }]);
    config["Server"]["Admin"] = json!({ "Address": "127.0.0.1:1", "Socket": "admin" });
    let file = write_config(&folder, &config);
    let _child = activate(&program, &folder, &file, &[web, admin], "web:admin");
    let operator = Client::new(format!("http://127.0.0.1:{admin}"));
    let listener = Client::new(format!("http://127.0.0.1:{web}"));
    // The first connection has it started.
    eventually("systemd listens", async || TcpStream::connect(("127.0.0.1", web)).await.ok().map(drop)).await;
    operator.get("/livez", &[]).await.is(200);
    let reload = async |config: &serde_json::Value| {
        write_config(&folder, config);
        operator.send(http::Method::POST, "/reload", &[]).await
    };
    // Its name decides, whatever the address is, as at the start.
    config["Server"]["Listeners"] = json!([
        { "Address": "192.0.2.1:81", "Socket": "web", "H2c": true },
        { "Address": format!("127.0.0.1:{more}") },
    ]);
    reload(&config).await.is(200);
    listener.get(TRACK, &[]).await.is(200);
    Client::new(format!("http://127.0.0.1:{more}")).get(TRACK, &[]).await.is(200);
    // systemd would go on listening there.
    config["Server"]["Listeners"] = json!([{ "Address": format!("127.0.0.1:{more}") }]);
    let refused = reload(&config).await.problem(422);
    let report = refused["detail"].as_str().expect("a report");
    assert!(report.contains(&format!("cannot stop listening on 127.0.0.1:{web}")), "{report}");
    listener.get(TRACK, &[]).await.is(200);
}

#[tokio::test]
async fn a_socket_that_no_listener_uses_is_a_failed_start() {
    let Some(program) = tools::find("systemd-socket-activate") else { return };
    let folder = TempFolder::new("unused-socket");
    let file = write_config(&folder, &config::objects("http://127.0.0.1:1", "audio"));
    let port = free_port();
    let mut child = activate(&program, &folder, &file, &[port], "web");
    // Kept open, so that it is started once.
    let _connection = eventually("systemd listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    let mut stderr = child.stderr.take().expect("it is piped");
    let ended = timeout(LIMIT, child.wait()).await.expect("it ends in time").expect("it ends");
    let mut said = String::new();
    stderr.read_to_string(&mut said).await.expect("text");
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains(&format!("the sockets web (127.0.0.1:{port}) were passed")), "{said}");
}

fn units() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd")
}

/// Copies of the units whose program is there, for an older systemd with a type that it knows.
fn copies(folder: &TempFolder, version: u32) -> Vec<PathBuf> {
    let names = ["tidegate.service", "tidegate.socket", "tidegate-admin.socket"];
    let copy = |name: &str| {
        let text = std::fs::read_to_string(units().join(name)).expect("it is shipped");
        let mut text = text.replace("/usr/local/bin/tidegate", env!("CARGO_BIN_EXE_tidegate"));
        if version < 253 {
            text = text.replace("Type=notify-reload", "Type=notify");
        }
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it is writable");
        path
    };
    names.map(copy).to_vec()
}

#[tokio::test]
async fn the_shipped_units_are_good_and_hardened() {
    let Some(analyze) = tools::find("systemd-analyze") else { return };
    let output = Command::new(&analyze).arg("--version").output().await.expect("it runs");
    let version = String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1).and_then(|it| it.parse().ok());
    let folder = TempFolder::new("units");
    let copies = copies(&folder, version.expect("a version"));
    let verified = Command::new(&analyze).arg("verify").args(&copies).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // Of the units of this machine it may say more.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tidegate")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
    let arguments = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    let judged = Command::new(&analyze).args(arguments).arg(&copies[0]).output().await.expect("it runs");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

#[test]
fn the_unit_gives_tidegate_the_time_that_it_asks_for() {
    let text = std::fs::read_to_string(units().join("tidegate.service")).expect("it is shipped");
    let seconds = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).expect(key);
        line.trim_end_matches('s').parse().expect("seconds")
    };
    // The defaults of `ShutdownGrace`, and of `UpgradeTimeout` with the time that a start takes.
    assert!(seconds("TimeoutStopSec") > 30);
    assert!(seconds("TimeoutStartSec") > 60);
    assert!(text.contains("\nType=notify-reload\n"));
}

#[tokio::test]
async fn a_descriptor_that_is_no_socket_is_a_failed_start() {
    let folder = TempFolder::new("no-socket");
    let file = write_config(&folder, &config::objects("http://127.0.0.1:1", "audio"));
    let program = env!("CARGO_BIN_EXE_tidegate");
    let script =
        format!("exec 3</dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=web exec {program} serve -c {}", file.display());
    let mut shell = Command::new("sh");
    shell.envs(command(&folder).as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.current_dir(folder.path()).args(["-c", &script]).kill_on_drop(true).output();
    let output = timeout(LIMIT, output).await.expect("it ends in time").expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the descriptor `web` that was passed to the process is no socket that listens"), "{said}");
}
