//! The demo's folder in the catalogue: what is dropped in is added, what is taken out is deleted.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::demo::{BUCKET, USER};
use crate::config::Settings;
use catalog::{AddOutcome, Catalog, NewTrack};
use demo::media::{self, AudioFile};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use server_kit::database::{self, Database};

/// Time between two looks at the folder.
const INTERVAL: Duration = Duration::from_secs(2);
/// Tracks of the catalogue that are read at a time.
const PAGE: u32 = 500;
/// The store of the demo's configuration.
const STORE: &str = "folder";

/// Catalogue of a folder.
pub struct FolderCatalog {
    database: database::settings::Settings,
    folder: PathBuf,
    clock: Clock,
}

impl FolderCatalog {
    /// Creates the catalogue of `folder` in the database of `settings`.
    ///
    /// # Errors
    /// The settings name no database.
    pub fn new(settings: &Settings, folder: PathBuf) -> Result<Self, String> {
        let database = settings.database.clone().ok_or("the demo's configuration has no database")?;
        Ok(Self { database, folder, clock: Clock::system() })
    }

    /// Brings the catalogue up to date, and again every two seconds until the process ends.
    ///
    /// # Errors
    /// The first time fails.
    pub fn follow(self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let catalog = runtime.block_on(async {
            let database = Database::open(&self.database).await.map_err(|error| error.to_string())?;
            database.migrate().await.map_err(|error| error.to_string())?;
            let catalog = Catalog::new(database, None);
            self.update(&catalog).await?;
            Ok::<_, String>(catalog)
        })?;
        // Its own thread and runtime: those of the server begin later.
        let following = move || {
            runtime.block_on(async {
                loop {
                    tokio::time::sleep(INTERVAL).await;
                    if let Err(error) = self.update(&catalog).await {
                        tracing::warn!(%error, "the folder's catalogue is not up to date");
                    }
                }
            });
        };
        thread::Builder::new().name("folder".into()).spawn(following).map(drop).map_err(|error| error.to_string())
    }

    async fn update(&self, catalog: &Catalog) -> Result<(), String> {
        let files = media::tracks(&self.folder).map_err(|error| error.to_string())?;
        let tracks: Vec<NewTrack> = files.into_iter().filter_map(track).collect();
        let mut there = BTreeSet::new();
        let mut after = String::new();
        loop {
            let page = catalog.list(&after, PAGE).await.map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { break };
            after = last.id.to_string();
            there.extend(page.iter().filter(|track| track.deleted_at.is_none()).map(|track| track.id.to_string()));
        }
        for track in &tracks {
            let known = there.remove(track.id.as_str());
            let added = catalog.add(track, self.clock.unix_millis()).await.map_err(|error| error.to_string())?;
            if known && added == AddOutcome::Conflict {
                // The file is another one than before.
                catalog
                    .import(std::slice::from_ref(track), self.clock.unix_millis())
                    .await
                    .map_err(|error| error.to_string())?;
            }
        }
        for gone in there.into_iter().filter_map(TrackId::parse) {
            catalog.delete(&gone, self.clock.unix_millis()).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Returns a file as a track; its id is its key, which has no slashes then.
fn track(file: AudioFile) -> Option<NewTrack> {
    Some(NewTrack {
        id: TrackId::parse(file.key.replace('/', ":"))?,
        store: STORE.to_owned(),
        bucket: BUCKET.to_owned(),
        content_type: Some(file.media_type.to_owned()),
        size: Some(file.size),
        owner: UserId::parse(USER),
        key: file.key,
    })
}
