//! Tidegate under a name of its own, which can lead to another program by the time of an upgrade, and the processes that
//! follow each other under it.

use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::gate::{Ended, command, run, write_config};
use crate::support::tools::TempFolder;
use crate::support::{Client, eventually};

/// A Tidegate that is replaced by others.
pub struct Upgradable {
    folder: TempFolder,
    child: Child,
    config: PathBuf,
    /// Its first listener.
    pub address: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
    /// Cancelled, standard output is read no more.
    unread: CancellationToken,
}

impl Upgradable {
    /// Starts it with `config` and waits until it is ready.
    pub async fn start(config: &Value) -> Self {
        Self::start_with(config, &[]).await
    }

    /// As [`Self::start`], with more environment.
    pub async fn start_with(config: &Value, environment: &[(&str, &str)]) -> Self {
        let folder = TempFolder::new("upgrade");
        let mut config = config.clone();
        config["Server"]["PidFile"] = json!(folder.path().join("pid"));
        let file = write_config(&folder, &config);
        symlink(env!("CARGO_BIN_EXE_tidegate"), folder.path().join("tidegate")).expect("a link can be made");
        let start = command(&folder);
        let mut renamed = tokio::process::Command::new(folder.path().join("tidegate"));
        renamed.envs(start.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        renamed.envs(environment.iter().copied());
        renamed.current_dir(folder.path()).args(["serve", "-c"]).arg(&file).kill_on_drop(true);
        renamed.stdin(std::process::Stdio::null());
        renamed.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = renamed.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        tokio::spawn(collect(child.stderr.take().expect("it is piped"), Arc::clone(&log)));
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = timeout(Duration::from_secs(20), stdout.next_line()).await;
        let said = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let line = line.ok().and_then(Result::ok).flatten().unwrap_or_else(|| panic!("it is not ready: {}", said()));
        // Read on, so that none of the processes writes into a closed pipe.
        let unread = CancellationToken::new();
        let stopped = unread.clone();
        tokio::spawn(async move {
            let reading = async { while let Ok(Some(_)) = stdout.next_line().await {} };
            if stopped.run_until_cancelled(reading).await.is_none() {
                // Kept open, or the processes would see its end.
                std::future::pending::<()>().await;
            }
        });
        let json: Value = serde_json::from_str(line.strip_prefix("ready ").expect("a ready line")).expect("JSON");
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).expect("an address");
        let (address, admin) = (address(&json["listeners"][0]), address(&json["admin"]));
        Self { folder, child, config: file, address, admin, log, unread }
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The first listener as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of the first listener.
    pub fn client(&self) -> Client {
        Client::new(self.url())
    }

    /// A client of the admin address.
    pub fn admin(&self) -> Client {
        Client::new(format!("http://{}", self.admin))
    }

    /// What its processes have written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines of the log with a message that contains `part`.
    pub fn said(&self, part: &str) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"].as_str().is_some_and(|message| message.contains(part))).collect()
    }

    /// Leaves standard output of the processes unread from now on, and full.
    pub fn fill_stdout(&self) {
        self.unread.cancel();
        let pipe = format!("/proc/{}/fd/1", self.process());
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a flag");
        let pipe = std::fs::OpenOptions::new().write(true).custom_flags(flags).open(pipe).expect("it is a pipe");
        // In small steps, so that not a byte is left free.
        while std::io::Write::write(&mut &pipe, b"\n").is_ok() {}
    }

    /// The id of the process that serves.
    pub fn process(&self) -> u32 {
        let text = std::fs::read_to_string(self.folder().join("pid")).expect("there is a file with its id");
        text.trim().parse().expect("a process id")
    }

    /// Puts a shell script in the place of the program.
    pub fn replace_program(&self, script: &str) {
        let (new, place) = (self.folder().join("new"), self.folder().join("tidegate"));
        std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).expect("it is writable");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        std::fs::rename(new, place).expect("it is ours");
    }

    /// Puts the program back.
    pub fn restore_program(&self) {
        let new = self.folder().join("new");
        symlink(env!("CARGO_BIN_EXE_tidegate"), &new).expect("a link can be made");
        std::fs::rename(new, self.folder().join("tidegate")).expect("it is ours");
    }

    /// Writes another configuration in the place of its own.
    pub fn reconfigure(&self, text: &str) {
        std::fs::write(&self.config, text).expect("it is writable");
    }

    /// Runs `tidegate upgrade`, with the id of the process or with the configuration.
    pub async fn upgrade(&self, by_id: bool) -> Ended {
        let id = self.process().to_string();
        let config = self.config.to_str().expect("the path is text");
        let process = if by_id { ["--pid", &id] } else { ["-c", config] };
        run(&["upgrade", process[0], process[1]], &self.folder).await
    }

    /// Sends a signal to the process of this id.
    pub async fn signal(&self, process: u32, name: &str) {
        let sent = tokio::process::Command::new("kill").args([format!("-{name}"), process.to_string()]).status().await;
        assert!(sent.expect("kill runs").success(), "SIG{name} could not be sent to {process}");
    }

    /// Waits until the process of this id has ended.
    pub async fn has_ended(&mut self, process: u32) {
        eventually(&format!("the process {process} ends"), async || {
            // The first one is a child of this process, and is one until it is waited for.
            let _ = self.child.try_wait();
            (!Path::new(&format!("/proc/{process}")).exists()).then_some(())
        })
        .await;
    }

    /// Waits for the end of the first process.
    pub async fn first_ended(&mut self) -> ExitStatus {
        timeout(Duration::from_secs(20), self.child.wait()).await.expect("it ends within 20 s").expect("it ends")
    }
}

impl Drop for Upgradable {
    fn drop(&mut self) {
        if let Ok(text) = std::fs::read_to_string(self.folder().join("pid")) {
            // The first one ends with its handle, a later one is nobody's child.
            let _ = std::process::Command::new("kill").args(["-KILL", text.trim()]).status();
        }
    }
}

async fn collect(mut from: impl tokio::io::AsyncRead + Unpin, into: Arc<Mutex<String>>) {
    let (mut buffer, mut bytes) = (vec![0; 64 * 1024], Vec::new());
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..length]);
        *into.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(&bytes).into_owned();
    }
}
