//! Tickets: what a browser shows in an address where it cannot show a header. One is good for one session, for opening in
//! a short time, and for so many listeners at once.
//!
//! A ticket says all this itself, and is signed with a key that every node makes from the share server's token; so it is good
//! at every node, which counts for itself who is in with it. The same is what a host shows to go on with its session.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use rand::Rng;
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::id::SessionId;
use super::refused::Refused;
use crate::secret::Secret;

/// Tickets that are open at the node at most.
const MOST: usize = 100_000;
/// Parts the key from whatever else may be made from the token.
const PURPOSE: &[u8] = b"tidegate share tickets 1";
/// Bytes of what a ticket says: role, count, until, when the session began, a number that makes it one of its kind.
const SAID: usize = 1 + 4 + 8 + 8 + 8;
/// Bytes of the signature.
const SIGNATURE: usize = 16;

/// What a ticket opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Listening.
    Listener,
    /// Sending audio.
    Host,
    /// Going on with sending audio, as long as the session lives.
    Resume,
}

/// What a good ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What it opens.
    pub role: Role,
    /// For how many at once.
    pub count: u32,
    /// Until when it can be opened, in milliseconds since the Unix epoch.
    pub until: i64,
    /// When the session began: a later one of the same id is another.
    pub started: i64,
    number: u64,
}

/// Signs tickets, and counts those that are open.
pub struct Tickets {
    key: Hmac<Sha256>,
    open: Mutex<HashMap<u64, (i64, Arc<Semaphore>)>>,
}

/// A place taken with a ticket, until it is dropped.
pub type Place = OwnedSemaphorePermit;

impl Tickets {
    /// Tickets of the share server with this token.
    pub fn new(token: &Secret) -> Self {
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let key = keyed(token.expose().as_bytes()).chain_update(PURPOSE).finalize().into_bytes();
        Self { key: keyed(&key), open: Mutex::default() }
    }

    /// A ticket to the session that began at `started`, to be opened by `until`, for `count` at once.
    pub fn issue(&self, session: SessionId, started: i64, role: Role, count: u32, until: i64) -> String {
        let number = rand::rng().random();
        self.sign(session, &Ticket { role, count, until, started, number })
    }

    /// What the host of a session shows to go on with it.
    pub fn resume(&self, session: SessionId, started: i64) -> String {
        self.sign(session, &Ticket { role: Role::Resume, count: 1, until: i64::MAX, started, number: 0 })
    }

    /// What `text` says, where it is a ticket to `session` for this role, and its time is not over.
    pub fn read(&self, text: &str, session: SessionId, role: Role, now: i64) -> Result<Ticket, Refused> {
        let ticket = self.verified(text, session).filter(|ticket| ticket.role == role && ticket.until > now);
        ticket.ok_or(Refused::Unauthorized)
    }

    /// Takes a place with a ticket.
    pub fn enter(&self, ticket: &Ticket, now: i64) -> Result<Place, Refused> {
        let mut open = self.open.lock();
        if open.len() >= MOST && !open.contains_key(&ticket.number) {
            open.retain(|_, (until, _)| *until > now);
            if open.len() >= MOST {
                return Err(Refused::NoSeat);
            }
        }
        let places = || (ticket.until, Arc::new(Semaphore::new(ticket.count as usize)));
        let (_, places) = open.entry(ticket.number).or_insert_with(places);
        Arc::clone(places).try_acquire_owned().map_err(|_| Refused::NoSeat)
    }

    /// Forgets those whose time is over.
    pub fn sweep(&self, now: i64) {
        self.open.lock().retain(|_, (until, _)| *until > now);
    }

