//! Verification: each component is read back from the store, and restored on trial: a database into one of its own, whose rows
//! are counted, an RDB file through Redis' own checker, the others by their digests.

use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

use crate::bucket::ObjectBucket;
use crate::component::BackupComponent;
use crate::compression::{StreamThread, decompress, outcome_of};
use crate::failure::StepFailure;
use crate::manifest::ComponentEntry;
use crate::source::postgres::{PostgresServer, scratch_name};
use crate::source::{ComponentSources, Counts, of_work_folder, redis, sqlite};
use crate::work_folder::WorkFile;

/// Restores a component of the backup `id` on trial; returns what is counted in it. Fails where it is not what `entry` says.
pub async fn verify(
    bucket: &ObjectBucket,
    key: String,
    entry: &ComponentEntry,
    sources: &ComponentSources,
    id: Uuid,
) -> Result<Counts, StepFailure> {
    let settings = sources.settings();
    match entry.component {
        BackupComponent::Postgres => verify_postgres(bucket, key, entry, &sources.postgres()?, id).await,
        BackupComponent::Sqlite => {
            let file = WorkFile::create(&settings.work_folder, id, "trial.db").map_err(of_work_folder)?;
            read_into_file(bucket, key, entry, file.path()).await?;
            let counts = sqlite::check(file.path()).await?;
            compare_counts(entry, &counts)?;
            Ok(counts)
        }
        BackupComponent::Redis => {
            let file = WorkFile::create(&settings.work_folder, id, "trial.rdb").map_err(of_work_folder)?;
            read_into_file(bucket, key, entry, file.path()).await?;
            redis::check(file.path(), &settings.environment.search_path).await
        }
        BackupComponent::Config | BackupComponent::Logs => {
            read_back(bucket, key, entry, tokio::io::sink()).await?;
            Ok(Counts::new())
        }
    }
}

async fn verify_postgres(
    bucket: &ObjectBucket,
    key: String,
    entry: &ComponentEntry,
    server: &PostgresServer,
    id: Uuid,
) -> Result<Counts, StepFailure> {
    let scratch = scratch_name(id);
    server.create_database(&scratch).await?;
    let restored = restore_postgres(bucket, key, entry, server, &scratch).await;
    // One that stays is removed when the backup is cleaned up.
    let dropped = server.drop_database(&scratch).await;
    let counts = restored?;
    dropped?;
    Ok(counts)
}

/// Restores a dump into the empty database `name`; returns the rows of its tables.
pub async fn restore_postgres(
    bucket: &ObjectBucket,
    key: String,
    entry: &ComponentEntry,
    server: &PostgresServer,
    name: &str,
) -> Result<Counts, StepFailure> {
    let (tool, input) = server.restore(name)?;
    match read_back(bucket, key, entry, input).await {
        // It has closed its input: it says why.
        Err(StepFailure::File(..)) => {
            tool.end().await?;
            return Err(StepFailure::Tool("pg_restore", "it ended before the dump did".to_owned()));
        }
        outcome => outcome?,
    }
    tool.end().await?;
    let counts = server.counts(name).await?;
    compare_counts(entry, &counts)?;
    Ok(counts)
}

/// Reads a component into a file.
pub async fn read_into_file(
    bucket: &ObjectBucket,
    key: String,
    entry: &ComponentEntry,
    path: &Path,
) -> Result<(), StepFailure> {
    let file = File::options().write(true).truncate(true).open(path).await.map_err(of_work_folder)?;
    read_back(bucket, key, entry, file).await
}

/// Reads a component into `sink`, which is closed at the end. Fails where sizes or digests are others than `entry` says.
pub async fn read_back(
    bucket: &ObjectBucket,
    key: String,
    entry: &ComponentEntry,
    mut sink: impl AsyncWrite + Unpin,
) -> Result<(), StepFailure> {
    let mut reader = bucket.read(key);
    let StreamThread { input, mut output, outcome } = decompress(entry.bytes);
    let feed = async move {
        while let Some(piece) = reader.next().await? {
            // Refused: the outcome tells.
            if input.send(piece).await.is_err() {
                break;
            }
        }
        Ok::<_, StepFailure>(())
    };
    let drain = async move {
        while let Some(piece) = output.recv().await {
            sink.write_all(&piece).await.map_err(of_work_folder)?;
        }
        sink.shutdown().await.map_err(of_work_folder)
    };
    tokio::try_join!(feed, drain)?;
    let damaged = |what| StepFailure::Damaged(entry.component, what);
    let found = outcome_of(outcome).await?.ok_or_else(|| damaged("it cannot be decompressed"))?;
    let is_stored = (found.stored_bytes, &found.stored_sha256) == (entry.stored_bytes, &entry.stored_sha256);
    let is_same = (found.bytes, &found.sha256) == (entry.bytes, &entry.sha256);
    match (is_stored, is_same) {
        (true, true) => Ok(()),
        (false, _) => Err(damaged("its object is another one than was stored")),
        (true, false) => Err(damaged("it is another one than was backed up")),
    }
}

/// Compares rows with those that were backed up.
pub fn compare_counts(entry: &ComponentEntry, found: &Counts) -> Result<(), StepFailure> {
    let expected = &entry.counts;
    let names = expected.keys().chain(found.keys());
    let different = names.into_iter().find(|name| expected.get(*name) != found.get(*name));
    let Some(name) = different else { return Ok(()) };
    let rows =
        |counts: &Counts| counts.get(name).map_or_else(|| "no such table".to_owned(), |rows| format!("{rows} rows"));
    Err(StepFailure::Different(entry.component, format!("{} of {name} instead of {}", rows(found), rows(expected))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_differ_are_named() {
        let counts =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect::<Counts>();
        let entry = ComponentEntry {
            component: BackupComponent::Sqlite,
            stored_bytes: 0,
            stored_sha256: String::new(),
            bytes: 0,
            sha256: String::new(),
            counts: counts(&[("a", 1), ("b", 2)]),
        };
        for (found, words) in [
            (&[("a", 1), ("b", 2)][..], None),
            (&[("a", 1), ("b", 3)], Some("sqlite was restored with 3 rows of b instead of 2 rows")),
            (&[("a", 1)], Some("sqlite was restored with no such table of b instead of 2 rows")),
            (&[("a", 1), ("b", 2), ("c", 0)], Some("sqlite was restored with 0 rows of c instead of no such table")),
        ] {
            let said = compare_counts(&entry, &counts(found)).err().map(|failure| failure.to_string());
            assert_eq!(said.as_deref(), words);
        }
    }
}
