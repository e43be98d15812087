//! Addresses that stations may be at: public ones, and those of networks that the operator allows. Pure; the names are
//! resolved elsewhere, and the address that was judged here is the one that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 networks that are not public (IANA IPv4 Special-Purpose Address Registry; RFC 6890), multicast and reserved ones.
/// 169.254.0.0/16 has the metadata services of clouds; 192.88.99.0/24 leads to IPv6 by relays of others (RFC 7526).
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
    // Metadata services and platform endpoints that clouds have among public addresses.
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];
/// The IPv6 networks that are routed in public (RFC 4291 §2.4: global unicast that is assigned so far).
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// IPv6 networks among them that are not public, or that hold an IPv4 address which a relay would connect to: protocol
/// assignments with Teredo (RFC 4380), documentation, 6to4 (RFC 3056), and documentation again (RFC 9637).
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Rule about the addresses of stations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

impl AddressPolicy {
    /// Creates the rule: public addresses, and these networks.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Returns true where `address` is in a network that the operator has named.
    pub fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6's form is connected to over IPv4 (RFC 4291 §2.5.5.2).
        let canonical = address.to_canonical();
        self.allowed.iter().any(|network| network.contains(&canonical))
    }

    /// Returns true where a connection to `address` may be made.
    pub fn permits(&self, address: IpAddr) -> bool {
        self.allows(address) || is_public(address)
    }
}

/// Returns true for addresses of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|(network, length)| contains_v4(*network, *length, address)),
        IpAddr::V6(address) => {
            contains_v6(PUBLIC_V6.0, PUBLIC_V6.1, address)
                && !SPECIAL_V6.iter().any(|(network, length)| contains_v6(*network, *length, address))
        }
    }
}

fn contains_v4(network: Ipv4Addr, length: u8, address: Ipv4Addr) -> bool {
    Ipv4Net::new(network, length).is_ok_and(|network| network.contains(&address))
}

fn contains_v6(network: Ipv6Addr, length: u8, address: Ipv6Addr) -> bool {
    Ipv6Net::new(network, length).is_ok_and(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_public_addresses_are_permitted() {
        let policy = AddressPolicy::default();
        for good in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::64", "::ffff:8.8.8.8"] {
            assert!(policy.permits(address(good)), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.170",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!policy.permits(address(bad)), "{bad}");
        }
    }

    #[test]
    fn an_allowed_network_is_permitted_in_both_of_its_forms_and_no_other() {
        let policy = AddressPolicy::new(vec!["127.0.0.2/32".parse().expect("a network")]);
        assert!(policy.permits(address("127.0.0.2")) && policy.permits(address("::ffff:127.0.0.2")));
        assert!(!policy.permits(address("127.0.0.1")) && !policy.permits(address("::1")));
    }
}
