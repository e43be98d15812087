//! SQLite: a copy of one state of the file, and whether a file is whole.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::Counts;
use crate::failure::StepFailure;

const TABLES: &str =
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1";

/// Copies the state of the database at `from` now into the empty file `to`; writers go on meanwhile.
pub async fn copy(from: &Path, to: &Path) -> Result<(), StepFailure> {
    let mut connection = open(from, false).await?;
    let to = to.to_str().ok_or_else(|| StepFailure::Database("Backup.WorkFolder is no UTF-8".to_owned()))?;
    sqlx::query("VACUUM INTO $1").bind(to).execute(&mut connection).await.map_err(of_sql)?;
    connection.close().await.map_err(of_sql)
}

/// Checks a copy; returns the rows of each table.
pub async fn check(path: &Path) -> Result<Counts, StepFailure> {
    let mut connection = open(path, true).await?;
    let found: String =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await.map_err(of_sql)?;
    if found != "ok" {
        return Err(StepFailure::Database(format!("the copy is not whole: {found}")));
    }
    let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut connection).await.map_err(of_sql)?;
    let mut counts = Counts::new();
    for table in tables {
        let count = format!("SELECT COUNT(*) FROM \"{}\"", table.replace('"', "\"\""));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut connection).await.map_err(of_sql)?;
        counts.insert(table, u64::try_from(rows).unwrap_or_default());
    }
    connection.close().await.map_err(of_sql)?;
    Ok(counts)
}

/// Fails where another process has the database open; writes what is still in its log into it, so that the file is whole alone.
pub async fn take_for_oneself(path: &Path) -> Result<(), StepFailure> {
    let in_use = |_| StepFailure::Database("its file is in use: stop the servers that have it open".to_owned());
    let mut connection = open(path, false).await?;
    for statement in ["PRAGMA busy_timeout = 0", "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT"] {
        sqlx::query(statement).execute(&mut connection).await.map_err(in_use)?;
    }
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.map_err(in_use)?;
    connection.close().await.map_err(of_sql)
}

async fn open(path: &Path, is_copy: bool) -> Result<SqliteConnection, StepFailure> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    // Nobody else has a copy, and nothing may be made beside it.
    let options = if is_copy { options.read_only(true).immutable(true) } else { options };
    options.connect().await.map_err(of_sql)
}

fn of_sql(error: sqlx::Error) -> StepFailure {
    StepFailure::of_database(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_has_the_rows_and_a_broken_one_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
        let options = SqliteConnectOptions::new().filename(&from).create_if_missing(true);
        let mut connection = options.connect().await.expect("a database");
        for statement in [
            "CREATE TABLE \"a\"\"b\" (c TEXT)",
            "INSERT INTO \"a\"\"b\" SELECT hex(randomblob(500)) FROM (VALUES (1),(2),(3))",
        ] {
            sqlx::query(statement).execute(&mut connection).await.expect(statement);
        }
        std::fs::write(&to, "").expect("a file");
        copy(&from, &to).await.expect("it is copied while it is open");
        assert_eq!(check(&to).await.expect("it is whole"), Counts::from([("a\"b".to_owned(), 3)]));
        let mut bytes = std::fs::read(&to).expect("it is there");
        bytes.truncate(bytes.len() - 4096);
        std::fs::write(&to, bytes).expect("it is written");
        assert!(check(&to).await.is_err());
        assert!(copy(&from, &from).await.is_err(), "nothing is written over");
    }
}
