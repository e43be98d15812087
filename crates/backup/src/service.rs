//! Service of backups: begins, lists and deletes them.

use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Sender, channel};
use uuid::Uuid;

use crate::Error;
use crate::bucket::ObjectBucket;
use crate::component::BackupComponent;
use crate::engine;
use crate::job::object_key;
use crate::metrics::BackupMetrics;
use crate::record::{BackupCause, BackupRecord, BackupState, Cleanup};
use crate::retention::due_at;
use crate::settings::Settings;
use crate::source::ComponentSources;
use crate::store::BackupStore;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;

/// What the service is made of.
pub struct BackupServiceParts<'a> {
    /// Its settings.
    pub settings: Settings,
    /// File of the configuration, where there is one.
    pub config_file: Option<&'a Path>,
    /// Database of the history.
    pub database: Database,
    /// Bucket of the backups.
    pub bucket: ObjectBucket,
    /// Tasks among which backups are made.
    pub tasks: BackgroundTasks,
    /// Clock.
    pub clock: Clock,
}

/// Service of backups. Clones share it.
#[derive(Clone)]
pub struct BackupService(pub(crate) Arc<ServiceState>);

/// State of the service.
pub(crate) struct ServiceState {
    pub settings: Settings,
    pub sources: ComponentSources,
    pub store: BackupStore,
    pub bucket: ObjectBucket,
    pub tasks: BackgroundTasks,
    pub metrics: BackupMetrics,
    pub clock: Clock,
    /// Id of this process among the nodes.
    pub node: String,
    /// Told when there is something to be removed.
    pub changed: Notify,
    /// The way to the task that makes backups: those of requests end with the threads of requests, before they could be noted.
    begun: Sender<BackupRecord>,
}

/// What is known of all backups.
pub struct BackupStatus {
    /// The one that is under way.
    pub active: Option<BackupRecord>,
    /// The newest verified one.
    pub last_verified: Option<BackupRecord>,
    /// When the next one is due, where there is a timetable.
    pub due_at: Option<UnixMillis>,
    /// Components that there are.
    pub available: Vec<BackupComponent>,
}

impl ServiceState {
    /// Returns the key of a part of the backup `id`.
    pub fn key(&self, id: Uuid, name: &str) -> String {
        object_key(&self.settings.prefix, id, name)
    }
}

impl BackupService {
    /// Creates the service, and begins to watch over backups and their timetable.
    pub fn start(parts: BackupServiceParts<'_>, registry: &Registry) -> Result<Self, prometheus::Error> {
        let BackupServiceParts { settings, config_file, database, bucket, tasks, clock } = parts;
        // One is under way at a time; another may begin while the end of it is being noted.
        let (begun, to_make) = channel(1);
        let this = Self(Arc::new(ServiceState {
            sources: ComponentSources::new(settings.clone(), config_file),
            settings,
            store: BackupStore::new(database),
            bucket,
            tasks,
            metrics: BackupMetrics::register(registry)?,
            clock,
            node: Uuid::new_v4().to_string(),
            changed: Notify::new(),
            begun,
        }));
        this.0.tasks.spawn(engine::make_begun(this.clone(), to_make));
        this.0.tasks.spawn(engine::run(this.clone()));
        Ok(this)
    }

    /// Begins a backup of `components`, or of all that there are.
    pub(crate) async fn trigger(&self, components: Option<Vec<BackupComponent>>) -> Result<BackupRecord, Error> {
        let available = self.0.sources.available();
        let components = components.unwrap_or_else(|| available.clone());
        if let Some(missing) = components.iter().find(|component| !available.contains(component)) {
            return Err(Error::NotConfigured(*missing));
        }
        self.begin(components, BackupCause::Manual, None).await?.ok_or(Error::UnderWay)
    }

    /// Begins a backup; `None` where one is under way, or where there is one newer than `newest_known`.
    pub(crate) async fn begin(
        &self,
        mut components: Vec<BackupComponent>,
        cause: BackupCause,
        newest_known: Option<Uuid>,
    ) -> Result<Option<BackupRecord>, Error> {
        components.sort_unstable();
        let record = BackupRecord {
            id: Uuid::now_v7(),
            state: BackupState::Queued,
            cause,
            components,
            node: self.0.node.clone(),
            is_active: true,
            beat: 0,
            uploads: Vec::new(),
            stored_bytes: 0,
            detail: None,
            manifest: None,
            cleanup: Cleanup::Nothing,
            created_at: self.0.clock.unix_millis(),
            finished_at: None,
        };
        if !self.0.store.add(&record, newest_known).await? {
            return Ok(None);
        }
        // Where it is not taken it gives no sign of life, and counts as failed.
        let _ = self.0.begun.try_send(record.clone());
        Ok(Some(record))
    }

    pub(crate) async fn status(&self) -> Result<BackupStatus, Error> {
        let store = &self.0.store;
        let (active, last_verified) = (store.active().await?, store.newest_of(BackupState::Ok).await?);
        let due_at = match self.0.settings.every {
            Some(every) => {
                let newest = store.list(None, 1).await?.pop();
                let began = |record: &BackupRecord| record.created_at;
                Some(due_at(every, last_verified.as_ref().map(began), newest.as_ref().map(began)))
            }
            None => None,
        };
        Ok(BackupStatus { active, last_verified, due_at, available: self.0.sources.available() })
    }

    pub(crate) async fn list(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<BackupRecord>, Error> {
        self.0.store.list(before, limit).await
    }

    pub(crate) async fn delete(&self, id: Uuid) -> Result<(), Error> {
        self.0.store.delete(id).await?;
        self.0.changed.notify_one();
        Ok(())
    }
}
