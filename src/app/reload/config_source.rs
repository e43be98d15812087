//! The configuration file as a reload reads it: looked at within a time limit, since it may be on a file system that
//! hangs, and not taken while it is being written.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::{ConfigContent, Settings, SourceDigests};
use primitives::blocking_calls::{BlockingCallError, BlockingCalls};
use primitives::clock::Clock;

/// Time for a look at the file, and for making settings of it.
const READ_TIME: Duration = Duration::from_secs(5);
/// Time for which a file has not been written to when an operator asks for it to be put in force.
const SETTLED: Duration = Duration::from_millis(500);
/// Looks at a file that is being written, before an operator's question is refused.
const MOST_LOOKS: usize = 20;

/// A configuration file.
pub struct ConfigSource {
    file: PathBuf,
    calls: BlockingCalls,
    clock: Clock,
}

/// Findings of one look.
pub struct FoundConfig {
    /// Content of the file.
    pub content: ConfigContent,
    /// Digests of the content and of the files of secrets that the settings in force name.
    pub digests: SourceDigests,
    modified: Option<SystemTime>,
}

impl ConfigSource {
    /// Makes the source of `file`.
    pub fn new(file: &Path, clock: Clock) -> Self {
        Self { file: file.to_owned(), calls: BlockingCalls::new(READ_TIME), clock }
    }

    /// Reads the file, and the files of secrets that `in_force` name. Fails with a report where the file cannot be read in
    /// time.
    pub async fn look(&self, in_force: &SourceDigests) -> Result<FoundConfig, String> {
        let (file, in_force) = (self.file.clone(), in_force.clone());
        let look = move || {
            // Asked first: what is written meanwhile then looks newer than it was read.
            let modified = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).ok();
            let content = ConfigContent::read(&file).map_err(|report| report.to_string())?;
            let digests = in_force.read_again(&content);
            Ok(FoundConfig { content, digests, modified })
        };
        self.in_time(self.calls.run(look).await)
    }

    /// Reads the file once it has not been written to for half a second: one that is being written is not taken half.
    /// Fails as [`Self::look`] does, and where it is still being written after ten seconds.
    pub async fn settled(&self, in_force: &SourceDigests) -> Result<FoundConfig, String> {
        let mut before: Option<FoundConfig> = None;
        for _ in 0..MOST_LOOKS {
            let found = self.look(in_force).await?;
            let age = found.modified.and_then(|modified| self.clock.now().duration_since(modified).ok());
            let is_same = |before: &FoundConfig| (&before.digests, before.modified) == (&found.digests, found.modified);
            if age.is_some_and(|age| age >= SETTLED) || before.as_ref().is_some_and(is_same) {
                return Ok(found);
            }
            before = Some(found);
            tokio::time::sleep(SETTLED).await;
        }
        Err(format!("{}: the file is being written; reload it when it is whole", self.file.display()))
    }

    /// Makes settings of `content`.
    pub async fn load(&self, content: ConfigContent) -> Result<Settings, String> {
        self.in_time(self.calls.run(move || content.load().map_err(|report| report.to_string())).await)
    }

    /// Returns the name of the file, for reports.
    pub fn name(&self) -> String {
        self.file.display().to_string()
    }

    fn in_time<T>(&self, answer: Result<Result<T, String>, BlockingCallError>) -> Result<T, String> {
        let reason = match answer {
            Ok(answer) => return answer,
            Err(BlockingCallError::TimedOut) => format!("was not read within {:?}", self.calls.limit()),
            Err(BlockingCallError::Panicked) => "could not be read because of a bug".to_owned(),
        };
        Err(format!("{}: the file, or one that it names, {reason}; does its file system answer?", self.file.display()))
    }
}
