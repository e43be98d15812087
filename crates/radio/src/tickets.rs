//! Tickets: leave to open one station's streams, in the query of an address, for `<audio>` and `EventSource`, which set no
//! header. A ticket holds its user, the user's generation, its time and that of the token that it was issued for, and is
//! signed; it is kept nowhere.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use primitives::clock::Clock;
use primitives::ids::{MAX_ID_BYTES, UserId};

/// Bytes before the user's id: time, the token's time, generation.
const HEAD_BYTES: usize = 4 + 4 + 5;
/// Bytes of the signature.
const TAG_BYTES: usize = 16;
/// Longest ticket, in characters.
const MAX_CHARACTERS: usize = (HEAD_BYTES + MAX_ID_BYTES + TAG_BYTES).div_ceil(3) * 4;

/// Source of the keys in force: the first one signs, all verify.
pub type TicketKeySource = Arc<dyn Fn() -> Vec<[u8; 32]> + Send + Sync>;

/// Issuer of tickets.
pub struct TicketIssuer {
    keys: TicketKeySource,
    ttl: Duration,
    clock: Clock,
}

/// Content of a ticket whose signature and time are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its user.
    pub user: UserId,
    /// Generation of the user's tokens in which it was issued, where that was known.
    pub generation: Option<u32>,
    /// Unix second at which the user's token ends, and with it what the ticket has opened.
    pub token_until: u32,
}

impl TicketIssuer {
    /// Creates an issuer of tickets that open streams for `ttl`.
    pub fn new(keys: TicketKeySource, ttl: Duration, clock: Clock) -> Self {
        Self { keys, ttl, clock }
    }

    /// Issues a ticket for a station; returns it and the Unix second until which it is good: no longer than the token.
    pub fn issue(&self, station: Uuid, ticket: &Ticket) -> Option<(String, u64)> {
        let until = (self.clock.unix() + self.ttl.as_secs()).min(ticket.token_until.into());
        let mut bytes = u32::try_from(until).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.extend(ticket.token_until.to_be_bytes());
        bytes.push(u8::from(ticket.generation.is_some()));
        bytes.extend(ticket.generation.unwrap_or_default().to_be_bytes());
        bytes.extend(ticket.user.as_str().as_bytes());
        let tag = mac((self.keys)().first()?, station, &bytes).finalize().into_bytes();
        bytes.extend(&tag[..TAG_BYTES]);
        Some((URL_SAFE_NO_PAD.encode(bytes), until))
    }

    /// Returns the content of a ticket that is good for `station` now.
    pub fn verify(&self, station: Uuid, text: &str) -> Option<Ticket> {
        let bytes = Some(text).filter(|text| text.len() <= MAX_CHARACTERS)?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).ok()?;
        let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        // Compared in constant time by the `hmac` crate.
        let is_good = |key: &[u8; 32]| mac(key, station, signed).verify_truncated_left(tag).is_ok();
        if !(self.keys)().iter().any(is_good) {
            return None;
        }
        let (until, rest) = signed.split_first_chunk()?;
        let (token_until, rest) = rest.split_first_chunk()?;
        let (&[has_generation, g0, g1, g2, g3], user) = rest.split_first_chunk()?;
        if u64::from(u32::from_be_bytes(*until)) <= self.clock.unix() {
            return None;
        }
        let user = UserId::parse(std::str::from_utf8(user).ok()?)?;
        let generation = (has_generation != 0).then(|| u32::from_be_bytes([g0, g1, g2, g3]));
        Some(Ticket { user, generation, token_until: u32::from_be_bytes(*token_until) })
    }
}

fn mac(key: &[u8; 32], station: Uuid, signed: &[u8]) -> Hmac<Sha256> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(b"tidegate radio ticket 2").chain_update(station.as_bytes()).chain_update(signed)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_ticket_is_good_for_its_station_and_its_time_alone() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        let issuer = |keys: Vec<[u8; 32]>| {
            TicketIssuer::new(Arc::new(move || keys.clone()), Duration::from_secs(60), clock.clone())
        };
        let (station, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for generation in [None, Some(0), Some(7)] {
            let ticket = Ticket { user: UserId::parse("ålice").expect("an id"), generation, token_until: 5000 };
            let (text, until) = issuer(vec![[1; 32], [2; 32]]).issue(station, &ticket).expect("a key");
            assert_eq!(until, 1060);
            assert_eq!(
                issuer(vec![[3; 32], [1; 32]]).verify(station, &text),
                Some(ticket.clone()),
                "a key that was first"
            );
            assert_eq!(issuer(vec![[2; 32]]).verify(station, &text), None);
            assert_eq!(issuer(vec![[1; 32]]).verify(other, &text), None);
            for at in 0..text.len() {
                let mut forged = text.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'Q' } else { b'A' };
                let forged = String::from_utf8(forged).expect("ASCII");
                let same = URL_SAFE_NO_PAD.decode(&forged).ok() == URL_SAFE_NO_PAD.decode(&text).ok();
                assert!(same || issuer(vec![[1; 32]]).verify(station, &forged).is_none(), "{at}");
            }
        }
        let ticket = Ticket { user: UserId::parse("u").expect("an id"), generation: None, token_until: u32::MAX };
        let (text, _) = issuer(vec![[1; 32]]).issue(station, &ticket).expect("a key");
        let short = Ticket { token_until: 1030, ..ticket.clone() };
        assert_eq!(
            issuer(vec![[1; 32]]).issue(station, &short).map(|(_, until)| until),
            Some(1030),
            "its token ends first"
        );
        clock.advance(Duration::from_secs(60));
        assert_eq!(issuer(vec![[1; 32]]).verify(station, &text), None, "its time is over");
        for bad in ["", "A", "%", &"A".repeat(5000)] {
            assert_eq!(issuer(vec![[1; 32]]).verify(station, bad), None);
        }
        assert_eq!(issuer(Vec::new()).issue(station, &ticket), None);
    }
}
