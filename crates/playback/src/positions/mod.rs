//! Positions: where a user stopped listening to a track, and the list of what can be continued.
//!
//! Owns saving, reading, clearing and listing positions, keyed by user, kind and item, in milliseconds. A position that
//! was acknowledged is kept: with a database it survives the end of this process. Of two positions the one with the
//! newer time wins, whatever order they come in and whichever node takes them. Knows nothing of tracks: whether one
//! exists, and who may play it, is the catalogue's.

mod metrics;
mod resume;
mod routes;
pub mod settings;
mod store;
mod write_queue;

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use routes::routes;

use metrics::PositionMetrics;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use server_kit::database::Database;
use server_kit::redis::Redis;
use settings::Settings;
use store::{PositionListQuery, PositionStore, ProgressCursor};
use write_queue::WriteQueue;

/// Between two removals of what is too old.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);
/// Rows that are read at once for a list.
const ROWS_PER_READ: usize = 200;
/// So often at most for one answer; what follows is behind the cursor.
const MAX_READS: usize = 10;

/// What is listened to: the rules of the list differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// A piece of music.
    #[default]
    Audio,
    /// A book, which nobody hears at one go.
    Audiobook,
    /// An episode.
    Podcast,
    /// A film.
    Film,
}

impl ItemKind {
    const ALL: [Self; 4] = [Self::Audio, Self::Audiobook, Self::Podcast, Self::Film];

    /// As it is written everywhere.
    fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Audiobook => "audiobook",
            Self::Podcast => "podcast",
            Self::Film => "film",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Whose position in what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PositionKey {
    /// The user's id.
    pub user: UserId,
    /// What the item is.
    pub kind: ItemKind,
    /// The item's id.
    pub item: TrackId,
}

/// What is kept of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRecord {
    /// Whose, in what.
    pub key: PositionKey,
    /// Milliseconds from the beginning; `None`: cleared, and kept so that an older position does not come back.
    pub position: Option<i64>,
    /// The item's length in milliseconds, where it is known.
    pub duration: Option<i64>,
    /// When it was so, in milliseconds since the Unix epoch: of two the newer one is kept.
    pub updated_at: i64,
    /// When it was reported, by the server's clock: it is kept for `Ttl` from then.
    pub reported_at: i64,
}

/// What a player reports.
#[derive(Clone, Copy, Debug)]
pub struct PositionReport {
    /// Milliseconds from the beginning.
    pub position: i64,
    /// The item's length in milliseconds.
    pub duration: Option<i64>,
    /// The player's time, in milliseconds since the Unix epoch; `None`: now.
    pub at: Option<i64>,
}

/// Why it cannot be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither kept nor read: try again.
    #[error("positions cannot be kept or read at the moment")]
    Unavailable,
    /// More is waiting than is taken.
    #[error("too many positions are waiting to be kept")]
    Busy,
}

/// Part of a list.
pub struct ProgressPage {
    /// The newest first.
    pub entries: Vec<PositionRecord>,
    /// Where it goes on, if there may be more.
    pub next: Option<ProgressCursor>,
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct PositionService {
    queue: WriteQueue,
    store: Arc<dyn PositionStore>,
    settings: Settings,
    clock: Clock,
    metrics: PositionMetrics,
}

impl PositionService {
    /// Starts it over what there is; `None` where there is neither a database nor Redis.
    pub fn start(
        settings: Settings,
        (database, redis): (Option<Database>, Option<Redis>),
        clock: &Clock,
        tasks: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Option<Self>, prometheus::Error> {
        let numbers = PositionMetrics::register(registry)?;
        let Some(store) = store::open(database, redis, &settings, clock, &numbers) else { return Ok(None) };
        let queue = WriteQueue::start(Arc::clone(&store), tasks, numbers.clone());
        let this = Self { queue, store, settings, clock: clock.clone(), metrics: numbers };
        tasks.spawn(this.clone().run_cleanup(tasks.clone()));
        tasks.spawn(this.clone().reconcile(tasks.clone()));
        Ok(Some(this))
    }

    /// Keeps what a player reports; it is kept when this returns. A time of the future counts as now: a clock that is
    /// fast must not outlast all others.
    pub async fn save(&self, key: PositionKey, report: PositionReport) -> Result<(), Error> {
        let now = self.now();
        let at = report.at.unwrap_or(now).min(now);
        let (position, duration) = (Some(report.position), report.duration);
        self.queue.save(PositionRecord { key, position, duration, updated_at: at, reported_at: now }).await
    }

    /// Forgets a position; older ones that come late do not bring it back.
    pub async fn clear(&self, key: PositionKey) -> Result<(), Error> {
        let now = self.now();
        self.queue.save(PositionRecord { key, position: None, duration: None, updated_at: now, reported_at: now }).await
    }

    /// A position, where there is one.
    pub async fn get(&self, key: &PositionKey) -> Result<Option<i64>, Error> {
        let found = self.store.get(key).await.map_err(|error| self.read_failed(&error))?;
        Ok(found.filter(|entry| entry.reported_at >= self.expiry_cutoff()).and_then(|entry| entry.position))
    }

    /// What `user` can continue, the newest first.
    pub async fn progress(
        &self,
        user: &UserId,
        kind: Option<ItemKind>,
        limit: usize,
        mut after: Option<ProgressCursor>,
    ) -> Result<ProgressPage, Error> {
        let mut entries = Vec::new();
        for _ in 0..MAX_READS {
            let listing = PositionListQuery {
                user,
                kind,
                after: after.as_ref(),
                reported_since: self.expiry_cutoff(),
                limit: ROWS_PER_READ,
            };
            let page = self.store.list(&listing).await.map_err(|error| self.read_failed(&error))?;
            after = page.next;
            for entry in page.entries {
                if !resume::can_continue(&entry, &self.settings) {
                    continue;
                }
                if entries.len() == limit {
                    // Only one more says that there is a next page.
                    let next = entries.last().map(ProgressCursor::after);
                    return Ok(ProgressPage { entries, next });
                }
                entries.push(entry);
            }
            if after.is_none() {
                break;
            }
        }
        Ok(ProgressPage { entries, next: after })
    }

    fn now(&self) -> i64 {
        self.clock.unix_millis()
    }

    /// What was reported before has expired.
    fn expiry_cutoff(&self) -> i64 {
        self.now() - i64::try_from(self.settings.ttl.as_millis()).unwrap_or(i64::MAX)
    }

    fn read_failed(&self, error: &store::PositionStoreError) -> Error {
        self.metrics.read_failures.inc();
        tracing::warn!(%error, "a position could not be read");
        Error::Unavailable
    }

    async fn reconcile(self, tasks: BackgroundTasks) {
        tokio::select! {
            () = self.store.reconcile() => {}
            () = tasks.stopping() => {}
        }
    }

    async fn run_cleanup(self, tasks: BackgroundTasks) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(CLEANUP_INTERVAL) => {}
                () = tasks.stopping() => return,
            }
            if let Err(error) = self.store.remove_expired(self.expiry_cutoff()).await {
                tracing::warn!(%error, "expired positions could not be removed");
            }
        }
    }
}
