//! The host that a request names, in one spelling (RFC 3986 §3.2.2): names are compared without regard to case, and the
//! dot behind the last label, an empty port and the many forms of an IPv6 address say nothing. It must not know routes.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};

/// Rewrites the host of `request` in the one spelling, in its target and in `Host`, so that nothing behind sees another.
pub fn normalize(request: &mut Parts) {
    normalize_header(&mut request.headers);
    let Some(Cow::Owned(host)) = request.uri.authority().map(|authority| normalized(authority.as_str())) else {
        return;
    };
    let mut parts = request.uri.clone().into_parts();
    parts.authority = Authority::try_from(host).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        request.uri = uri;
    }
}

/// Rewrites `Host` in the one spelling.
pub fn normalize_header(headers: &mut HeaderMap) {
    let Some(Cow::Owned(host)) = headers.get(HOST).and_then(|host| host.to_str().ok()).map(normalized) else { return };
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(HOST, host);
    }
}

/// Returns `host`, a name or address and perhaps a port, in the one spelling; borrowed where it has that already.
pub fn normalized(host: &str) -> Cow<'_, str> {
    // Most hosts are, and a request should cost no memory for that.
    if is_plain(host) {
        return Cow::Borrowed(host);
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        // No port, or an IPv6 address, whose last bracket stands behind its colons.
        _ => (host, ""),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
    let name = match address {
        Some(address) => format!("[{address}]"),
        None => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
    };
    let port = match port.parse::<u16>() {
        Ok(port) => format!(":{port}"),
        Err(_) if port.is_empty() => String::new(),
        Err(_) => format!(":{port}"),
    };
    let normal = name + &port;
    if normal == host { Cow::Borrowed(host) } else { Cow::Owned(normal) }
}

/// Returns true for a lower-case name without a dot at its end, perhaps with a port without a leading zero: it needs no other
/// spelling.
fn is_plain(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    let is_of_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    let is_port = !port.starts_with('0') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    name.bytes().all(is_of_name) && !name.ends_with('.') && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (host, expected) in [
            ("a.example", "a.example"),
            ("A.Example.", "a.example"),
            ("a.example.:80", "a.example:80"),
            ("a.example:", "a.example"),
            ("a.example.:", "a.example"),
            ("a.example:0080", "a.example:80"),
            ("[2001:DB8:0::1]", "[2001:db8::1]"),
            ("[2001:db8:0:0:0:0:0:1]:8080", "[2001:db8::1]:8080"),
            ("[::ffff:102:304]", "[::ffff:1.2.3.4]"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("", ""),
        ] {
            assert_eq!(normalized(host), expected, "{host}");
            assert!(matches!(normalized(expected), Cow::Borrowed(_)), "{expected}");
        }
    }

    #[test]
    fn target_and_header_are_rewritten() {
        let request = http::Request::get("http://A.example.:80/x?y").header(HOST, "A.example.:80");
        let mut request = request.body(()).expect("a request").into_parts().0;
        normalize(&mut request);
        assert_eq!(request.uri, "http://a.example:80/x?y");
        assert_eq!(request.headers[HOST], "a.example:80");
        let mut request = http::Request::get("/x").header(HOST, "B").body(()).expect("a request").into_parts().0;
        normalize(&mut request);
        assert_eq!(request.uri, "/x");
        assert_eq!(request.headers[HOST], "b");
    }
}
