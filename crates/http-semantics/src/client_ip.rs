//! Client address behind proxies (`X-Forwarded-For`). Only entries that a trusted proxy wrote are believed. It must not
//! know where the list of trusted proxies comes from.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the client's address: walking back from `peer`, the first address that is no trusted proxy. Each proxy
/// appends the address it saw at the right end, so the walk stops at the first entry that cannot be read: everything to
/// the left of it could have been written by anybody.
pub fn resolve(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut nearest = peer.to_canonical();
    let mut claims = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        // Several header lines are one list in their order (RFC 9110 §5.3): last line first, last entry first.
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(address);
    while is_in(nearest, trusted) {
        let Some(Some(before)) = claims.next() else { break };
        nearest = before;
    }
    nearest
}

/// Parses a network in CIDR notation; an address is a network of its own. A network of IPv4-mapped addresses (RFC 4291
/// §2.5.5.2) is that of the IPv4 addresses, since those of clients are compared as such. `None` for one of which only a
/// part is mapped: it would contain no client.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    let IpNet::V6(v6) = network else { return Some(network) };
    match v6.addr().to_ipv4_mapped() {
        None => Some(network),
        Some(address) => Some(Ipv4Net::new(address, v6.prefix_len().checked_sub(96)?).ok()?.into()),
    }
}

/// Returns true if one of `networks` contains `address`.
pub fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    // A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d, which no IPv4 network would contain.
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Returns the network that counts as one client: of an IPv6 address its /64, which one customer has alone (RFC 6177);
/// of IPv4 the address itself.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// Parses an entry of the list: an address, with or without brackets and port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_ascii();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    // Some proxies write the client's port as well; a bare IPv6 address must be tried first, since it has colons too.
    let parsed = bare.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::{any, proptest};

    use super::*;

    fn trusted() -> [IpNet; 2] {
        ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect(network))
    }

    #[test]
    fn networks_are_compared_as_those_of_the_addresses_that_clients_have() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("127.0.0.1", Some("127.0.0.1/32")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("::/0", Some("::/0")),
            ("::ffff:127.0.0.0/104", Some("127.0.0.0/8")),
            ("::ffff:127.0.0.1", Some("127.0.0.1/32")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("::ffff:10.0.0.0/8", None),
            ("::ffff:10.0.0.0/95", None),
            ("10.0.0.0/33", None),
            ("localhost", None),
        ] {
            assert_eq!(parse_network(text), expected.map(|network| network.parse().expect("a network")), "{text}");
        }
        let networks = [parse_network("::ffff:127.0.0.0/104").expect("a network")];
        for (address, expected) in [("127.0.0.1", true), ("::ffff:127.1.2.3", true), ("::1", false)] {
            assert_eq!(is_in(address.parse().expect("an address"), &networks), expected, "{address}");
        }
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a header value"));
        let mut map = HeaderMap::new();
        map.extend(lines.iter().map(line));
        map
    }

    #[test]
    fn the_client_is_the_nearest_that_is_not_trusted() {
        let table: [(&str, &[&str], &str); 18] = [
            ("203.0.113.9", &[], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, 10.0.0.2,10.0.0.3"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.66", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.1,"], "10.0.0.1"),
            ("10.0.0.1", &["caf\u{e9}"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::ffff:203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
        ];
        for (peer, lines, expected) in table {
            let client = resolve(peer.parse().expect(peer), &headers(lines), &trusted());
            assert_eq!(client.to_string(), expected, "{peer} {lines:?}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_walked_without_panic(value in any::<Vec<u8>>(), text in r"[0-9a-f.:\[\], ]{0,40}") {
            for bytes in [value.as_slice(), text.as_bytes()] {
                let Ok(value) = HeaderValue::from_bytes(bytes) else { continue };
                let map = HeaderMap::from_iter([(X_FORWARDED_FOR, value)]);
                let _ = resolve(IpAddr::from([10, 0, 0, 1]), &map, &trusted());
            }
        }
    }
}
