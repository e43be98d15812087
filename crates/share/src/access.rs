//! Credentials of the share server: its token, and how often an address may show one that is not valid. What is judged
//! here is judged before any session is looked up, so that a request without a right learns nothing and costs nobody
//! anything. A valid one is let in whatever else its address has shown.

use std::net::IpAddr;

use crate::refusal::Refusal;
use crate::token_bucket::GuessLimit;
use primitives::secret::Secret;
use primitives::unix_time::UnixMillis;

/// Check of the token; counts wrong ones by network, and never refuses a valid one.
pub struct AccessControl {
    token: Secret,
    wrong: GuessLimit,
}

impl AccessControl {
    /// Creates a check that lets in those who show `token`.
    pub fn new(token: Secret) -> Self {
        Self { token, wrong: GuessLimit::default() }
    }

    /// Checks that `Authorization` holds the token, as it is or after `Bearer `: the document's client keeps that word
    /// inside its setting.
    pub fn authorize(&self, given: Option<&[u8]>, address: IpAddr, now: UnixMillis) -> Result<(), Refusal> {
        let Some(given) = given.filter(|given| !given.is_empty()) else { return Err(Refusal::Unauthorized) };
        let bare = given.strip_prefix(b"Bearer ").unwrap_or_default();
        // Both are compared whatever the first says.
        if self.token.matches(given) | self.token.matches(bare) { Ok(()) } else { Err(self.failed(address, now)) }
    }

    /// Counts a credential from `address` that is not valid; returns the answer to it.
    pub fn failed(&self, address: IpAddr, now: UnixMillis) -> Refusal {
        self.wrong.record_miss(address, now).map_or(Refusal::Unauthorized, Refusal::BadTokens)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn the_token_is_right_in_both_spellings_and_nothing_else_is() {
        for (configured, given, right) in [
            ("Token", &b"Bearer Token"[..], true),
            ("Token", b"Token", true),
            ("Bearer Token", b"Bearer Token", true),
            ("Bearer Token", b"Bearer Bearer Token", true),
            ("Bearer Token", b"Token", false),
            ("Token", b"bearer Token", false),
            ("Token", b"Bearer Toke", false),
            ("Token", b"", false),
        ] {
            let access = AccessControl::new(Secret::new(configured));
            assert_eq!(
                access.authorize(Some(given), ONE, UnixMillis::EPOCH).is_ok(),
                right,
                "{configured:?} {given:?}"
            );
        }
    }

    #[test]
    fn wrong_ones_are_counted_by_address_and_keep_no_right_one_out() {
        let access = AccessControl::new(Secret::new("Token"));
        let show = |given: &'static [u8], address, now| access.authorize(Some(given), address, now);
        for _ in 0..100 {
            assert_eq!(
                access.authorize(None, ONE, UnixMillis::EPOCH),
                Err(Refusal::Unauthorized),
                "nothing is no guess"
            );
        }
        for address in [ONE, OTHER] {
            for _ in 0..20 {
                assert_eq!(show(b"guess", address, UnixMillis::EPOCH), Err(Refusal::Unauthorized));
            }
            assert_eq!(show(b"guess", address, UnixMillis::EPOCH), Err(Refusal::BadTokens(Duration::from_secs(3))));
            assert_eq!(show(b"Token", address, UnixMillis::EPOCH), Ok(()));
        }
        assert_eq!(show(b"guess", ONE, UnixMillis::new(3_000)), Err(Refusal::Unauthorized), "one more after a while");
    }
}
