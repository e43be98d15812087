//! Positions: where a user stopped listening to a track, and the list of items that can be continued.
//!
//! Owns saving, reading, clearing and listing positions, keyed by user, kind and item, in milliseconds. An acknowledged
//! position is stored: with a database it survives the end of this process. Of two positions the one with the newer
//! time wins, in whatever order and on whichever node they arrive. Knows nothing of tracks: their existence and the
//! right to play them belong to the catalog.

mod metrics;
mod resume;
mod routes;
pub mod settings;
mod store;
mod write_back;
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
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::redis::Redis;
use settings::Settings;
use store::{DatabasePositionStore, PositionListQuery, PositionStore, ProgressCursor};
use write_back::WriteBackPositions;
use write_queue::WriteQueue;

/// Interval of the removal of expired positions.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);
/// Rows per read of a list.
const ROWS_PER_READ: usize = 200;
/// Most reads for one page; further entries are behind the cursor.
const MAX_READS: usize = 10;

/// Kind of an item: the rules of the list differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// A piece of music.
    #[default]
    Audio,
    /// A book, which nobody hears in one go.
    Audiobook,
    /// An episode.
    Podcast,
    /// A film.
    Film,
}

impl ItemKind {
    const ALL: [Self; 4] = [Self::Audio, Self::Audiobook, Self::Podcast, Self::Film];

    /// Returns the name as it is written in JSON, SQL and Redis.
    fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Audiobook => "audiobook",
            Self::Podcast => "podcast",
            Self::Film => "film",
        }
    }

    /// Returns true if positions of that kind do not expire.
    fn is_permanent(self) -> bool {
        match self {
            Self::Film => true,
            Self::Audio | Self::Audiobook | Self::Podcast => false,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Key of a position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PositionKey {
    /// The user's id.
    pub user: UserId,
    /// Kind of the item.
    pub kind: ItemKind,
    /// The item's id.
    pub item: TrackId,
}

/// Stored position of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRecord {
    /// User, kind and item.
    pub key: PositionKey,
    /// Milliseconds from the beginning; `None` if cleared, which is stored so that an older position does not come
    /// back.
    pub position: Option<i64>,
    /// The item's length in milliseconds, where it is known.
    pub duration: Option<i64>,
    /// Time of the position: of two, the newer one wins.
    pub updated_at: UnixMillis,
    /// Time of the report by the server's clock; the entry expires `Ttl` after it.
    pub reported_at: UnixMillis,
}

/// Report of a player.
#[derive(Clone, Copy, Debug)]
pub struct PositionReport {
    /// Milliseconds from the beginning.
    pub position: i64,
    /// The item's length in milliseconds.
    pub duration: Option<i64>,
    /// Time by the player's clock; `None` is now.
    pub at: Option<UnixMillis>,
    /// True if no other is to be expected soon: it is in the database, where that answers, when it is acknowledged.
    pub is_last: bool,
}

/// Reason for which a position cannot be saved or read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store does not answer: try again.
    #[error("positions cannot be kept or read at the moment")]
    Unavailable,
    /// The queue of writes is full.
    #[error("too many positions are waiting to be kept")]
    Busy,
}

/// Page of the list.
pub struct ProgressPage {
    /// Entries, the newest first.
    pub entries: Vec<PositionRecord>,
    /// Cursor of the next page, if there may be more.
    pub next: Option<ProgressCursor>,
}

/// Service of positions. Clones share it.
#[derive(Clone)]
pub struct PositionService {
    queue: WriteQueue,
    store: Arc<dyn PositionStore>,
    /// Positions in films, where there are Redis and a database.
    films: Option<WriteBackPositions>,
    settings: Settings,
    clock: Clock,
    metrics: PositionMetrics,
}

