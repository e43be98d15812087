//! Subject of a request: the count that it falls into. Every request has one: those that cannot be told apart share it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::settings::LimitPartition;
use http_semantics::client_ip;
use primitives::hexadecimal::hexadecimal;

/// Longest name in bytes that is used as it is.
const MAX_NAME_BYTES: usize = 128;
/// Longest claim value in bytes that is used as it is. Streaming URLs carry the value, and have little room.
const MAX_VALUE_BYTES: usize = 17;
/// Bytes of the digest of a longer one.
const VALUE_DIGEST_BYTES: usize = 12;
/// Subject of all requests that lack what a policy counts by.
const UNKNOWN_SUBJECT: &str = "-";

/// Requester of a request.
pub struct RequesterInfo<'a> {
    /// The user, by token.
    pub user: Option<&'a str>,
    /// A claim of the token; `None` where it is absent or empty.
    pub claim: &'a dyn Fn(&str) -> Option<ClaimValue>,
    /// Client address.
    pub address: Option<IpAddr>,
    /// The route, or the class of the API.
    pub route: &'a str,
}

/// Claim value as counts name it: itself, or a digest of 17 characters if it is longer than 17 bytes or has control
/// characters, which no database accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimValue(String);

impl ClaimValue {
    /// Creates the value of a token's claim.
    pub fn new(value: &str) -> Self {
        if value.len() <= MAX_VALUE_BYTES && !value.starts_with('#') && !value.chars().any(char::is_control) {
            return Self(value.to_owned());
        }
        let digest = Sha256::digest(value.as_bytes());
        Self(format!("#{}", URL_SAFE_NO_PAD.encode(&digest[..VALUE_DIGEST_BYTES])))
    }

    /// Restores the value of [`ClaimValue::into_text`].
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// Returns the name, at most 17 bytes.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Returns the subject of `who` under `partition`. A letter keeps a user from taking an address's name.
pub fn subject_for(partition: &LimitPartition, who: &RequesterInfo<'_>) -> String {
    match (partition, who.user) {
        (LimitPartition::User, Some(name)) => user(name),
        (LimitPartition::User, None) | (LimitPartition::Address, _) => address(who.address),
        (LimitPartition::Route, _) => named('r', who.route),
        (LimitPartition::Claim(claim), _) => {
            (who.claim)(claim).map_or_else(|| UNKNOWN_SUBJECT.to_owned(), |ClaimValue(text)| format!("c:{text}"))
        }
    }
}

/// Returns the subject of a user.
pub fn user(name: &str) -> String {
    named('u', name)
}

/// Returns the subject of an address: of IPv6 the /64, which one customer has alone (RFC 6177).
pub fn address(address: Option<IpAddr>) -> String {
    address.map_or_else(|| UNKNOWN_SUBJECT.to_owned(), |address| format!("a:{}", client_ip::client_network(address)))
}

fn named(kind: char, name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return format!("{kind}:{name}");
    }
    format!("{kind}#{}", hexadecimal(&Sha256::digest(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_a_count_and_who_lacks_the_key_shares_the_strictest() {
        let claim = |name: &str| (name == "org").then(|| ClaimValue::new("acme"));
        let (v4, v6) = ("192.0.2.7".parse().ok(), "2001:db8:1:2:3:4:5:6".parse().ok());
        let user = LimitPartition::User;
        let org = |name: &str| LimitPartition::Claim(name.into());
        let table: [(&LimitPartition, Option<&str>, Option<IpAddr>, &str); 9] = [
            (&user, Some("alice"), v4, "u:alice"),
            (&user, Some("a:192.0.2.7"), v4, "u:a:192.0.2.7"),
            (&user, None, v4, "a:192.0.2.7"),
            (&user, None, None, "-"),
            (&LimitPartition::Address, Some("alice"), v4, "a:192.0.2.7"),
            (&LimitPartition::Address, None, v6, "a:2001:db8:1:2::"),
            (&LimitPartition::Route, Some("alice"), v4, "r:stream"),
            (&org("org"), None, v4, "c:acme"),
            (&org("team"), Some("alice"), v4, "-"),
        ];
        for (partition, user, address, expected) in table {
            let who = RequesterInfo { user, claim: &claim, address, route: "stream" };
            assert_eq!(subject_for(partition, &who), expected, "{partition:?}");
        }
    }

    #[test]
    fn a_claims_value_is_named_in_17_bytes_and_no_value_has_the_name_of_another() {
        let (long, other) = ("tenant-of-eighteen", "tenant-of-eighteem");
        let name = |value: &str| ClaimValue::new(value).into_text();
        assert_eq!((name("acme"), name("seventeen-bytes-1")), ("acme".to_owned(), "seventeen-bytes-1".to_owned()));
        assert!(name(long).len() == MAX_VALUE_BYTES && name(long) != name(other));
        assert_ne!(name(&name(long)), name(long), "who is called as a digest is");
        assert!(name("a\0b").starts_with('#') && name("a\0b") != name("a\0c"));
        assert_eq!(ClaimValue::from_text(name(long)), ClaimValue::new(long));
    }

    #[test]
    fn a_long_name_is_shortened_and_still_its_own() {
        let (one, other) = (user(&"x".repeat(4000)), user(&"y".repeat(4000)));
        assert!(one.len() < MAX_NAME_BYTES && one != other);
    }
}
