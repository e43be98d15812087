//! Tidegate itself: the shipped binary with a configuration, on free ports, stopped on drop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::client::Client;
use super::config;
use super::eventually::{LIMIT, in_time};
use super::raw::Raw;
use super::tools::TempFolder;

/// A running Tidegate.
pub struct Gate {
    child: Child,
    addresses: Addresses,
    /// Those of TCP among them.
    sockets: Vec<SocketAddr>,
    log: Arc<Mutex<String>>,
    // Read on, so that the gate never writes into a closed pipe.
    stdout: tokio::io::Lines<BufReader<ChildStdout>>,
    folder: TempFolder,
}

/// What the `ready` line says.
#[derive(Clone, Debug, Deserialize)]
struct Addresses {
    listeners: Vec<String>,
    admin: Option<SocketAddr>,
}

/// A run that ended by itself.
pub struct Ended {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The shipped binary with these arguments, in `folder`, with the environment that the configurations refer to.
pub fn command(folder: &TempFolder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(folder.path()).envs(config::ENVIRONMENT).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the binary to its end.
pub async fn run(arguments: &[&str], folder: &TempFolder) -> Ended {
    let output = timeout(LIMIT, command(folder).args(arguments).output()).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} did not end")).expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("what it prints is UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Gate {
    /// Starts it with `config` and waits until it is ready.
    pub async fn start(config: &Value) -> Self {
        Self::start_with(config, &[]).await
    }

    /// As [`Self::start`], with more environment.
    pub async fn start_with(config: &Value, environment: &[(&str, &str)]) -> Self {
        Self::start_meanwhile(config, environment, async |_| {}).await
    }

    /// As [`Self::start`], and does something with the file while it starts.
    pub async fn start_while(config: &Value, meanwhile: impl AsyncFnOnce(PathBuf)) -> Self {
        Self::start_meanwhile(config, &[], meanwhile).await
    }

    async fn start_meanwhile(
        config: &Value,
        environment: &[(&str, &str)],
        meanwhile: impl AsyncFnOnce(PathBuf),
    ) -> Self {
        let folder = TempFolder::new("gate");
        let file = write_config(&folder, config);
        let mut command = command(&folder);
        command.args(["serve", "-c"]).arg(&file).envs(environment.iter().copied());
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        tokio::spawn(collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&log)));
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        meanwhile(file).await;
        let line = timeout(LIMIT, stdout.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            let text = log.lock().unwrap_or_else(PoisonError::into_inner).clone();
            panic!("the gate did not become ready ({line:?}); it said:\n{text}\nwith:\n{config:#}");
        };
        let json = line.strip_prefix("ready ").unwrap_or_else(|| panic!("not a ready line: {line:?}"));
        let addresses: Addresses = serde_json::from_str(json).expect("the ready line has JSON");
        let sockets = addresses.listeners.iter().filter_map(|address| address.parse().ok()).collect();
        Self { child, addresses, sockets, log, stdout, folder }
    }

    /// The next line that it writes to standard output, after the one that says that it is ready.
    pub async fn stdout_line(&mut self) -> String {
        let line = in_time("a line on standard output", self.stdout.next_line()).await;
        line.expect("it can be read").expect("it is open")
    }

    /// The first listener of TCP.
    pub fn address(&self) -> SocketAddr {
        self.sockets[0]
    }

    /// All listeners of TCP.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.sockets
    }

    /// All listeners as the `ready` line has them.
    pub fn listener_names(&self) -> &[String] {
        &self.addresses.listeners
    }

    /// The first listener as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A client of the first listener.
    pub fn client(&self) -> Client {
        Client::new(self.url())
    }

    /// A client of the admin address.
    pub fn admin(&self) -> Client {
        Client::new(format!("http://{}", self.admin_address()))
    }

    /// The admin address.
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin.expect("the configuration has an admin address")
    }

    /// A raw connection to the first listener.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address()).await
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines of the log as JSON; every line must be.
    pub fn log_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not a JSON line: {line:?}"));
        // The last line may still be on its way.
        let log = self.log();
        log.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().map(parse).collect()
    }

    /// The access log: the lines that have a method and a status.
    pub fn access_lines(&self) -> Vec<Value> {
        let fields = |line: Value| if line["fields"]["status"].is_null() { line } else { line["fields"].clone() };
        let is_access = |line: &Value| !line["status"].is_null() && !line["method"].is_null();
        self.log_lines().into_iter().map(fields).filter(is_access).collect()
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        self.admin().get("/metrics", &[]).await.is(200).text()
    }

    /// The sum over all series of a metric whose labels contain `labels`; 0 where there is none.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        sum(&self.metrics().await, name, labels)
    }

    /// The process's id.
    pub fn process(&self) -> u32 {
        self.child.id().expect("the gate runs")
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let id = self.child.id().expect("the gate runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status is readable");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a size");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
        kib * 1024
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("tidegate.yaml")
    }

    /// Writes `config` in place of its configuration file.
    pub fn rewrite(&self, config: &Value) {
        write_config(&self.folder, config);
    }

    /// Sends it a signal, such as `HUP`.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().expect("the gate runs").to_string();
        let sent = Command::new("kill").args([format!("-{name}"), id]).status().await.expect("kill runs");
        assert!(sent.success(), "SIG{name} could not be sent");
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        in_time("it ends", self.child.wait()).await.expect("it ends")
    }
}

/// The sum over all series on a page of metrics whose labels contain `labels`; 0 where there is none.
pub fn sum(page: &str, name: &str, labels: &str) -> f64 {
    let series = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, rest) = series.split_at(series.find('{').unwrap_or(series.len()));
        (found == name && rest.contains(labels)).then(|| value.parse::<f64>().ok()).flatten()
    });
    series.sum()
}

/// Writes a configuration as YAML.
pub fn write_config(folder: &TempFolder, config: &Value) -> PathBuf {
    let file = folder.path().join("tidegate.yaml");
    std::fs::write(&file, serde_yaml::to_string(config).expect("JSON is YAML")).expect("the file can be written");
    file
}

async fn collect(mut from: impl tokio::io::AsyncRead + Unpin, into: Arc<Mutex<String>>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = Vec::new();
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..length]);
        *into.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(&bytes).into_owned();
    }
}
