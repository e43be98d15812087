//! Syntax of the head of an HTTP/1 request as the client wrote it (RFC 9112 §2.2, §3.2, §5, §6.3, §11.2). Refuses what
//! two servers could read differently: the parser behind this is lenient, and leniency lets requests be smuggled. It
//! must not know what a request asks for.

use std::net::Ipv6Addr;

use memchr::{memchr, memchr2, memmem, memrchr};

/// Reason for which a head is refused; the response is 400 and the connection is closed. The texts repeat nothing of
/// the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadSyntaxError {
    /// A line that ends with LF alone, or a CR that ends no line.
    #[error("a line of the request's head does not end properly: expected CR LF, and neither of them elsewhere")]
    BareLineBreak,
    /// The input stops before the empty line.
    #[error("the request's head is cut off: expected an empty line at its end")]
    Unfinished,
    /// Not method, target and a version of HTTP/1.
    #[error("the request line is malformed: expected a method, a target and HTTP/1.1 or HTTP/1.0, one blank between")]
    RequestLine,
    /// A target that no server has.
    #[error("the request's target is malformed: expected a path, or an http or https URL, of visible characters")]
    Target,
    /// A header that goes on in the next line.
    #[error("a header line begins with a blank: expected each header on one line")]
    FoldedHeader,
    /// A header line that does not begin with a name and a colon.
    #[error("a header's name is malformed: expected a token with ':' right after it")]
    HeaderName,
    /// Content-Length given more than once.
    #[error("Content-Length is repeated: expected at most one")]
    RepeatedContentLength,
    /// Content-Length that is no number.
    #[error("Content-Length is malformed: expected one decimal number")]
    MalformedContentLength,
    /// Two declarations of where the body ends.
    #[error("both Content-Length and Transfer-Encoding are given: expected one of them")]
    LengthAndEncoding,
    /// A Transfer-Encoding that does not say clearly where the body ends.
    #[error("Transfer-Encoding is not understood: expected 'chunked', once")]
    TransferEncoding,
    /// Host given more than once.
    #[error("Host is repeated: expected one")]
    RepeatedHost,
    /// HTTP/1.1 without Host.
    #[error("Host is missing: expected it in every HTTP/1.1 request")]
    MissingHost,
    /// A Host that names none.
    #[error("Host is malformed: expected a name or an address, and perhaps a port")]
    MalformedHost,
    /// The target has a host that is not the one in Host.
    #[error("the request's target names another host than Host does: expected the same")]
    OtherHost,
}

/// Checks the raw head of a request, from the request line to the empty line. Bytes behind it are not read.
pub fn check(raw_header_block: &[u8]) -> Result<(), HeadSyntaxError> {
    let mut rest = raw_header_block;
    let mut line = next_line(&mut rest)?;
    while line.is_empty() {
        // §2.2: empty lines before a request are passed over.
        line = next_line(&mut rest)?;
    }
    let request_line = RequestLine::parse(line).ok_or(HeadSyntaxError::RequestLine)?;
    request_line.check_target()?;
    let mut seen = HostAndFraming::default();
    loop {
        match next_line(&mut rest)? {
            b"" => return seen.validate(&request_line),
            line => seen.read_line(line)?,
        }
    }
}

