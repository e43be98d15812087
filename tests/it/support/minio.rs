//! A real MinIO, started once for all tests of this binary; a bucket of its own for each test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusty_s3::actions::{CreateBucket, DeleteObject, GetObject, PutObject, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use super::{client, tools};

/// The access key of MinIO and of every gate.
pub const ACCESS_KEY: &str = "tidegate-test";
/// Its secret key.
pub const SECRET_KEY: &str = "tidegate-test-secret-key";

/// One bucket in the shared MinIO.
pub struct Minio {
    bucket: Bucket,
    client: reqwest::Client,
}

impl Minio {
    /// A fresh bucket; `None` where MinIO is missing and not required.
    pub async fn bucket() -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let endpoint = format!("http://{}", server()?).parse().expect("an address is a URL");
        let bucket = Bucket::new(endpoint, UrlStyle::Path, format!("audio-{number}"), "us-east-1")
            .expect("the endpoint is a base URL");
        let this = Self { bucket, client: client::plain() };
        let url = CreateBucket::new(&this.bucket, &credentials()).sign(Duration::from_secs(60));
        this.send(this.client.put(url)).await;
        Some(this)
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        self.bucket.name()
    }

    /// MinIO's own address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", server().expect("a bucket exists, hence the server"))
    }

    /// Puts an object and gives its entity tag.
    pub async fn put(&self, key: &str, body: impl Into<reqwest::Body>) -> String {
        self.put_as(key, body, &[("Content-Type", "audio/mpeg")]).await
    }

    /// Puts an object with these headers and gives its entity tag.
    pub async fn put_as(&self, key: &str, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> String {
        let url = PutObject::new(&self.bucket, Some(&credentials()), key).sign(Duration::from_secs(60));
        let request = headers.iter().fold(self.client.put(url).body(body), |r, (name, value)| r.header(*name, *value));
        let response = self.send(request).await;
        response.headers()["etag"].to_str().expect("an ETag is text").to_owned()
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &str) {
        let url = DeleteObject::new(&self.bucket, Some(&credentials()), key).sign(Duration::from_secs(60));
        self.send(self.client.delete(url)).await;
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let response = request.send().await.expect("MinIO answers").error_for_status();
        response.map_err(reqwest::Error::without_url).expect("MinIO does as asked")
    }
}

fn credentials() -> Credentials {
    Credentials::new(ACCESS_KEY, SECRET_KEY)
}

/// The server of this process, started by whoever asks first.
fn server() -> Option<SocketAddr> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let program = tools::find("minio")?;
        let started = (0..3).find_map(|_| Server::start(&program));
        Some(started.expect("MinIO becomes ready within 60 s in one of three tries"))
    });
    server.as_ref().map(|server| server.address)
}

/// MinIO under a shell that waits for the end of its standard input: however this process ends, MinIO and its folder
/// go with it.
struct Server {
    address: SocketAddr,
    _shell: Child,
}

impl Server {
    fn start(program: &Path) -> Option<Self> {
        const SCRIPT: &str = r#"
            folder=$(mktemp -d) || exit 1
            "$1" server --quiet --address "$2" "$folder" >/dev/null 2>&1 </dev/null &
            read -r _
            kill -9 $! 2>/dev/null; wait; rm -rf "$folder"
        "#;
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("a bound socket has an address");
        drop(free);
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(program)
            .arg(address.to_string())
            .env("MINIO_ROOT_USER", ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
            .env("MINIO_UPDATE", "off")
            .env("MINIO_BROWSER", "off")
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if is_ready(address) {
                return Some(Self { address, _shell: shell });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(shell.stdin.take());
        let _ = shell.wait();
        None
    }
}

fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let asked = stream.write_all(b"GET /minio/health/ready HTTP/1.1\r\nHost: minio\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
}

#[tokio::test]
async fn an_object_put_into_minio_comes_back_signed() {
    let Some(minio) = Minio::bucket().await else { return };
    for key in ["plain.mp3", "with space + plus/ü.mp3"] {
        let etag = minio.put(key, key.to_owned()).await;
        let url = GetObject::new(&minio.bucket, Some(&credentials()), key).sign(Duration::from_secs(60));
        let response = client::plain().get(url).send().await.expect("MinIO answers");
        assert_eq!(response.headers()["etag"].to_str().ok(), Some(etag.as_str()));
        assert_eq!(response.text().await.expect("a body"), key);
        minio.delete(key).await;
    }
}
