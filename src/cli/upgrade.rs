//! Command `tidegate upgrade`: has a running process replaced by a new one of the same program, and says how that went.
//!
//! The running process is asked by SIGUSR2. The outcome comes back as a datagram to an abstract socket (unix(7)) that is
//! named by its process id, so that nothing is left of it.

use std::io::{self, stderr, stdout};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{BAD_CONFIGURATION, DEFAULT_CONFIG, pid_file, refuse, say};
use crate::config;

/// Longest outcome, in bytes.
const MAX_OUTCOME: usize = 4096;
/// Number of SIGUSR2 (signal(7)), as `/proc/PID/status` counts them.
const SIGUSR2: u32 = 12;

/// The process to replace, and how long to wait.
#[derive(clap::Args, Debug)]
pub struct UpgradeArgs {
    /// The configuration file, whose `Server.PidFile` names the process. It is checked first.
    #[arg(short, long, default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The id of the process, in place of the configuration's.
    #[arg(long, conflicts_with = "config")]
    pid: Option<i32>,
    /// Longest time to wait for the outcome.
    #[arg(long, default_value = "2min", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Outcome of an upgrade, for whoever asked for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeOutcome {
    /// The process of this id has taken over.
    Upgraded(u32),
    /// None has; the reason.
    Failed(String),
}

/// Asks for the upgrade; returns the exit code.
pub fn run(arguments: &UpgradeArgs) -> ExitCode {
    let process = match arguments.pid {
        Some(id) => Ok(id),
        None => match config::load(&arguments.config) {
            Err(report) => return refuse(&report),
            Ok(settings) => {
                let Some(file) = settings.process.pid_file else {
                    say(&mut stderr(), "tidegate upgrade: expected --pid, or `Server.PidFile` in the configuration");
                    return ExitCode::from(BAD_CONFIGURATION);
                };
                pid_file::read_running(&file)
            }
        },
    };
    let process = process.and_then(|id| {
        let process = Some(id).filter(|id| *id > 0).and_then(Pid::from_raw);
        process.ok_or_else(|| io::Error::other(format!("{id} is no process id")))
    });
    let outcome = process.and_then(|process| ask(process, arguments.timeout)).map_err(|error| error.to_string());
    match outcome {
        Ok(UpgradeOutcome::Upgraded(process)) => {
            say(&mut stdout(), &format!("upgraded: the process {process} has taken over"));
            ExitCode::SUCCESS
        }
        Ok(UpgradeOutcome::Failed(reason)) | Err(reason) => {
            say(&mut stderr(), &format!("tidegate upgrade: not upgraded: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn ask(process: Pid, limit: Duration) -> io::Result<UpgradeOutcome> {
    let id = process.as_raw_nonzero().get();
    // Any other process would be ended by the signal.
    if !handles_signal(id)? {
        return Err(io::Error::other(format!("the process {id} is no Tidegate that can be upgraded")));
    }
    let socket = UnixDatagram::bind_addr(&address(id.unsigned_abs())?).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::other("somebody else waits for an upgrade of the same process"),
        _ => error,
    })?;
    socket.set_read_timeout(Some(limit))?;
    kill_process(process, Signal::USR2)?;
    let mut buffer = [0; MAX_OUTCOME];
    let length = socket.recv(&mut buffer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::other(format!("no outcome within {}", humantime::format_duration(limit)))
        }
        _ => error,
    })?;
    Ok(serde_json::from_slice(&buffer[..length])?)
}

/// Returns true where the process of this id handles SIGUSR2. Fails where there is none.
fn handles_signal(process: i32) -> io::Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))
        .map_err(|_| io::Error::other(format!("there is no process {process}")))?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    Ok(caught & (1 << (SIGUSR2 - 1)) != 0)
}

fn address(process: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("tidegate-upgrade-{process}"))
}

/// Sends the outcome to whoever waits for one of this process. That nobody does is the case of a plain signal.
pub fn tell(outcome: &UpgradeOutcome) {
    let sent = || -> io::Result<usize> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let mut text = serde_json::to_vec(outcome)?;
        if text.len() > MAX_OUTCOME {
            text = serde_json::to_vec(&UpgradeOutcome::Failed("the reason is in its log".to_owned()))?;
        }
        socket.send_to_addr(&text, &address(std::process::id())?)
    };
    if let Err(error) = sent() {
        tracing::debug!(%error, "nobody waits for the outcome of the upgrade");
    }
}