/// Removes a line from `rest` and returns it without its CR LF.
fn next_line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], HeadSyntaxError> {
    let end = memchr2(b'\r', b'\n', rest).ok_or(HeadSyntaxError::Unfinished)?;
    let (line, after) = rest.split_at(end);
    match after {
        [b'\r', b'\n', after @ ..] => *rest = after,
        // A CR at the very end: its LF was cut off.
        [b'\r'] => return Err(HeadSyntaxError::Unfinished),
        _ => return Err(HeadSyntaxError::BareLineBreak),
    }
    Ok(line)
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    is_http_11: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        // First and last blank: a target with a blank in it is found below, and refused rather than split in the wrong
        // place.
        let method = memchr(b' ', line)?;
        let version = memrchr(b' ', line)?;
        let target = line.get(method + 1..version)?;
        let is_http_11 = match &line[version + 1..] {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return None,
        };
        let sound = is_token(&line[..method]) && !target.is_empty() && !target.contains(&b' ');
        sound.then_some(Self { method: &line[..method], target, is_http_11 })
    }

    /// Checks the form of the target (§3.2): a path; `*` and a bare authority with their methods only; else an HTTP
    /// URL.
    fn check_target(&self) -> Result<(), HeadSyntaxError> {
        let visible = self.target.iter().all(|byte| matches!(byte, b'!'..=b'~' | 0x80..));
        let known = match self.target {
            [b'/', ..] => true,
            b"*" => self.method == b"OPTIONS",
            authority if self.method == b"CONNECT" => is_host(authority),
            _ => self.absolute().is_some_and(|(scheme, authority)| {
                let http = [&b"http"[..], b"https"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
                http && !authority.is_empty() && is_host(authority)
            }),
        };
        if visible && known { Ok(()) } else { Err(HeadSyntaxError::Target) }
    }

    /// Returns scheme and authority of an absolute-form target (§3.2.2).
    fn absolute(&self) -> Option<(&'a [u8], &'a [u8])> {
        if self.target.starts_with(b"/") {
            return None;
        }
        let colon = memmem::find(self.target, b"://")?;
        let after = &self.target[colon + 3..];
        let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
        Some((&self.target[..colon], &after[..end]))
    }
}

/// Body framing and host that the header lines have given so far.
#[derive(Default)]
struct HostAndFraming<'a> {
    has_length: bool,
    has_encoding: bool,
    host: Option<&'a [u8]>,
}

impl<'a> HostAndFraming<'a> {
    fn read_line(&mut self, line: &'a [u8]) -> Result<(), HeadSyntaxError> {
        // RFC 9112 §5.2: obsolete line folding. A server that joins the lines and one that does not see different
        // headers.
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(HeadSyntaxError::FoldedHeader);
        }
        let colon = memchr(b':', line).ok_or(HeadSyntaxError::HeaderName)?;
        let (name, value) = (&line[..colon], trim_blanks(&line[colon + 1..]));
        // RFC 9112 §5.1: a blank between name and colon must be refused; it is no token character.
        if !is_token(name) {
            return Err(HeadSyntaxError::HeaderName);
        }
        if name.eq_ignore_ascii_case(b"host") {
            // RFC 9112 §3.2: more than one Host is a 400, even if they are equal.
            if self.host.replace(value).is_some() {
                return Err(HeadSyntaxError::RepeatedHost);
            }
            if !is_host(value) {
                return Err(HeadSyntaxError::MalformedHost);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // RFC 9110 §8.6 would allow equal repeated values; they are refused, since the next server may take another
            // one.
            if std::mem::replace(&mut self.has_length, true) {
                return Err(HeadSyntaxError::RepeatedContentLength);
            }
            if !is_content_length(value) {
                return Err(HeadSyntaxError::MalformedContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let repeated = std::mem::replace(&mut self.has_encoding, true);
            // RFC 9112 §6.1: other codings, or chunked twice, would leave the body's end to interpretation.
            if repeated || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadSyntaxError::TransferEncoding);
            }
        }
        Ok(())
    }

    fn validate(&self, request_line: &RequestLine<'_>) -> Result<(), HeadSyntaxError> {
        // RFC 9112 §6.3 rule 3: the classic sign of request smuggling, so it is refused instead of one being ignored.
        if self.has_length && self.has_encoding {
            return Err(HeadSyntaxError::LengthAndEncoding);
        }
        // RFC 9112 §6.1: HTTP/1.0 has no such thing, and a proxy in front that speaks it sees another end.
        if self.has_encoding && !request_line.is_http_11 {
            return Err(HeadSyntaxError::TransferEncoding);
        }
        let Some(host) = self.host else {
            return if request_line.is_http_11 { Err(HeadSyntaxError::MissingHost) } else { Ok(()) };
        };
        match request_line.absolute() {
            Some((scheme, authority)) if !same_host(scheme, authority, host) => Err(HeadSyntaxError::OtherHost),
            _ => Ok(()),
        }
    }
}

