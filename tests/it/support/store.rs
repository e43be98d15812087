//! Real stores, and a bucket in one of them: filled and read by a client that is not Tidegate's.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusty_s3::actions::{CreateBucket, DeleteObject, GetObject, PutObject, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use super::client;
use super::eventually::eventually;
use super::minio::Minio;
use super::service::{Service, free_port};
use super::tools::{self, TempFolder};

/// The access key of every store and of every gate.
pub const ACCESS_KEY: &str = "tidegate-test";
/// Its secret key.
pub const SECRET_KEY: &str = "tidegate-test-secret-key";

/// The real stores that the tables of ranges, conditions and keys run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// MinIO.
    Minio,
    /// `versitygw posix`: a folder as a store, in Go, on fasthttp.
    Versitygw,
    /// `rclone serve s3`: a folder as a store, in Go, on net/http.
    Rclone,
}

impl StoreKind {
    /// A fresh bucket in the store that all tests of this process share; `None` where it is missing and not required.
    pub async fn bucket(self) -> Option<StoreBucket> {
        static VERSITYGW: OnceLock<Option<(Service, SocketAddr)>> = OnceLock::new();
        static RCLONE: OnceLock<Option<(Service, SocketAddr)>> = OnceLock::new();
        let running = match self {
            Self::Minio => return Minio::bucket().await.map(Minio::into_bucket),
            Self::Versitygw => VERSITYGW.get_or_init(versitygw),
            Self::Rclone => RCLONE.get_or_init(rclone),
        };
        let (_, address) = running.as_ref()?;
        Some(StoreBucket::fresh(*address).await)
    }
}

fn versitygw() -> Option<(Service, SocketAddr)> {
    let program = tools::find("versitygw")?;
    let (folder, address) = (TempFolder::new("versitygw"), free_address());
    let (objects, about) = (folder.path().join("objects"), folder.path().join("about"));
    for made in [&objects, &about] {
        std::fs::create_dir(made).expect("the folder can be made");
    }
    let mut command = vec![program.into_os_string()];
    command.extend(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--quiet"].map(OsString::from));
    command.extend(["--port", &address.to_string(), "posix", "--sidecar"].map(OsString::from));
    // Not every file system has the attributes that it would use.
    command.extend([about.into(), objects.into()]);
    Some((Service::start(folder, command, move || speaks_http(address)), address))
}

fn rclone() -> Option<(Service, SocketAddr)> {
    let program = tools::find("rclone")?;
    let (folder, address) = (TempFolder::new("rclone"), free_address());
    let mut command = vec![program.into_os_string()];
    command.extend(["serve", "s3", "--config", "", "--addr", &address.to_string()].map(OsString::from));
    command.extend(["--auth-key".into(), format!("{ACCESS_KEY},{SECRET_KEY}").into(), folder.path().into()]);
    Some((Service::start(folder, command, move || speaks_http(address)), address))
}

fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

fn speaks_http(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: store\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    asked.and_then(|()| stream.read_to_end(&mut answer)).is_ok() && answer.starts_with(b"HTTP/1.1 ")
}

/// One bucket in a store.
pub struct StoreBucket {
    address: SocketAddr,
    bucket: Bucket,
    client: reqwest::Client,
}

impl StoreBucket {
    /// A bucket with a name of its own in the store at `address`.
    pub async fn fresh(address: SocketAddr) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self::create(address, format!("audio-{}", NUMBER.fetch_add(1, Ordering::Relaxed))).await
    }

    /// Makes the bucket `name` in the store at `address`.
    pub async fn create(address: SocketAddr, name: String) -> Self {
        let endpoint = format!("http://{address}").parse().expect("an address is a URL");
        let bucket = Bucket::new(endpoint, UrlStyle::Path, name, "us-east-1").expect("the endpoint is a base URL");
        let this = Self { address, bucket, client: client::plain() };
        let url = CreateBucket::new(&this.bucket, &credentials()).sign(Duration::from_secs(60));
        // One that has just become ready may still be too busy.
        let made = async || this.client.put(url.clone()).send().await.ok()?.error_for_status().ok();
        eventually("the bucket is made", made).await;
        this
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        self.bucket.name()
    }

    /// The store's own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The store's own address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an object and gives its entity tag.
    pub async fn put(&self, key: &str, body: impl Into<reqwest::Body>) -> String {
        self.put_as(key, body, &[("Content-Type", "audio/mpeg")]).await
    }

    /// Puts an object with these headers and gives its entity tag.
    pub async fn put_as(&self, key: &str, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> String {
        let body = body.into();
        // rclone wants to be told that there is nothing.
        let length = body.as_bytes().filter(|bytes| bytes.is_empty()).map(|_| ("Content-Length", "0"));
        let url = PutObject::new(&self.bucket, Some(&credentials()), key).sign(Duration::from_secs(60));
        let request = headers
            .iter()
            .chain(&length)
            .fold(self.client.put(url).body(body), |r, (name, value)| r.header(*name, *value));
        let response = self.send(request).await;
        response.headers()["etag"].to_str().expect("an ETag is text").to_owned()
    }

    /// An object's bytes.
    pub async fn get(&self, key: &str) -> bytes::Bytes {
        self.fetch(key).await.bytes().await.expect("a body")
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &str) {
        let url = DeleteObject::new(&self.bucket, Some(&credentials()), key).sign(Duration::from_secs(60));
        self.send(self.client.delete(url)).await;
    }

    async fn fetch(&self, key: &str) -> reqwest::Response {
        let url = GetObject::new(&self.bucket, Some(&credentials()), key).sign(Duration::from_secs(60));
        self.send(self.client.get(url)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let response = request.send().await.expect("the store answers").error_for_status();
        response.map_err(reqwest::Error::without_url).expect("the store does as asked")
    }
}

fn credentials() -> Credentials {
    Credentials::new(ACCESS_KEY, SECRET_KEY)
}

#[tokio::test]
async fn an_object_put_into_a_store_comes_back_signed() {
    for kind in [StoreKind::Minio, StoreKind::Versitygw, StoreKind::Rclone] {
        let Some(store) = kind.bucket().await else { continue };
        for key in ["plain.mp3", "with space + plus/ü.mp3"] {
            let etag = store.put(key, key.to_owned()).await;
            let response = store.fetch(key).await;
            assert_eq!((kind, response.headers()["etag"].to_str().ok()), (kind, Some(etag.as_str())));
            assert_eq!(response.text().await.expect("a body"), key);
            store.delete(key).await;
        }
    }
}
