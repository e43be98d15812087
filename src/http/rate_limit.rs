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