/// Returns true if both name the same host and port; the scheme's default port equals none (RFC 9110 §4.2.3). User
/// information (`user@host`) never equals a Host.
fn same_host(scheme: &[u8], authority: &[u8], host: &[u8]) -> bool {
    let own_port: &[u8] = if scheme.eq_ignore_ascii_case(b"https") { b":443" } else { b":80" };
    let [authority, host] = [authority, host].map(|name| name.strip_suffix(own_port).unwrap_or(name));
    !host.is_empty() && authority.eq_ignore_ascii_case(host)
}

/// Returns true for a valid `Host` or `:authority` (RFC 3986 §3.2.2): a name or an address, perhaps with a port; empty
/// where the target has no host. Stricter than the grammar: escapes, empty labels and characters that no host name has
/// let one host pass for another.
pub fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr(b']', rest) else { return false };
            let address = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            match (address, &rest[end + 1..]) {
                (Some(_), [b':', port @ ..]) => return is_port(port),
                (Some(_), []) => return true,
                _ => return false,
            }
        }
        _ => memchr(b':', value).map_or((value, None), |colon| (&value[..colon], Some(&value[colon + 1..]))),
    };
    let sound = host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte));
    let has_empty_label = host.starts_with(b".") || host.windows(2).any(|pair| pair == b"..");
    sound && !has_empty_label && port.is_none_or(|port| !host.is_empty() && is_port(port))
}

fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')).filter(|number| *number <= 65_535)
    });
    digits.len() <= 5 && number.is_some()
}

/// Returns true for a valid `Content-Length`: at most 19 digits, which always fit into 64 bits.
pub fn is_content_length(value: &[u8]) -> bool {
    (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

/// Trims the blanks around a value (RFC 9112 §5): space and tab only, no other white space.
fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Returns true for a token, `1*tchar` (RFC 9110 §5.6.2).
fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| TOKEN[usize::from(*byte)])
}

