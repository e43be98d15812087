//! Whose count a request falls into. Every request has one: who cannot be told apart shares a count with all such.

use std::fmt::Write;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::settings::Partition;
use crate::http::client_ip;

/// Longest name of a subject that is kept as it is.
const MAX_NAME: usize = 128;
/// The count of all that lack what a policy parts them by.
const NOBODY: &str = "-";

/// What is known of who asks.
pub struct Who<'a> {
    /// The user, by token.
    pub user: Option<&'a str>,
    /// A claim of the token as text; `None` where it is absent or empty.
    pub claim: &'a dyn Fn(&str) -> Option<String>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// The route, or the class of the API.
    pub route: &'a str,
}

/// The subject of `who` under `partition`. A letter keeps a user from taking an address's name.
pub fn of(partition: &Partition, who: &Who<'_>) -> String {
    match (partition, who.user) {
        (Partition::User, Some(name)) => user(name),
        (Partition::User, None) | (Partition::Address, _) => address(who.address),
        (Partition::Route, _) => named('r', who.route),
        (Partition::Claim(claim), _) => (who.claim)(claim).map_or_else(|| NOBODY.to_owned(), |text| named('c', &text)),
    }
}

/// The subject of a user.
pub fn user(name: &str) -> String {
    named('u', name)
}

/// The subject of an address: of IPv6 the /64, which one customer has whole (RFC 6177).
pub fn address(address: Option<IpAddr>) -> String {
    address.map_or_else(|| NOBODY.to_owned(), |address| format!("a:{}", client_ip::network(address)))
}

fn named(kind: char, name: &str) -> String {
    if name.len() <= MAX_NAME {
        return format!("{kind}:{name}");
    }
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().fold(format!("{kind}#"), |mut text, byte| {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_a_count_and_who_lacks_the_key_shares_the_strictest() {
        let claim = |name: &str| (name == "org").then(|| "acme".to_owned());
        let (v4, v6) = ("192.0.2.7".parse().ok(), "2001:db8:1:2:3:4:5:6".parse().ok());
        let user = Partition::User;
        let org = |name: &str| Partition::Claim(name.into());
        let table: [(&Partition, Option<&str>, Option<IpAddr>, &str); 9] = [
            (&user, Some("alice"), v4, "u:alice"),
            (&user, Some("a:192.0.2.7"), v4, "u:a:192.0.2.7"),
            (&user, None, v4, "a:192.0.2.7"),
            (&user, None, None, "-"),
            (&Partition::Address, Some("alice"), v4, "a:192.0.2.7"),
            (&Partition::Address, None, v6, "a:2001:db8:1:2::"),
            (&Partition::Route, Some("alice"), v4, "r:stream"),
            (&org("org"), None, v4, "c:acme"),
            (&org("team"), Some("alice"), v4, "-"),
        ];
        for (partition, user, address, expected) in table {
            let who = Who { user, claim: &claim, address, route: "stream" };
            assert_eq!(of(partition, &who), expected, "{partition:?}");
        }
    }

    #[test]
    fn a_long_name_is_shortened_and_still_its_own() {
        let (one, other) = (user(&"x".repeat(4000)), user(&"y".repeat(4000)));
        assert!(one.len() < MAX_NAME && one != other);
    }
}
