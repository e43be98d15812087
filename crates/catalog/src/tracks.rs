//! Tracks in the database.

use http::HeaderValue;
use sqlx::Error;

use super::Track;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

const COLUMNS: &str =
    "id, store, bucket, object_key, content_type, size_bytes, owner_id, deleted_at, created_at, updated_at";

/// Upsert of an import. Type and owner stay as they are where the import does not know them.
const IMPORT: &str =
    "INSERT INTO tracks (id, store, bucket, object_key, content_type, size_bytes, owner_id, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
    ON CONFLICT (id) DO UPDATE SET store = excluded.store, bucket = excluded.bucket, object_key = excluded.object_key,
        content_type = COALESCE(excluded.content_type, tracks.content_type), size_bytes = excluded.size_bytes,
        owner_id = COALESCE(excluded.owner_id, tracks.owner_id), updated_at = excluded.updated_at
    WHERE tracks.store <> excluded.store OR tracks.bucket <> excluded.bucket OR tracks.object_key <> excluded.object_key
        OR tracks.content_type IS DISTINCT FROM COALESCE(excluded.content_type, tracks.content_type)
        OR tracks.size_bytes IS DISTINCT FROM excluded.size_bytes
        OR tracks.owner_id IS DISTINCT FROM COALESCE(excluded.owner_id, tracks.owner_id)
    RETURNING created_at, updated_at";

/// Stores and buckets of tracks. Only 10,000 rows are read, because reading all rows of a large catalog takes long.
const BUCKETS: &str = "SELECT DISTINCT store, bucket
    FROM (SELECT store, bucket FROM tracks WHERE deleted_at IS NULL LIMIT 10000) AS looked_at";

/// Row of the table, in the order of [`COLUMNS`].
type TrackRow = (String, String, String, String, Option<String>, Option<i64>, Option<String>, Option<i64>, i64, i64);

/// Track to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTrack {
    /// Track id.
    pub id: TrackId,
    /// The store's name in the YAML.
    pub store: String,
    /// The bucket.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// The media type.
    pub content_type: Option<String>,
    /// The size in bytes.
    pub size: Option<u64>,
    /// Owner, who may always have the track.
    pub owner: Option<UserId>,
}

/// Tracks that are not deleted, of a user by `$1` (NULL: of everybody), after the key `$2` and the id `$3`.
const LIBRARY: &str = "deleted_at IS NULL AND (object_key > $2 OR object_key = $2 AND id > $3)
    AND ($1 IS NULL OR owner_id = $1 OR EXISTS (SELECT 1 FROM track_grants WHERE user_id IN ($1, '*')
        AND (track_id = tracks.id AND is_prefix = 0
            OR is_prefix = 1 AND substr(tracks.id, 1, length(track_id)) = track_id)))";

/// What a user lists or searches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryQuery {
    /// The user; `None` for the whole catalogue.
    pub user: Option<UserId>,
    /// The one track that is looked for; `None` for all.
    pub id: Option<TrackId>,
    /// Words that each found track has in its key or id.
    pub words: Vec<String>,
    /// Key and id of the track before the first one.
    pub after: (String, String),
    /// Most tracks.
    pub limit: u32,
}

/// Outcome of adding a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    /// The track is new, or replaces a deleted one.
    New(Track),
    /// The same track was there already.
    Same(Track),
    /// Another track has this id.
    Conflict,
}

/// Counts of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Tracks that are new.
    pub added: u64,
    /// Tracks that were updated.
    pub changed: u64,
    /// Tracks that needed no change.
    pub unchanged: u64,
}

/// Table of tracks.
#[derive(Clone)]
pub struct TrackTable {
    database: Database,
}

impl TrackTable {
    /// Returns the table of `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Returns the stores and buckets of the first 10,000 tracks.
    pub async fn buckets(&self) -> Result<Vec<(String, String)>, Error> {
        on!(&self.database, pool => sqlx::query_as(BUCKETS).fetch_all(pool).await)
    }

