//! Command `tidegate diff`: tells what a reload with another configuration would change, by meaning, and changes nothing.

use std::fmt::Write as _;
use std::io::{stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::admin_client::{AdminArgs, AdminClient};
use super::{bad_arguments, block_on, refuse, say};
use crate::config::{self, ConfigContent};

/// The new configuration, and what it is compared with.
#[derive(clap::Args, Debug)]
pub struct DiffArgs {
    /// The new configuration file.
    pub file: PathBuf,
    /// Compare with this file, and ask no proxy.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "token"])]
    pub with: Option<PathBuf>,
    /// Write the differences as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub proxy: AdminArgs,
}

/// Compares; returns the exit code.
pub fn run(args: &DiffArgs) -> ExitCode {
    let compared = match &args.with {
        Some(old) => match (config::load(old), config::load(&args.file)) {
            (Ok(old), Ok(new)) => Ok(json!({ "changes": old.source.written.changes(&new.source.written) })),
            (Err(report), _) | (_, Err(report)) => return refuse(&report),
        },
        // Read here: the proxy may be on another machine.
        None => match ConfigContent::read(&args.file) {
            Ok(content) => match AdminClient::new(&args.proxy) {
                Ok(proxy) => block_on(proxy.post("/config/diff", |request| request.body(content.text().to_owned()))),
                Err(message) => return bad_arguments("diff", &message),
            },
            Err(report) => return refuse(&report),
        },
    };
    match compared {
        Ok(difference) => {
            let shown = if args.json { format!("{difference:#}") } else { text(&difference) };
            say(&mut stdout(), shown.trim_end());
            ExitCode::SUCCESS
        }
        Err(message) => {
            say(&mut stderr(), &format!("tidegate diff: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// The differences for people.
fn text(difference: &Value) -> String {
    let mut out = String::new();
    let list = |name: &str| difference[name].as_array().into_iter().flatten();
    for change in list("changes") {
        let path = change["path"].as_str().unwrap_or_default();
        let _ = match (change["before"].as_str(), change["after"].as_str()) {
            (None, after) => writeln!(out, "+ {path}: {}", after.unwrap_or_default()),
            (Some(before), None) => writeln!(out, "- {path}: {before}"),
            (Some(before), Some(after)) if before == after => {
                writeln!(out, "~ {path}: another value, which is not shown")
            }
            (Some(before), Some(after)) => writeln!(out, "~ {path}: {before} -> {after}"),
        };
    }
    for file in list("secret_files").filter_map(Value::as_str) {
        let _ = writeln!(out, "~ {file}: another secret");
    }
    let fixed: Vec<_> = list("needs_restart").filter_map(Value::as_str).collect();
    if !fixed.is_empty() {
        let _ = writeln!(out, "a reload is refused, these need a restart: {}", fixed.join(", "));
    }
    if out.is_empty() { "nothing would change".to_owned() } else { out }
}
