//! Operators' questions about the configuration: what is in force, and what another text would change. They are answered beside
//! the task that reloads it, which no question holds up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Serialize;
use serde_json::{Value, json};

use super::restart_keys::fixed_differences;
use crate::config::{ConfigChange, ConfigContent, Settings};
use crate::proxy::process::Process;
use primitives::blocking_calls::{BlockingCallError, BlockingCalls};

/// Name of a text in reports that no file of this machine has.
const TEXT_NAME: &str = "the new configuration";
/// Time to make settings of a text.
const READ_TIME: Duration = Duration::from_secs(5);

/// The configuration in force.
pub struct ConfigInForce {
    /// Its file.
    pub file: String,
    /// Its settings.
    pub settings: Arc<Settings>,
    /// The process that serves it.
    pub process: Arc<Process>,
}

/// What putting another text in force would change.
#[derive(Serialize)]
struct ConfigDifference {
    /// Keys whose values are others.
    changes: Vec<ConfigChange>,
    /// Files of secrets whose content is another one since they were read.
    secret_files: Vec<String>,
    /// Keys that a running process cannot change: a reload is refused for them.
    needs_restart: Vec<&'static str>,
}

/// Answers questions about the configuration.
pub struct ConfigQuestions {
    in_force: Arc<ArcSwapOption<ConfigInForce>>,
    calls: BlockingCalls,
}

impl ConfigQuestions {
    /// Answers about what `in_force` holds; it is empty until the server has started.
    pub fn new(in_force: Arc<ArcSwapOption<ConfigInForce>>) -> Self {
        Self { in_force, calls: BlockingCalls::new(READ_TIME) }
    }

    /// Tells what is in force, key by key.
    pub fn in_force(&self) -> Result<Value, String> {
        let in_force = self.current()?;
        let keys: Vec<_> = in_force.settings.source.written.keys().collect();
        Ok(json!({ "file": in_force.file, "keys": keys }))
    }

    /// Tells what putting `text` in force would change; fails with a report where it is no valid configuration.
    pub async fn compare(&self, text: String) -> Result<Value, String> {
        self.compare_with(move || Ok(ConfigContent::from_text(TEXT_NAME, text))).await
    }

    /// As [`ConfigQuestions::compare`], of the file as it is now.
    pub async fn compare_file(&self) -> Result<Value, String> {
        let file = PathBuf::from(&self.current()?.file);
        self.compare_with(move || ConfigContent::read(&file).map_err(|report| report.to_string())).await
    }

    async fn compare_with(
        &self,
        content: impl FnOnce() -> Result<ConfigContent, String> + Send + 'static,
    ) -> Result<Value, String> {
        let in_force = self.current()?;
        let loaded = self.calls.run(move || content()?.load().map_err(|report| report.to_string())).await;
        let new = loaded.map_err(|error| match error {
            BlockingCallError::TimedOut => format!("{TEXT_NAME} could not be read within {READ_TIME:?}"),
            BlockingCallError::Panicked => format!("{TEXT_NAME} could not be read; the log says why"),
        })??;
        serde_json::to_value(difference(&in_force, &new)).map_err(|error| error.to_string())
    }

    fn current(&self) -> Result<Arc<ConfigInForce>, String> {
        self.in_force.load_full().ok_or_else(|| "the process is starting".to_owned())
    }
}

fn difference(in_force: &ConfigInForce, new: &Settings) -> ConfigDifference {
    let known = &in_force.settings.source.digests.secrets;
    let is_changed = |(path, digest): &&(_, _)| known.iter().any(|(file, before)| file == path && before != digest);
    let changed = new.source.digests.secrets.iter().filter(is_changed);
    ConfigDifference {
        changes: in_force.settings.source.written.changes(&new.source.written),
        secret_files: changed.map(|(path, _)| path.display().to_string()).collect(),
        needs_restart: fixed_differences(&in_force.settings, new, &in_force.process),
    }
}
