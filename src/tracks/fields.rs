//! Ids and times as the admin API reads and writes them.

use crate::api::error::Error;
use crate::catalog::MAX_ID;

/// An id that is neither empty nor too long, and can stand in a path.
pub fn id<'a>(name: &str, id: &'a str) -> Result<&'a str, Error> {
    let good = (1..=MAX_ID).contains(&id.len()) && !id.contains(|c: char| c.is_control());
    let wrong = || Error::unprocessable(format!("`{name}` must have 1 to {MAX_ID} bytes and no control characters"));
    good.then_some(id).ok_or_else(wrong)
}

/// Milliseconds since the Unix epoch as RFC 3339.
pub fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).unwrap_or_default().to_string()
}
