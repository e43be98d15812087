//! The store as a client sees it: through a socket, with requests that another project's signer made.

mod reading;
mod refusals;
mod writing;

use std::future::pending;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::{Client, Response, StatusCode, Url};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::EmbeddedStore;
use primitives::clock::Clock;
use primitives::secret::Secret;

const MINUTE: Duration = Duration::from_secs(60);

/// A store on a folder and a port of its own.
struct Running {
    folder: TempDir,
    endpoint: Url,
    bucket: Bucket,
    keys: Credentials,
    client: Client,
    _serving: JoinSet<()>,
}

impl Running {
    async fn start() -> Self {
        // Another test may have done it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("audio")).unwrap();
        let store = EmbeddedStore::open(folder.path(), "key-id", &Secret::new("secret"), Clock::system()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let bucket = Bucket::new(endpoint.clone(), UrlStyle::Path, "audio", "us-east-1").unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(store.serve(listener, pending()));
        let client = Client::builder().no_proxy().timeout(MINUTE).build().unwrap();
        Self { folder, endpoint, bucket, keys: Credentials::new("key-id", "secret"), client, _serving: serving }
    }

    fn get_url(&self, key: &str) -> Url {
        self.bucket.get_object(Some(&self.keys), key).sign(MINUTE)
    }

    async fn get(&self, key: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.client.get(self.get_url(key));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    }

    async fn head(&self, key: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.client.head(self.bucket.head_object(Some(&self.keys), key).sign(MINUTE));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    }

    async fn put(&self, key: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = self.bucket.put_object(Some(&self.keys), key).sign(MINUTE);
        self.client.put(url).body(body).send().await.unwrap()
    }

    async fn delete(&self, key: &str) -> Response {
        let url = self.bucket.delete_object(Some(&self.keys), key).sign(MINUTE);
        self.client.delete(url).send().await.unwrap()
    }

    /// The keys, the prefixes rolled up, and the token of the next page.
    async fn list(&self, query: &[(&'static str, &str)]) -> (Vec<String>, Vec<String>, Option<String>) {
        let mut action = self.bucket.get_object(Some(&self.keys), "");
        for (name, value) in query.iter().chain(&[("list-type", "2"), ("encoding-type", "url")]) {
            action.query_mut().insert(*name, (*value).to_owned());
        }
        let answer = self.client.get(action.sign(MINUTE)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let page = answer.text().await.unwrap();
        let rolled: String = elements(&page, "CommonPrefixes").concat();
        let decoded = |text: &String| percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let keys = elements(&page, "Key").iter().map(decoded).collect();
        let prefixes = elements(&rolled, "Prefix").iter().map(decoded).collect();
        (keys, prefixes, elements(&page, "NextContinuationToken").pop())
    }

    /// Drops a file in, as a user would.
    fn drop_in(&self, path: &str, content: &[u8]) {
        let file = self.folder.path().join("audio").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// Texts of all elements `name` of an XML text.
fn elements(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
}

/// The code in an error's XML.
async fn code(answer: Response) -> String {
    let text = answer.text().await.unwrap();
    elements(&text, "Code").pop().unwrap_or_else(|| panic!("no code in {text:?}"))
}

#[tokio::test]
async fn after_the_signal_the_store_ends_when_its_exchanges_have() {
    let folder = TempDir::new().unwrap();
    let store = EmbeddedStore::open(folder.path(), "key-id", &Secret::new("secret"), Clock::system()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let idle = async {
        let connection = tokio::net::TcpStream::connect(address).await.unwrap();
        stop.send(()).unwrap();
        connection
    };
    let serving = store.serve(listener, async { stopped.await.unwrap() });
    tokio::time::timeout(MINUTE, async { tokio::join!(serving, idle) }).await.expect("an idle connection holds it up");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let error = EmbeddedStore::open(&file, "k", &Secret::new("s"), Clock::system()).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()) && error.contains("embedded object store"), "{error}");
}
