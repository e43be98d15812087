//! What is known of an object as it is now, and what the player is told of it: validators, size, the headers that
//! describe it. The same whether a store has just said it or the cache remembers it.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::plan::Decision;
use super::{Answer, Body, Origin};
use crate::http::conditional::Validators;
use crate::http::etag::ETag;
use crate::http::headers::store_response_allowed;
use crate::http::media_type;
use crate::http::range::ContentRange;

/// What a 304 repeats of a 200 (§15.4.5).
const KEPT: [HeaderName; 4] = [header::ETAG, header::CACHE_CONTROL, header::EXPIRES, header::LAST_MODIFIED];

/// An object as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// What tells this version from another.
    pub validators: Validators,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The store's time when it said so.
    pub date: Option<SystemTime>,
    /// What of the store's headers players may see.
    pub headers: HeaderMap,
}

impl Facts {
    /// What a store's response headers say of an object of `size` bytes.
    pub fn of(response: &HeaderMap, size: Option<u64>) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        for (name, value) in response {
            if store_response_allowed(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self { validators: validators(&headers), size, date: response.get(header::DATE).and_then(http_date), headers }
    }

    /// Facts that were kept.
    pub fn kept(headers: HeaderMap, size: u64, date: Option<SystemTime>) -> Self {
        Self { validators: validators(&headers), size: Some(size), date, headers }
    }

    /// Whether this is the version `known`.
    pub fn is_of(&self, known: &ETag) -> bool {
        self.validators.etag.as_ref().is_some_and(|etag| etag.strong_eq(known))
    }

    /// The answer that `decision` leads to, the object being `key` of `origin`.
    pub fn answer(mut self, origin: &Origin, key: &str, decision: Decision, body: Option<Body>) -> Answer {
        let (status, length) = match decision {
            Decision::NotModified => return self.not_modified(),
            Decision::Whole => (StatusCode::OK, self.size),
            Decision::Part(span) => (StatusCode::PARTIAL_CONTENT, Some(span.len())),
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
        if let Decision::Part(span) = decision {
            headers.insert(header::CONTENT_RANGE, ContentRange { span, total: self.size }.to_header());
        }
        Answer { status, headers: self.headers, body }
    }

    fn not_modified(mut self) -> Answer {
        let headers = &mut self.headers;
        let kept = KEPT.iter().filter_map(|name| headers.remove(name).map(|value| (name.clone(), value)));
        Answer { status: StatusCode::NOT_MODIFIED, headers: kept.collect(), body: None }
    }

    /// The route's type, else the store's, else by the key's ending; a store's "octet-stream" says that it does not know.
    fn content_type(&self, origin: &Origin, key: &str) -> Option<HeaderValue> {
        if let Some(fixed) = &origin.content_type {
            return Some(fixed.clone());
        }
        let vague =
            |value: &&HeaderValue| matches!(value.as_bytes(), b"application/octet-stream" | b"binary/octet-stream");
        let ending = || media_type::by_ending(key).map(HeaderValue::from_static);
        match self.headers.get(header::CONTENT_TYPE) {
            Some(value) if !vague(&value) && !value.is_empty() => Some(value.clone()),
            Some(value) if !value.is_empty() => Some(ending().unwrap_or_else(|| value.clone())),
            _ => Some(ending().unwrap_or(HeaderValue::from_static("application/octet-stream"))),
        }
    }
}

fn validators(headers: &HeaderMap) -> Validators {
    Validators {
        etag: headers.get(header::ETAG).and_then(|value| ETag::parse(value.as_bytes())),
        last_modified: headers.get(header::LAST_MODIFIED).and_then(http_date),
    }
}

fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// What `Content-Length` says.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
