//! A player as the tests see one: reqwest without redirects, and answers read whole.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

/// A bare HTTP client that follows nothing and gives up after 30 seconds.
pub fn plain() -> reqwest::Client {
    // Installed once per process; every later try says so and changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        // Before the gate does, or a request may meet the end of its connection.
        .pool_idle_timeout(Duration::from_secs(20))
        .no_proxy()
        .build()
        .expect("the client can be built")
}

/// A client of one base URL.
#[derive(Clone)]
pub struct Client {
    base: String,
    inner: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client of `base` (scheme, host and port).
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), inner: plain() }
    }

    /// A request to be sent by the caller.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.inner.request(method, format!("{}{path}", self.base))
    }

    /// GET with these headers.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(Method::GET, path, headers).await
    }

    /// HEAD with these headers.
    pub async fn head(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(Method::HEAD, path, headers).await
    }

    /// GET of one range.
    pub async fn range(&self, path: &str, range: &str) -> Reply {
        self.get(path, &[("range", range)]).await
    }

    /// A request with these headers.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        let what = format!("{method} {path} {headers:?}");
        let request = headers.iter().fold(self.request(method, path), |request, (n, v)| request.header(*n, *v));
        let response = request.send().await.unwrap_or_else(|error| panic!("{what}: no answer: {error:?}"));
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.unwrap_or_else(|error| panic!("{what}: body broke: {error:?}"));
        Reply { status, headers, body }
    }
}

impl Reply {
    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header is text"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{:?}\n{}",
            self.headers,
            self.text().chars().take(2000).collect::<String>()
        );
        self
    }

    /// The body, of an answer that must be our own error envelope with this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        self.is(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem: Value = serde_json::from_slice(&self.body).expect("the envelope is JSON");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["success"], false);
        for text in ["type", "title", "error", "code", "request_id"] {
            assert!(problem[text].as_str().is_some_and(|value| !value.is_empty()), "no {text} in {problem}");
        }
        assert!(problem["timestamp"].is_i64(), "no timestamp in {problem}");
        problem
    }
}