    /// Returns the track with this id, also if it was deleted.
    pub async fn find(&self, id: &str) -> Result<Option<Track>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM tracks WHERE id = $1");
        let row: Option<TrackRow> =
            on!(&self.database, pool => sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await)?;
        Ok(row.map(track))
    }

    /// Adds a track unless its id is taken; replaces a deleted track.
    pub async fn add(&self, new: &NewTrack, now: UnixMillis) -> Result<AddOutcome, Error> {
        let sql = format!(
            "INSERT INTO tracks (id, store, bucket, object_key, content_type, size_bytes, owner_id, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
             ON CONFLICT (id) DO UPDATE SET store = excluded.store, bucket = excluded.bucket,
                object_key = excluded.object_key, content_type = excluded.content_type,
                size_bytes = excluded.size_bytes, owner_id = excluded.owner_id, deleted_at = NULL,
                created_at = excluded.created_at, updated_at = excluded.updated_at
             WHERE tracks.deleted_at IS NOT NULL RETURNING {COLUMNS}"
        );
        let row: Option<TrackRow> = on!(&self.database, pool => sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(new.id.as_str()).bind(&new.store).bind(&new.bucket).bind(&new.key).bind(&new.content_type).bind(size(new))
            .bind(new.owner.as_ref().map(UserId::as_str)).bind(now.as_millis()).fetch_optional(pool).await)?;
        // No row: the id belongs to a track that is not deleted, and the `WHERE` kept it as it is.
        if let Some(row) = row {
            return Ok(AddOutcome::New(track(row)));
        }
        Ok(match self.find(new.id.as_str()).await? {
            Some(there) if is_same(&there, new) => AddOutcome::Same(there),
            // Also where the track went between the two statements: the caller may repeat the request.
            _ => AddOutcome::Conflict,
        })
    }

    /// Adds or updates tracks, in one transaction; deleted ones stay deleted.
    pub async fn import(&self, all: &[NewTrack], now: UnixMillis) -> Result<ImportSummary, Error> {
        let mut imported = ImportSummary::default();
        on!(&self.database, pool => {
            let mut transaction = pool.begin().await?;
            for new in all {
                let row: Option<(i64, i64)> = sqlx::query_as(IMPORT)
                    .bind(new.id.as_str()).bind(&new.store).bind(&new.bucket).bind(&new.key).bind(&new.content_type)
                    .bind(size(new)).bind(new.owner.as_ref().map(UserId::as_str)).bind(now.as_millis()).fetch_optional(&mut *transaction).await?;
                match row {
                    // `RETURNING` gives no row where the `WHERE` found nothing to change.
                    None => imported.unchanged += 1,
                    // A new row gets both times from $8; an update leaves the time of creation.
                    Some((created, updated)) if created == updated => imported.added += 1,
                    Some(_) => imported.changed += 1,
                }
            }
            transaction.commit().await?;
        });
        Ok(imported)
    }

    /// Lists at most `limit` tracks whose ids come after `after`, deleted ones too.
    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<Track>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM tracks WHERE id > $1 ORDER BY id LIMIT $2");
        let rows: Vec<TrackRow> = on!(&self.database, pool => sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(after).bind(i64::from(limit)).fetch_all(pool).await)?;
        Ok(rows.into_iter().map(track).collect())
    }

    /// Returns the tracks that a query finds, ordered by key and id.
    pub async fn search(&self, query: &LibraryQuery) -> Result<Vec<Track>, Error> {
        let patterns: Vec<[String; 4]> = query.words.iter().map(|word| spellings(word)).collect();
        let mut sql = format!("SELECT {COLUMNS} FROM tracks WHERE {LIBRARY}");
        for word in 0..patterns.len() {
            // $4 is the limit; each word has four parameters behind it.
            let either: Vec<String> = (0..4)
                .flat_map(|spelling| ["object_key", "id"].map(|column| (column, 5 + word * 4 + spelling)))
                .map(|(column, number)| format!("{column} LIKE ${number} ESCAPE '!'"))
                .collect();
            sql.push_str(&format!(" AND ({})", either.join(" OR ")));
        }
        if query.id.is_some() {
            sql.push_str(&format!(" AND id = ${}", 5 + patterns.len() * 4));
        }
        sql.push_str(" ORDER BY object_key, id LIMIT $4");
        let rows: Vec<TrackRow> = on!(&self.database, pool => {
            let mut statement = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(query.user.as_ref().map(UserId::as_str)).bind(&query.after.0).bind(&query.after.1)
                .bind(i64::from(query.limit));
            for pattern in patterns.iter().flatten() {
                statement = statement.bind(pattern);
            }
            if let Some(id) = &query.id {
                statement = statement.bind(id.as_str());
            }
            statement.fetch_all(pool).await
        })?;
        Ok(rows.into_iter().map(track).collect())
    }

    /// Marks a track as deleted. A track that is deleted already keeps its time of deletion. `None` if there is no such
    /// track.
    pub async fn delete(&self, id: &TrackId, now: UnixMillis) -> Result<Option<Track>, Error> {
        let sql = format!(
            "UPDATE tracks SET deleted_at = COALESCE(deleted_at, $2), updated_at = COALESCE(deleted_at, $2)
             WHERE id = $1 RETURNING {COLUMNS}"
        );
        let row: Option<TrackRow> = on!(&self.database, pool => sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(id.as_str()).bind(now.as_millis()).fetch_optional(pool).await)?;
        Ok(row.map(track))
    }
}

/// Returns patterns of a word in the cases that names have: SQLite folds ASCII only, and PostgreSQL nothing.
fn spellings(word: &str) -> [String; 4] {
    let (lower, upper) = (word.to_lowercase(), word.to_uppercase());
    let mut letters = lower.chars();
    let title = letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    [word.to_owned(), lower, upper, title].map(|text| {
        let literal = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
        format!("%{literal}%")
    })
}

fn track(row: TrackRow) -> Track {
    let (id, store, bucket, key, content_type, size, owner, deleted_at, created_at, updated_at) = row;
    Track {
        id: id.into(),
        store: store.into(),
        bucket: bucket.into(),
        key: key.into(),
        // A value that another program wrote and that no header can carry is left out rather than failing the request.
        content_type: content_type.and_then(|text| HeaderValue::try_from(text).ok()),
        size: size.and_then(|size| u64::try_from(size).ok()),
        owner: owner.map(Into::into),
        deleted_at: deleted_at.map(UnixMillis::new),
        created_at: UnixMillis::new(created_at),
        updated_at: UnixMillis::new(updated_at),
    }
}

fn size(new: &NewTrack) -> Option<i64> {
    // SQL has no unsigned integers; the API refuses such sizes before.
    new.size.and_then(|size| i64::try_from(size).ok())
}

fn is_same(there: &Track, new: &NewTrack) -> bool {
    *there.store == *new.store
        && *there.bucket == *new.bucket
        && *there.key == *new.key
        && there.content_type.as_ref().map(HeaderValue::as_bytes) == new.content_type.as_deref().map(str::as_bytes)
        && there.size == new.size
        && there.owner.as_deref() == new.owner.as_ref().map(UserId::as_str)
}
