//! Command `tidegate check`: checks a configuration and starts nothing. `serve` reads a configuration in the same way,
//! so that it refuses nothing that passes here, except for problems that only the start can show: an address in use, a
//! folder that cannot be created.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::BAD_CONFIGURATION;
use crate::app::probe::{self, ProbedDependency};
use crate::config::{self, ProblemReport, Settings};
use crate::proxy::{bare_store_warnings, shared_request_warnings, weaker_route_warnings};
use http_server::certificate_warnings;
use primitives::clock::Clock;

/// Arguments of `tidegate check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// The configuration files; `-` is standard input. Without one: conf/tidegate.yaml.
    pub files: Vec<PathBuf>,
    /// A configuration file, as `serve` names it.
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Write the outcome as JSON to standard output: a list with an entry for each file.
    #[arg(long)]
    pub json: bool,
    /// Ask everything that a good file names: buckets by a signed request, servers, Redis, the database, Kafka, issuers' keys,
    /// certificates.
    #[arg(long, conflicts_with = "json")]
    pub probe: bool,
}

/// Checks every file: prints one line for a valid one, and a report of all problems for any other.
pub fn run(args: &CheckArgs) -> ExitCode {
    let mut files: Vec<PathBuf> = args.config.iter().chain(&args.files).cloned().collect();
    if files.is_empty() {
        files.push(super::DEFAULT_CONFIG.into());
    }
    let outcomes: Vec<_> = files.iter().map(|file| (file, load(file))).collect();
    let is_bad = outcomes.iter().any(|(_, outcome)| outcome.is_err());
    // A closed pipe changes nothing: the exit code says it all.
    if args.json {
        let all: Vec<Value> = outcomes.iter().map(|(file, outcome)| to_json(file, outcome)).collect();
        let _ = writeln!(std::io::stdout(), "{:#}", Value::from(all));
    } else {
        for (file, outcome) in &outcomes {
            let _ = tell(file, outcome);
        }
    }
    if is_bad {
        return ExitCode::from(BAD_CONFIGURATION);
    }
    let mut all_answer = true;
    if args.probe {
        for settings in outcomes.into_iter().filter_map(|(_, outcome)| outcome.ok()) {
            all_answer &= tell_probes(&settings);
        }
    }
    if all_answer { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Asks what `settings` name and prints a line for each; returns true where all answered.
fn tell_probes(settings: &Settings) -> bool {
    let answers = match super::block_on(probe::probe(settings)) {
        Ok(answers) => answers,
        Err(error) => {
            super::say(&mut std::io::stderr(), &format!("tidegate check: {error}"));
            return false;
        }
    };
    let width = answers.iter().map(|answer| answer.name.chars().count()).max().unwrap_or_default();
    for ProbedDependency { name, outcome } in &answers {
        let (sign, words) = match outcome {
            Ok(words) => ("good", words),
            Err(reason) => ("FAILED", reason),
        };
        super::say(&mut std::io::stdout(), &format!("  {name:<width$}  {sign:<6}  {words}"));
    }
    answers.iter().all(|answer| answer.outcome.is_ok())
}

fn load(file: &Path) -> Result<Settings, ProblemReport> {
    // The usual name of standard input; a file of that name can be given as `./-`.
    if file == Path::new("-") { config::load_input() } else { config::load(file) }
}

fn tell(file: &Path, outcome: &Result<Settings, ProblemReport>) -> std::io::Result<()> {
    match outcome {
        Ok(settings) => {
            for note in &settings.source.notes {
                writeln!(std::io::stderr(), "{}: note: {note}", file.display())?;
            }
            for warning in warnings(settings) {
                writeln!(std::io::stderr(), "{}: warning: {warning}", file.display())?;
            }
            writeln!(std::io::stdout(), "{}: good, {}", file.display(), settings.summary())
        }
        Err(report) => writeln!(std::io::stderr(), "{report}"),
    }
}

fn to_json(file: &Path, outcome: &Result<Settings, ProblemReport>) -> Value {
    let name = file.display().to_string();
    match outcome {
        Ok(settings) => {
            let (notes, warnings) = (&settings.source.notes, warnings(settings));
            json!({ "file": name, "good": true, "notes": notes, "warnings": warnings, "problems": [] })
        }
        Err(report) => {
            json!({ "file": name, "good": false, "notes": [], "warnings": [], "problems": report.to_json() })
        }
    }
}

/// Returns warnings about `settings` that are valid but need an operator's attention.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let certificates = certificate_warnings(&settings.server.http, Clock::system().unix_millis().as_millis() / 1000);
    certificates
        .into_iter()
        .chain(weaker_route_warnings(&settings.routes))
        .chain(shared_request_warnings(&settings.routes))
        .chain(bare_store_warnings(&settings.routes, &settings.stores))
        .collect()
}
