//! Command `tidegate upgrade`: has a running process replaced by a new one of the same program, and says how that went. It is
//! asked at its socket ([`upgrade_socket`](super::upgrade_socket)), which no other process can have; the request ends with
//! the wait for its outcome.

use std::io::{self, stderr, stdout};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net as system;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::upgrade_socket::{MAX_OUTCOME, UpgradeOutcome, name_prefix};
use super::{BAD_CONFIGURATION, DEFAULT_CONFIG, pid_file, refuse, say};
use crate::config;

/// Time for the process to say what became of a request that was withdrawn.
const WITHDRAWAL_TIME: Duration = Duration::from_secs(10);

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
        let process = u32::try_from(id).ok().filter(|id| *id > 0);
        process.ok_or_else(|| io::Error::other(format!("{id} is no process id")))
    });
    let outcome = process.and_then(|process| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask(process, arguments.timeout))
    });
    let outcome = outcome.map_err(|error| error.to_string());
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

/// Asks the process for the upgrade, and waits for the outcome for up to `limit`; then the request is withdrawn.
async fn ask(process: u32, limit: Duration) -> io::Result<UpgradeOutcome> {
    let mut stream = connect(process)?;
    let mut answer = Vec::new();
    if let Ok(read) = timeout(limit, read_answer(&mut stream, &mut answer)).await {
        read?;
        return outcome(process, &answer);
    }
    stream.shutdown().await?;
    let read = timeout(WITHDRAWAL_TIME, read_answer(&mut stream, &mut answer)).await;
    match read.ok().and_then(Result::ok).and_then(|_| outcome(process, &answer).ok()) {
        // It came while the time was up.
        Some(outcome @ UpgradeOutcome::Upgraded(_)) => Ok(outcome),
        Some(UpgradeOutcome::Failed(_)) => {
            let limit = humantime::format_duration(limit);
            Err(io::Error::other(format!("no outcome within {limit}, and the request is withdrawn")))
        }
        None => Err(io::Error::other("the process does not answer; it may be replaced later, and its log says so")),
    }
}

async fn read_answer(stream: &mut UnixStream, answer: &mut Vec<u8>) -> io::Result<usize> {
    stream.take(2 * MAX_OUTCOME as u64).read_to_end(answer).await
}

fn outcome(process: u32, answer: &[u8]) -> io::Result<UpgradeOutcome> {
    if answer.is_empty() {
        return Err(io::Error::other(format!("the process {process} has ended")));
    }
    Ok(serde_json::from_slice(answer)?)
}

/// Connects to the socket of the process of this id. Fails where there is none, or where another process has it.
fn connect(process: u32) -> io::Result<UnixStream> {
    if !Path::new(&format!("/proc/{process}")).exists() {
        return Err(io::Error::other(format!("there is no process {process}")));
    }
    // proc_net(5): the last column is the name, `@` in front of an abstract one.
    let table = std::fs::read("/proc/net/unix")?;
    let prefix = format!("@{}", name_prefix(process));
    let names = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let name = std::str::from_utf8(line.rsplit(|byte| *byte == b' ').next()?).ok()?;
        name.starts_with(&prefix).then(|| name[1..].to_owned())
    });
    for name in names {
        let connect = || -> io::Result<UnixStream> {
            let stream = system::UnixStream::connect_addr(&system::SocketAddr::from_abstract_name(&name)?)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        };
        let Ok(stream) = connect() else { continue };
        // Who listens there, as the system says it.
        let peer = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|id| u32::try_from(id).ok());
        if peer == Some(process) {
            return Ok(stream);
        }
    }
    Err(io::Error::other(format!("the process {process} is no Tidegate that can be upgraded")))
}
