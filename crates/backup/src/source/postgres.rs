//! PostgreSQL: a dump of one state of the database with the rows of each table in that state, and its restoring into a database of
//! its own on the same server. Addresses and passwords reach the programs by their environment (libpq, "Environment Variables").

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::process::{ChildStdin, ChildStdout};
use url::Url;
use uuid::Uuid;

use super::Counts;
use crate::failure::StepFailure;
use crate::settings::ToolEnvironment;
use crate::tool::{RunningTool, ToolCommand};
use primitives::secret::Secret;

/// Tables with rows, of every schema but the system's and those of temporary tables.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    ORDER BY 1, 2";
/// How the database's texts are encoded and sorted.
const LOCALE: &str = "SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text FROM pg_database
    WHERE datname = current_database()";
/// The dump and the counts are of one state, for as long as this transaction lasts.
const BEGIN: [&str; 3] = [
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
];

/// Server and database.
pub struct PostgresServer {
    options: PgConnectOptions,
    environment: Vec<(&'static str, String)>,
    search_path: String,
    /// Name of the database.
    pub database: String,
}

/// State of the database.
pub struct PostgresSnapshot {
    _transaction: PgConnection,
    name: String,
    /// Rows of each table.
    pub counts: Counts,
}

impl PostgresServer {
    /// Reads an address.
    pub fn new(url: &Secret, environment: &ToolEnvironment) -> Result<Self, StepFailure> {
        let bad = || StepFailure::Database("its address cannot be used".to_owned());
        let options = PgConnectOptions::from_str(url.expose()).map_err(|_| bad())?;
        let own = libpq_environment(url.expose()).ok_or_else(bad)?;
        let user = options.get_username().to_owned();
        let database = options.get_database().unwrap_or(&user).to_owned();
        let inherited = environment.postgres.iter().map(|(name, value)| (*name, value.expose().to_owned()));
        // The address goes before the environment.
        let environment_of_tools = inherited.chain(own).collect();
        let search_path = environment.search_path.clone();
        Ok(Self { options, environment: environment_of_tools, search_path, database })
    }

    /// Takes a state of the database, and counts the rows in it.
    pub async fn snapshot(&self) -> Result<PostgresSnapshot, StepFailure> {
        let mut transaction = self.connect(&self.database).await?;
        for statement in BEGIN {
            sqlx::query(statement).execute(&mut transaction).await.map_err(of_sql)?;
        }
        let name = sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut transaction).await;
        let name = name.map_err(of_sql)?;
        let counts = count_rows(&mut transaction).await?;
        Ok(PostgresSnapshot { _transaction: transaction, name, counts })
    }

    /// Begins to dump a state.
    pub fn dump(&self, snapshot: &PostgresSnapshot) -> Result<(RunningTool, ChildStdout), StepFailure> {
        // Uncompressed: what comes after it compresses, and better.
        let arguments = ["--format=custom", "--compress=0", "--no-password"];
        let tool = self.tool("pg_dump").args(arguments).args([format!("--snapshot={}", snapshot.name)]);
        tool.start_reading()
    }

    /// Begins to restore a dump into the database `name`.
    pub fn restore(&self, name: &str) -> Result<(RunningTool, ChildStdin), StepFailure> {
        let arguments = ["--no-owner", "--no-privileges", "--exit-on-error", "--no-password"];
        self.tool("pg_restore").args(arguments).args(["--dbname", name]).start_writing()
    }

    fn tool(&self, name: &'static str) -> ToolCommand {
        ToolCommand::new(name, &self.search_path).envs(&self.environment)
    }

    /// Makes the database `name`, with the encoding and the order of texts of the configured one.
    pub async fn create_database(&self, name: &str) -> Result<(), StepFailure> {
        let mut connection = self.connect_to_any().await?;
        let locale = match self.connect(&self.database).await {
            Ok(mut own) => {
                let locale = sqlx::query_as::<_, (String, String, String)>(LOCALE).fetch_one(&mut own).await;
                Some(locale.map_err(of_sql)?)
            }
            // It may be lost: that is what backups are for.
            Err(_) => None,
        };
        let form = locale.map_or_else(String::new, |(encoding, collate, ctype)| {
            let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
            let (encoding, collate, ctype) = (literal(&encoding), literal(&collate), literal(&ctype));
            format!(" ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}")
        });
        let create = format!("CREATE DATABASE {} TEMPLATE template0{form}", identifier(name));
        sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.map_err(of_sql)?;
        Ok(())
    }

