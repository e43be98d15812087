//! Times as the API writes them.

use primitives::unix_time::UnixMillis;

/// Returns `time` as RFC 3339; the Unix epoch for one that no calendar has.
pub fn to_rfc3339(time: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(time.as_millis()).unwrap_or_default().to_string()
}

/// Returns `time` as RFC 3339 with milliseconds and a numeric offset, as .NET's `DateTimeOffset` writes it and events have it.
pub fn with_offset(time: UnixMillis) -> String {
    let time = jiff::Timestamp::from_millisecond(time.as_millis()).unwrap_or_default();
    format!("{}+00:00", time.strftime("%Y-%m-%dT%H:%M:%S%.3f"))
}
