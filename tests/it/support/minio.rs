//! A real MinIO, started once for all tests of this binary, a bucket of its own for each test; and one that a test owns
//! and may kill.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::eventually::becomes_ready;
use super::service::free_port;
use super::store::{ACCESS_KEY, SECRET_KEY, StoreBucket};
use super::tools::{self, TempFolder};

/// A fresh bucket in MinIO.
pub struct Minio(StoreBucket);

impl Minio {
    /// A fresh bucket; `None` where MinIO is missing and not required.
    pub async fn bucket() -> Option<Self> {
        Some(Self(StoreBucket::fresh(server()?).await))
    }

    /// The bucket by itself.
    pub fn into_bucket(self) -> StoreBucket {
        self.0
    }
}

impl Deref for Minio {
    type Target = StoreBucket;

    fn deref(&self) -> &StoreBucket {
        &self.0
    }
}

/// The server of this process, started by whoever asks first.
fn server() -> Option<SocketAddr> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let program = tools::find("minio")?;
        let started = (0..3).find_map(|_| {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = free.local_addr().expect("a bound socket has an address");
            drop(free);
            Server::start(&program, address, None)
        });
        Some(started.expect("MinIO becomes ready in one of three tries"))
    });
    server.as_ref().map(|server| server.address)
}

/// Time in which it must answer.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// MinIO under a shell that waits for the end of its standard input: however this process ends, MinIO and its folder
/// go with it.
struct Server {
    address: SocketAddr,
    shell: Child,
}

impl Server {
    /// On `address`, with the objects in `folder`; without one, in a new folder that goes with it.
    fn start(program: &Path, address: SocketAddr, folder: Option<&Path>) -> Option<Self> {
        const SCRIPT: &str = r#"
            folder=$3
            [ -n "$folder" ] || folder=$(mktemp -d) || exit 1
            "$1" server --quiet --address "$2" "$folder" >/dev/null 2>&1 </dev/null &
            read -r _
            kill -9 $! 2>/dev/null; wait; [ -n "$3" ] || rm -rf "$folder"
        "#;
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(program)
            .arg(address.to_string())
            .arg(folder.unwrap_or(Path::new("")))
            .env("MINIO_ROOT_USER", ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
            .env("MINIO_UPDATE", "off")
            .env("MINIO_BROWSER", "off")
            // What waits in the kernel outlives a kill.
            .env("MINIO_SEND_BUF_SIZE", "65536")
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let server = Self { address, shell };
        if becomes_ready(START_DEADLINE, || is_ready(address)) {
            return Some(server);
        }
        server.kill();
        None
    }

    /// SIGKILL, and waits until it is gone.
    fn kill(mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A MinIO that the test owns. Its address and its objects outlive it.
pub struct OwnMinio {
    program: PathBuf,
    address: SocketAddr,
    folder: TempFolder,
    server: Option<Server>,
}

impl OwnMinio {
    /// Starts one; `None` where MinIO is missing and not required.
    pub fn start() -> Option<Self> {
        let program = tools::find("minio")?;
        let port = free_port();
        let mut this =
            Self { program, address: ([127, 0, 0, 1], port).into(), folder: TempFolder::new("minio"), server: None };
        this.restart();
        Some(this)
    }

    /// A new bucket in it.
    pub async fn bucket(&self, name: &str) -> Minio {
        Minio(StoreBucket::create(self.address, name.to_owned()).await)
    }

    /// Where its objects are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// Starts it again, and waits until it is ready.
    pub fn restart(&mut self) {
        let server = Server::start(&self.program, self.address, Some(self.folder.path()));
        self.server = Some(server.expect("MinIO becomes ready"));
    }
}

impl Drop for OwnMinio {
    fn drop(&mut self) {
        // Before its folder goes.
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }
}

fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let asked = stream.write_all(b"GET /minio/health/ready HTTP/1.1\r\nHost: minio\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
}
