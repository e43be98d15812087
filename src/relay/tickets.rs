//! Tickets: what a browser shows in an address where it cannot show a header. One is good for one session, for opening in
//! a short time, and for so many listeners at once.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::id::SessionId;
use super::refused::Refused;

/// Tickets of the node at most.
const MOST: usize = 100_000;

/// What a ticket opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Listening.
    Listener,
    /// Sending audio.
    Host,
}

struct Ticket {
    session: SessionId,
    role: Role,
    /// Milliseconds since the Unix epoch.
    until: i64,
    places: Arc<Semaphore>,
}

/// The tickets that are good.
#[derive(Default)]
pub struct Tickets {
    by: Mutex<HashMap<String, Ticket>>,
}

/// A place taken with a ticket, until it is dropped.
pub type Place = OwnedSemaphorePermit;

impl Tickets {
    /// A new ticket to `session`, to be opened by `until`, for `count` at once.
    pub fn issue(&self, session: SessionId, role: Role, count: usize, until: i64, now: i64) -> Result<String, Refused> {
        let mut by = self.by.lock();
        if by.len() >= MOST {
            by.retain(|_, ticket| ticket.until > now);
        }
        if by.len() >= MOST {
            return Err(Refused::NoSeat);
        }
        let text = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 16]>());
        by.insert(text.clone(), Ticket { session, role, until, places: Arc::new(Semaphore::new(count)) });
        Ok(text)
    }

    /// Whether `text` is a good ticket to `session`.
    pub fn is_good(&self, text: &str, session: SessionId, now: i64) -> bool {
        self.by.lock().get(text).is_some_and(|ticket| ticket.session == session && ticket.until > now)
    }

    /// Takes a place with the ticket `text`.
    pub fn open(&self, text: &str, session: SessionId, role: Role, now: i64) -> Result<Place, Refused> {
        let by = self.by.lock();
        let ticket =
            by.get(text).filter(|ticket| ticket.session == session && ticket.role == role && ticket.until > now);
        let ticket = ticket.ok_or(Refused::Unauthorized)?;
        Arc::clone(&ticket.places).try_acquire_owned().map_err(|_| Refused::NoSeat)
    }

    /// Forgets those whose time is over.
    pub fn sweep(&self, now: i64) {
        self.by.lock().retain(|_, ticket| ticket.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_its_session_in_time_for_as_many_as_it_says() {
        let (tickets, id, other) = (Tickets::default(), SessionId::from_number(1), SessionId::from_number(2));
        let text = tickets.issue(id, Role::Listener, 1, 60_000, 0).expect("there is room");
        let open = |session, role, now| tickets.open(&text, session, role, now);
        assert_eq!(open(other, Role::Listener, 1).err(), Some(Refused::Unauthorized));
        assert_eq!(open(id, Role::Host, 1).err(), Some(Refused::Unauthorized), "a listener's ticket does not host");
        let place = open(id, Role::Listener, 1).expect("a good ticket");
        assert_eq!(open(id, Role::Listener, 2).err(), Some(Refused::NoSeat), "one at once");
        drop(place);
        assert!(open(id, Role::Listener, 3).is_ok());
        assert_eq!(open(id, Role::Listener, 60_000).err(), Some(Refused::Unauthorized), "its time is over");
        assert_eq!(tickets.open("made-up", id, Role::Listener, 1).err(), Some(Refused::Unauthorized));
        tickets.sweep(60_000);
        assert!(tickets.by.lock().is_empty());
    }
}
