//! What an answer says of a limit: the three fields of draft-ietf-httpapi-ratelimit-headers-06 (later drafts have one
//! structured field in their place, which few clients read).

use std::time::Duration;

use http::HeaderName;

/// What is allowed.
pub const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
/// What is left of it.
pub const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
/// Seconds until more is left.
pub const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The fields.
pub fn headers(limit: u64, remaining: u64, reset: Duration) -> [(HeaderName, u64); 3] {
    [(LIMIT, limit), (REMAINING, remaining), (RESET, whole_seconds(reset))]
}

/// The time span in seconds, rounded up: who comes back then is not too early.
pub fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// What somebody has had enough of; the codes and texts of a 429, the same on routes and on the API.
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
    /// The stable code of the envelope.
    pub fn code(self) -> &'static str {
        match self {
            Self::Requests => "too_many_requests",
            Self::Streams => "too_many_streams",
            Self::Egress => "quota_used_up",
            Self::BadTokens => "too_many_bad_tokens",
        }
    }

    /// The text for the client.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Requests => "too many requests; try again after Retry-After",
            Self::Streams => "too many streams at once; end one, or try again after Retry-After",
            Self::Egress => "the quota of this period is used up; try again after Retry-After",
            Self::BadTokens => "too many tokens from this address were not valid; try again after Retry-After",
        }
    }
}
