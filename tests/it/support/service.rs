//! A server program that a test owns: on one free port for all its life, ended with this process however that ends.

use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::eventually::becomes_ready;
use super::tools::TempFolder;
use primitives::clock::monotonic_now;

/// Runs the command and sends it the signals that come as lines; at the end of input, which is the end of this process
/// too, SIGKILL, and its folder goes with it.
const KEEPER: &str = r#"
    folder=$1
    shift
    "$@" </dev/null >/dev/null 2>&1 &
    while read -r signal; do
        kill "-$signal" $! 2>/dev/null
        case "$signal" in
        # PostgreSQL is a family of processes.
        STOP | CONT) kill "-$signal" $(cat /proc/$!/task/$!/children) 2>/dev/null ;;
        *) wait; exit ;;
        esac
    done
    kill -KILL $! 2>/dev/null
    wait
    rm -rf "$folder"
"#;
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Time after which it is killed and started anew.
const TRY_DEADLINE: Duration = Duration::from_secs(10);

/// A program and how it is started, running or not.
pub struct Service {
    folder: TempFolder,
    command: Vec<OsString>,
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    keeper: Option<Child>,
}

impl Service {
    /// Starts `command`, whose data are in `folder`, and waits until `is_ready` says so.
    pub fn start(
        folder: TempFolder,
        command: Vec<OsString>,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let mut this = Self { folder, command, is_ready: Box::new(is_ready), keeper: None };
        this.restart();
        this
    }

    /// The folder with its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it again, as it was started first.
    pub fn restart(&mut self) {
        assert!(self.keeper.is_none(), "it runs already");
        let begun = monotonic_now();
        while begun.elapsed() < START_DEADLINE {
            let keeper = Command::new("sh")
                .args(["-c", KEEPER, "keeper"])
                .arg(self.folder.path())
                .args(&self.command)
                .stdin(Stdio::piped())
                .spawn()
                .expect("sh starts");
            // A server that was killed may leave something behind that its next start trips over: a few more tries.
            let is_ready = becomes_ready(TRY_DEADLINE, &self.is_ready);
            self.keeper = Some(keeper);
            if is_ready {
                return;
            }
            self.kill();
        }
        panic!("{:?} did not become ready within {START_DEADLINE:?}", self.command);
    }

    /// Whether it was started and not ended.
    pub fn is_alive(&self) -> bool {
        self.keeper.is_some()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// Sends it a signal that does not end it: `STOP` or `CONT`.
    pub fn signal(&mut self, signal: &str) {
        let keeper = self.keeper.as_mut().expect("it runs");
        let stdin = keeper.stdin.as_mut().expect("its input is piped");
        stdin.write_all(format!("{signal}\n").as_bytes()).expect("the shell reads");
    }

    /// Asks it to end with this signal, and waits until it has.
    pub fn end(&mut self, signal: &str) {
        let mut keeper = self.keeper.take().expect("it runs");
        let mut stdin = keeper.stdin.take().expect("its input is piped");
        let _ = stdin.write_all(format!("{signal}\n").as_bytes());
        drop(stdin);
        let _ = keeper.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// A port that is free now, below those that the system gives to connections: one of them might take it while the
/// server is away.
pub fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = std::process::id() as usize * 61;
    loop {
        // Each is looked at once: between the look and its use another test would find the same.
        let number = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = 20_000 + u16::try_from(number).expect("below 12,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