    /// Removes the database `name`, if it is there.
    pub async fn drop_database(&self, name: &str) -> Result<(), StepFailure> {
        let mut connection = self.connect_to_any().await?;
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name));
        sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await.map_err(of_sql)?;
        Ok(())
    }

    /// Counts the rows of each table of the database `name`.
    pub async fn counts(&self, name: &str) -> Result<Counts, StepFailure> {
        count_rows(&mut self.connect(name).await?).await
    }

    /// Puts the database `new` in place of the configured one, which is called `kept_as` from then on; both or neither. Fails
    /// while somebody is connected to it.
    pub async fn replace_database(&self, new: &str, kept_as: &str) -> Result<(), StepFailure> {
        let mut connection = self.connect_to_another().await?;
        let mut transaction = connection.begin().await.map_err(of_sql)?;
        let own = identifier(&self.database);
        let is_there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM pg_database WHERE datname = $1");
        let is_there = is_there.bind(&self.database).fetch_one(&mut *transaction).await.map_err(of_sql)? > 0;
        let away = is_there.then(|| format!("ALTER DATABASE {own} RENAME TO {}", identifier(kept_as)));
        for rename in away.into_iter().chain([format!("ALTER DATABASE {} RENAME TO {own}", identifier(new))]) {
            sqlx::query(AssertSqlSafe(rename)).execute(&mut *transaction).await.map_err(of_sql)?;
        }
        transaction.commit().await.map_err(of_sql)
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, StepFailure> {
        self.options.clone().database(database).connect().await.map_err(of_sql)
    }

    /// Connects to the configured database, or where that is not there to one that is always there.
    async fn connect_to_any(&self) -> Result<PgConnection, StepFailure> {
        match self.connect(&self.database).await {
            Ok(connection) => Ok(connection),
            Err(_) => self.connect_to_another().await,
        }
    }

    async fn connect_to_another(&self) -> Result<PgConnection, StepFailure> {
        match self.connect("postgres").await {
            Ok(connection) => Ok(connection),
            Err(_) => self.connect("template1").await,
        }
    }
}

/// Returns the name of the database in which the backup `id` is tried out.
pub fn scratch_name(id: Uuid) -> String {
    format!("tidegate_verify_{}", id.simple())
}

async fn count_rows(connection: &mut PgConnection) -> Result<Counts, StepFailure> {
    let tables = sqlx::query_as::<_, (String, String)>(TABLES).fetch_all(&mut *connection).await.map_err(of_sql)?;
    let mut counts = Counts::new();
    for (schema, table) in tables {
        let count = format!("SELECT COUNT(*) FROM {}.{}", identifier(&schema), identifier(&table));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *connection).await.map_err(of_sql)?;
        counts.insert(format!("{schema}.{table}"), u64::try_from(rows).unwrap_or_default());
    }
    Ok(counts)
}

/// Returns a name as SQL has it.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn of_sql(error: sqlx::Error) -> StepFailure {
    StepFailure::of_database(&error)
}

/// Returns an address as libpq's variables; `None` where it is none.
fn libpq_environment(url: &str) -> Option<Vec<(&'static str, String)>> {
    let url = Url::parse(url).ok()?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).ok();
    let mut variables = Vec::new();
    let mut set = |name: &'static str, value: String| {
        variables.retain(|(known, _)| *known != name);
        variables.push((name, value));
    };
    if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
        set("PGHOST", decoded(host.trim_matches(['[', ']']))?);
    }
    if let Some(port) = url.port() {
        set("PGPORT", port.to_string());
    }
    if !url.username().is_empty() {
        set("PGUSER", decoded(url.username())?);
    }
    if let Some(password) = url.password() {
        set("PGPASSWORD", decoded(password)?);
    }
    let database = decoded(url.path().trim_start_matches('/'))?;
    if !database.is_empty() {
        set("PGDATABASE", database);
    }
    for (name, value) in url.query_pairs() {
        let name = match &*name {
            "host" => "PGHOST",
            "hostaddr" => "PGHOSTADDR",
            "port" => "PGPORT",
            "dbname" => "PGDATABASE",
            "user" => "PGUSER",
            "password" => "PGPASSWORD",
            "passfile" => "PGPASSFILE",
            "sslmode" | "ssl-mode" => "PGSSLMODE",
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => "PGSSLROOTCERT",
            "sslcert" | "ssl-cert" => "PGSSLCERT",
            "sslkey" | "ssl-key" => "PGSSLKEY",
            "options" => "PGOPTIONS",
            _ => continue,
        };
        set(name, value.into_owned());
    }
    Some(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_variables() {
        for (url, expected) in [
            ("postgres://u@h/n", "PGHOST=h PGUSER=u PGDATABASE=n"),
            ("postgresql://u:p%40ss@h:5433/n", "PGHOST=h PGPORT=5433 PGUSER=u PGPASSWORD=p@ss PGDATABASE=n"),
            ("postgres://h", "PGHOST=h"),
            (
                "postgres://u@[::1]/n?sslmode=verify-full&sslrootcert=/ca&application_name=x",
                "PGHOST=::1 PGUSER=u PGDATABASE=n PGSSLMODE=verify-full PGSSLROOTCERT=/ca",
            ),
            ("postgres://u@h/n?host=/run/postgresql", "PGUSER=u PGDATABASE=n PGHOST=/run/postgresql"),
        ] {
            let found = libpq_environment(url).expect(url);
            let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(found.join(" "), expected, "{url}");
        }
        assert_eq!(libpq_environment("nothing"), None);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
