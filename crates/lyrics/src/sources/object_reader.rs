//! Objects of a store, read whole or in ranges, within bounds of bytes and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Client, Response};
use url::Url;

use super::SourceFailure;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use s3::listing::{self, ListedObject};
use s3::signed_request_cache::UnsignedRequest;
use s3::signer::Signer;

/// Largest page of a listing that is read, in bytes: a thousand keys of the longest.
const MAX_LISTING_BYTES: usize = 4 << 20;

/// A bucket with the signer of its store.
#[derive(Clone)]
pub struct TrackBucket {
    /// Signer of requests to the store.
    pub signer: Arc<Signer>,
    /// Name of the bucket.
    pub name: Arc<str>,
}

/// Part of an object.
#[derive(Clone, Debug)]
pub struct ObjectPart {
    /// The bytes.
    pub bytes: Bytes,
    /// Size of the whole object.
    pub size: u64,
    /// Entity tag, with which further parts are of the same object.
    pub etag: Option<String>,
}

/// Range of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// This many bytes from the beginning.
    Head(u64),
    /// This many bytes up to the end.
    Tail(u64),
    /// From one byte up to another one, without it.
    Span(u64, u64),
}

/// Reader of objects. Clones share it.
#[derive(Clone)]
pub struct ObjectReader {
    client: Client,
    timeout: Duration,
    failures: Arc<FailureLog>,
}

