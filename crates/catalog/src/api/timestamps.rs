//! Times as the admin API writes them.

/// Milliseconds since the Unix epoch as RFC 3339.
pub fn to_rfc3339(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).unwrap_or_default().to_string()
}
