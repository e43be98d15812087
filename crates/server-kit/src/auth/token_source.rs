//! Places where a request carries its token, and its removal before the request is forwarded: it is a credential for
//! us, never for an upstream.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use super::error::AuthenticationError;
use super::settings::TokenSource;

/// Returns the token of the first source that has one. An empty value is none: a logged-out player keeps its empty
/// cookie.
pub(super) fn find<'a>(
    sources: &[TokenSource],
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<Cow<'a, str>, AuthenticationError> {
    locate(sources, headers, query).map(|(_, token)| token)
}

/// Returns true if [`find`] finds the token in a cookie.
pub(super) fn is_in_cookie(sources: &[TokenSource], headers: &HeaderMap, query: Option<&str>) -> bool {
    locate(sources, headers, query).is_ok_and(|(source, _)| matches!(source, TokenSource::Cookie(_)))
}

/// Returns the request headers in which tokens are looked for, as `Vary` lists them; `None` where they are in the query only.
pub(super) fn vary(sources: &[TokenSource]) -> Option<HeaderValue> {
    let is_bearer = sources.iter().any(|source| matches!(source, TokenSource::Header));
    let is_cookie = sources.iter().any(|source| matches!(source, TokenSource::Cookie(_)));
    let names = match (is_bearer, is_cookie) {
        (true, true) => "Authorization, Cookie",
        (true, false) => "Authorization",
        (false, true) => "Cookie",
        (false, false) => return None,
    };
    Some(HeaderValue::from_static(names))
}

fn locate<'a, 's>(
    sources: &'s [TokenSource],
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<(&'s TokenSource, Cow<'a, str>), AuthenticationError> {
    for source in sources {
        let found = match source {
            TokenSource::Header => bearer(headers)?.map(Cow::Borrowed),
            TokenSource::Cookie(name) => cookie(headers, name)?.map(Cow::Borrowed),
            TokenSource::Query(name) => parameter(query.unwrap_or_default(), name)?,
        };
        if let Some(token) = found.filter(|token| !token.is_empty()) {
            return Ok((source, token));
        }
    }
    Err(AuthenticationError::Missing)
}

/// Returns the query without the parameters that carry a token, the rest byte for byte; `None` if nothing else was in
/// it.
pub fn strip_query(query: &str, sources: &[TokenSource]) -> Option<String> {
    let carries_token = |pair: &str| {
        sources.iter().any(|source| match source {
            TokenSource::Query(name) => is_named(pair, name),
            TokenSource::Header | TokenSource::Cookie(_) => false,
        })
    };
    if !query.split('&').any(carries_token) {
        return Some(query.to_owned());
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !carries_token(pair)).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// Removes `Authorization` if it is a source, and the cookies that are.
pub fn strip_headers(headers: &mut HeaderMap, sources: &[TokenSource]) {
    for source in sources {
        match source {
            TokenSource::Header => {
                headers.remove(AUTHORIZATION);
            }
            TokenSource::Cookie(name) => strip_cookie(headers, name.as_bytes()),
            TokenSource::Query(_) => {}
        }
    }
}

/// Returns the token of `Authorization: Bearer <token>`; another scheme is no token. The scheme's case is ignored (RFC
/// 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthenticationError> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        // Which one an upstream or a cache in front believes is anyone's guess.
        return Err(AuthenticationError::Malformed);
    }
    let line = line.to_str().map_err(|_| AuthenticationError::Malformed)?;
    let (scheme, token) = line.split_once(' ').unwrap_or((line, ""));
    Ok(scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_matches(' ')))
}

/// Returns the first cookie of that name, without quotes (RFC 6265 §4.1.1).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, AuthenticationError> {
    let found = headers.get_all(COOKIE).iter().flat_map(cookies).find(|pair| cookie_name(pair) == name.as_bytes());
    let Some(pair) = found else { return Ok(None) };
    let value = std::str::from_utf8(&pair[name.len()..]).map_err(|_| AuthenticationError::Malformed)?;
    let value = value.strip_prefix('=').unwrap_or_default();
    Ok(Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)))
}

