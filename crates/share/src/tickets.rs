//! Tickets: credentials that a browser shows in an address where it cannot show a header. One is good for one session,
//! for opening in a short time, and for so many listeners at once.
//!
//! A ticket holds all this itself and is signed, so it is kept nowhere. The key is made from random bytes, which nodes
//! agree on through Redis, and the share server's token: with neither alone can somebody who has a ticket find out the
//! other, and a new token ends them all. A host shows the same to go on with its session, and a listener for a cover.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::{Mutex, RwLock};
use rand::Rng;
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;
use crate::session::id::SessionId;
use crate::session::incarnation::Incarnation;
use primitives::hexadecimal::hexadecimal;
use primitives::ids::UserId;
use primitives::secret::Secret;
use primitives::unix_time::UnixMillis;

/// Tickets that are open at the node at most.
const MAX_OPEN_TICKETS: usize = 100_000;
/// Purpose of the key: it parts the key from whatever else may be made from the token.
const KEY_PURPOSE: &[u8] = b"tidegate share tickets 2";
/// Purpose of signatures of covers: it parts them from tickets.
const COVER_PURPOSE: &[u8] = b"cover";
/// Bytes of a ticket before its holder, if it has one, and its signature: role, count, until, the session's incarnation, a
/// number that makes it one of its kind.
const PAYLOAD_BYTES: usize = 1 + 4 + 8 + 8 + 8;
/// Bytes of the signature.
const SIGNATURE_BYTES: usize = 16;
/// Bytes that the key is made from.
const SEED_BYTES: usize = 32;
/// Keys that are good at the same time: one for new tickets, and those of nodes that started while Redis was away.
pub const MAX_KEYS: usize = 5;

/// Right that a ticket gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketRole {
    /// To listen.
    Listener,
    /// To send audio.
    Host,
    /// To go on with sending audio, as long as the session lives.
    Resume,
}

/// User for whom a ticket was issued: what it has opened ends with the user's right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketHolder {
    /// The user.
    pub user: UserId,
    /// Generation of the user's tokens, where there are logouts.
    pub generation: Option<u32>,
    /// Time at which the user's token ends.
    pub until: UnixMillis,
}

/// Ticket whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Right that it gives.
    pub role: TicketRole,
    /// Listeners at once.
    pub count: u32,
    /// Time until which it can be opened.
    pub until: UnixMillis,
    /// Start of the session that it is for.
    pub incarnation: Incarnation,
    /// User for whom it was issued; `None` for one of the session's host, which is bound to nobody.
    pub holder: Option<TicketHolder>,
    number: u64,
}

/// Issuer of tickets, which counts those that are open, too.
pub struct TicketIssuer {
    token: Secret,
    /// Keys; the first one is for new tickets, and there always is one.
    keys: RwLock<Vec<TicketKey>>,
    open: Mutex<HashMap<u64, (UnixMillis, Arc<Semaphore>)>>,
}

/// Key that tickets are signed with.
#[derive(Clone)]
struct TicketKey {
    seed: Secret,
    hmac: Hmac<Sha256>,
}

/// Place that is taken with a ticket, until it is dropped.
pub type TicketPermit = OwnedSemaphorePermit;

impl TicketIssuer {
    /// Creates an issuer for the share server of this token, with a key that nobody else has.
    pub fn new(token: &Secret) -> Self {
        let bytes: [u8; SEED_BYTES] = rand::rng().random();
        let keys = RwLock::new(vec![TicketKey::new(Secret::new(hexadecimal(&bytes)), token)]);
        Self { token: token.clone(), keys, open: Mutex::default() }
    }

    /// Returns the bytes that the keys are made from, for the other nodes.
    pub fn seeds(&self) -> Vec<Secret> {
        self.keys.read().iter().map(|key| key.seed.clone()).collect()
    }

