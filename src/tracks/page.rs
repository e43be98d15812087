//! Lists in pages: how long one is, where it begins, and times as the API writes them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::api::error::Error;
use crate::catalog::MAX_ID;

/// Entries of a page where nothing is said.
const USUAL: u32 = 100;
/// Entries of a page at most.
const MOST: u32 = 1000;

/// How many entries.
pub fn limit(asked: Option<u32>) -> Result<u32, Error> {
    match asked.unwrap_or(USUAL) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(Error::unprocessable(format!("`limit` must be from 1 to {MOST}"))),
    }
}

/// What the next page begins behind, as the client sends it back.
pub fn cursor(behind: &str) -> String {
    URL_SAFE_NO_PAD.encode(behind)
}

/// What the page begins behind.
pub fn behind(cursor: Option<&str>) -> Result<String, Error> {
    let decoded = URL_SAFE_NO_PAD.decode(cursor.unwrap_or_default()).ok();
    let text = decoded.filter(|bytes| bytes.len() <= 2 * MAX_ID).and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::bad_request("`cursor` must be the `nextCursor` of the page before"))
}

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
