//! Service of playlists: who may have which, and changes that overwrite nothing unseen.

use std::sync::Arc;

use bytes::Bytes;
use prometheus::Registry;
use uuid::Uuid;

use crate::Error;
use crate::bodies::MAX_NAME_BYTES;
use crate::formats::{self, ParsedPlaylist};
use crate::metrics::{PlaylistChange, PlaylistMetrics};
use crate::playlist::{Playlist, PlaylistContent, PlaylistHead, PlaylistItem};
use crate::settings::Settings;
use crate::store::PlaylistStore;
use http_semantics::etag::ETagCondition;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::api::revision::is_revision;
use server_kit::api::user::User;
use server_kit::database::Database;

/// Tries to change a playlist that others change at the same time.
const MAX_ATTEMPTS: usize = 16;
/// Name of a playlist that neither the request nor the file names.
const IMPORTED_NAME: &str = "Imported";

/// What the service is made of.
pub struct PlaylistServiceParts {
    /// Its settings.
    pub settings: Settings,
    /// Database of the playlists.
    pub database: Database,
    /// Clock.
    pub clock: Clock,
}

/// Service of playlists. Clones share it.
#[derive(Clone)]
pub struct PlaylistService(Arc<ServiceState>);

struct ServiceState {
    settings: Settings,
    store: PlaylistStore,
    metrics: PlaylistMetrics,
    clock: Clock,
}

impl PlaylistService {
    /// Creates the service.
    pub fn start(parts: PlaylistServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let PlaylistServiceParts { settings, database, clock } = parts;
        let (store, metrics) = (PlaylistStore::new(database), PlaylistMetrics::register(registry)?);
        Ok(Self(Arc::new(ServiceState { settings, store, metrics, clock })))
    }

    /// Returns the settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Returns the metrics.
    pub(crate) fn metrics(&self) -> &PlaylistMetrics {
        &self.0.metrics
    }

    /// Makes a playlist of a user.
    pub(crate) async fn create(&self, user: &UserId, content: PlaylistContent) -> Result<Playlist, Error> {
        let playlist = self.add(user, content).await?;
        self.0.metrics.count_change(PlaylistChange::Created);
        Ok(playlist)
    }

    /// Makes a playlist of a file; returns what the file says too.
    pub(crate) async fn import(
        &self,
        user: &UserId,
        file: Bytes,
        name: Option<String>,
    ) -> Result<(PlaylistHead, ParsedPlaylist), Error> {
        let parsed = tokio::task::spawn_blocking(move || formats::parse(&file)).await;
        let mut parsed = parsed.map_err(|_| Error::Unavailable)?.map_err(Error::Unreadable)?;
        if parsed.items.is_empty() {
            return Err(Error::NothingImported);
        }
        let of_file = parsed.name.clone().map(|mut name| {
            name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
            name.trim_end().to_owned()
        });
        let name = name.or(of_file).unwrap_or_else(|| IMPORTED_NAME.to_owned());
        let (description, items) = (parsed.description.take(), std::mem::take(&mut parsed.items));
        let playlist = self.add(user, PlaylistContent { name, description, items }).await?;
        self.0.metrics.count_change(PlaylistChange::Imported);
        self.0.metrics.skipped_entries.inc_by(u64::try_from(parsed.skipped.len()).unwrap_or(u64::MAX));
        Ok((playlist.head, parsed))
    }

