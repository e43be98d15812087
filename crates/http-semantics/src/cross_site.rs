//! Pages of other sites that have a visitor's browser act here: it sends the visitor's cookies along, and the page needs no
//! answer (Fetch Metadata §2.3, Fetch "Origin header"). Other credentials a page cannot send without knowing them.

use http::header::{CONNECTION, HeaderName, ORIGIN};
use http::{HeaderMap, Method};

use super::cors::CorsPolicy;
use super::headers::has_token;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Mark of a request that [`is_from_foreign_page`]: no cookie of it may be believed.
#[derive(Clone, Copy, Debug)]
pub struct ForeignPage;

/// Whether a request that acts (a method that is not safe, or an upgrade, which no cross-origin rule holds back) is from a
/// page of another site. `own`: hosts that are ours, as requests or the operator name them. Pages that `policy` lets in
/// with credentials are not foreign. What names neither site nor origin is no browser's.
pub fn is_from_foreign_page(method: &Method, headers: &HeaderMap, own: &[&str], policy: Option<&CorsPolicy>) -> bool {
    if method.is_safe() && !has_token(headers, &CONNECTION, "upgrade") {
        return false;
    }
    let origin = headers.get(ORIGIN);
    let is_foreign = match headers.get(FETCH_SITE).map(|site| site.as_bytes()) {
        Some(b"same-origin" | b"none") => false,
        Some(_) => true,
        None => origin.is_some_and(|origin| !origin.to_str().is_ok_and(|origin| is_of(origin, own))),
    };
    is_foreign && !policy.is_some_and(|policy| policy.allow_credentials && policy.allows(origin))
}

/// Whether `origin` is one of these hosts.
fn is_of(origin: &str, own: &[&str]) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    own.iter().any(|own| bare(own) == bare(host))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Lines = &'static [(&'static str, &'static str)];

    #[test]
    fn a_request_that_acts_is_foreign_unless_the_browser_says_otherwise() {
        let table: [(&str, Lines, bool); 12] = [
            ("POST", &[], false),
            ("POST", &[("origin", "https://media.example")], false),
            ("POST", &[("origin", "https://MEDIA.example:443")], false),
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
            assert_eq!(is_from_foreign_page(&method, &headers, &["media.example"], None), expected, "{lines:?}");
        }
    }
}