    fn sign(&self, session: SessionId, ticket: &Ticket) -> String {
        let mut bytes = Vec::with_capacity(SAID + SIGNATURE);
        bytes.push(ticket.role as u8);
        bytes.extend(ticket.count.to_be_bytes());
        bytes.extend(ticket.until.to_be_bytes());
        bytes.extend(ticket.started.to_be_bytes());
        bytes.extend(ticket.number.to_be_bytes());
        let signature = self.mac(session, &bytes).finalize().into_bytes();
        bytes.extend(&signature[..SIGNATURE]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn verified(&self, text: &str, session: SessionId) -> Option<Ticket> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, signature) = bytes.split_at_checked(SAID)?;
        // A shorter one would be easier to guess.
        if signature.len() != SIGNATURE {
            return None;
        }
        self.mac(session, said).verify_truncated_left(signature).ok()?;
        let (role, rest) = said.split_first()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (until, rest) = rest.split_first_chunk()?;
        let (started, number) = rest.split_first_chunk()?;
        Some(Ticket {
            role: [Role::Listener, Role::Host, Role::Resume].into_iter().find(|known| *known as u8 == *role)?,
            count: u32::from_be_bytes(*count),
            until: i64::from_be_bytes(*until),
            started: i64::from_be_bytes(*started),
            number: u64::from_be_bytes(*number.first_chunk()?),
        })
    }

    fn mac(&self, session: SessionId, said: &[u8]) -> Hmac<Sha256> {
        self.key.clone().chain_update(session.to_string()).chain_update(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets() -> Tickets {
        Tickets::new(&Secret::new("Bearer Token"))
    }

    #[test]
    fn a_ticket_opens_its_session_in_time_for_as_many_as_it_says() {
        let (tickets, id, other) = (tickets(), SessionId::from_number(1), SessionId::from_number(2));
        let text = tickets.issue(id, 7, Role::Listener, 1, 60_000);
        let read = |session, role, now| tickets.read(&text, session, role, now);
        assert_eq!(read(other, Role::Listener, 1).err(), Some(Refused::Unauthorized));
        assert_eq!(read(id, Role::Host, 1).err(), Some(Refused::Unauthorized), "a listener's ticket does not host");
        assert_eq!(read(id, Role::Resume, 1).err(), Some(Refused::Unauthorized));
        let ticket = read(id, Role::Listener, 1).expect("a good ticket");
        assert_eq!((ticket.started, ticket.count, ticket.until), (7, 1, 60_000));
        let place = tickets.enter(&ticket, 1).expect("there is room");
        assert_eq!(tickets.enter(&ticket, 2).err(), Some(Refused::NoSeat), "one at once");
        drop(place);
        assert!(tickets.enter(&ticket, 3).is_ok());
        assert_eq!(read(id, Role::Listener, 60_000).err(), Some(Refused::Unauthorized), "its time is over");
        tickets.sweep(60_000);
        assert!(tickets.open.lock().is_empty());
    }

    #[test]
    fn a_ticket_is_good_wherever_the_token_is_the_same_and_nowhere_else() {
        let id = SessionId::from_number(1);
        let text = tickets().issue(id, 7, Role::Host, 1, 60_000);
        assert!(tickets().read(&text, id, Role::Host, 1).is_ok());
        let others = Tickets::new(&Secret::new("Another Token"));
        assert_eq!(others.read(&text, id, Role::Host, 1).err(), Some(Refused::Unauthorized));
        let resume = tickets().resume(id, 7);
        assert_eq!(tickets().read(&resume, id, Role::Resume, i64::MAX - 1).map(|ticket| ticket.started), Ok(7));
        assert_eq!(tickets().read(&resume, id, Role::Host, 1).err(), Some(Refused::Unauthorized));
    }

    #[test]
    fn what_was_changed_is_no_ticket() {
        let (tickets, id) = (tickets(), SessionId::from_number(1));
        let text = tickets.issue(id, 7, Role::Listener, 1, 60_000);
        let bytes = URL_SAFE_NO_PAD.decode(&text).expect("Base64");
        assert_eq!(bytes.len(), SAID + SIGNATURE);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(tickets.verified(&URL_SAFE_NO_PAD.encode(changed), id).is_none(), "byte {at}");
            assert!(tickets.verified(&URL_SAFE_NO_PAD.encode(&bytes[..at]), id).is_none(), "{at} bytes");
        }
        for text in ["", "made-up", "&&&"] {
            assert!(tickets.verified(text, id).is_none(), "{text:?}");
        }
    }
}
