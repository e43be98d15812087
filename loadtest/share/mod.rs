//! Hosts and listeners of the share relay, and what they heard. Every listener looks at every number and at every sample:
//! nothing may be missing, twice, or other than it was sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;

use crate::load::Tally;
use primitives::clock::monotonic_now;

mod poll;
mod push;

pub use poll::{Document, start};
pub use push::Pushed;

/// Where the relay is, and what it wants to see.
#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    pub token: Arc<str>,
}

/// What a host or a listener met with.
#[derive(Default)]
pub struct Heard {
    /// Requests answered as they should be, or messages received.
    pub answers: u64,
    /// Bytes of audio received.
    pub bytes: u64,
    /// Times of answers, or of audio from the relay's clock to a listener.
    pub delays: Vec<Duration>,
    /// Numbers that never came, or came in the wrong place.
    pub gaps: u64,
    /// Samples that were not those sent.
    pub wrong: u64,
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Heard {
    fn error(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.bytes += other.bytes;
        self.gaps += other.gaps;
        self.wrong += other.wrong;
        self.errors += other.errors;
        self.delays.extend(other.delays);
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Into the run's tally.
    pub fn count(&self, tally: &mut Tally) {
        tally.requests += self.answers;
        tally.bytes += self.bytes;
        tally.errors += self.errors;
        if tally.first_error.is_none() {
            tally.first_error.clone_from(&self.first_error);
        }
    }
}

/// Everybody until the end; the first who cannot go on is an error of all.
pub async fn all(mut tasks: JoinSet<Result<Heard>>) -> Result<Heard> {
    let mut all = Heard::default();
    while let Some(heard) = tasks.join_next().await {
        match heard.map_err(|error| anyhow!("a task failed: {error}"))? {
            Ok(heard) => all.add(heard),
            Err(error) => all.error(&error),
        }
    }
    Ok(all)
}

/// The beats of somebody who does something every `period`, spread by `share` of it, until `end`.
struct Beats {
    next: Instant,
    period: Duration,
    end: Instant,
}

impl Beats {
    fn new(period: Duration, share: f64, end: Instant) -> Self {
        Self { next: monotonic_now() + period.mul_f64(share), period, end }
    }

    /// Waits for the next one; false at the end.
    async fn beat(&mut self) -> bool {
        if self.next >= self.end {
            return false;
        }
        tokio::time::sleep_until(self.next.into()).await;
        self.next += self.period;
        true
    }
}
