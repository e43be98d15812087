//! Programs that some tests need (MinIO, PostgreSQL, ffmpeg, Chromium), where they are looked for, and what their absence means.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// The path of `program`, or `None` after saying so. Where the real thing is required (`CI=true` or
/// `TIDEGATE_REQUIRE_REAL=1`, as `make test` sets), its absence is a failure.
pub fn find(program: &str) -> Option<PathBuf> {
    required(program, candidates(program).into_iter().find(|path| path.is_file()))
}

/// The folder with Kafka's jars.
pub fn find_kafka() -> Option<PathBuf> {
    let tools = std::env::var_os("TIDEGATE_TOOLS").map(|folder| PathBuf::from(folder).join("kafka"));
    let installed = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/tidegate/kafka"));
    required("Kafka", tools.into_iter().chain(installed).find(|folder| folder.is_dir()))
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn required(program: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let required = std::env::var("CI").is_ok_and(|value| value == "true")
            || std::env::var("TIDEGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!required, "{program} is missing and required here: run `make install`");
        eprintln!("\n*** SKIPPED: {program} is not installed; `make install` brings it ***\n");
    }
    found
}

/// `TIDEGATE_TOOLS/bin`, then `PATH`, then the folder that `make install` fills, then where Debian keeps servers.
fn candidates(program: &str) -> Vec<PathBuf> {
    let tools = std::env::var_os("TIDEGATE_TOOLS").map(|folder| PathBuf::from(folder).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/tidegate/bin"));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let postgresql = versions.map(|version| version.path().join("bin"));
    let folders = tools
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(installed)
        .chain(postgresql)
        .chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).collect()
}

/// A folder of its own for one test or server, removed on drop.
pub struct TempFolder(PathBuf);

impl TempFolder {
    /// Makes it under the system's temporary folder.
    pub fn new(label: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tidegate-it-{}-{label}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be made");
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What stands on the whole lines of a file of JSON Lines.
pub fn json_lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let value = |line: String| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    whole_lines(path).into_iter().map(value).collect()
}

/// The lines of the file at `path`, none where there is no file yet. Without the last one where that has no end yet: a
/// reader beside the writer sees a part of what is just being written.
pub fn whole_lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}
