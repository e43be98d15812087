//! History of recognition in the database.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Error;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

/// Timeout of a query: a pool without a server would wait longer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

const COLUMNS: &str = "id, user_id, title, artist, track_id, confidence, offset_ms, source, created_at";
const INSERT: &str = "INSERT INTO recognition_history
        (id, user_id, title, artist, track_id, confidence, offset_ms, source, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
/// Drops what is older than the newest entries.
const TRIM: &str = "DELETE FROM recognition_history WHERE user_id = $1 AND id < (
        SELECT MIN(id) FROM (SELECT id FROM recognition_history WHERE user_id = $1 ORDER BY id DESC LIMIT $2) AS newest)";
const DELETE: &str = "DELETE FROM recognition_history WHERE id = $1 AND ($2 IS NULL OR user_id = $2) RETURNING id";

/// Who has named a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecognitionSource {
    /// The index of the catalogue.
    Catalogue,
}

impl RecognitionSource {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Catalogue => "catalogue",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        (name == Self::Catalogue.name()).then_some(Self::Catalogue)
    }
}

/// Track that was recognised.
#[derive(Clone, Debug, PartialEq)]
pub struct RecognizedMatch {
    /// Title.
    pub title: String,
    /// Artist, where it is known.
    pub artist: Option<String>,
    /// Id, where it is a track of the catalogue.
    pub track: Option<String>,
    /// Confidence, from 0 to 1.
    pub confidence: f64,
    /// Place in the track at which the clip begins.
    pub offset: Duration,
    /// Who says so.
    pub source: RecognitionSource,
}

/// Entry of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Id, ordered by time.
    pub id: Uuid,
    /// Whose it is.
    pub user: UserId,
    /// The track, if one was recognised.
    pub found: Option<RecognizedMatch>,
    /// Time.
    pub created_at: UnixMillis,
}

/// Row in the order of [`COLUMNS`].
type EntryRow = (String, String, Option<String>, Option<String>, Option<String>, f64, Option<i64>, Option<String>, i64);

/// Store over the table `recognition_history`.
pub struct HistoryStore {
    database: Database,
    failures: FailureLog,
}

impl HistoryStore {
    /// Creates the store over `database`.
    pub fn new(database: Database) -> Self {
        Self { database, failures: FailureLog::default() }
    }

    /// Adds an entry, and drops the user's oldest beyond `most`.
    pub async fn add(&self, entry: &HistoryEntry, most: u32) -> Result<(), Error> {
        let found = entry.found.as_ref();
        let offset = found.map(|found| i64::try_from(found.offset.as_millis()).unwrap_or(i64::MAX));
        let added = async {
            on!(&self.database, pool => {
                let query = sqlx::query(INSERT).bind(entry.id.to_string()).bind(entry.user.as_str());
                let query = query.bind(found.map(|found| found.title.as_str()));
                let query = query.bind(found.and_then(|found| found.artist.as_deref()));
                let query = query.bind(found.and_then(|found| found.track.as_deref()));
                let query = query.bind(found.map_or(0.0, |found| found.confidence)).bind(offset);
                let query = query.bind(found.map(|found| found.source.name())).bind(entry.created_at.as_millis());
                query.execute(pool).await?;
                sqlx::query(TRIM).bind(entry.user.as_str()).bind(i64::from(most)).execute(pool).await.map(|_| ())
            })
        };
        self.run(added).await
    }

    /// Deletes an entry, of `user` alone where one is given; returns false where there is none.
    pub async fn delete(&self, id: Uuid, user: Option<&UserId>) -> Result<bool, Error> {
        let deleted = async {
            on!(&self.database, pool => {
                let query = sqlx::query_scalar::<_, String>(DELETE).bind(id.to_string());
                query.bind(user.map(UserId::as_str)).fetch_optional(pool).await
            })
        };
        Ok(self.run(deleted).await?.is_some())
    }

    /// Lists at most `limit` entries of a user, or of all, that are older than `before`, the newest first.
    pub async fn list(
        &self,
        user: Option<&UserId>,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM recognition_history WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR user_id = $2)
             ORDER BY id DESC LIMIT $3"
        );
        let listed = async {
            on!(&self.database, pool => {
                let query = sqlx::query_as::<_, EntryRow>(AssertSqlSafe(sql));
                let query = query.bind(before.map(|id| id.to_string()));
                query.bind(user.map(UserId::as_str)).bind(i64::from(limit)).fetch_all(pool).await
            })
        };
        Ok(self.run(listed).await?.into_iter().filter_map(entry).collect())
    }

    /// Runs a query within its timeout; a failure is logged.
    async fn run<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        let reason = match timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(found)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("the history of recognition can be kept and read again");
                }
                return Ok(found);
            }
            Ok(Err(error)) => line(&chain(&error)).to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.failures.is_news(&reason, monotonic_now()) {
            let message = "the history of recognition cannot be kept or read: the database does not answer";
            tracing::warn!(error = reason, message);
        }
        Err(Error::Unavailable)
    }
}

/// Returns the entry of a row; `None` for one that another version wrote and this one cannot read.
fn entry(row: EntryRow) -> Option<HistoryEntry> {
    let (id, user, title, artist, track, confidence, offset, source, created_at) = row;
    let found = match (title, offset, source) {
        (Some(title), Some(offset), Some(source)) => Some(RecognizedMatch {
            title,
            artist,
            track,
            confidence,
            offset: Duration::from_millis(u64::try_from(offset).ok()?),
            source: RecognitionSource::from_name(&source)?,
        }),
        (None, ..) => None,
        (Some(_), ..) => return None,
    };
    let (id, user) = (Uuid::parse_str(&id).ok()?, UserId::parse(user)?);
    Some(HistoryEntry { id, user, found, created_at: UnixMillis::new(created_at) })
}
