//! Programs that are run: their arguments have no secrets, their environment is what they need and no more, and what they say when
//! they fail is told in one line.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::failure::StepFailure;
use primitives::failure_log::line;

/// Bytes of the error output that are kept.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Time without a byte after which a program is given up: a dump may wait for a lock, and Redis for its disk.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(600);

/// Program with its arguments and its environment.
pub struct ToolCommand {
    name: &'static str,
    command: Command,
}

/// Program that runs. It is killed when this is dropped.
pub struct RunningTool {
    name: &'static str,
    child: Child,
    errors: JoinHandle<Vec<u8>>,
}

impl ToolCommand {
    /// Prepares the program `name`, which is looked for in `search_path`.
    pub fn new(name: &'static str, search_path: &str) -> Self {
        let mut command = Command::new(name);
        // Secrets of the configuration are in the environment.
        command.env_clear().env("PATH", search_path).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self { name, command }
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds variables of the environment.
    pub fn envs(mut self, variables: &[(&'static str, String)]) -> Self {
        self.command.envs(variables.iter().map(|(name, value)| (*name, value)));
        self
    }

    /// Starts it; what it writes can be read.
    pub fn start_reading(mut self) -> Result<(RunningTool, ChildStdout), StepFailure> {
        self.command.stdout(Stdio::piped());
        let (name, mut tool) = (self.name, self.start()?);
        let stdout = tool.child.stdout.take().ok_or(StepFailure::NotStarted(name, std::io::ErrorKind::Other))?;
        Ok((tool, stdout))
    }

    /// Starts it; what it reads can be written.
    pub fn start_writing(mut self) -> Result<(RunningTool, ChildStdin), StepFailure> {
        self.command.stdin(Stdio::piped());
        let (name, mut tool) = (self.name, self.start()?);
        let stdin = tool.child.stdin.take().ok_or(StepFailure::NotStarted(name, std::io::ErrorKind::Other))?;
        Ok((tool, stdin))
    }

    /// Runs it to its end; returns what it has written, of which at most `limit` bytes.
    pub async fn run(self, limit: usize) -> Result<Vec<u8>, StepFailure> {
        let name = self.name;
        let (tool, mut stdout) = self.start_reading()?;
        let mut written = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let read = timeout(SILENCE_LIMIT, stdout.read(&mut piece)).await;
            let read = read.map_err(|_| StepFailure::Silent(name, SILENCE_LIMIT.as_secs() / 60))?;
            match read {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    let room = limit.saturating_sub(written.len());
                    written.extend_from_slice(&piece[..length.min(room)]);
                }
            }
        }
        tool.end().await?;
        Ok(written)
    }

    fn start(mut self) -> Result<RunningTool, StepFailure> {
        let name = self.name;
        let mut child = self.command.spawn().map_err(|error| StepFailure::NotStarted(name, error.kind()))?;
        let stderr = child.stderr.take();
        #[expect(clippy::disallowed_methods, reason = "it ends with the program, which is killed with its owner")]
        let errors = tokio::spawn(collect(stderr));
        Ok(RunningTool { name, child, errors })
    }
}

impl RunningTool {
    /// Waits for its end; fails where it has failed, with the first line that says so.
    pub async fn end(mut self) -> Result<(), StepFailure> {
        let name = self.name;
        let status = timeout(SILENCE_LIMIT, self.child.wait()).await;
        let status = status.map_err(|_| StepFailure::Silent(name, SILENCE_LIMIT.as_secs() / 60))?;
        let status = status.map_err(|error| StepFailure::Tool(name, error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        let said = self.errors.await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let reason = said.lines().find(|line| line.to_ascii_lowercase().contains("error")).unwrap_or(&said);
        let reason = line(reason);
        Err(StepFailure::Tool(name, if reason.is_empty() { status.to_string() } else { reason.to_owned() }))
    }
}

/// Reads error output to its end, and keeps its beginning.
async fn collect(stderr: Option<ChildStderr>) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    let Some(mut stderr) = stderr else { return kept };
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        let room = MAX_ERROR_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..length.min(room)]);
    }
    kept
}
