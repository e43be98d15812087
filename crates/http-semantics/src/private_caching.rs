//! `Cache-Control` of what one user may have and another may not (RFC 9111 §5.2.2).

use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

/// Makes a response one that no shared cache stores: `private`, in place of what says otherwise. The other directives
/// stay, so that the user's own cache does as it was told.
pub fn keep_out_of_shared_caches(headers: &mut HeaderMap) {
    let lines = headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b","[..]);
    let given = directives(&lines);
    // Nobody stores it, or shared caches do not: with field names, `private` is about those fields only.
    if given
        .iter()
        .any(|directive| [&b"no-store"[..], b"private"].iter().any(|all| directive.eq_ignore_ascii_case(all)))
    {
        return;
    }
    let kept = given.into_iter().filter(|directive| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        ![&b"public"[..], b"private", b"s-maxage"].iter().any(|shared| name.eq_ignore_ascii_case(shared))
    });
    let value = std::iter::once(&b"private"[..]).chain(kept).collect::<Vec<_>>().join(&b", "[..]);
    // What came as values of headers is one again.
    let value = HeaderValue::from_bytes(&value).unwrap_or(HeaderValue::from_static("private"));
    headers.insert(CACHE_CONTROL, value);
}

/// Splits a list at its commas, but for those in quoted strings (RFC 9110 §5.6.4).
fn directives(list: &[u8]) -> Vec<&[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = list.split(|byte| {
        let is_end = *byte == b',' && !is_quoted;
        is_quoted ^= *byte == b'"' && !is_escaped;
        is_escaped = is_quoted && *byte == b'\\' && !is_escaped;
        is_end
    });
    parts.map(<[u8]>::trim_ascii).filter(|directive| !directive.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shared_cache_may_store_becomes_private() {
        for (given, expected) in [
            (&[][..], "private"),
            (&["", " , "], "private"),
            (&["max-age=60"], "private, max-age=60"),
            (&["public, max-age=31536000, immutable"], "private, max-age=31536000, immutable"),
            (&["PUBLIC", "S-MaxAge = 5", "no-cache"], "private, no-cache"),
            (&["private=\"set-cookie, x\", max-age=60"], "private, max-age=60"),
            (&["x=\"a\\\", public\", max-age=60"], "private, x=\"a\\\", public\", max-age=60"),
            (&["x=\"never closed, public"], "private, x=\"never closed, public"),
            (&["publicly"], "private, publicly"),
        ] {
            let mut headers = HeaderMap::new();
            for line in given {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
            }
            keep_out_of_shared_caches(&mut headers);
            assert_eq!(headers.get_all(CACHE_CONTROL).iter().collect::<Vec<_>>(), [expected], "{given:?}");
        }
    }

    #[test]
    fn what_is_private_or_not_stored_stays_as_it_is() {
        for given in ["no-store", "private", "Private, max-age=60", "max-age=0,no-store, public"] {
            let mut headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(given))]);
            keep_out_of_shared_caches(&mut headers);
            assert_eq!(headers[CACHE_CONTROL], given);
        }
    }
}