    /// Takes the keys that nodes have agreed on, the first one for new tickets; tickets that were signed here before
    /// stay good. Returns false for a text that names none.
    pub fn adopt(&self, seeds: &str) -> bool {
        let is_seed = |seed: &&str| seed.len() == 2 * SEED_BYTES && seed.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut agreed: Vec<Secret> = seeds.split(' ').filter(is_seed).map(Secret::new).collect();
        if agreed.is_empty() {
            return false;
        }
        let before = self.keys.read().clone();
        agreed.extend(
            before.iter().map(|key| key.seed.clone()).filter(|seed| !agreed.contains(seed)).collect::<Vec<_>>(),
        );
        // The agreed ones come first, so those of before go.
        agreed.truncate(MAX_KEYS);
        if before.iter().map(|key| &key.seed).ne(&agreed) {
            *self.keys.write() = agreed.into_iter().map(|seed| TicketKey::new(seed, &self.token)).collect();
        }
        true
    }

    /// Issues a ticket to this session, to be opened by `until`, for `count` listeners at once.
    pub fn issue(
        &self,
        session: SessionId,
        incarnation: Incarnation,
        role: TicketRole,
        count: u32,
        until: UnixMillis,
    ) -> String {
        let number = rand::rng().random();
        self.sign(session, &Ticket { role, count, until, incarnation, holder: None, number })
    }

    /// Issues a ticket to this session for one listener, to be opened by `until`; what it has opened ends with the right of
    /// `holder`.
    pub fn issue_for(
        &self,
        session: SessionId,
        incarnation: Incarnation,
        holder: TicketHolder,
        until: UnixMillis,
    ) -> String {
        let (role, number, until) = (TicketRole::Listener, rand::rng().random(), until.min(holder.until));
        self.sign(session, &Ticket { role, count: 1, until, incarnation, holder: Some(holder), number })
    }

    /// Returns the secret that the host of a session shows to go on with it.
    pub fn issue_resume(&self, session: SessionId, incarnation: Incarnation) -> String {
        self.sign(
            session,
            &Ticket {
                role: TicketRole::Resume,
                count: 1,
                until: UnixMillis::MAX,
                incarnation,
                holder: None,
                number: 0,
            },
        )
    }

    /// Returns the text that a listener shows for the cover of this tag, without anything else.
    pub fn sign_cover(&self, session: SessionId, tag: &str) -> String {
        let signature = cover_mac(&self.current_key(), session, tag).finalize().into_bytes();
        format!("{tag}.{}", URL_SAFE_NO_PAD.encode(&signature[..SIGNATURE_BYTES]))
    }

    /// Returns the tag in `shown`, where it was signed for a cover of `session`.
    pub fn verify_cover<'a>(&self, session: SessionId, shown: &'a str) -> Option<&'a str> {
        let (tag, signature) = shown.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.has_signed(&signature, |key| cover_mac(key, session, tag)).then_some(tag)
    }

    /// Takes a place with a ticket, whose expiry has been checked. Fails where as many are in as it is for, or where too many
    /// tickets are in use.
    pub fn enter(&self, ticket: &Ticket, now: UnixMillis) -> Result<TicketPermit, Refusal> {
        let mut open = self.open.lock();
        if open.len() >= MAX_OPEN_TICKETS && !open.contains_key(&ticket.number) {
            // Only when it is full: tickets whose time is over are swept anyway.
            open.retain(|_, (until, _)| *until > now);
            if open.len() >= MAX_OPEN_TICKETS {
                return Err(Refusal::TooManyListeners);
            }
        }
        let places = || (ticket.until, Arc::new(Semaphore::new(ticket.count as usize)));
        let (_, places) = open.entry(ticket.number).or_insert_with(places);
        Arc::clone(places).try_acquire_owned().map_err(|_| Refusal::TicketInUse)
    }

    /// Forgets tickets whose time is over.
    pub fn sweep(&self, now: UnixMillis) {
        self.open.lock().retain(|_, (until, _)| *until > now);
    }

    fn sign(&self, session: SessionId, ticket: &Ticket) -> String {
        let mut bytes = Vec::with_capacity(PAYLOAD_BYTES + SIGNATURE_BYTES);
        bytes.push(ticket.role as u8);
        bytes.extend(ticket.count.to_be_bytes());
        bytes.extend(ticket.until.as_millis().to_be_bytes());
        bytes.extend(ticket.incarnation.number().to_be_bytes());
        bytes.extend(ticket.number.to_be_bytes());
        if let Some(holder) = &ticket.holder {
            bytes.extend(holder.until.as_millis().to_be_bytes());
            bytes.push(u8::from(holder.generation.is_some()));
            bytes.extend(holder.generation.unwrap_or_default().to_be_bytes());
            bytes.extend(holder.user.as_str().as_bytes());
        }
        let signature = ticket_mac(&self.current_key(), session, &bytes).finalize().into_bytes();
        bytes.extend(&signature[..SIGNATURE_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a ticket; `None` where `text` is not one to `session`. Its time may be over.
    pub fn read(&self, text: &str, session: SessionId) -> Option<Ticket> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE_BYTES)?)?;
        if !self.has_signed(signature, |key| ticket_mac(key, session, said)) {
            return None;
        }
        let (role, rest) = said.split_first()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (until, rest) = rest.split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let (number, holder) = rest.split_first_chunk()?;
        Some(Ticket {
            role: [TicketRole::Listener, TicketRole::Host, TicketRole::Resume]
                .into_iter()
                .find(|known| *known as u8 == *role)?,
            count: u32::from_be_bytes(*count),
            until: UnixMillis::new(i64::from_be_bytes(*until)),
            incarnation: Incarnation::from_number(u64::from_be_bytes(*incarnation)),
            number: u64::from_be_bytes(*number),
            holder: match holder {
                [] => None,
                holder => Some(TicketHolder::read(holder)?),
            },
        })
    }

    fn current_key(&self) -> Hmac<Sha256> {
        let keys = self.keys.read();
        keys.first().expect("there is a key from the beginning, and it is never the last to go").hmac.clone()
    }

    /// Returns whether `signature` was made with a key that is good.
    fn has_signed(&self, signature: &[u8], of: impl Fn(&Hmac<Sha256>) -> Hmac<Sha256>) -> bool {
        let good = |key: &TicketKey| of(&key.hmac).verify_truncated_left(signature).is_ok();
        // A shorter one would be easier to guess.
        signature.len() == SIGNATURE_BYTES && self.keys.read().iter().any(good)
    }
}