impl PositionService {
    /// Starts the service over the configured stores; `None` if there is neither a database nor Redis.
    pub fn start(
        settings: Settings,
        (database, redis): (Option<Database>, Option<Redis>),
        clock: &Clock,
        tasks: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Option<Self>, prometheus::Error> {
        let numbers = PositionMetrics::register(registry)?;
        let films = match (&database, &redis) {
            (Some(database), Some(redis)) if settings.write_back.is_enabled => {
                let database = DatabasePositionStore::new(database.clone(), &settings, clock.clone());
                Some(WriteBackPositions::start((database, redis.clone()), &settings, clock, tasks, &numbers))
            }
            _ => None,
        };
        let Some(store) = store::open(database, redis, &settings, clock, &numbers) else { return Ok(None) };
        let queue = WriteQueue::start(Arc::clone(&store), tasks, numbers.clone());
        let this = Self { queue, store, films, settings, clock: clock.clone(), metrics: numbers };
        tasks.spawn(this.clone().run_cleanup(tasks.clone()));
        tasks.spawn(this.clone().reconcile(tasks.clone()));
        Ok(Some(this))
    }

    /// Saves a report; it is stored when this returns. A time in the future counts as now: a fast clock must not win
    /// over all others. Fails where the store does not answer, or too many reports wait.
    pub async fn save(&self, key: PositionKey, report: PositionReport) -> Result<(), Error> {
        let now = self.now();
        let at = report.at.unwrap_or(now).min(now);
        let (position, duration) = (Some(report.position), report.duration);
        let record = PositionRecord { key, position, duration, updated_at: at, reported_at: now };
        self.store_record(record, report.at, report.is_last).await
    }

    /// Clears a position; older reports that arrive late do not bring it back.
    pub async fn clear(&self, key: PositionKey) -> Result<(), Error> {
        let now = self.now();
        let record = PositionRecord { key, position: None, duration: None, updated_at: now, reported_at: now };
        self.store_record(record, None, true).await
    }

    /// Stores `record`, whose time is `at` by the player's clock, or now.
    async fn store_record(&self, record: PositionRecord, at: Option<UnixMillis>, is_last: bool) -> Result<(), Error> {
        match self.films_of(&record.key) {
            Some(films) => films.save(record, at, is_last).await,
            None => self.queue.save(record).await,
        }
    }

    /// Returns the store of films, if `key` is one of them.
    fn films_of(&self, key: &PositionKey) -> Option<&WriteBackPositions> {
        self.films.as_ref().filter(|_| key.kind == ItemKind::Film)
    }

    /// Returns a position, if there is one.
    pub async fn get(&self, key: &PositionKey) -> Result<Option<i64>, Error> {
        Ok(self.get_record(key).await?.and_then(|entry| entry.position))
    }

    /// Returns what is stored of `key`, also a cleared position.
    pub async fn get_record(&self, key: &PositionKey) -> Result<Option<PositionRecord>, Error> {
        let found = match self.films_of(key) {
            Some(films) => films.get(key).await,
            None => self.store.get(key).await,
        };
        let found = found.map_err(|error| self.read_failed(&error))?;
        Ok(found.filter(|entry| key.kind.is_permanent() || entry.reported_at >= self.expiry_cutoff()))
    }

    /// Lists the items that `user` can continue, the newest first.
    pub async fn progress(
        &self,
        user: &UserId,
        kind: Option<ItemKind>,
        limit: usize,
        mut after: Option<ProgressCursor>,
    ) -> Result<ProgressPage, Error> {
        let mut entries = Vec::new();
        // A user with many finished items would otherwise keep one request reading the whole table.
        for _ in 0..MAX_READS {
            let listing = PositionListQuery {
                user,
                kind,
                after: after.as_ref(),
                reported_since: self.expiry_cutoff(),
                limit: ROWS_PER_READ,
            };
            let mut page = self.store.list(&listing).await.map_err(|error| self.read_failed(&error))?;
            if let Some(films) = &self.films {
                page = films.add_dirty(&listing, page).await;
            }
            after = page.next;
            for entry in page.entries {
                if !resume::can_continue(&entry, &self.settings) {
                    continue;
                }
                if entries.len() == limit {
                    // Only one entry more tells that there is a next page.
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

    fn now(&self) -> UnixMillis {
        self.clock.unix_millis()
    }

    /// Returns the time before which reports have expired.
    fn expiry_cutoff(&self) -> UnixMillis {
        self.now() - self.settings.ttl
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
                // Sleep first: a node that restarts often does not search the table at every start.
                () = tokio::time::sleep(CLEANUP_INTERVAL) => {}
                () = tasks.stopping() => return,
            }
            if let Err(error) = self.store.remove_expired(self.expiry_cutoff()).await {
                tracing::warn!(%error, "expired positions could not be removed");
            }
        }
    }
}
