//! `tidegate check`: is this configuration right? Starts nothing.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;

/// Exit code of a configuration that cannot be used (`EX_USAGE` of sysexits.h).
const BAD_CONFIGURATION: u8 = 64;

/// Arguments of `tidegate check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// Checks every file: one line for a good one, a report of everything that is wrong for another.
pub fn run(args: &Args) -> ExitCode {
    let mut bad = false;
    for file in &args.files {
        // A closed pipe changes nothing: the exit code says it all.
        match config::load(file) {
            Ok(settings) => {
                let _ = writeln!(std::io::stdout(), "{}: good, {}", file.display(), summary(&settings));
            }
            Err(report) => {
                bad = true;
                let _ = writeln!(std::io::stderr(), "{report}");
            }
        }
    }
    if bad { ExitCode::from(BAD_CONFIGURATION) } else { ExitCode::SUCCESS }
}

fn summary(settings: &config::Settings) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    [
        count(settings.server.listeners.len(), "listener"),
        count(settings.routes.entries().count(), "route"),
        count(settings.clusters.len(), "cluster"),
        count(settings.stores.len(), "store"),
    ]
    .join(", ")
}
