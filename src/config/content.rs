//! The content of a configuration file, read once: what is compared, checked and put in force are the same bytes.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::report::{ConfigProblem, ProblemReport};
use super::{Settings, load_text, secret};
use primitives::regular_file;
use server_kit::api::config_reload::MAX_CONFIG_BYTES;

/// YAML's end of a document (YAML 1.2.2 §9.1.2).
const END_MARK: &str = "...";

/// SHA-256 of a content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Returns the digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }
}

/// Digests of everything that settings were read from, but the environment, which does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceDigests {
    /// The configuration file.
    pub text: ContentDigest,
    /// The files of its secrets (`file:`), each once. `None` for one that cannot be read.
    pub secrets: Vec<(PathBuf, Option<ContentDigest>)>,
}

impl SourceDigests {
    /// Reads the same files of secrets anew, which blocks, beside the content `text` of the configuration file.
    pub fn read_again(&self, text: &ConfigContent) -> Self {
        let again = |(path, _): &(PathBuf, _)| (path.clone(), secret::digest(path));
        Self { text: text.digest(), secrets: self.secrets.iter().map(again).collect() }
    }
}

/// Content of a configuration file.
#[derive(Clone, Debug)]
pub struct ConfigContent {
    name: String,
    text: String,
}

impl ConfigContent {
    /// Reads the file at `path`, which blocks. Fails where it is not a regular file of at most 4 MiB in UTF-8.
    pub fn read(path: &Path) -> Result<Self, ProblemReport> {
        let name = path.display().to_string();
        match regular_file::read_text(path, MAX_CONFIG_BYTES as u64) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let problem = ConfigProblem::new(format!("the file cannot be read: {error}"))
                    .help("name the configuration file, such as conf/tidegate.yaml; it is text in UTF-8");
                Err(ProblemReport::new(&name, "", &[], vec![problem]))
            }
        }
    }

    /// Makes the content of a text, which reports call `name`.
    pub fn from_text(name: &str, text: String) -> Self {
        Self { name: name.to_owned(), text }
    }

    /// Returns the name that reports call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the digest of the text.
    pub fn digest(&self) -> ContentDigest {
        ContentDigest::of(self.text.as_bytes())
    }

    /// Makes settings of it, with the environment of the process and the files of secrets, which are read.
    pub fn load(&self) -> Result<Settings, ProblemReport> {
        load_text(&self.name, &self.text, &secret::process)
    }
}

/// Returns true where the last line of `text`, comments aside, is the end mark: a text that is cut does not have it.
pub fn has_end_mark(text: &str) -> bool {
    let mut lines = text.lines().rev().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.trim_end() == END_MARK)
}
