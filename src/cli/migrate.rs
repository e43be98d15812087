//! Command `tidegate migrate`: updates the database's tables, for operators who do so before they start anything.

use std::process::ExitCode;

use tokio::runtime::Builder;

use super::{BAD_CONFIGURATION, say};
use server_kit::database::settings::Settings;
use server_kit::database::{Database, DatabaseOpenError};

/// Migrates the database that the configuration names.
pub fn run(settings: Option<&Settings>) -> ExitCode {
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
