//! Restoring, for an operator's command: a backup is found by its manifest in the store alone, since the database with the history
//! may be what was lost. A database is restored beside the one that is there, counted, and only then put in its place; the one that
//! was there is kept under another name.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::bucket::{ObjectBucket, StoreFailure};
use crate::component::BackupComponent;
use crate::failure::StepFailure;
use crate::job::object_key;
use crate::manifest::{ComponentEntry, MAX_BYTES, Manifest, ManifestError, OBJECT_NAME};
use crate::settings::Settings;
use crate::source::postgres::PostgresServer;
use crate::source::{ComponentSources, sqlite};
use crate::verification::{compare_counts, read_back, read_into_file, restore_postgres};
use primitives::unix_time::UnixMillis;

/// Longest part of a database's name that names of databases beside it begin with: PostgreSQL cuts names at 63 bytes.
const MAX_NAME_BYTES: usize = 40;

/// Reason for which nothing is restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// No backup.
    #[error("there is no backup of this id in the bucket")]
    NoSuchBackup,
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A step.
    #[error(transparent)]
    Step(#[from] StepFailure),
    /// The backup has no database of the kind that the configuration has.
    #[error("the backup has no database of the kind that Database.Url names")]
    NoDatabase,
    /// A file.
    #[error("{} cannot be written: {}", .0.display(), .1)]
    File(PathBuf, std::io::Error),
}

/// Backups of a bucket, for restoring.
pub struct Restoration {
    bucket: ObjectBucket,
    sources: ComponentSources,
}

/// Database that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredDatabase {
    /// Rows of all its tables.
    pub rows: u64,
    /// What the database that was there is called now; `None` where there was none.
    pub kept_as: Option<String>,
}

impl Restoration {
    /// Opens the backups that `settings` name.
    pub fn new(bucket: ObjectBucket, settings: Settings) -> Self {
        Self { bucket, sources: ComponentSources::new(settings, None) }
    }

    /// Lists the backups that have a manifest, the newest first.
    pub async fn list(&self) -> Result<Vec<Uuid>, RestoreError> {
        let prefix = &self.sources.settings().prefix;
        let keys = self.bucket.list(prefix).await?;
        let id_of = |key: &String| {
            let (id, name) = key.strip_prefix(prefix.as_str())?.split_once('/')?;
            Uuid::parse_str(id).ok().filter(|_| name == OBJECT_NAME)
        };
        let mut ids: Vec<_> = keys.iter().filter_map(id_of).collect();
        ids.sort_unstable();
        ids.reverse();
        Ok(ids)
    }

    /// Reads the manifest of a backup.
    pub async fn manifest(&self, id: Uuid) -> Result<Manifest, RestoreError> {
        match self.bucket.read_small(self.key(id, OBJECT_NAME), MAX_BYTES).await {
            Ok(bytes) => Ok(Manifest::parse(&bytes, id)?),
            Err(StoreFailure::NotThere) => Err(RestoreError::NoSuchBackup),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Reads a component to its end, and compares it with the manifest. Nothing is written.
    pub async fn check(&self, manifest: &Manifest, entry: &ComponentEntry) -> Result<(), RestoreError> {
        let key = self.key(manifest.id, &entry.component.object_name());
        Ok(read_back(&self.bucket, key, entry, tokio::io::sink()).await?)
    }

    /// Writes a component into a new file in `folder`; returns where it is.
    pub async fn write_file(
        &self,
        manifest: &Manifest,
        entry: &ComponentEntry,
        folder: &Path,
    ) -> Result<PathBuf, RestoreError> {
        let path = folder.join(entry.component.file_name());
        create_new(&path)?;
        let key = self.key(manifest.id, &entry.component.object_name());
        if let Err(failure) = read_into_file(&self.bucket, key, entry, &path).await {
            // Half a file is none.
            let _ = fs::remove_file(&path);
            return Err(failure.into());
        }
        Ok(path)
    }

    /// Puts the backup's database in place of the configured one. `now` becomes part of the name of the one that was there.
    pub async fn replace_database(
        &self,
        manifest: &Manifest,
        now: UnixMillis,
    ) -> Result<RestoredDatabase, RestoreError> {
        let sources = &self.sources.settings().sources;
        let component = if sources.postgres.is_some() { BackupComponent::Postgres } else { BackupComponent::Sqlite };
        let entry = manifest.entry(component).ok_or(RestoreError::NoDatabase)?;
        let key = self.key(manifest.id, &component.object_name());
        let kept_as = match &sources.sqlite {
            Some(path) => self.replace_file(key, entry, path, now).await?,
            None => Some(self.replace_in_server(key, entry, &self.sources.postgres()?, now).await?),
        };
        Ok(RestoredDatabase { rows: entry.counts.values().fold(0, |sum, rows| sum.saturating_add(*rows)), kept_as })
    }

    async fn replace_in_server(
        &self,
        key: String,
        entry: &ComponentEntry,
        server: &PostgresServer,
        now: UnixMillis,
    ) -> Result<String, RestoreError> {
        let base = &server.database[..server.database.floor_char_boundary(MAX_NAME_BYTES)];
        let (new, kept_as) = (format!("{base}_restored_{now}"), format!("{base}_before_{now}"));
        server.create_database(&new).await?;
        let replaced = async {
            restore_postgres(&self.bucket, key, entry, server, &new).await?;
            server.replace_database(&new, &kept_as).await
        };
        if let Err(failure) = replaced.await {
            server.drop_database(&new).await?;
            return Err(failure.into());
        }
        Ok(kept_as)
    }

    async fn replace_file(
        &self,
        key: String,
        entry: &ComponentEntry,
        path: &Path,
        now: UnixMillis,
    ) -> Result<Option<String>, RestoreError> {
        let beside = |name: &str| {
            let mut file = path.as_os_str().to_owned();
            file.push(name);
            PathBuf::from(file)
        };
        let (new, kept) = (beside(&format!(".restored-{now}")), beside(&format!(".before-{now}")));
        create_new(&new)?;
        let replaced = async {
            read_into_file(&self.bucket, key, entry, &new).await?;
            compare_counts(entry, &sqlite::check(&new).await?)?;
            let is_there = path.exists();
            if is_there {
                sqlite::take_for_oneself(path).await?;
                fs::hard_link(path, &kept).map_err(|error| RestoreError::File(kept.clone(), error))?;
            }
            // A log of the old file would be taken for one of the new.
            for rest in [beside("-wal"), beside("-shm")] {
                let _ = fs::remove_file(rest);
            }
            fs::rename(&new, path).map_err(|error| RestoreError::File(path.to_owned(), error))?;
            Ok::<_, RestoreError>(is_there.then(|| kept.display().to_string()))
        };
        let replaced = replaced.await;
        if replaced.is_err() {
            let _ = fs::remove_file(&new);
        }
        replaced
    }

    fn key(&self, id: Uuid, name: &str) -> String {
        object_key(&self.sources.settings().prefix, id, name)
    }
}

/// Makes an empty file that its owner alone can read; fails where there is one.
fn create_new(path: &Path) -> Result<(), RestoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map(drop).map_err(|error| RestoreError::File(path.to_owned(), error))
}
