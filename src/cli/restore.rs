//! Command `tidegate restore`: finds a backup in the object store, checks it, and with `--yes` writes its files or puts its
//! database in place of the configured one. It works without the server and without its database, which may be lost.

use std::io::{stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use uuid::Uuid;

use super::{BAD_CONFIGURATION, block_on_threads, refuse, say};
use crate::app::backup::open_bucket;
use crate::config::{self, Settings};
use backup::{Manifest, Restoration, RestoredDatabase};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;

/// What is restored, and how.
#[derive(clap::Args, Debug)]
pub struct RestoreArgs {
    /// The configuration file.
    #[arg(short, long, default_value = "conf/tidegate.yaml")]
    pub config: PathBuf,
    /// The backup's id. Default: the newest one.
    #[arg(long)]
    pub backup: Option<Uuid>,
    /// Only list the backups, the newest first.
    #[arg(long, conflicts_with_all = ["backup", "output", "database", "yes"])]
    pub list: bool,
    /// Write its components as files into this folder, which is there; no file is written over.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Put its database in place of `Database`; the one that is there is kept under another name. The servers must be stopped.
    #[arg(long)]
    pub database: bool,
    /// Do it. Without this the backup is checked, and told what would be done.
    #[arg(long)]
    pub yes: bool,
}

/// Restores; returns the exit code.
pub fn run(args: &RestoreArgs) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(report) => return refuse(&report),
    };
    if settings.backup.is_none() {
        say(&mut stderr(), "tidegate restore: the configuration has no `Backup`: nothing says where backups are");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    if args.yes && args.output.is_none() && !args.database {
        say(&mut stderr(), "tidegate restore: `--yes` wants `--output` or `--database`");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    match block_on_threads(restore(args, &settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(&mut stderr(), &format!("tidegate restore: {reason}"));
            ExitCode::FAILURE
        }
    }
}

async fn restore(args: &RestoreArgs, settings: &Settings) -> Result<(), String> {
    let (clock, tasks) = (Clock::system(), BackgroundTasks::default());
    let bucket = open_bucket(settings, &clock, &tasks).await.map_err(|error| error.to_string())?;
    let (bucket, own) = bucket.zip(settings.backup.clone()).ok_or("the configuration has no `Backup`")?;
    let restoration = Restoration::new(bucket, own);
    let done = match args.list {
        true => list(&restoration).await,
        false => restore_one(args, &restoration, &clock).await,
    };
    tasks.shutdown(Duration::from_secs(1)).await;
    done
}

async fn list(restoration: &Restoration) -> Result<(), String> {
    for id in restoration.list().await.map_err(|error| error.to_string())? {
        match restoration.manifest(id).await {
            Ok(manifest) => say(&mut stdout(), &summary(&manifest)),
            Err(error) => say(&mut stdout(), &format!("{id}  cannot be restored: {error}")),
        }
    }
    Ok(())
}

async fn restore_one(args: &RestoreArgs, restoration: &Restoration, clock: &Clock) -> Result<(), String> {
    let id = match args.backup {
        Some(id) => id,
        None => {
            let found = restoration.list().await.map_err(|error| error.to_string())?;
            found.into_iter().next().ok_or("there is no backup in the bucket")?
        }
    };
    let manifest = restoration.manifest(id).await.map_err(|error| format!("{id}: {error}"))?;
    say(&mut stdout(), &summary(&manifest));
    // All of it before anything is changed.
    for entry in &manifest.components {
        restoration.check(&manifest, entry).await.map_err(|error| format!("{id}: {error}"))?;
        let rows = entry.counts.values().sum::<u64>();
        let (component, bytes) = (entry.component, entry.bytes);
        say(&mut stdout(), &format!("  {component}: whole, {bytes} bytes, {rows} rows or keys"));
    }
    if let Some(folder) = &args.output {
        for entry in &manifest.components {
            let path = folder.join(entry.component.file_name());
            if !args.yes {
                say(&mut stdout(), &format!("would write {}", path.display()));
                continue;
            }
            let path = restoration.write_file(&manifest, entry, folder).await.map_err(|error| error.to_string())?;
            say(&mut stdout(), &format!("wrote {}", path.display()));
        }
    }
    if args.database {
        replace_database(args, restoration, &manifest, clock).await?;
    }
    if !args.yes {
        say(&mut stdout(), "nothing was changed: this was a dry run; `--yes` with `--output` or `--database` does it");
    }
    Ok(())
}

async fn replace_database(
    args: &RestoreArgs,
    restoration: &Restoration,
    manifest: &Manifest,
    clock: &Clock,
) -> Result<(), String> {
    if !args.yes {
        say(&mut stdout(), "would put its database in place of `Database`, and keep the one that is there");
        return Ok(());
    }
    let restored = restoration.replace_database(manifest, clock.unix_millis()).await;
    let RestoredDatabase { rows, kept_as } = restored.map_err(|error| error.to_string())?;
    let kept = kept_as.map_or_else(String::new, |name| format!("; the one that was there is {name}"));
    say(&mut stdout(), &format!("the database was restored: {rows} rows{kept}"));
    Ok(())
}

fn summary(manifest: &Manifest) -> String {
    let components: Vec<_> = manifest.components.iter().map(|entry| entry.component.name()).collect();
    let began = server_kit::api::timestamps::to_rfc3339(primitives::unix_time::UnixMillis::new(manifest.created_at));
    format!("{}  {began}  {}  {} bytes stored", manifest.id, components.join("+"), manifest.stored_bytes())
}
