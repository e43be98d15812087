//! A real PostgreSQL: one for all tests of this binary, a database of its own for each; and one that a test owns and may
//! stop.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::service::{Service, free_port};
use super::tools::{self, TempFolder};

/// The user of every connection: there are no passwords.
const USER: &str = "tidegate";

/// A PostgreSQL that the test owns. Its port and its data outlive a stop.
pub struct Postgres {
    service: Service,
    port: u16,
}

impl Postgres {
    /// Starts one; `None` where it is missing and not required.
    pub fn start() -> Option<Self> {
        let (initdb, program, isready) = (tools::find("initdb")?, tools::find("postgres")?, tools::find("pg_isready")?);
        let (folder, port) = (TempFolder::new("postgres"), free_port());
        let data = folder.path().join("data");
        make(&folder, &initdb, &data);
        let mut command = unprivileged(&program);
        command.extend([OsString::from("-D"), data.into(), OsString::from("-p"), port.to_string().into()]);
        // A test's data need not survive the loss of power.
        let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200"];
        command.extend(settings.iter().flat_map(|setting| [OsString::from("-c"), OsString::from(setting)]));
        let service = Service::start(folder, command, move || {
            let asked = Command::new(&isready).args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status();
            asked.is_ok_and(|status| status.success())
        });
        Some(Self { service, port })
    }

    /// The address of a database in it that is always there.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The address of a fresh database in the server that all tests share; `None` where PostgreSQL is missing and not
    /// required.
    pub async fn database() -> Option<String> {
        static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(Self::start).as_ref());
        let server = server.await.expect("PostgreSQL starts")?;
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let pool = sqlx::PgPool::connect(&server.url()).await.expect("PostgreSQL answers");
        let create = format!("CREATE DATABASE {name}");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&pool).await.expect("a database can be made");
        pool.close().await;
        Some(server.url_of(&name))
    }

    /// Ends it at once but in order: connections are closed (`pg_ctl stop -m fast`).
    pub fn stop(&mut self) {
        self.service.end("INT");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Stops it where it stands: connections stay open and nothing is answered, until [`Self::thaw`].
    pub fn freeze(&mut self) {
        self.service.signal("STOP");
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&mut self) {
        self.service.signal("CONT");
    }

    /// Whether it was not ended.
    pub fn is_alive(&self) -> bool {
        self.service.is_alive()
    }

    /// Starts it again: same port, same data.
    pub fn restart(&mut self) {
        self.service.restart();
    }
}

/// Makes the data folder.
fn make(folder: &TempFolder, initdb: &Path, data: &Path) {
    if is_root() {
        let given = Command::new("chown").arg("postgres").arg(folder.path()).status().expect("chown runs");
        assert!(given.success(), "the folder cannot be given to the user postgres");
    }
    let command = unprivileged(initdb);
    let made = Command::new(&command[0])
        .args(&command[1..])
        .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", USER, "-D"])
        .arg(data)
        .stdout(Stdio::null())
        .status()
        .expect("initdb runs");
    assert!(made.success(), "initdb failed");
}

/// PostgreSQL refuses to run as root: then it is the user of Debian's package.
fn unprivileged(program: &Path) -> Vec<OsString> {
    let other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"].map(OsString::from);
    let mut command = if is_root() { other.to_vec() } else { Vec::new() };
    command.push(PathBuf::from(program).into_os_string());
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

#[tokio::test]
async fn what_postgresql_was_told_is_there_after_it_was_killed() {
    let Some(mut server) = Postgres::start() else { return };
    let one = sqlx::PgPool::connect(&server.url()).await.expect("PostgreSQL answers");
    sqlx::query("CREATE TABLE a AS SELECT 1 AS b").execute(&one).await.expect("a table can be made");
    server.kill();
    server.restart();
    let pool = sqlx::PgPool::connect(&server.url()).await.expect("PostgreSQL answers");
    let row: (i32,) = sqlx::query_as("SELECT b FROM a").fetch_one(&pool).await.expect("the table is there");
    assert_eq!(row.0, 1);
    server.stop();
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() {
    let Some(one) = Postgres::database().await else { return };
    let other = Postgres::database().await.expect("it is there");
    assert_ne!(one, other);
}
