//! Lists in pages: `limit` and an opaque `cursor` in, `nextCursor` out. A cursor names the place in the list's order
//! after which the next page begins, so that entries that come and go meanwhile neither repeat nor hide others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::Error;

/// Longest cursor in bytes: more than the longest id makes.
const MAX_CURSOR_BYTES: usize = 1024;

/// Page sizes of a list.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Entries by default.
    pub default_limit: u16,
    /// Most entries.
    pub max_limit: u16,
}

impl PageLimits {
    /// Returns the size of the requested page.
    pub fn limit(self, asked: Option<u32>) -> Result<u16, Error> {
        let limit = asked.map_or(Ok(self.default_limit), u16::try_from);
        let limit = limit.ok().filter(|limit| (1..=self.max_limit).contains(limit));
        limit.ok_or_else(|| Error::unprocessable(format!("`limit` must be 1 to {}", self.max_limit)))
    }
}

/// Page of a list of at most 100 entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Entries of a page, 1 to 100. Default: 50.
    pub limit: Option<u32>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
}

/// Decodes the place after which the page begins, by `read`; `None` is the list's beginning.
pub fn decode_cursor<T>(cursor: Option<&str>, read: impl FnOnce(String) -> Option<T>) -> Result<Option<T>, Error> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes =
        // The length first: a cursor comes from a client, and decoding allocates.
        Some(cursor).filter(|cursor| cursor.len() <= MAX_CURSOR_BYTES).map(|cursor| URL_SAFE_NO_PAD.decode(cursor));
    let text = bytes.and_then(Result::ok).and_then(|bytes| String::from_utf8(bytes).ok());
    let place = text.and_then(read).map(Some);
    place.ok_or_else(|| Error::bad_request("`cursor` is none of this list's: send its `nextCursor` as it was"))
}

/// Page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Creates a page of `items`; the next one begins after `place`, if there is one.
    pub fn new(items: Vec<T>, place: Option<String>) -> Self {
        Self { items, next_cursor: place.map(|place| URL_SAFE_NO_PAD.encode(place)) }
    }

    /// Creates a page of the first `limit` entries of `found`; if there are more, the last one's `place` leads to them.
    pub fn from_lookahead(mut found: Vec<T>, limit: u16, place: impl FnOnce(&T) -> String) -> Self {
        let more = found.len() > usize::from(limit);
        found.truncate(limit.into());
        let place = found.last().filter(|_| more).map(place);
        Self::new(found, place)
    }

    /// Converts each entry by `shown`.
    pub fn map<U>(self, shown: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(shown).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_limit_is_between_one_and_the_most() {
        let sizes = PageLimits { default_limit: 20, max_limit: 100 };
        let table =
            [(None, Ok(20)), (Some(1), Ok(1)), (Some(100), Ok(100)), (Some(0), Err(422)), (Some(101), Err(422))];
        for (asked, expected) in table.into_iter().chain([(Some(65_537), Err(422))]) {
            let got = sizes.limit(asked).map_err(|error| error.status().as_u16());
            assert_eq!(got, expected, "{asked:?}");
        }
    }

    #[test]
    fn the_cursor_of_a_page_leads_behind_its_last_entry() {
        let all = ["a", "ö/?", "c"];
        let page = Page::from_lookahead(all[..3].to_vec(), 2, ToString::to_string);
        assert_eq!(page.items, ["a", "ö/?"]);
        assert_eq!(decode_cursor(page.next_cursor.as_deref(), Some), Ok(Some("ö/?".to_owned())));
        let last = Page::from_lookahead(all[2..].to_vec(), 2, ToString::to_string);
        assert_eq!((last.items, last.next_cursor), (vec!["c"], None));
        assert_eq!(Page::from_lookahead(all[..2].to_vec(), 2, ToString::to_string).next_cursor, None);
    }

    #[test]
    fn a_cursor_that_is_none_is_refused() {
        let long = "a".repeat(MAX_CURSOR_BYTES + 4);
        for cursor in ["%", "a b", "_w", &long] {
            assert_eq!(
                decode_cursor(Some(cursor), Some).map_err(|error| error.status()),
                Err(StatusCode::BAD_REQUEST),
                "{cursor}"
            );
        }
        assert!(decode_cursor(Some("YQ"), |_| None::<()>).is_err(), "what the list cannot read");
        assert_eq!(decode_cursor(None, Some), Ok(None));
    }
}
