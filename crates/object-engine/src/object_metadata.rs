//! Metadata of an object as it is now: validators, size, and the headers that describe it to clients. The same from a
//! store's response and from the cache.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::plan::ResponseDecision;
use super::{ObjectBody, ObjectOrigin, ObjectResponse};
use http_semantics::conditional::{PreconditionOutcome, Preconditions, Validators};
use http_semantics::etag::ETag;
use http_semantics::headers::STORE_RESPONSE_HEADERS;
use http_semantics::media_type;
use http_semantics::range::ContentRange;

/// Headers of a 200 that a 304 repeats (RFC 9110 §15.4.5).
const NOT_MODIFIED_HEADERS: [HeaderName; 4] =
    [header::ETAG, header::CACHE_CONTROL, header::EXPIRES, header::LAST_MODIFIED];

/// Metadata of an object as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectMetadata {
    /// Entity tag of this version; `None` where the store sent none that can be read.
    pub etag: Option<ETag>,
    /// Size in bytes; `None` where it is not known.
    pub size: Option<u64>,
    /// Value of the store's `Date`, as it was sent. Dates are parsed only where a precondition needs them.
    date: Option<HeaderValue>,
    /// Headers of the store that clients may see.
    pub headers: HeaderMap,
}

impl ObjectMetadata {
    /// Reads the metadata of an object of `size` bytes from a store's response `headers`. Removes the headers that
    /// clients must not see, which costs less than a new map.
    pub fn from_headers(mut headers: HeaderMap, size: Option<u64>) -> Self {
        let date = headers.remove(header::DATE);
        let is_ours = |name: &&HeaderName| !STORE_RESPONSE_HEADERS.contains(&name.as_str());
        let ours: Vec<HeaderName> = headers.keys().filter(is_ours).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
        Self { etag: etag(&headers), size, date, headers }
    }

    /// Restores metadata from the cache. `headers` must be those of an earlier [`ObjectMetadata`].
    pub fn from_cache(headers: HeaderMap, size: u64, date: Option<SystemTime>) -> Self {
        let date = date.and_then(|date| HeaderValue::try_from(httpdate::fmt_http_date(date)).ok());
        Self { etag: etag(&headers), size: Some(size), date, headers }
    }

    /// Returns the store's time when it sent this metadata; `None` where it did not say or the date cannot be read.
    pub fn date(&self) -> Option<SystemTime> {
        self.date.as_ref().and_then(http_date)
    }

    /// Returns true if this is the version `known`, by strong comparison (RFC 9110 §8.8.3.2).
    pub fn is_version(&self, known: &ETag) -> bool {
        self.etag.as_ref().is_some_and(|etag| etag.strong_eq(known))
    }

    /// Evaluates `conditions` against this version (RFC 9110 §13).
    pub fn evaluate(&self, conditions: &Preconditions) -> PreconditionOutcome {
        if conditions.is_empty() { PreconditionOutcome::Proceed } else { conditions.evaluate(&self.validators()) }
    }

    /// Returns true if a range of this version is what the client means: there is no `If-Range`, or it holds (RFC 9110
    /// §13.1.5).
    pub fn range_applies(&self, conditions: &Preconditions) -> bool {
        conditions.if_range().is_none() || conditions.if_range_holds(&self.validators(), self.date())
    }

    fn validators(&self) -> Validators {
        let last_modified = self.headers.get(header::LAST_MODIFIED).and_then(http_date);
        Validators { etag: self.etag.clone(), last_modified }
    }

    /// Builds the response that `decision` leads to for the object `key` of `origin`.
    pub fn into_response(
        mut self,
        origin: &ObjectOrigin,
        key: &str,
        decision: ResponseDecision,
        body: Option<ObjectBody>,
    ) -> ObjectResponse {
        let (status, length) = match decision {
            ResponseDecision::NotModified => return self.into_not_modified(),
            ResponseDecision::Whole => (StatusCode::OK, self.size),
            ResponseDecision::Part(span) => (StatusCode::PARTIAL_CONTENT, Some(span.len())),
        };
        let content_type = self.content_type(origin, key);
        let headers = &mut self.headers;
        if let Some(value) = content_type {
            headers.insert(header::CONTENT_TYPE, value);
        }
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        if let ResponseDecision::Part(span) = decision {
            headers.insert(header::CONTENT_RANGE, ContentRange { span, total: self.size }.to_header());
        }
        ObjectResponse { status, headers: self.headers, body }
    }

    fn into_not_modified(mut self) -> ObjectResponse {
        let headers = &mut self.headers;
        let kept =
            NOT_MODIFIED_HEADERS.iter().filter_map(|name| headers.remove(name).map(|value| (name.clone(), value)));
        ObjectResponse { status: StatusCode::NOT_MODIFIED, headers: kept.collect(), body: None }
    }

    /// Determines `Content-Type`: the route's, else the store's, else by the key's extension. A store's "octet-stream"
    /// says nothing.
    fn content_type(&self, origin: &ObjectOrigin, key: &str) -> Option<HeaderValue> {
        if let Some(fixed) = &origin.content_type {
            return Some(fixed.clone());
        }
        let vague =
            |value: &&HeaderValue| matches!(value.as_bytes(), b"application/octet-stream" | b"binary/octet-stream");
        let ending = || media_type::from_key_extension(key).map(HeaderValue::from_static);
        match self.headers.get(header::CONTENT_TYPE) {
            Some(value) if !vague(&value) && !value.is_empty() => Some(value.clone()),
            // The key says nothing either: the store's value is as good as the default.
            Some(value) if !value.is_empty() => Some(ending().unwrap_or_else(|| value.clone())),
            _ => Some(ending().unwrap_or(HeaderValue::from_static("application/octet-stream"))),
        }
    }
}

fn etag(headers: &HeaderMap) -> Option<ETag> {
    headers.get(header::ETAG).and_then(|value| ETag::parse(value.as_bytes()))
}

fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Returns the value of `Content-Length`; `None` where it is missing or not a number.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
