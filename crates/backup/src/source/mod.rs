//! Sources of components: each gives a stream of bytes, and what is counted in it.

pub mod postgres;
pub mod redis;
pub mod sqlite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use uuid::Uuid;

use crate::component::BackupComponent;
use crate::failure::StepFailure;
use crate::redaction::redact;
use crate::settings::Settings;
use crate::tool::{RunningTool, SILENCE_LIMIT};
use crate::work_folder::WorkFile;
use primitives::regular_file;

use self::postgres::{PostgresServer, PostgresSnapshot};
use self::redis::RedisServer;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Largest configuration file, in bytes, as it is where it is loaded.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Rows of tables, or keys of Redis, by name.
pub type Counts = BTreeMap<String, u64>;

/// Stream of a component.
pub struct ComponentSource {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    tool: Option<RunningTool>,
    /// What is in it, where that is known before.
    pub counts: Counts,
    /// Held until the stream has ended.
    _hold: SourceHold,
}

/// What must stay while a stream is read.
enum SourceHold {
    Nothing,
    /// The transaction whose state is dumped.
    Snapshot(#[expect(dead_code, reason = "held for its end")] PostgresSnapshot),
    /// The copy that is read.
    Copy(#[expect(dead_code, reason = "held for its end")] WorkFile),
}

/// Sources that the settings have.
pub struct ComponentSources {
    settings: Settings,
    config_file: Option<PathBuf>,
}

impl ComponentSources {
    /// Creates the sources; `config_file` is the configuration's file, where there is one.
    pub fn new(settings: Settings, config_file: Option<&Path>) -> Self {
        Self { settings, config_file: config_file.map(Path::to_owned) }
    }

    /// Returns the components that there are.
    pub fn available(&self) -> Vec<BackupComponent> {
        let sources = &self.settings.sources;
        let is_there = |component: &BackupComponent| match component {
            BackupComponent::Postgres => sources.postgres.is_some(),
            BackupComponent::Sqlite => sources.sqlite.is_some(),
            BackupComponent::Redis => sources.redis.is_some(),
            BackupComponent::Config => self.config_file.is_some(),
            BackupComponent::Logs => sources.access_log.is_some(),
        };
        BackupComponent::ALL.into_iter().filter(is_there).collect()
    }

    /// Opens the stream of a component of the backup `id`.
    pub async fn open(&self, component: BackupComponent, id: Uuid) -> Result<ComponentSource, StepFailure> {
        let sources = &self.settings.sources;
        match component {
            BackupComponent::Postgres => self.open_postgres().await,
            BackupComponent::Sqlite => {
                let path = sources.sqlite.as_ref().ok_or(StepFailure::Gone(component))?;
                let copy = WorkFile::create(&self.settings.work_folder, id, "copy.db").map_err(of_work_folder)?;
                sqlite::copy(path, copy.path()).await?;
                let counts = sqlite::check(copy.path()).await?;
                let reader = File::open(copy.path()).await.map_err(of_work_folder)?;
                Ok(ComponentSource { reader: Box::pin(reader), tool: None, counts, _hold: SourceHold::Copy(copy) })
            }
            BackupComponent::Redis => {
                let url = sources.redis.as_ref().ok_or(StepFailure::Gone(component))?;
                let (tool, output) = RedisServer::new(url)?.dump(&self.settings.environment.search_path)?;
                Ok(ComponentSource::plain(Box::pin(output), Some(tool)))
            }
            BackupComponent::Config => {
                let path = self.config_file.clone().ok_or(StepFailure::Gone(component))?;
                let read = tokio::task::spawn_blocking(move || regular_file::read_text(&path, MAX_CONFIG_BYTES)).await;
                let read = read.map_err(|_| StepFailure::Panicked)?;
                let text = read.map_err(|error| StepFailure::File("the configuration file", error))?;
                Ok(ComponentSource::plain(Box::pin(std::io::Cursor::new(redact(&text).into_bytes())), None))
            }
            BackupComponent::Logs => {
                let path = sources.access_log.as_ref().ok_or(StepFailure::Gone(component))?;
                let of_log = |error| StepFailure::File("the access log", error);
                let file = File::open(path).await.map_err(of_log)?;
                let length = file.metadata().await.map_err(of_log)?.len();
                // It grows meanwhile, by this backup's own lines too.
                Ok(ComponentSource::plain(Box::pin(file.take(length)), None))
            }
        }
    }

    async fn open_postgres(&self) -> Result<ComponentSource, StepFailure> {
        let server = self.postgres()?;
        let snapshot = server.snapshot().await?;
        let (tool, output) = server.dump(&snapshot)?;
        let counts = snapshot.counts.clone();
        let hold = SourceHold::Snapshot(snapshot);
        Ok(ComponentSource { reader: Box::pin(output), tool: Some(tool), counts, _hold: hold })
    }

    /// Returns the server of PostgreSQL.
    pub fn postgres(&self) -> Result<PostgresServer, StepFailure> {
        let url = self.settings.sources.postgres.as_ref().ok_or(StepFailure::Gone(BackupComponent::Postgres))?;
        PostgresServer::new(url, &self.settings.environment)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl ComponentSource {
    fn plain(reader: Pin<Box<dyn AsyncRead + Send>>, tool: Option<RunningTool>) -> Self {
        Self { reader, tool, counts: Counts::new(), _hold: SourceHold::Nothing }
    }

    /// Returns the next bytes; `None` at the end. Fails at the end where the program that wrote them has failed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StepFailure> {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = timeout(SILENCE_LIMIT, self.reader.read_buf(&mut piece)).await;
        let read = read.map_err(|_| StepFailure::Silent("the source", SILENCE_LIMIT.as_secs() / 60))?;
        if read.map_err(|error| StepFailure::File("the component", error))? > 0 {
            return Ok(Some(piece.freeze()));
        }
        if let Some(tool) = self.tool.take() {
            tool.end().await?;
        }
        Ok(None)
    }
}

/// Converts an error of a file in the work folder.
pub fn of_work_folder(error: std::io::Error) -> StepFailure {
    StepFailure::File("a file in Backup.WorkFolder", error)
}
