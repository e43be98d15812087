//! A server process under test: started, watched through `/proc`, and stopped whatever happens to the load test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use primitives::clock::monotonic_now;

/// Runs a command and ends it when standard input ends: so a load test that is killed leaves no server behind.
const KEEPER: &str = r#"
trap : INT TERM HUP
"$@" </dev/null &
child=$!
read -r _
kill -TERM "$child" 2>/dev/null
tries=0
while kill -0 "$child" 2>/dev/null && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
kill -KILL "$child" 2>/dev/null
wait
"#;
/// `/proc` counts CPU time in hundredths of a second on every Linux that we know (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
const START_DEADLINE: Duration = Duration::from_secs(10);

/// A running server and all its processes.
pub struct Process {
    keeper: Child,
    name: &'static str,
}

impl Process {
    /// Starts `command`, whose standard output is thrown away.
    pub fn start(name: &'static str, command: &[String], environment: &[(&str, &str)]) -> Result<Self> {
        Ok(Self { keeper: keeper(name, command, environment, Stdio::null())?, name })
    }

    /// Starts `command` and waits for the first line that begins with `word`; gives what stands behind it.
    pub fn start_until(
        name: &'static str,
        command: &[String],
        environment: &[(&str, &str)],
        word: &'static str,
    ) -> Result<(Self, String)> {
        let mut keeper = keeper(name, command, environment, Stdio::piped())?;
        let stdout = keeper.stdout.take().context("standard output was piped")?;
        let process = Self { keeper, name };
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that the server never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix(word) {
                    let _late = sender.send(rest.trim().to_owned());
                }
            }
        });
        let rest =
            lines.recv_timeout(START_DEADLINE).with_context(|| format!("{name} did not say that it is {word}"))?;
        Ok((process, rest))
    }

    /// Waits until the server accepts connections.
    pub fn wait_for(&self, address: SocketAddr) -> Result<()> {
        let deadline = monotonic_now() + START_DEADLINE;
        while TcpStream::connect(address).is_err() {
            ensure!(monotonic_now() < deadline, "{} does not listen on {address}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// CPU seconds, user and system, of all its processes since they began.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0;
        for pid in self.pids()? {
            // proc(5): utime and stime are fields 14 and 15; the split begins at field 3.
            let fields = stat(pid)?;
            for field in [11, 12] {
                ticks += fields.get(field).and_then(|text| text.parse::<u64>().ok()).context("a short /proc/…/stat")?;
            }
        }
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Resident memory of all its processes, in KiB.
    pub fn resident_kib(&self) -> Result<f64> {
        let mut sum = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
            sum += line.trim().trim_end_matches(" kB").parse::<u64>().context("VmRSS of /proc/…/status")?;
        }
        Ok(sum as f64)
    }

    /// The server's processes: the keeper's descendants. None left is a failure of the server.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A process may end while it is looked at, and a zombie serves nobody.
            if let Ok(fields) = stat(pid)
                && fields.first().is_some_and(|state| state != "Z")
                && let Some(parent) = fields.get(1).and_then(|text| text.parse::<u32>().ok())
            {
                parents.push((pid, parent));
            }
        }
        let mut family = vec![self.keeper.id()];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            family.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        if family.len() < 2 {
            bail!("{} has ended", self.name);
        }
        Ok(family.split_off(1))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _gone = self.keeper.wait();
    }
}

/// A port that nobody uses now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn keeper(name: &str, command: &[String], environment: &[(&str, &str)], stdout: Stdio) -> Result<Child> {
    Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .args(command)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(stdout)
        .spawn()
        .with_context(|| format!("starting {name}"))
}

/// The fields of `/proc/<pid>/stat` behind the command's name, which may itself hold spaces.
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a /proc/…/stat without a name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
