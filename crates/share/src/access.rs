//! Credentials of the share server: its token, and how often an address may show one that is not valid. What is judged
//! here is judged before any session is looked up, so that a request without a right learns nothing and costs nobody
//! anything.

use std::net::IpAddr;

use parking_lot::Mutex;

use crate::recent_addresses::RecentAddresses;
use crate::refusal::Refusal;
use crate::token_bucket::GuessLimit;
use primitives::secret::Secret;

/// Milliseconds for which an address is known from which the token came.
const KNOWN: i64 = 15 * 60_000;
/// Such addresses at most.
const ADDRESSES: usize = 4_096;

/// Check of the token, with the addresses that have shown a wrong one.
pub struct AccessControl {
    token: Secret,
    wrong: GuessLimit,
    /// Addresses from which the token came lately: guesses behind the same address do not keep those out.
    good: Mutex<RecentAddresses>,
}

impl AccessControl {
    /// Creates a check that lets in those who show `token`.
    pub fn new(token: Secret) -> Self {
        Self { token, wrong: GuessLimit::default(), good: Mutex::new(RecentAddresses::new(KNOWN, ADDRESSES)) }
    }

    /// Checks that `Authorization` holds the token, as it is or after `Bearer `: the document's client keeps that word
    /// inside its setting. An address that has shown too many wrong ones is refused whatever it shows, or guessing
    /// would go on; but not one from which the token came before.
    pub fn authorize(&self, given: Option<&[u8]>, address: IpAddr, now: i64) -> Result<(), Refusal> {
        let Some(given) = given.filter(|given| !given.is_empty()) else { return Err(Refusal::Unauthorized) };
        let blocked = self.wrong.is_blocked(address, now);
        if blocked && !self.good.lock().contains(&address, now) {
            return Err(too_many());
        }
        let bare = given.strip_prefix(b"Bearer ").unwrap_or_default();
        // Both are compared whatever the first says.
        if self.token.matches(given) | self.token.matches(bare) {
            self.good.lock().note(address, now);
            return Ok(());
        }
        Err(self.failed(address, now))
    }

    /// Notes a credential from `address` that was not made here; returns the refusal.
    pub fn failed(&self, address: IpAddr, now: i64) -> Refusal {
        if self.wrong.is_blocked(address, now) {
            return too_many();
        }
        self.wrong.record_miss(address, now);
        Refusal::Unauthorized
    }
}

fn too_many() -> Refusal {
    let wait = std::time::Duration::from_secs(3);
    Refusal::RateLimited { what: "too many tokens from this address were not valid", wait }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(access.authorize(Some(given), ONE, 0).is_ok(), right, "{configured:?} {given:?}");
        }
    }

    #[test]
    fn who_guesses_is_refused_and_who_was_right_before_is_not() {
        let access = AccessControl::new(Secret::new("Token"));
        let show = |given: &'static [u8], address, now| access.authorize(Some(given), address, now);
        for _ in 0..100 {
            assert_eq!(access.authorize(None, ONE, 0), Err(Refusal::Unauthorized), "nothing is no guess");
        }
        assert_eq!(show(b"Token", OTHER, 0), Ok(()));
        for address in [ONE, OTHER] {
            for _ in 0..20 {
                assert_eq!(show(b"guess", address, 0), Err(Refusal::Unauthorized));
            }
            assert_eq!(show(b"guess", address, 0), Err(too_many()));
        }
        assert_eq!(show(b"Token", ONE, 0), Err(too_many()), "or a right guess would be seen");
        assert_eq!(show(b"Token", OTHER, 0), Ok(()), "it was right before");
        assert_eq!(show(b"Token", ONE, 3_000), Ok(()), "one more after a while");
    }
}