/// Returns the `name=value` pairs of a `Cookie` line.
fn cookies(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn cookie_name(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default()
}

fn strip_cookie(headers: &mut HeaderMap, name: &[u8]) {
    // Without that cookie the lines stay byte for byte as they were.
    if !headers.get_all(COOKIE).iter().flat_map(cookies).any(|pair| cookie_name(pair) == name) {
        return;
    }
    let kept: Vec<&[u8]> =
        headers.get_all(COOKIE).iter().flat_map(cookies).filter(|pair| cookie_name(pair) != name).collect();
    // One line: several would mean the same only to a server that joins them (RFC 6265 §5.4).
    let line = HeaderValue::from_bytes(&kept.join(&b"; "[..]));
    headers.remove(COOKIE);
    if let Ok(line) = line
        && !line.is_empty()
    {
        headers.insert(COOKIE, line);
    }
}

/// Returns the first query parameter of that name, percent-decoded once.
fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, AuthenticationError> {
    let Some(pair) = query.split('&').find(|pair| is_named(pair, name)) else { return Ok(None) };
    let value = pair.split_once('=').map_or("", |(_, value)| value);
    percent_decode_str(value).decode_utf8().map(Some).map_err(|_| AuthenticationError::Malformed)
}

/// Returns true if a parameter has that name, in any escaping: an upstream would decode it too.
fn is_named(pair: &str, name: &str) -> bool {
    percent_decode_str(pair.split('=').next().unwrap_or_default()).eq(name.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<TokenSource> {
        vec![TokenSource::Header, TokenSource::Cookie("session".into()), TokenSource::Query("access_token".into())]
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_first_source_that_has_a_token_decides() {
        let auth = ("authorization", "Bearer H");
        let jar = ("cookie", "a=1; session=C; b=2");
        type Case<'a> = (&'a [(&'static str, &'static str)], Option<&'a str>, Result<&'a str, AuthenticationError>);
        let table: &[Case] = &[
            (&[], None, Err(AuthenticationError::Missing)),
            (&[auth, jar], Some("access_token=Q"), Ok("H")),
            (&[jar], Some("access_token=Q"), Ok("C")),
            (&[], Some("a=1&access_token=Q&access_token=R"), Ok("Q")),
            (&[], Some("access%5Ftoken=%51%2e"), Ok("Q.")),
            (&[], Some("Access_token=Q"), Err(AuthenticationError::Missing)),
            (&[], Some("access_token"), Err(AuthenticationError::Missing)),
            (&[], Some("access_token=%FF"), Err(AuthenticationError::Malformed)),
            (&[("authorization", "bEaReR  H ")], None, Ok("H")),
            (&[("authorization", "Bearer")], Some("access_token=Q"), Ok("Q")),
            (&[("authorization", "Basic dTpw")], Some("access_token=Q"), Ok("Q")),
            (&[("authorization", "BearerH")], None, Err(AuthenticationError::Missing)),
            (&[auth, auth], None, Err(AuthenticationError::Malformed)),
            (&[("cookie", "session=")], Some("access_token=Q"), Ok("Q")),
            (&[("cookie", "a=1"), ("cookie", "session=\"C=\"")], None, Ok("C=")),
            (&[("cookie", "xsession=C; session2=C")], None, Err(AuthenticationError::Missing)),
        ];
        for (lines, query, expected) in table {
            let map = headers(lines);
            let found = find(&sources(), &map, *query);
            assert_eq!(found.as_deref().map_err(|refusal| *refusal), *expected, "{lines:?} {query:?}");
        }
    }

    #[test]
    fn a_source_that_is_not_configured_is_not_looked_at() {
        let map = headers(&[("authorization", "Bearer H"), ("cookie", "session=C")]);
        let only_query = [TokenSource::Query("t".into())];
        assert_eq!(find(&only_query, &map, Some("access_token=Q")), Err(AuthenticationError::Missing));
    }

    #[test]
    fn a_token_is_taken_out_of_the_query_and_the_rest_keeps_its_bytes() {
        let table = [
            ("access_token=Q", None),
            ("access_token=Q&access_token=R", None),
            ("a=%2f&access_token=Q&b=+&", Some("a=%2f&b=+&")),
            ("a=1&access%5ftoken=Q", Some("a=1")),
            ("a=1&&b", Some("a=1&&b")),
            ("", Some("")),
        ];
        for (query, expected) in table {
            assert_eq!(strip_query(query, &sources()).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn a_token_is_taken_out_of_the_headers_and_other_cookies_stay() {
        let mut map = headers(&[
            ("authorization", "Bearer H"),
            ("cookie", "a=1; session=C"),
            ("cookie", "session=D;b=2"),
            ("accept", "*/*"),
        ]);
        map.append(COOKIE, HeaderValue::from_bytes(b"c=\xff").expect("opaque bytes are allowed"));
        strip_headers(&mut map, &sources());
        assert!(!map.contains_key(AUTHORIZATION));
        let jar: Vec<&[u8]> = map.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(jar, [&b"a=1; b=2; c=\xff"[..]]);
        assert_eq!(map["accept"], "*/*");
    }

    #[test]
    fn nothing_of_another_credential_is_touched() {
        let mut map = headers(&[("authorization", "Basic dTpw"), ("cookie", "session=C")]);
        strip_headers(&mut map, &[TokenSource::Query("session".into())]);
        assert_eq!(map.len(), 2);
        strip_headers(&mut map, &[TokenSource::Cookie("session".into())]);
        assert!(map.contains_key(AUTHORIZATION) && !map.contains_key(COOKIE));
    }
}
