//! The share relay: one host sends audio and what it says of the song, many listen, live (the document "Music Share
//! Server", and beyond it binary push).
//!
//! Owns the sessions of this node, their limits and tickets, their paths, and (`nodes`) what nodes tell each other. The way
//! of audio: a host's chunk or packet → `intake` (order) → `ring` for those who poll, `lane` for those who are pushed to,
//! `transcode` between the two only while somebody needs it → the session's events. Knows nothing of other modules or of
//! the proxy; HTTP is in `routes` and `push` alone.

mod access;
mod bucket;
mod chat;
mod chunk;
mod cover;
mod event;
mod frame;
mod id;
mod incarnation;
mod intake;
mod lane;
mod metadata;
mod metrics;
mod nodes;
mod ogg;
mod page;
mod pollers;
mod push;
mod recent;
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
pub use routes::{routes, second_path};

use self::access::Access;
use self::bucket::Guesses;
use self::cover::Covers;
use self::event::Reason;
use self::id::SessionId;
use self::incarnation::Incarnation;
use self::metrics::Metrics;
use self::nodes::{Claim, Nodes};
use self::recording::Recorder;
use self::refused::Refused;
use self::registry::{Registry, TRIES};
use self::seats::Seats;
use self::session::{Session, Shared};
use self::settings::Settings;
use self::tickets::{Ticket, Tickets};
use self::transcode::Transcoders;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::redis::Redis;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(200);

/// The relay of this node.
pub struct Relay {
    settings: Settings,
    clock: Clock,
    tasks: BackgroundTasks,
    registry: Arc<Registry>,
    /// The other nodes, where there may be some.
    nodes: Option<Arc<Nodes>>,
    access: Access,
    tickets: Arc<Tickets>,
    guesses: Guesses,
    seats: Arc<Seats>,
    covers: Covers,
    metrics: Arc<Metrics>,
}

impl Relay {
    /// A relay that runs until `tasks` stop; it counts in `metrics`, shares its sessions with other nodes in `redis`, and
    /// records into `depot`.
    pub fn start(
        settings: Settings,
        redis: Option<&Redis>,
        clock: Clock,
        tasks: &BackgroundTasks,
        metrics: &prometheus::Registry,
        depot: Option<Depot>,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Arc::new(Metrics::new(metrics)?);
        let seats = Arc::new(Seats::new(settings.max_listeners, settings.cadence));
        let transcoders = Transcoders::new(settings.max_transcodes, tasks.clone(), Arc::clone(&metrics));
        let ends = redis.map(|redis| (redis, nodes::link(settings.compatibility, &metrics)));
        let (link, ends) = ends.map(|(redis, (link, ends))| (link, (redis, ends))).unzip();
        let (shared_seats, shared_metrics) = (Arc::clone(&seats), Arc::clone(&metrics));
        let recorder = depot.map(|depot| Recorder::new(depot, tasks.clone(), Arc::clone(&metrics)));
        let (buffer, tickets) = (settings.buffer, Arc::new(Tickets::new(&settings.token)));
        let shared_tickets = Arc::clone(&tickets);
        let shared = Shared {
            buffer,
            seats: shared_seats,
            transcoders,
            recorder,
            metrics: shared_metrics,
            link,
            tickets: shared_tickets,
        };
        let shared = Arc::new(shared);
        let registry = Arc::new(Registry::new(settings.max_sessions, settings.timeout, Arc::clone(&shared)));
        let nodes = ends.map(|(redis, ends)| {
            let means = nodes::Means { shared, registry: Arc::clone(&registry), clock: clock.clone() };
            Nodes::start(redis, &settings, means, ends, tasks)
        });
        let relay = Arc::new(Self {
            access: Access::new(settings.token.clone()),
            settings,
            clock,
            tasks: tasks.clone(),
            registry,
            nodes,
            tickets,
            guesses: Guesses::default(),
            seats,
            covers: Covers::default(),
            metrics,
        });
        let ticking = Arc::clone(&relay);
        tasks.spawn(async move { ticking.run().await });
        Ok(relay)
    }

    /// Live sessions; of those that several nodes have, the ones for which this node answers.
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

    /// Starts the session of this id, or of one that is free at all nodes.
    async fn begin(&self, wanted: Option<SessionId>) -> Result<Arc<Session>, Refused> {
        let now = self.now();
        let incarnation = Incarnation::random();
        let Some(nodes) = &self.nodes else { return self.registry.start(wanted, incarnation, now) };
        for _ in 0..TRIES {
            let id = self.registry.free(wanted)?;
            match nodes.claim(id, incarnation, now).await {
                Claim::Made => {
                    let started = self.registry.start(Some(id), incarnation, now);
                    if started.is_err() {
                        nodes.take_back(id).await;
                    }
                    return started;
                }
                Claim::Taken if wanted.is_none() => {}
                Claim::Taken => return Err(Refused::Taken),
                Claim::Full => return Err(Refused::Full),
            }
        }
        Err(Refused::Full)
    }

    /// Ends a session, at all nodes.
    async fn end(&self, session: &Arc<Session>, now: i64) {
        session.end(Reason::Stopped, now);
        if let Some(nodes) = &self.nodes {
            nodes.finish(session).await;
        }
    }

    /// The session of this id, here or at another node, for somebody with the token. An address that has guessed too often
    /// finds none but those that it was let in to before.
    async fn find(&self, id: SessionId, address: IpAddr) -> Result<Arc<Session>, Refused> {
        let now = self.now();
        let known = self.registry.get(id).is_some_and(|session| session.knows(address, now));
        if !known && self.guesses.is_blocked(address, now) {
            self.metrics.guesses.inc();
            let wait = Duration::from_secs(3);
            return Err(Refused::TooFast { what: "too many session ids that do not exist", wait });
        }
        match self.open(id).await {
            Ok(session) => {
                session.let_in(address, now);
                Ok(session)
            }
            Err(refused) => {
                if refused == Refused::UnknownSession {
                    self.guesses.missed(address, now);
                }
                Err(refused)
            }
        }
    }

    /// The same for a host that sends requests. It has no socket on which to be told that its session gave way to another,
    /// so it is told here that its own is no more.
    async fn find_to_send(&self, id: SessionId, address: IpAddr) -> Result<Arc<Session>, Refused> {
        if self.registry.was_replaced(id, self.now()) {
            return Err(Refused::UnknownSession);
        }
        self.find(id, address).await
    }

    /// The session of this id, here or at another node, for somebody who has been told of it.
    async fn open(&self, id: SessionId) -> Result<Arc<Session>, Refused> {
        let here = self.registry.get(id);
        here.iter().for_each(|session| session.visit(self.now()));
        let found = match &self.nodes {
            // The id of one that has ended may be that of another by now.
            Some(nodes) if here.as_ref().is_none_or(|here| here.ended().is_some()) => nodes.open(id, here).await?,
            _ => here,
        };
        found.ok_or(Refused::UnknownSession)
    }

    /// What `text` says, where it is a ticket to the session of this id.
    async fn ticket(&self, text: &str, id: SessionId) -> Option<Ticket> {
        let read = self.tickets.read(text, id);
        match &self.nodes {
            // It may be of a node whose key is not known here yet.
            Some(nodes) if read.is_none() && nodes.agree().await => self.tickets.read(text, id),
            _ => read,
        }
    }

    /// Has tickets signed so that all nodes take them, where that can be had.
    async fn prepare_tickets(&self) -> &Tickets {
        if let Some(nodes) = &self.nodes {
            nodes.agree().await;
        }
        &self.tickets
    }
}
