//! What is known of an object as it is now, and what the player is told of it: validators, size, the headers that
//! describe it. The same whether a store has just said it or the cache remembers it.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::plan::ResponseDecision;
use super::{ObjectBody, ObjectOrigin, ObjectResponse};
use http_semantics::conditional::{PreconditionOutcome, Preconditions, Validators};
use http_semantics::etag::ETag;
use http_semantics::headers::STORE_RESPONSE_HEADERS;
use http_semantics::media_type;
use http_semantics::range::ContentRange;

/// What a 304 repeats of a 200 (§15.4.5).
const NOT_MODIFIED_HEADERS: [HeaderName; 4] =
    [header::ETAG, header::CACHE_CONTROL, header::EXPIRES, header::LAST_MODIFIED];

/// An object as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectMetadata {
    /// The tag that tells this version from another.
    pub etag: Option<ETag>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The store's time when it said so, as it wrote it.
    date: Option<HeaderValue>,
    /// What of the store's headers players may see.
    pub headers: HeaderMap,
}

impl ObjectMetadata {
    /// What a store's response `headers` say of an object of `size` bytes. What players may see of them stays in the map:
    /// a new one costs more than taking out the few others.
    pub fn from_headers(mut headers: HeaderMap, size: Option<u64>) -> Self {
        let date = headers.remove(header::DATE);
        let is_ours = |name: &&HeaderName| !STORE_RESPONSE_HEADERS.contains(&name.as_str());
        let ours: Vec<HeaderName> = headers.keys().filter(is_ours).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
        Self { etag: etag(&headers), size, date, headers }
    }

    /// Facts that were kept.
    pub fn from_cache(headers: HeaderMap, size: u64, date: Option<SystemTime>) -> Self {
        let date = date.and_then(|date| HeaderValue::try_from(httpdate::fmt_http_date(date)).ok());
        Self { etag: etag(&headers), size: Some(size), date, headers }
    }

    /// The store's time when it said so. Times are read of their text only where a request's condition needs them.
    pub fn date(&self) -> Option<SystemTime> {
        self.date.as_ref().and_then(http_date)
    }

    /// Whether this is the version `known`.
    pub fn is_version(&self, known: &ETag) -> bool {
        self.etag.as_ref().is_some_and(|etag| etag.strong_eq(known))
    }

    /// What follows from `conditions`.
    pub fn evaluate(&self, conditions: &Preconditions) -> PreconditionOutcome {
        if conditions.is_empty() { PreconditionOutcome::Proceed } else { conditions.evaluate(&self.validators()) }
    }

    /// Whether a range of this version is what the request means (`If-Range`).
    pub fn range_applies(&self, conditions: &Preconditions) -> bool {
        conditions.if_range().is_none() || conditions.if_range_holds(&self.validators(), self.date())
    }

    fn validators(&self) -> Validators {
        let last_modified = self.headers.get(header::LAST_MODIFIED).and_then(http_date);
        Validators { etag: self.etag.clone(), last_modified }
    }

    /// The answer that `decision` leads to, the object being `key` of `origin`.
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

    /// The route's type, else the store's, else by the key's ending; a store's "octet-stream" says that it does not know.
    fn content_type(&self, origin: &ObjectOrigin, key: &str) -> Option<HeaderValue> {
        if let Some(fixed) = &origin.content_type {
            return Some(fixed.clone());
        }
        let vague =
            |value: &&HeaderValue| matches!(value.as_bytes(), b"application/octet-stream" | b"binary/octet-stream");
        let ending = || media_type::from_key_extension(key).map(HeaderValue::from_static);
        match self.headers.get(header::CONTENT_TYPE) {
            Some(value) if !vague(&value) && !value.is_empty() => Some(value.clone()),
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

/// What `Content-Length` says.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
