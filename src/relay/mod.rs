//! The share relay: one host sends audio and what it says of the song, many listen, live (the document "Music Share
//! Server", and beyond it binary push).
//!
//! Owns the sessions of this node, their limits and tickets, and their paths. The way of audio: a host's chunk or packet
//! → `intake` (order) → `ring` for those who poll, `lane` for those who are pushed to, `transcode` between the
//! two only while somebody needs it → the session's events. Knows nothing of other modules or of the proxy; HTTP is in
//! `routes` and `push` alone.

mod bucket;
mod chat;
mod chunk;
mod cover;
mod event;
mod frame;
mod id;
mod intake;
mod lane;
mod metadata;
mod metrics;
mod ogg;
mod page;
mod pollers;
mod push;
mod recording;
mod refused;
mod registry;
mod ring;
mod routes;
mod seats;
mod session;
pub mod settings;
mod statistics;
mod tickets;
mod transcode;
mod wav;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use recording::Depot;
pub use routes::routes;

use self::bucket::Guesses;
use self::cover::Covers;
use self::id::SessionId;
use self::metrics::Metrics;
use self::recording::Recorder;
use self::refused::Refused;
use self::registry::Registry;
use self::seats::Seats;
use self::session::{Session, Shared};
use self::settings::Settings;
use self::tickets::Tickets;
use self::transcode::Transcoders;
use crate::clock::Clock;
use crate::lifecycle::Tasks;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(200);

/// The relay of this node.
pub struct Relay {
    settings: Settings,
    clock: Clock,
    tasks: Tasks,
    registry: Registry,
    tickets: Tickets,
    guesses: Guesses,
    seats: Arc<Seats>,
    covers: Covers,
    metrics: Arc<Metrics>,
}

impl Relay {
    /// A relay that runs until `tasks` stop; it counts in `metrics`, and records into `depot`.
    pub fn start(
        settings: Settings,
        clock: Clock,
        tasks: &Tasks,
        metrics: &prometheus::Registry,
        depot: Option<Depot>,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Arc::new(Metrics::new(metrics)?);
        let seats = Arc::new(Seats::new(settings.max_listeners, settings.cadence));
        let transcoders = Transcoders::new(settings.max_transcodes, tasks.clone(), Arc::clone(&metrics));
        let (shared_seats, shared_metrics) = (Arc::clone(&seats), Arc::clone(&metrics));
        let recorder = depot.map(|depot| Recorder::new(depot, tasks.clone(), Arc::clone(&metrics)));
        let buffer = settings.buffer;
        let shared = Shared { buffer, seats: shared_seats, transcoders, recorder, metrics: shared_metrics };
        let registry = Registry::new(settings.max_sessions, settings.timeout, Arc::new(shared));
        let (tickets, guesses) = (Tickets::default(), Guesses::default());
        let tasks_of_it = tasks.clone();
        let covers = Covers::default();
        let relay =
            Arc::new(Self { settings, clock, tasks: tasks_of_it, registry, tickets, guesses, seats, covers, metrics });
        let ticking = Arc::clone(&relay);
        tasks.spawn(async move { ticking.run().await });
        Ok(relay)
    }

    /// Live sessions.
    pub fn active_sessions(&self) -> u64 {
        self.registry.active() as u64
    }

    async fn run(&self) {
        let ticking = async {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let now = self.now();
                self.registry.tick(now);
                self.tickets.sweep(now);
                self.guesses.sweep(now);
            }
        };
        tokio::select! {
            () = ticking => {}
            () = self.tasks.stopping() => self.registry.all().iter().for_each(|session| session.stopping()),
        }
    }

    /// Milliseconds since the Unix epoch.
    fn now(&self) -> i64 {
        self.micros() / 1000
    }

    /// Microseconds since the Unix epoch.
    fn micros(&self) -> i64 {
        let since = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    /// The session of this id. An address that has guessed too often finds none but those that it listens to.
    fn find(&self, id: SessionId, address: IpAddr) -> Result<Arc<Session>, Refused> {
        let now = self.now();
        let found = self.registry.get(id);
        let known = found.as_ref().is_some_and(|session| session.knows(address));
        if !known && self.guesses.is_blocked(address, now) {
            self.metrics.guesses.inc();
            let wait = Duration::from_secs(3);
            return Err(Refused::TooFast { what: "too many session ids that do not exist", wait });
        }
        found.ok_or_else(|| {
            self.guesses.missed(address, now);
            Refused::UnknownSession
        })
    }
}
