//! Objects of a store, read whole or in ranges, within bounds of bytes and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, Response};

use super::SourceFailure;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use s3::error_body::StoreError;
use s3::listing::{self, ListedObject};
use s3::signed_request_cache::UnsignedRequest;
use s3::signer::{SignError, Signer};

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

/// Question to a store.
enum StoreQuestion<'a> {
    /// The object of a key, with these headers.
    Object(&'a str, HeaderMap),
    /// The objects whose keys begin with a prefix.
    Listing(&'a str),
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
        let Some(response) = self.get(bucket, key, HeaderMap::new()).await? else { return Ok(None) };
        self.body(response, most).await
    }

    /// Returns true where there is an object.
    pub async fn exists(&self, bucket: &TrackBucket, key: &str) -> Result<bool, SourceFailure> {
        // Why a HEAD is refused is not said: the first byte is asked for.
        let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-0"))]);
        match self.send(bucket, &StoreQuestion::Object(key, headers)).await? {
            // An empty one has no first byte.
            Ok(_) | Err((_, StoreError::RangeNotSatisfiable { .. })) => Ok(true),
            Err((_, error)) if error.is_absence() => Ok(false),
            Err((status, _)) => Err(self.refused(status)),
        }
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
        let Some(response) = self.get(bucket, key, headers).await? else { return Ok(None) };
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
        let response = match self.send(bucket, &StoreQuestion::Listing(prefix)).await? {
            Ok(response) => response,
            Err((_, error)) if error.is_absence() => return Ok(None),
            // Stores that do not list.
            Err((StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _)) => return Ok(None),
            Err((status, _)) => return Err(self.refused(status)),
        };
        let body = self.body(response, MAX_LISTING_BYTES).await?;
        let page = body.and_then(|body| listing::parse_page(std::str::from_utf8(&body).ok()?));
        page.map(|page| Some(page.objects)).ok_or_else(|| self.failed("the listing cannot be read"))
    }

    /// Asks for an object; `None` where it is not there, or not as it is asked for.
    async fn get(
        &self,
        bucket: &TrackBucket,
        key: &str,
        headers: HeaderMap,
    ) -> Result<Option<Response>, SourceFailure> {
        match self.send(bucket, &StoreQuestion::Object(key, headers)).await? {
            Ok(response) => Ok(Some(response)),
            Err((_, StoreError::RangeNotSatisfiable { .. } | StoreError::PreconditionFailed)) => Ok(None),
            Err((_, error)) if error.is_absence() => Ok(None),
            Err((status, _)) => Err(self.refused(status)),
        }
    }

    /// Sends a request, once more where the store may let it in with other keys or another clock. Returns the answer of
    /// status 200 or 206, or the refusal.
    async fn send(
        &self,
        bucket: &TrackBucket,
        question: &StoreQuestion<'_>,
    ) -> Result<Result<Response, (StatusCode, StoreError)>, SourceFailure> {
        let object = match question {
            StoreQuestion::Object(key, _) => Some(UnsignedRequest { head: false, bucket: &bucket.name, key }),
            StoreQuestion::Listing(_) => None,
        };
        let answer = bucket.signer.ask(object.as_ref(), || self.send_once(bucket, question)).await?;
        Ok(answer.and_then(|response| match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            status => Err((status, StoreError::Unexpected)),
        }))
    }

    async fn send_once(&self, bucket: &TrackBucket, question: &StoreQuestion<'_>) -> Result<Response, SourceFailure> {
        let TrackBucket { signer, name } = bucket;
        let unsigned = |error: SignError| self.failed(&error.to_string());
        let (url, headers) = match question {
            StoreQuestion::Object(key, headers) => {
                let signed = signer.sign(&UnsignedRequest { head: false, bucket: name, key }).map_err(unsigned)?;
                let url = signed.request.url(signer.endpoint());
                (url.ok_or_else(|| self.failed("the key makes no URL"))?, headers.clone())
            }
            StoreQuestion::Listing(prefix) => {
                (signer.sign_listing(name, prefix, "").map_err(unsigned)?, HeaderMap::new())
            }
        };
        let sent = self.client.get(url).headers(headers).timeout(self.timeout).send().await;
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

    fn refused(&self, status: StatusCode) -> SourceFailure {
        self.failed(&format!("status {}", status.as_u16()))
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
