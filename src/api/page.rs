//! Lists in pages: `limit` and an opaque `cursor` in, `next_cursor` out. A cursor says after which entry the next page
//! begins, so that entries that come and go meanwhile neither repeat nor hide others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::Error;

/// Entries of a page unless asked otherwise.
const DEFAULT: u32 = 20;
/// Most entries of a page.
const MOST: u32 = 100;
/// Longest cursor: more than the longest id makes.
const LONGEST: usize = 1024;

/// Which page is asked for; a list's own parameters are extracted beside it, by a `Query` of their own.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Most entries of the page: 1 to 100. Default: 20.
    #[param(minimum = 1, maximum = 100, example = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, as it was. Default: from the beginning.
    #[param(max_length = 1024)]
    cursor: Option<String>,
}

impl Paging {
    /// Most entries of the page; ask for one more, and [`Page::cut`] sees whether there is another page.
    pub fn limit(&self) -> Result<usize, Error> {
        match self.limit.unwrap_or(DEFAULT) {
            limit @ 1..=MOST => Ok(limit as usize),
            _ => Err(Error::unprocessable("`limit` is out of range: expected 1 to 100")),
        }
    }

    /// The key of the entry behind which the page begins.
    pub fn after(&self) -> Result<Option<String>, Error> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let key = Some(cursor).filter(|cursor| cursor.len() <= LONGEST).and_then(|cursor| {
            let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
            String::from_utf8(bytes).ok()
        });
        key.map(Some).ok_or_else(|| Error::bad_request("`cursor` is none of ours: send `next_cursor` as it was"))
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Asks for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` entries of `found`; where there are more, the last one's `key` leads to them.
    pub fn cut(mut found: Vec<T>, limit: usize, key: impl FnOnce(&T) -> String) -> Self {
        let more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
        Self { items: found, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn asked(limit: Option<u32>, cursor: Option<&str>) -> Paging {
        Paging { limit, cursor: cursor.map(str::to_owned) }
    }

    #[test]
    fn a_limit_is_between_1_and_100() {
        let table =
            [(None, Ok(20)), (Some(1), Ok(1)), (Some(100), Ok(100)), (Some(0), Err(422)), (Some(101), Err(422))];
        for (limit, expected) in table {
            let got = asked(limit, None).limit().map_err(|error| error.status().as_u16());
            assert_eq!(got, expected, "{limit:?}");
        }
    }

    #[test]
    fn the_cursor_of_a_page_leads_behind_its_last_entry() {
        let all = ["a", "ö/?", "c"];
        let page = Page::cut(all[..3].to_vec(), 2, ToString::to_string);
        assert_eq!(page.items, ["a", "ö/?"]);
        let cursor = page.next_cursor.expect("there is more");
        assert_eq!(asked(None, Some(&cursor)).after(), Ok(Some("ö/?".to_owned())));
        let last = Page::cut(all[2..].to_vec(), 2, ToString::to_string);
        assert_eq!((last.items, last.next_cursor), (vec!["c"], None));
        assert_eq!(Page::cut(all[..2].to_vec(), 2, ToString::to_string).next_cursor, None);
    }

    #[test]
    fn a_cursor_that_is_none_is_refused() {
        let long = "a".repeat(LONGEST + 4);
        for cursor in ["%", "a b", "_w", &long] {
            let refused = asked(None, Some(cursor)).after().map_err(|error| error.status());
            assert_eq!(refused, Err(StatusCode::BAD_REQUEST), "{cursor}");
        }
        assert_eq!(asked(None, None).after(), Ok(None));
    }
}