impl ObjectReader {
    /// Creates a reader over `client`, which must follow no redirects; each request has `timeout`.
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout, failures: Arc::default() }
    }

    /// Reads an object of at most `most` bytes; `None` where it is not there, or is larger.
    pub async fn read(&self, bucket: &TrackBucket, key: &str, most: usize) -> Result<Option<Bytes>, SourceFailure> {
        let object = UnsignedRequest { head: false, bucket: &bucket.name, key };
        let Some(response) = self.send(bucket, &object, &HeaderMap::new()).await? else { return Ok(None) };
        self.body(response, most).await
    }

    /// Returns true where there is an object.
    pub async fn exists(&self, bucket: &TrackBucket, key: &str) -> Result<bool, SourceFailure> {
        let object = UnsignedRequest { head: true, bucket: &bucket.name, key };
        Ok(self.send(bucket, &object, &HeaderMap::new()).await?.is_some())
    }

    /// Reads a range of an object, which must still have `etag` if there is one; `None` where it is not there, has changed, or
    /// is empty.
    pub async fn read_range(
        &self,
        bucket: &TrackBucket,
        key: &str,
        range: &ByteRange,
        etag: Option<&str>,
    ) -> Result<Option<ObjectPart>, SourceFailure> {
        let mut headers = HeaderMap::new();
        let (text, most) = match range {
            ByteRange::Head(length) => (format!("bytes=0-{}", length.saturating_sub(1)), *length),
            ByteRange::Tail(length) => (format!("bytes=-{length}"), *length),
            ByteRange::Span(from, to) => (format!("bytes={from}-{}", to.saturating_sub(1)), to.saturating_sub(*from)),
        };
        let value = |text: &str| text.parse().map_err(|_| SourceFailure::Unavailable);
        headers.insert(header::RANGE, value(&text)?);
        if let Some(etag) = etag {
            headers.insert(header::IF_MATCH, value(etag)?);
        }
        let object = UnsignedRequest { head: false, bucket: &bucket.name, key };
        let Some(response) = self.send(bucket, &object, &headers).await? else { return Ok(None) };
        let etag = text_of(&response, header::ETAG);
        // Without a range in the answer it is the whole object: more than was asked for is not read.
        let total = text_of(&response, header::CONTENT_RANGE);
        let size = total.and_then(|text| text.rsplit_once('/')?.1.parse().ok()).or(response.content_length());
        let Some(size) = size else { return Ok(None) };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(self.body(response, most).await?.map(|bytes| ObjectPart { bytes, size, etag }))
    }

    /// Lists the first objects whose keys begin with `prefix`; `None` where the keys may not list.
    pub async fn list(&self, bucket: &TrackBucket, prefix: &str) -> Result<Option<Vec<ListedObject>>, SourceFailure> {
        let url =
            bucket.signer.sign_listing(&bucket.name, prefix, "").map_err(|error| self.failed(&error.to_string()))?;
        let response = self.client.get(url).timeout(self.timeout).send().await;
        let response = response.map_err(|error| self.failed(line(&chain(&error.without_url()))))?;
        match response.status() {
            StatusCode::OK => {}
            // Keys that only read, and stores that do not list.
            StatusCode::NOT_FOUND
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            status => return Err(self.failed(&format!("status {}", status.as_u16()))),
        }
        let body = self.body(response, MAX_LISTING_BYTES).await?;
        let page = body.and_then(|body| listing::parse_page(std::str::from_utf8(&body).ok()?));
        page.map(|page| Some(page.objects)).ok_or_else(|| self.failed("the listing cannot be read"))
    }

    /// Sends a request; `None` where the object is not there, or not as it is asked for.
    async fn send(
        &self,
        bucket: &TrackBucket,
        object: &UnsignedRequest<'_>,
        headers: &HeaderMap,
    ) -> Result<Option<Response>, SourceFailure> {
        let mut response = self.send_once(bucket, object, headers).await?;
        // With other keys or another clock it may be let in.
        if response.status() == StatusCode::FORBIDDEN {
            let date = text_of(&response, header::DATE).and_then(|date| httpdate::parse_http_date(&date).ok());
            let is_other_clock = date.is_some_and(|date| bucket.signer.learn_clock(date));
            let has_other_keys = bucket.signer.renew_credentials().await;
            if is_other_clock || has_other_keys {
                bucket.signer.forget(object);
                response = self.send_once(bucket, object, headers).await?;
            }
        }
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(Some(response)),
            // A store that does not let its objects be listed denies one that is not there.
            StatusCode::NOT_FOUND
            | StatusCode::FORBIDDEN
            | StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::PRECONDITION_FAILED => Ok(None),
            status => Err(self.failed(&format!("status {}", status.as_u16()))),
        }
    }

    async fn send_once(
        &self,
        bucket: &TrackBucket,
        object: &UnsignedRequest<'_>,
        headers: &HeaderMap,
    ) -> Result<Response, SourceFailure> {
        let signed = bucket.signer.sign(object).map_err(|error| self.failed(&error.to_string()))?;
        let url = request_url(bucket.signer.endpoint(), &signed.request.head);
        let url = url.ok_or_else(|| self.failed("the key makes no URL"))?;
        let method = if object.head { Method::HEAD } else { Method::GET };
        let sent = self.client.request(method, url).headers(headers.clone()).timeout(self.timeout).send().await;
        // Without the URL, which is a credential.
        sent.map_err(|error| self.failed(line(&chain(&error.without_url()))))
    }

    /// Reads a body; `None` where it has more than `most` bytes.
    async fn body(&self, mut response: Response, most: usize) -> Result<Option<Bytes>, SourceFailure> {
        if response.content_length().is_some_and(|length| length > most as u64) {
            return Ok(None);
        }
        let mut body = BytesMut::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| self.failed(line(&chain(&error.without_url()))))?;
            let Some(chunk) = chunk else { break };
            if body.len() + chunk.len() > most {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        if self.failures.is_over(monotonic_now()) {
            tracing::info!("objects can be read for lyrics again");
        }
        Ok(Some(body.freeze()))
    }

    fn failed(&self, error: &str) -> SourceFailure {
        if self.failures.is_news(error, monotonic_now()) {
            tracing::warn!(error, "an object could not be read for lyrics");
        }
        SourceFailure::Unavailable
    }
}

fn text_of(response: &Response, name: header::HeaderName) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Returns the URL of a signed request: its target, at the host that it names.
fn request_url(endpoint: &Url, head: &[u8]) -> Option<Url> {
    let text = std::str::from_utf8(head).ok()?;
    let target = text.split(' ').nth(1)?;
    let host = text.lines().find_map(|line| line.strip_prefix("Host: "))?;
    format!("{}://{host}{target}", endpoint.scheme()).parse().ok()
}