impl TicketHolder {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (until, rest) = bytes.split_first_chunk()?;
        let (has_generation, rest) = rest.split_first()?;
        let (generation, user) = rest.split_first_chunk()?;
        Some(Self {
            user: UserId::parse(std::str::from_utf8(user).ok()?.to_owned())?,
            generation: (*has_generation == 1).then(|| u32::from_be_bytes(*generation)),
            until: UnixMillis::new(i64::from_be_bytes(*until)),
        })
    }
}

impl TicketKey {
    fn new(seed: Secret, token: &Secret) -> Self {
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let seeded = keyed(seed.expose().as_bytes()).chain_update(KEY_PURPOSE).chain_update(token.expose());
        Self { hmac: keyed(&seeded.finalize().into_bytes()), seed }
    }
}

fn ticket_mac(key: &Hmac<Sha256>, session: SessionId, said: &[u8]) -> Hmac<Sha256> {
    key.clone().chain_update(session.to_string()).chain_update(said)
}

fn cover_mac(key: &Hmac<Sha256>, session: SessionId, tag: &str) -> Hmac<Sha256> {
    key.clone().chain_update(COVER_PURPOSE).chain_update(session.to_string()).chain_update(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: UnixMillis = UnixMillis::new(60_000);

    fn id() -> SessionId {
        SessionId::from_number(1)
    }

    fn seven() -> Incarnation {
        Incarnation::from_number(7)
    }

    fn tickets() -> TicketIssuer {
        TicketIssuer::new(&Secret::new("Bearer Token"))
    }

    #[test]
    fn a_ticket_opens_its_session_for_as_many_as_it_says() {
        let (tickets, other) = (tickets(), SessionId::from_number(2));
        let text = tickets.issue(id(), seven(), TicketRole::Listener, 1, LATER);
        assert_eq!(tickets.read(&text, other), None);
        let ticket = tickets.read(&text, id()).expect("a good ticket");
        assert_eq!(
            (ticket.role, ticket.incarnation, ticket.count, ticket.until),
            (TicketRole::Listener, seven(), 1, LATER)
        );
        let place = tickets.enter(&ticket, UnixMillis::new(1)).expect("there is room");
        assert_eq!(tickets.enter(&ticket, UnixMillis::new(2)).err(), Some(Refusal::TicketInUse), "one at once");
        drop(place);
        assert!(tickets.enter(&ticket, UnixMillis::new(3)).is_ok());
        tickets.sweep(LATER);
        assert!(tickets.open.lock().is_empty());
    }

    /// Has `node` take the keys of `others`, in this order.
    fn agree(node: &TicketIssuer, others: &[&TicketIssuer]) {
        let seeds: Vec<String> =
            others.iter().flat_map(|other| other.seeds()).map(|seed| seed.expose().to_owned()).collect();
        assert!(node.adopt(&seeds.join(" ")));
    }

    #[test]
    fn nodes_that_agree_on_keys_take_each_others_tickets_and_their_own_from_before() {
        let (one, other) = (tickets(), tickets());
        let (early, resume) = (other.issue(id(), seven(), TicketRole::Host, 1, LATER), one.issue_resume(id(), seven()));
        assert_eq!(other.read(&resume, id()), None, "the same token alone is not enough");
        assert!(!other.adopt("") && !other.adopt("short") && !other.adopt(&"x".repeat(64)));
        agree(&other, &[&one]);
        assert_eq!(other.read(&resume, id()).map(|it| (it.role, it.incarnation)), Some((TicketRole::Resume, seven())));
        assert!(other.read(&early, id()).is_some(), "what was made before");
        assert_eq!(one.read(&early, id()), None);
        assert!(one.read(&other.issue(id(), seven(), TicketRole::Host, 1, LATER), id()).is_some());
        agree(&one, &[&other]);
        assert!(one.read(&early, id()).is_some(), "it knows that one's key by now");
        let third = TicketIssuer::new(&Secret::new("Another Token"));
        agree(&third, &[&one]);
        assert_eq!(third.read(&resume, id()), None, "a new token ends them all");
        for _ in 0..10 {
            agree(&other, &[&tickets()]);
        }
        assert_eq!(other.read(&early, id()), None, "few keys are kept");
    }

    #[test]
    fn what_was_changed_is_no_ticket() {
        let tickets = tickets();
        let text = tickets.issue(id(), seven(), TicketRole::Listener, 1, LATER);
        let bytes = URL_SAFE_NO_PAD.decode(&text).expect("Base64");
        assert_eq!(bytes.len(), PAYLOAD_BYTES + SIGNATURE_BYTES);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(tickets.read(&URL_SAFE_NO_PAD.encode(changed), id()).is_none(), "byte {at}");
            assert!(tickets.read(&URL_SAFE_NO_PAD.encode(&bytes[..at]), id()).is_none(), "{at} bytes");
        }
        for text in ["", "made-up", "&&&"] {
            assert!(tickets.read(text, id()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_ticket_of_a_user_says_whose_it_is_and_is_opened_no_longer_than_the_user_may() {
        let tickets = tickets();
        let user = UserId::parse("anna".to_owned()).expect("an id");
        for generation in [None, Some(3)] {
            let holder = TicketHolder { user: user.clone(), generation, until: UnixMillis::new(30_000) };
            let text = tickets.issue_for(id(), seven(), holder.clone(), LATER);
            let read = tickets.read(&text, id()).expect("a ticket");
            assert_eq!((read.role, read.count, read.until), (TicketRole::Listener, 1, holder.until));
            assert_eq!(read.holder, Some(holder));
            let bytes = URL_SAFE_NO_PAD.decode(&text).expect("Base64");
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert!(tickets.read(&URL_SAFE_NO_PAD.encode(changed), id()).is_none(), "byte {at}");
                assert!(tickets.read(&URL_SAFE_NO_PAD.encode(&bytes[..at]), id()).is_none(), "{at} bytes");
            }
        }
    }

    #[test]
    fn a_cover_is_shown_to_who_was_told_of_it_by_its_session() {
        let tickets = tickets();
        let shown = tickets.sign_cover(id(), "tag");
        assert_eq!(tickets.verify_cover(id(), &shown), Some("tag"));
        assert_eq!(tickets.verify_cover(SessionId::from_number(2), &shown), None);
        for text in ["tag", "tag.", "", &shown.replace("tag", "other"), &shown[..shown.len() - 2]] {
            assert_eq!(tickets.verify_cover(id(), text), None, "{text:?}");
        }
    }
}
