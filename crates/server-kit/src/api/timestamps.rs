//! Times as the API writes them.

use primitives::unix_time::UnixMillis;

/// Returns `time` as RFC 3339; the Unix epoch for one that no calendar has.
pub fn to_rfc3339(time: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(time.as_millis()).unwrap_or_default().to_string()
}
