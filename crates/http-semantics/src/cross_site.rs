//! Requests that a page of another site makes a visitor's browser send: the visitor's cookies go along, and the page
//! needs no response (Fetch Metadata §2.3, Fetch "Origin header"). A page cannot send other credentials without knowing
//! them.

use http::header::{CONNECTION, HeaderName, ORIGIN};
use http::{HeaderMap, Method};

use super::cors::CorsPolicy;
use super::headers::has_token;
use super::request_host::normalized;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Mark of a request for which [`is_from_foreign_page`] is true: its cookies must not be believed.
#[derive(Clone, Copy, Debug)]
pub struct ForeignPage;

/// Returns true if a request that acts (an unsafe method, or an upgrade, which no cross-origin rule holds back) comes
/// from a page of another site. `own` are the hosts that are ours, as requests or the operator name them. Pages that
/// `policy` allows with credentials are not foreign. A request with neither site nor origin is no browser's.
/// `Sec-Fetch-Site` decides before `Origin`; `same-site`, a sibling subdomain, is foreign.
pub fn is_from_foreign_page<'a>(
    method: &Method,
    headers: &HeaderMap,
    own: impl IntoIterator<Item = &'a str>,
    policy: Option<&CorsPolicy>,
) -> bool {
    if method.is_safe() && !has_token(headers, &CONNECTION, "upgrade") {
        return false;
    }
    let origin = headers.get(ORIGIN);
    let is_foreign = match headers.get(FETCH_SITE).map(|site| site.as_bytes()) {
        // `none` is the user's own doing (address bar, bookmark). `same-site` is foreign: a sibling subdomain may be
        // anybody's.
        Some(b"same-origin" | b"none") => false,
        Some(_) => true,
        // Older browsers send no Sec-Fetch-Site, but an Origin with every unsafe request; an unreadable one counts as
        // foreign.
        None => origin.is_some_and(|origin| !origin.to_str().is_ok_and(|origin| is_of(origin, own))),
    };
    is_foreign && !policy.is_some_and(|policy| policy.allow_credentials && policy.allows(origin))
}

/// Returns true if `origin` is one of these hosts; the scheme's default port is as good as none.
fn is_of<'a>(origin: &str, own: impl IntoIterator<Item = &'a str>) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |host: &str| {
        let host = normalized(host);
        host.strip_suffix(port).unwrap_or(&host).to_owned()
    };
    let host = bare(host);
    own.into_iter().any(|own| bare(own) == host)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Lines = &'static [(&'static str, &'static str)];

    #[test]
    fn a_request_that_acts_is_foreign_unless_the_browser_says_otherwise() {
        let table: [(&str, Lines, bool); 13] = [
            ("POST", &[], false),
            ("POST", &[("origin", "https://media.example")], false),
            ("POST", &[("origin", "https://MEDIA.example:443")], false),
            ("POST", &[("origin", "https://media.example.")], false),
            ("POST", &[("origin", "https://media.example:80")], true),
            ("POST", &[("origin", "https://evil.example")], true),
            ("POST", &[("origin", "null")], true),
            ("DELETE", &[("sec-fetch-site", "cross-site")], true),
            ("PUT", &[("sec-fetch-site", "same-site"), ("origin", "https://media.example")], true),
            ("POST", &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], false),
            ("POST", &[("sec-fetch-site", "none")], false),
            ("GET", &[("sec-fetch-site", "cross-site")], false),
            ("GET", &[("origin", "https://evil.example"), ("connection", "keep-alive, Upgrade")], true),
        ];
        for (method, lines, expected) in table {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_from_foreign_page(&method, &headers, ["media.example"], None), expected, "{lines:?}");
        }
    }
}
