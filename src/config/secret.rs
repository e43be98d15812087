//! Reads the environment and the files that hold secrets; no other module may.

use std::path::Path;

use super::content::ContentDigest;
use super::value::SecretRef;
use primitives::regular_file;
use primitives::secret::Secret;
use s3::settings::SecretSource;

/// Most bytes of a file that holds a secret.
const MAX_BYTES: u64 = 64 * 1024;

/// Lookup of environment variables: the process's own, or a test's.
pub type EnvironmentLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a variable of the process; `None` if it is not set or not UTF-8.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads the value of a reference, with its origin; an error never contains the value.
pub fn read(reference: &SecretRef, environment: EnvironmentLookup<'_>) -> Result<SecretSource, String> {
    let (value, file) = match reference {
        SecretRef::Env(name) => (variable(name, environment)?, None),
        SecretRef::File(path) => (content(path)?, Some(path.clone())),
    };
    Ok(SecretSource { value: Secret::new(value), file })
}

/// Reads the variable `name`; an error if it is not set or empty.
pub fn variable(name: &str, environment: EnvironmentLookup<'_>) -> Result<String, String> {
    match environment(name) {
        Some(value) if !value.is_empty() => Ok(value),
        // Empty counts as a mistake: an empty secret would verify nothing, or everything.
        Some(_) => Err(format!("the environment variable `{name}` is empty")),
        None => Err(format!("the environment variable `{name}` is not set")),
    }
}

/// Reads the file of a secret and returns the digest of the secret; `None` where there is none to be read.
pub fn digest(path: &Path) -> Option<ContentDigest> {
    content(path).ok().map(|secret| ContentDigest::of(secret.as_bytes()))
}

fn content(path: &Path) -> Result<String, String> {
    let text = regular_file::read_text(path, MAX_BYTES);
    let text = text.map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    // Editors and `echo` end a file with a line break, which is no part of the secret.
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("`{}` is empty", path.display())),
        text => Ok(text.to_owned()),
    }
}
