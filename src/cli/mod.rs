//! Command line: parses arguments, runs the command, and returns its exit status: 0, 64 for an invalid configuration or
//! invalid arguments, 1 for a failed start.

mod admin_client;
mod check;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "demo")]
mod demo_catalog;
mod diff;
mod explain;
mod import;
mod index;
mod migrate;
mod pid_file;
mod purge;
mod restore;
mod schema;
mod serve;
mod service_manager;
mod token;
mod upgrade;
mod upgrade_socket;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

/// Exit status for an invalid configuration (EX_USAGE of sysexits).
const BAD_CONFIGURATION: u8 = 64;
/// Default path of the configuration file.
const DEFAULT_CONFIG: &str = "conf/tidegate.yaml";

/// A reverse proxy for object storage.
#[derive(Parser)]
#[command(name = "tidegate", version, about)]
struct CliArguments {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Serve what a configuration file describes.
    Serve {
        /// The configuration file.
        #[arg(short, long, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Try it: sample music through the proxy, with nothing to configure.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Check configuration files and say everything that is wrong with them.
    Check(check::CheckArgs),
    /// Tell what a configuration does with a request, and why.
    Explain(explain::ExplainArgs),
    /// Tell what a reload with another configuration would change.
    Diff(diff::DiffArgs),
    /// Print the JSON Schema of the configuration, for editors.
    Schema(schema::SchemaArgs),
    /// Drop objects from the cache of a running proxy.
    Purge(purge::PurgeArgs),
    /// Have a running proxy replaced by a new process of the same program, without a connection lost.
    Upgrade(upgrade::UpgradeArgs),
    /// Bring the database's tables up to date, as `serve` does at its start; or write the configuration of YARP or
    /// nginx-s3-gateway as Tidegate's.
    Migrate(migrate::MigrateArgs),
    /// Put the objects of a bucket into the catalogue.
    Import(import::ImportArgs),
    /// Listen to the catalogue's tracks, so that clips of them are recognised.
    Index(index::IndexArgs),
    /// Restore a backup from the object store, or only check it.
    Restore(restore::RestoreArgs),
    /// Make a token for development, from an issuer with a shared secret.
    Token {
        /// The configuration file.
        #[arg(short, long, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        #[command(flatten)]
        token: token::TokenArgs,
    },
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // The first one wins; a second provider in the process would make every TLS connection panic.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = match CliArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let shown = error.print();
            // `--help` and `--version` are "errors" of clap as well; only they go to standard output.
            return if error.use_stderr() || shown.is_err() {
                ExitCode::from(BAD_CONFIGURATION)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match arguments.command {
        CliCommand::Serve { config } => serve::run(&config),
        #[cfg(feature = "demo")]
        CliCommand::Demo(arguments) => demo::run(&arguments),
        CliCommand::Check(arguments) => check::run(&arguments),
        CliCommand::Explain(arguments) => explain::run(&arguments),
        CliCommand::Diff(arguments) => diff::run(&arguments),
        CliCommand::Schema(arguments) => schema::run(&arguments),
        CliCommand::Purge(arguments) => purge::run(&arguments),
        CliCommand::Upgrade(arguments) => upgrade::run(&arguments),
        CliCommand::Migrate(arguments) => migrate::run(&arguments),
        CliCommand::Import(arguments) => import::run(&arguments),
        CliCommand::Index(arguments) => index::run(&arguments),
        CliCommand::Restore(arguments) => restore::run(&arguments),
        CliCommand::Token { config, token } => match crate::config::load(&config) {
            Ok(settings) => token::run(&token, &settings.auth.issuers),
            Err(report) => refuse(&report),
        },
    }
}

/// Runs `future` to its end on this thread; errors are in words for the operator.
fn block_on<T, E: std::fmt::Display>(future: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    run_on(&mut Builder::new_current_thread(), future)
}

/// As [`block_on`], with two threads for what it starts.
fn block_on_threads<T, E: std::fmt::Display>(future: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    run_on(Builder::new_multi_thread().worker_threads(2), future)
}

fn run_on<T, E: std::fmt::Display>(
    builder: &mut Builder,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    let runtime = builder.enable_all().build().map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(future).map_err(|error| error.to_string());
    // A thread that hangs in a file is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Says what is wrong with the arguments of a command.
fn bad_arguments(command: &str, message: &str) -> ExitCode {
    say(&mut std::io::stderr(), &format!("tidegate {command}: {message}"));
    ExitCode::from(BAD_CONFIGURATION)
}

/// Prints the problems of a configuration.
fn refuse(report: &crate::config::ProblemReport) -> ExitCode {
    say(&mut std::io::stderr(), &report.to_string());
    ExitCode::from(BAD_CONFIGURATION)
}

/// Writes a line; errors are ignored, since a closed pipe is nobody's fault.
fn say(to: &mut dyn std::io::Write, text: &str) {
    let _ = writeln!(to, "{text}");
}
