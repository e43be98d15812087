//! The one place that reads the environment, and the files that hold secrets.

use std::path::Path;

use super::value::SecretRef;
use primitives::secret::Secret;
use s3::settings::SecretSource;

/// The environment: the process's own, or a test's.
pub type EnvironmentLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of the process.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The value of a reference with its origin, or what is wrong with it; the value is never part of the message.
pub fn read(reference: &SecretRef, environment: EnvironmentLookup<'_>) -> Result<SecretSource, String> {
    let (value, file) = match reference {
        SecretRef::Env(name) => (variable(name, environment)?, None),
        SecretRef::File(path) => (content(path)?, Some(path.clone())),
    };
    Ok(SecretSource { value: Secret::new(value), file })
}

/// The variable `name`, which must be there and not empty.
pub fn variable(name: &str, environment: EnvironmentLookup<'_>) -> Result<String, String> {
    match environment(name) {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(format!("the environment variable `{name}` is empty")),
        None => Err(format!("the environment variable `{name}` is not set")),
    }
}

fn content(path: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("`{}` is empty", path.display())),
        text => Ok(text.to_owned()),
    }
}