// A table, built at compile time, because every byte of every header name of every request is looked up.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    // `for` and iterators are not available in a const block.
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn proper_heads_pass() {
        let heads = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET /?u=http://other/ HTTP/1.1\r\nhost:a\r\n\r\nbody\nof any kind",
            "OPTIONS * HTTP/1.1\r\nHost:\r\nX-Empty:\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tChunked\r\n\r\n",
            "GET http://a/x HTTP/1.1\r\nHost: A\r\n\r\n",
            "GET http://a:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://a?x HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "GET http://a:8080 HTTP/1.1\r\nHost: a:8080\r\n\r\n",
            "GET http://a/ HTTP/1.0\r\n\r\n",
        ];
        for head in heads {
            assert_eq!(check(head.as_bytes()), Ok(()), "{head:?}");
        }
    }

    fn refuses(table: &[(&str, HeadSyntaxError)]) {
        for (head, expected) in table {
            assert_eq!(check(head.as_bytes()), Err(*expected), "{head:?}");
        }
    }

    #[test]
    fn lines_that_two_servers_could_part_differently_are_refused() {
        use HeadSyntaxError::{BareLineBreak, FoldedHeader, HeaderName, RequestLine, Unfinished};
        refuses(&[
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLineBreak),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLineBreak),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLineBreak),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLineBreak),
            ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", BareLineBreak),
            ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BareLineBreak),
            ("", Unfinished),
            ("GET / HTTP/1.1", Unfinished),
            ("GET / HTTP/1.1\r\nHost: a\r\n", Unfinished),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r", Unfinished),
            ("GET /\r\nHost: a\r\n\r\n", RequestLine),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", RequestLine),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", RequestLine),
            (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("G\"T / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FoldedHeader),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", FoldedHeader),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n", HeaderName),
        ]);
    }

    #[test]
    fn bodies_that_two_servers_could_end_differently_are_refused() {
        use HeadSyntaxError::{LengthAndEncoding, MalformedContentLength, RepeatedContentLength, TransferEncoding};
        let table = [
            ("Content-Length: 5\r\nContent-Length: 5", RepeatedContentLength),
            ("Content-Length: 5, 5", MalformedContentLength),
            ("Content-Length: +5", MalformedContentLength),
            ("Content-Length: -5", MalformedContentLength),
            ("Content-Length: 0x5", MalformedContentLength),
            ("Content-Length:", MalformedContentLength),
            ("Content-Length: 18446744073709551617", MalformedContentLength),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", LengthAndEncoding),
            ("transfer-encoding: chunked\r\ncontent-length: 0", LengthAndEncoding),
            ("Transfer-Encoding: xchunked", TransferEncoding),
            ("Transfer-Encoding: chunked, identity", TransferEncoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", TransferEncoding),
            ("Content-Length: \x0c5", MalformedContentLength),
        ];
        for (headers, expected) in table {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n");
            assert_eq!(check(head.as_bytes()), Err(expected), "{headers:?}");
        }
    }

    #[test]
    fn targets_and_hosts_that_name_no_server_are_refused() {
        for host in [
            "a/b", "a b", "u@x", "a,b", "a:b", "a:123456", ":80", "[::1", "[x]", "[::1]x", "a?b", "a#b", "\u{e9}",
            "a%2Eb", "a..b", "a..", ".a", ".", "a:65536",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(check(head.as_bytes()), Err(HeadSyntaxError::MalformedHost), "{host:?}");
        }
        for host in ["", "a", "A-b_c.d~", "a.", "a.:80", "127.0.0.1:80", "a:", "[::1]", "[fe80::1]:65535"] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(check(head.as_bytes()), Ok(()), "{host:?}");
        }
        for target in ["ftp://a/x", "x", "a:80", "http:///x", "/a\u{7f}", "http://u@a/", "://a"] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(check(head.as_bytes()), Err(HeadSyntaxError::Target), "{target:?}");
        }
        assert_eq!(check(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"), Err(HeadSyntaxError::Target));
        assert_eq!(check(b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()));
    }

    #[test]
    fn http_1_0_has_no_transfer_encoding() {
        let head = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(check(head.as_bytes()), Err(HeadSyntaxError::TransferEncoding));
    }

    #[test]
    fn two_hosts_or_none_are_refused() {
        use HeadSyntaxError::{MissingHost, OtherHost, RepeatedHost, Target};
        refuses(&[
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", RepeatedHost),
            ("GET / HTTP/1.1\r\n\r\n", MissingHost),
            ("GET http://a/ HTTP/1.1\r\n\r\n", MissingHost),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", OtherHost),
            ("GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", Target),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Target),
            ("GET http://a:8080/ HTTP/1.1\r\nHost: a\r\n\r\n", OtherHost),
            ("GET http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", OtherHost),
            ("GET http://b/ HTTP/1.0\r\nHost: a\r\n\r\n", OtherHost),
            ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Target),
            ("GET http:///x HTTP/1.1\r\nHost:\r\n\r\n", Target),
            ("GET http://:80/x HTTP/1.1\r\nHost: :80\r\n\r\n", Target),
        ]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_checked_without_panic(
            bytes in any::<Vec<u8>>(),
            head in r"(GET |POST )?(/|http://[a@:/]{0,4})( HTTP/1.1)?(\r|\n|\r\n|[a: ]|Host){0,20}",
        ) {
            let _ = (check(&bytes), check(head.as_bytes()));
        }

        #[test]
        fn a_proper_head_passes_whatever_its_values(
            values in "[\x20-\x7e\t]{0,30}", name in "[a-zA-Z0-9!#$%&'*+.^_`|~]{1,12}",
        ) {
            let head = format!("GET /{name} HTTP/1.1\r\nX-{name}: {values}\r\nHost: a\r\n\r\n");
            assert_eq!(check(head.as_bytes()), Ok(()));
        }
    }
}