    async fn add(&self, user: &UserId, content: PlaylistContent) -> Result<Playlist, Error> {
        self.check(&content)?;
        let now = self.0.clock.unix_millis();
        let head = PlaylistHead {
            id: Uuid::now_v7(),
            user: user.clone(),
            name: content.name.clone(),
            description: content.description.clone(),
            item_count: u32::try_from(content.items.len()).unwrap_or(u32::MAX),
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let most = self.0.settings.max_playlists_per_user;
        if !self.0.store.add(&head, &content, most).await? {
            return Err(Error::TooManyPlaylists(most));
        }
        Ok(Playlist { head, items: content.items })
    }

    fn check(&self, content: &PlaylistContent) -> Result<(), Error> {
        let Settings { max_items, max_bytes, .. } = self.0.settings;
        let (items, bytes) = (content.items.len(), content.byte_size());
        if u32::try_from(items).is_ok_and(|items| items > max_items) {
            return Err(Error::TooManyItems(items, max_items));
        }
        if u64::try_from(bytes).is_ok_and(|bytes| bytes > max_bytes) {
            return Err(Error::TooLarge(bytes, max_bytes));
        }
        Ok(())
    }

    /// Returns a playlist of the caller, or any for an administrator. That of somebody else does not exist.
    pub async fn get(&self, user: &User, id: Uuid) -> Result<Playlist, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let head = self.head(user, id).await?;
            if let Some(playlist) = self.0.store.items(head).await? {
                return Ok(playlist);
            }
        }
        Err(Error::Unavailable)
    }

    /// Returns the tracks of a playlist of `owner`, for what is begun on the owner's behalf.
    pub async fn tracks_of(&self, owner: &UserId, id: Uuid) -> Result<Vec<TrackId>, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let head = self.0.store.head(id).await?.filter(|head| head.user == *owner);
            if let Some(playlist) = self.0.store.items(head.ok_or(Error::NoSuchPlaylist)?).await? {
                return Ok(playlist.items.into_iter().map(|item| item.track).collect());
            }
        }
        Err(Error::Unavailable)
    }

    async fn head(&self, user: &User, id: Uuid) -> Result<PlaylistHead, Error> {
        let head = self.0.store.head(id).await?;
        head.filter(|head| head.user == *user.id() || user.is_admin()).ok_or(Error::NoSuchPlaylist)
    }

    /// Lists at most `limit` playlists of `of_user`, or of all, whose ids come after `after`.
    pub(crate) async fn list(
        &self,
        of_user: Option<&UserId>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<PlaylistHead>, Error> {
        self.0.store.list(of_user, after, limit).await
    }

    /// Replaces a playlist that is as `condition` wants it.
    pub(crate) async fn replace(
        &self,
        user: &User,
        id: Uuid,
        condition: &ETagCondition,
        content: PlaylistContent,
    ) -> Result<Playlist, Error> {
        self.check(&content)?;
        for _ in 0..MAX_ATTEMPTS {
            let head = self.unchanged(user, id, Some(condition)).await?;
            let now = self.now();
            if let Some(revision) = self.0.store.replace(id, head.revision, &content, now).await? {
                self.0.metrics.count_change(PlaylistChange::Replaced);
                return Ok(Self::changed(head, revision, now, content));
            }
        }
        Err(Error::Unavailable)
    }

    /// Adds tracks at the end of a playlist, whatever others add meanwhile.
    pub(crate) async fn append(&self, user: &User, id: Uuid, more: &[PlaylistItem]) -> Result<Playlist, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let Playlist { head, mut items } = self.get(user, id).await?;
            items.extend_from_slice(more);
            let content = PlaylistContent { name: head.name.clone(), description: head.description.clone(), items };
            self.check(&content)?;
            let now = self.now();
            if let Some(revision) = self.0.store.replace(id, head.revision, &content, now).await? {
                self.0.metrics.count_change(PlaylistChange::Appended);
                return Ok(Self::changed(head, revision, now, content));
            }
        }
        Err(Error::Unavailable)
    }

    /// Deletes a playlist that is as `condition` wants it, if there is one.
    pub(crate) async fn delete(&self, user: &User, id: Uuid, condition: Option<&ETagCondition>) -> Result<(), Error> {
        for _ in 0..MAX_ATTEMPTS {
            let head = self.unchanged(user, id, condition).await?;
            if self.0.store.delete(id, head.revision).await? {
                self.0.metrics.count_change(PlaylistChange::Deleted);
                return Ok(());
            }
        }
        Err(Error::Unavailable)
    }

    /// Returns the head of a playlist that is as `condition` wants it.
    async fn unchanged(&self, user: &User, id: Uuid, condition: Option<&ETagCondition>) -> Result<PlaylistHead, Error> {
        let head = self.head(user, id).await?;
        if !is_revision(condition, head.revision) {
            self.0.metrics.conflicts.inc();
            return Err(Error::Changed);
        }
        Ok(head)
    }

    fn changed(head: PlaylistHead, revision: i64, now: UnixMillis, content: PlaylistContent) -> Playlist {
        let PlaylistContent { name, description, items } = content;
        let item_count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        Playlist { head: PlaylistHead { name, description, item_count, revision, updated_at: now, ..head }, items }
    }

    fn now(&self) -> UnixMillis {
        self.0.clock.unix_millis()
    }
}
