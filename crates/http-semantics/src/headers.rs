//! Headers that may pass: from a store to a player, and over a hop (RFC 9110 §7.6.1). Names only, no values.

use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName};

/// Response headers of the store that describe the object; they are passed to players. All others are the store's own
/// or are written by us: length, range, date, CORS, `Vary`, user metadata, request ids.
pub const STORE_RESPONSE_HEADERS: [&str; 8] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "expires",
    "etag",
    "last-modified",
];

/// Returns true if a header of this name concerns one connection only. `Proxy` is included because some programs take
/// it for their own proxy setting (httpoxy); `Proxy-*` because it is between the player and its proxy.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "http2-settings")
        || name.strip_prefix("proxy").is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Returns true for a name of letters, digits and `-` alone. In the variables of CGI and of what is modelled on it (RFC
/// 3875 §4.1.18) every other character may become the `_` that `-` becomes, and the name another header's.
pub fn is_plain_name(name: &HeaderName) -> bool {
    name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Removes the headers that must not cross a hop: those of [`is_hop_by_hop`] and all that `Connection` names. `Host`
/// and `Content-Length` stay even if named: without them the next server would see another request.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| name != HOST && name != CONTENT_LENGTH);
    // Collected first: the map cannot be changed while its names are read.
    let unfit: Vec<HeaderName> = named.chain(headers.keys().filter(|name| is_hop_by_hop(name)).cloned()).collect();
    for name in unfit {
        headers.remove(name);
    }
}

/// Returns true if one of the lists under `name` contains `word`, in any case (RFC 9110 §5.6.1).
pub fn has_token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let mut lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.any(|line| list_has_token(line.as_bytes(), word))
}

/// Returns true if the comma-separated list, of one field line, contains `word`, in any case.
pub fn list_has_token(list: &[u8], word: &str) -> bool {
    list.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Returns true if the client waits for 100 (Continue) before it sends its body (RFC 9110 §10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_describes_the_object_comes_from_the_store() {
        let table = [
            ("content-type", true),
            ("content-encoding", true),
            ("content-language", true),
            ("content-disposition", true),
            ("cache-control", true),
            ("expires", true),
            ("etag", true),
            ("last-modified", true),
            ("content-length", false),
            ("content-range", false),
            ("server", false),
            ("location", false),
            ("content-location", false),
            ("vary", false),
            ("set-cookie", false),
            ("strict-transport-security", false),
            ("access-control-allow-origin", false),
            ("x-amz-request-id", false),
            ("x-amz-meta-owner", false),
            ("x-minio-error-code", false),
            ("x-ratelimit-limit", false),
        ];
        for (name, expected) in table {
            assert_eq!(STORE_RESPONSE_HEADERS.contains(&name), expected, "{name}");
        }
    }

    #[test]
    fn nothing_of_one_connection_crosses_it() {
        let mut headers = HeaderMap::new();
        let lines = [
            ("connection", "close, X-Private"),
            ("connection", "x-other,, host, Content-Length, not a name"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "expires"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy", "http://evil"),
            ("proxy-authorization", "Basic Zm9v"),
            ("proxy-connection", "keep-alive"),
            ("x-private", "1"),
            ("x-private", "2"),
            ("x-other", "3"),
            ("host", "example.com"),
            ("content-length", "5"),
            ("proxied", "4"),
            ("range", "bytes=0-4"),
        ];
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "proxied", "range"]);
    }
}
