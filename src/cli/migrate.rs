//! Command `tidegate migrate`: updates the database's tables, for operators who do so before they start anything, or writes the
//! configuration of another program as Tidegate's.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use tokio::runtime::Builder;

use super::{BAD_CONFIGURATION, DEFAULT_CONFIG, refuse, say};
use crate::config::{self, ConvertedConfig, ProblemReport};
use server_kit::database::settings::Settings;
use server_kit::database::{Database, DatabaseOpenError};

/// Arguments of `tidegate migrate`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MigrateArgs {
    /// The configuration file that names the database.
    #[arg(short, long, default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    from: Option<ForeignFormat>,
}

/// Configuration that is written as Tidegate's.
#[derive(Subcommand)]
enum ForeignFormat {
    /// Write YARP's appsettings.json as Tidegate's YAML to standard output.
    #[command(name = "yarp")]
    Yarp {
        /// The file, in JSON.
        file: PathBuf,
    },
    /// Write the environment file of nginx-s3-gateway as Tidegate's YAML to standard output.
    #[command(name = "nginx-s3-gateway")]
    NginxS3Gateway {
        /// The file, lines of NAME=value.
        file: PathBuf,
    },
}

/// Does what the arguments say.
pub fn run(args: &MigrateArgs) -> ExitCode {
    match &args.from {
        Some(ForeignFormat::Yarp { file }) => convert(config::convert_yarp(file)),
        Some(ForeignFormat::NginxS3Gateway { file }) => convert(config::convert_nginx_s3_gateway(file)),
        None => match config::load(&args.config) {
            Ok(settings) => migrate_database(settings.database.as_ref()),
            Err(report) => refuse(&report),
        },
    }
}

/// Writes what was converted, and to standard error what was not.
fn convert(outcome: Result<ConvertedConfig, ProblemReport>) -> ExitCode {
    let converted = match outcome {
        Ok(converted) => converted,
        Err(report) => return refuse(&report),
    };
    for refused in &converted.refused {
        say(&mut std::io::stderr(), &format!("not taken over: {refused}"));
    }
    // A pipe that is closed gets no whole file.
    match std::io::stdout().write_all(converted.yaml.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Migrates the database that the configuration names.
fn migrate_database(settings: Option<&Settings>) -> ExitCode {
    let Some(settings) = settings else {
        say(&mut std::io::stderr(), "tidegate: the configuration has no `Database`: there is nothing to migrate");
        return ExitCode::from(BAD_CONFIGURATION);
    };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(DatabaseOpenError::from);
    match runtime.and_then(|runtime| runtime.block_on(migrate(settings))) {
        Ok(count) => {
            say(&mut std::io::stdout(), &format!("the database is up to date: {count} migrations"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&mut std::io::stderr(), &format!("tidegate: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn migrate(settings: &Settings) -> Result<usize, DatabaseOpenError> {
    let database = Database::open(settings).await?;
    let count = database.migrate().await?;
    database.close().await;
    Ok(count)
}
