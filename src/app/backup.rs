//! Backups, where they are switched on: their service over the database and the object store, and their paths.

use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::ModuleDependencies;
use super::stores::OpenStores;
use crate::config::Settings;
use ::backup::{BackupService, BackupServiceParts, ObjectBucket, routes};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};

/// Starts backups; returns their paths.
pub fn start(all: &Settings, dependencies: &ModuleDependencies<'_>) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, services, metrics, limiters, stores, config_file, .. } = dependencies;
    let Some(bucket) = bucket(all, stores)? else { return Ok(Vec::new()) };
    // The settings name both where there are backups.
    let (Some(settings), Some(database)) = (&all.backup, &storage.database) else { return Ok(Vec::new()) };
    let parts = BackupServiceParts {
        settings: settings.clone(),
        config_file: *config_file,
        database: database.clone(),
        bucket,
        tasks: (*services).clone(),
        clock: (*clock).clone(),
    };
    let service = BackupService::start(parts, metrics.registry())?;
    Ok(vec![limit_routes(routes(service), limiters, RateLimitClass::STRICT)])
}

/// Opens the bucket of backups for a command that runs beside no server; `None` where there are none.
pub async fn open_bucket(
    all: &Settings,
    clock: &Clock,
    tasks: &BackgroundTasks,
) -> Result<Option<ObjectBucket>, StartError> {
    let stores = OpenStores::new(clock.clone(), tasks.clone());
    let bucket = bucket(all, &stores)?;
    stores.ready().await;
    Ok(bucket)
}

/// Opens the bucket of backups; `None` where there are none.
fn bucket(all: &Settings, stores: &OpenStores) -> Result<Option<ObjectBucket>, StartError> {
    let Some(settings) = &all.backup else { return Ok(None) };
    let Some(store) = all.stores.iter().find(|store| store.name == settings.store) else { return Ok(None) };
    Ok(Some(ObjectBucket::new(stores.signer(store)?, settings.bucket.clone())?))
}
