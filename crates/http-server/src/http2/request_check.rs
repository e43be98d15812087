//! The head of an HTTP/2 request, beyond what the library checks (RFC 9113 §8): one host, one length, a path that a
//! handler of HTTP/1.1 would have got.

use http::request::Parts;
use http::{HeaderValue, Method, header};

use crate::RequestHeadError;
use http_semantics::{head_syntax, request_host};

/// Checks the head, makes one cookie field of its crumbs (§8.2.3), and writes its host in one spelling. Fails where it is
/// malformed or has more than `most_lines` header lines.
pub fn check(request: &mut Parts, most_lines: usize) -> Result<(), RequestHeadError> {
    let malformed = |detail: &'static str| Err(RequestHeadError::Malformed(detail.into()));
    if request.headers.len() > most_lines {
        return Err(RequestHeadError::TooLong);
    }
    let path = request.uri.path();
    // `*` is for OPTIONS only, and CONNECT has no path (RFC 9113 §8.3.1, §8.5).
    let has_path = path.starts_with('/') || (path == "*" && request.method == Method::OPTIONS);
    if !has_path && request.method != Method::CONNECT {
        return malformed(":path is malformed: expected a path that begins with '/'");
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = request.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() {
        return malformed("Host is repeated: expected one");
    }
    match (authority, host) {
        (None, None) => return malformed(":authority is missing: expected it, or Host, in every request"),
        // RFC 9113 §8.3.1. A route chosen by one and a destination that reads the other would disagree.
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return malformed(":authority and Host name different hosts: expected the same");
        }
        (Some(name), _) | (None, Some(name)) if !head_syntax::is_host(name) => {
            return malformed("the host is malformed: expected a name or an address, and perhaps a port");
        }
        _ => {}
    }
    // Checked because the request may go on over HTTP/1.1, where two lengths are a way to smuggle one (RFC 9112 §11.2).
    let lengths = request.headers.get_all(header::CONTENT_LENGTH);
    let sound = lengths.iter().map(HeaderValue::as_bytes).all(head_syntax::is_content_length);
    if !sound || lengths.iter().count() > 1 {
        return malformed("Content-Length is malformed: expected one decimal number");
    }
    join_cookies(request);
    request_host::normalize(request);
    Ok(())
}

fn join_cookies(request: &mut Parts) {
    let crumbs: Vec<&[u8]> = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        request.headers.insert(header::COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn checked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Parts, RequestHeadError> {
        let request = Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut parts = request.body(()).expect("a request").into_parts().0;
        check(&mut parts, 256).map(|()| parts)
    }

    #[test]
    fn heads_that_leave_host_or_length_open_are_refused() {
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], bool);
        let table: [Case<'_>; 13] = [
            ("GET", "http://gate/a", &[], true),
            ("GET", "http://gate/a", &[("host", "GATE")], true),
            ("GET", "/a", &[("host", "gate")], true),
            ("OPTIONS", "*", &[("host", "gate")], true),
            ("CONNECT", "gate:443", &[], true),
            ("GET", "/a", &[], false),
            ("GET", "*", &[("host", "gate")], false),
            ("GET", "http://gate/a", &[("host", "other")], false),
            ("GET", "http://u@gate/a", &[], false),
            ("GET", "/a", &[("host", "a,b")], false),
            ("GET", "/a", &[("host", "a"), ("host", "a")], false),
            ("POST", "http://gate/a", &[("content-length", "1"), ("content-length", "1")], false),
            ("POST", "http://gate/a", &[("content-length", "+1")], false),
        ];
        for (method, uri, headers, expected) in table {
            assert_eq!(checked(method, uri, headers).is_ok(), expected, "{method} {uri} {headers:?}");
        }
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let parts = checked("GET", "http://gate/", &[("cookie", "a=1"), ("cookie", "b=2")]).expect("fine");
        let cookies: Vec<_> = parts.headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }
}
