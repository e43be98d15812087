//! Rate limit fields of a response, by draft-ietf-httpapi-ratelimit-headers-06 (later drafts have one structured field
//! in their place, which few clients read).

use std::time::Duration;

use http::HeaderName;

use crate::error_codes::ErrorCode;

/// Requests allowed per window.
pub const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
/// Requests left in it.
pub const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
/// Seconds until more requests are allowed.
pub const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Returns the three fields.
pub fn headers(limit: u64, remaining: u64, reset: Duration) -> [(HeaderName, u64); 3] {
    [(LIMIT, limit), (REMAINING, remaining), (RESET, whole_seconds(reset))]
}

/// Returns the time span in seconds, rounded up: a client that comes back then is not too early.
pub fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// Limit that a 429 names; the same on routes and in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceededLimit {
    /// Requests.
    Requests,
    /// Streams, or requests, at once.
    Streams,
    /// Bytes in this period.
    Egress,
    /// Tokens that were not valid.
    BadTokens,
}

impl ExceededLimit {
    /// Returns the code of this limit.
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::Requests => ErrorCode::TooManyRequests,
            Self::Streams => ErrorCode::TooManyStreams,
            Self::Egress => ErrorCode::QuotaUsedUp,
            Self::BadTokens => ErrorCode::TooManyBadTokens,
        }
    }

    /// Returns the text for the client.
    pub const fn detail(self) -> &'static str {
        self.error_code().detail()
    }
}
