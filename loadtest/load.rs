//! What a load is: requests, who sends them and when, and what came of it. It knows nothing of sockets.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::play::Habits;

/// A request ready to send, and what its answer must be.
pub struct Request {
    /// The bytes on the wire.
    pub text: Vec<u8>,
    /// The status line's beginning.
    pub status: &'static [u8],
    /// The `Content-Length`, which is also what is counted.
    pub length: u64,
}

/// When a connection sends its next request.
#[derive(Clone, Copy)]
pub enum Pace {
    /// As soon as the last answer is complete.
    Closed,
    /// At fixed times whatever the answers do (open loop); a late answer's delay counts into the next one's time.
    Every(Duration),
    /// Once.
    Once,
    /// Once; after the header and a kilobyte nothing more is read.
    Pause,
    /// As a player's buffer wants it, with jumps.
    Player(Habits),
}

/// Which request a connection sends next.
#[derive(Clone, Copy)]
pub enum Order {
    /// Any of them.
    Random,
    /// One after the other, from a random start.
    InTurn,
    /// Each connection its own, one after the other: none comes again before all have been sent.
    Dealt,
}

/// Connections that do the same.
pub struct Group {
    pub address: SocketAddr,
    pub connections: usize,
    pub pace: Pace,
    pub order: Order,
    pub requests: Rc<[Request]>,
    /// Whether the times to the first body byte are kept.
    pub sampled: bool,
}

/// What happened in one run.
#[derive(Default)]
pub struct Tally {
    pub requests: u64,
    pub bytes: u64,
    /// Times from the planned sending to the first body byte, of the sampled groups.
    pub first_bytes: Vec<Duration>,
    /// Answers complete only after the next request was due, of players and of paced groups that are not sampled: a player
    /// ran dry.
    pub late: u64,
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Tally {
    /// Adds another run's counts; the samples stay apart.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.late += other.late;
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    /// Counts an error; the first one is kept.
    pub fn error(&mut self, message: String) {
        self.errors += 1;
        self.first_error.get_or_insert(message);
    }
}
