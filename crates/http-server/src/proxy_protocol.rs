//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>): a balancer that
//! passes bytes on says in front of them whose they are. Its extensions (TLVs) are skipped.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use ipnet::IpNet;
use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::time::timeout;

use crate::socket::{ClientSocket, HEAD_BUFFER};

/// Longest header in bytes: version 2 could announce 64 KiB. A client's certificate among the extensions fits.
pub const MAX_HEADER: usize = 8 * 1024;

/// Beginning of each header of version 1 (section 2.1).
const VERSION_1: &[u8] = b"PROXY ";

/// Reason why a connection to a listener with the PROXY protocol is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The other end is none of the trusted sources.
    #[error("the connection does not come from one of TrustedSources")]
    Untrusted,
    /// The bytes are no header.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    Malformed,
    /// The header has more than [`MAX_HEADER`] bytes, or those of version 1 more than 107.
    #[error("the header of the PROXY protocol is too long")]
    TooLong,
    /// The connection ended within the header.
    #[error("the connection ended within the header of the PROXY protocol")]
    Incomplete,
    /// The header was not there in time.
    #[error("the header of the PROXY protocol did not come in time")]
    TimedOut,
}

impl ProxyHeaderError {
    /// Returns the reason as a label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Incomplete => "incomplete",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Reads the header of a new connection, which must come from one of `trusted` and be there within `limit`. Returns the
/// client's address; `None` where the balancer speaks for itself, as its health checks do.
pub async fn read_header(
    socket: &mut ClientSocket,
    trusted: &[IpNet],
    limit: Duration,
) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let peer = socket.info().peer;
    if !trusted.iter().any(|network| network.contains(&peer)) {
        return Err(ProxyHeaderError::Untrusted);
    }
    let reading = async {
        loop {
            if let Some(header) = parse(&socket.read_ahead)? {
                socket.read_ahead.advance(header.length);
                if socket.read_ahead.is_empty() {
                    // An empty part of a buffer would keep all of it.
                    socket.read_ahead = BytesMut::new();
                }
                return Ok(header.client);
            }
            if !matches!(socket.read_more(HEAD_BUFFER).await, Ok(1..)) {
                return Err(ProxyHeaderError::Incomplete);
            }
        }
    };
    timeout(limit, reading).await.unwrap_or(Err(ProxyHeaderError::TimedOut))
}

/// A whole header.
#[derive(Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its bytes, extensions included.
    pub length: usize,
    /// Address of the client; `None` where it has none that is one of IP.
    pub client: Option<IpAddr>,
}

/// Parses the header at the front of `bytes`; `None` where it is not whole yet.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let header = match HeaderResult::parse(bytes) {
        // The parser takes line feeds within `UNKNOWN` and at its end: how far such a header reaches would depend on how
        // it is cut into packets.
        HeaderResult::V1(Ok(header)) if header.header.find('\n') != header.header.find("\r\n").map(|at| at + 1) => {
            return Err(ProxyHeaderError::Malformed);
        }
        HeaderResult::V1(Ok(header)) => {
            let client = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
            };
            ProxyHeader { length: header.header.len(), client }
        }
        HeaderResult::V2(Ok(header)) => {
            let client = match (header.command, &header.addresses) {
                // The addresses of a connection of the balancer's own are not to be used (section 2.2).
                (v2::Command::Local, _) => None,
                (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
                (v2::Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
            };
            ProxyHeader { length: header.len(), client }
        }
        HeaderResult::V1(Err(v1::BinaryParseError::Parse(v1::ParseError::HeaderTooLong))) => {
            return Err(ProxyHeaderError::TooLong);
        }
        HeaderResult::V1(Err(_)) => {
            // Judged as a whole line only: the parser takes some beginnings of a good one for a bad one.
            let is_begun = bytes.starts_with(VERSION_1) || VERSION_1.starts_with(bytes);
            let may_go_on = is_begun && !bytes.contains(&b'\n');
            return if may_go_on { Ok(None) } else { Err(ProxyHeaderError::Malformed) };
        }
        HeaderResult::V2(Err(v2::ParseError::Partial(_, length))) if length > MAX_HEADER => {
            return Err(ProxyHeaderError::TooLong);
        }
        HeaderResult::V2(Err(error)) => {
            return if error.is_incomplete() { Ok(None) } else { Err(ProxyHeaderError::Malformed) };
        }
    };
    if header.length > MAX_HEADER {
        return Err(ProxyHeaderError::TooLong);
    }
    Ok(Some(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("a length that fits");
        [SIGNATURE, &[command, family], &length.to_be_bytes(), body].concat()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn the_client_is_the_source_of_either_version() {
        let four = [[203, 0, 113, 9], [10, 0, 0, 1]].concat();
        let four = [&four[..], &[0x1f, 0x90, 0x01, 0xbb]].concat();
        let six = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9][..], &[0; 16], &[0, 1, 0, 2]].concat();
        let with_extension = [&four[..], &[0x02, 0, 4, b'h', b'o', b's', b't'], &[0xea, 0, 1, 7]].concat();
        for (bytes, client) in [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 443\r\n".to_vec(), ip("203.0.113.9")),
            (b"PROXY TCP6 2001:db8::9 ::1 8080 443\r\n".to_vec(), ip("2001:db8::9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &four), ip("203.0.113.9")),
            (version_2(0x21, 0x21, &six), ip("2001:db8::9")),
            (version_2(0x21, 0x11, &with_extension), ip("203.0.113.9")),
            (version_2(0x20, 0x00, &[]), None),
            (version_2(0x20, 0x11, &four), None),
            (version_2(0x21, 0x31, &[b'/'; 216]), None),
        ] {
            let expected = ProxyHeader { length: bytes.len(), client };
            let followed = [&bytes[..], b"\x16\x03\x01\xff"].concat();
            assert_eq!(parse(&followed), Ok(Some(expected)), "{bytes:?}");
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 100]].concat();
        let announced = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\r\n"[..], ProxyHeaderError::Malformed),
            (b"\x16\x03\x01", ProxyHeaderError::Malformed),
            (b"PROXY TCP5 \r\n", ProxyHeaderError::Malformed),
            (b"PROXY TCP4 1.2.3.4\r\n", ProxyHeaderError::Malformed),
            (b"PROXY TCP4 1.2.3.400 1.2.3.4 1 2\r\n", ProxyHeaderError::Malformed),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", ProxyHeaderError::Malformed),
            (b"PROXY\r\n", ProxyHeaderError::Malformed),
            (b"PROXY UNKNOWN a\nb\r\n", ProxyHeaderError::Malformed),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 \n", ProxyHeaderError::Malformed),
            (&long, ProxyHeaderError::TooLong),
            (&announced, ProxyHeaderError::TooLong),
            (&version_2(0x22, 0x11, &[0; 12]), ProxyHeaderError::Malformed),
            (&version_2(0x31, 0x11, &[0; 12]), ProxyHeaderError::Malformed),
            (&version_2(0x21, 0x11, &[0; 11]), ProxyHeaderError::Malformed),
        ] {
            assert_eq!(parse(bytes), Err(error), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
