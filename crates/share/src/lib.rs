//! The share relay: one host sends audio and says what it plays, many listen, live (the document "Music Share Server",
//! and beyond it binary push).
//!
//! The way of audio: a chunk or frame of the host comes in by `transport` and goes to its `session`, whose state puts
//! it in order, into the ring for those who poll and the queues for those who are pushed to (`audio`), and says what is
//! to be done: events to those who are connected, messages to other nodes (`replication`), work for a transcoder.
//! `recording` listens as anybody else does. Knows nothing of other modules or of the proxy; HTTP is in `transport`
//! alone.

mod access;
mod audio;
mod listening_right;
mod metrics;
mod program;
mod recent_addresses;
mod recording;
mod refusal;
mod replication;
mod session;
pub mod settings;
mod thumbnails;
mod tickets;
mod token_bucket;
mod transport;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use program::{PROGRAM_SAMPLE_RATE, ProgramHost, ProgramRefused, ProgramSong};
pub use recording::RecordingUploader;
pub use transport::{routes, second_path};

use self::access::AccessControl;
use self::audio::transcode::TranscoderPool;
use self::metrics::Metrics;
use self::recording::SessionRecorder;
use self::refusal::Refusal;
use self::replication::{ClaimOutcome, SessionReplicator};
use self::session::event::EndReason;
use self::session::id::SessionId;
use self::session::incarnation::Incarnation;
use self::session::listener_limit::ListenerLimit;
use self::session::local_sessions::{LocalSessions, MAX_ID_TRIES};
use self::session::{Session, SessionServices};
use self::settings::Settings;
use self::thumbnails::ThumbnailMaker;
use self::tickets::{Ticket, TicketIssuer};
use self::token_bucket::GuessLimit;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::{UnixMicros, UnixMillis};
use server_kit::auth::revocation::TokenRevocations;
use server_kit::redis::Redis;

/// Interval at which sessions are told the time.
const TICK: Duration = Duration::from_millis(200);

/// Relay of this node.
pub struct Relay {
    settings: Settings,
    clock: Clock,
    tasks: BackgroundTasks,
    sessions: Arc<LocalSessions>,
    /// Connection to the other nodes, where there may be some.
    replicator: Option<Arc<SessionReplicator>>,
    access: AccessControl,
    tickets: Arc<TicketIssuer>,
    guesses: GuessLimit,
    listener_limit: Arc<ListenerLimit>,
    thumbnails: ThumbnailMaker,
    /// Logouts, which end what their users' tickets have opened.
    revocations: Option<Arc<TokenRevocations>>,
    metrics: Arc<Metrics>,
}

impl Relay {
    /// Starts a relay that runs until `tasks` stop; it counts in `metrics`, shares its sessions with other nodes in
    /// `redis`, records by the uploader, and ends with their logout what users of this server have opened.
    pub fn start(
        settings: Settings,
        redis: Option<&Redis>,
        clock: Clock,
        tasks: &BackgroundTasks,
        metrics: &prometheus::Registry,
        (uploader, revocations): (Option<RecordingUploader>, Option<Arc<TokenRevocations>>),
    ) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Arc::new(Metrics::new(metrics)?);
        let listener_limit = Arc::new(ListenerLimit::new(settings.max_listeners, settings.cadence));
        let transcoders = TranscoderPool::new(settings.max_transcodes, tasks.clone(), Arc::clone(&metrics));
        let receivers = redis.map(|redis| (redis, replication::replication_outbox(settings.compatibility, &metrics)));
        let (outbox, receivers) = receivers.map(|(redis, (outbox, receivers))| (outbox, (redis, receivers))).unzip();
        let (limit, shared_metrics) = (Arc::clone(&listener_limit), Arc::clone(&metrics));
        let recorder = uploader.map(|uploader| SessionRecorder::new(uploader, tasks.clone(), Arc::clone(&metrics)));
        let (buffer, tickets) = (settings.buffer, Arc::new(TicketIssuer::new(&settings.token)));
        let shared_tickets = Arc::clone(&tickets);
        let services = SessionServices {
            buffer,
            listener_limit: limit,
            transcoders,
            recorder,
            metrics: shared_metrics,
            outbox,
            tickets: shared_tickets,
        };
        let services = Arc::new(services);
        let sessions = Arc::new(LocalSessions::new(settings.max_sessions, settings.timeout, Arc::clone(&services)));
        let replicator = receivers.map(|(redis, receivers)| {
            let context =
                replication::ReplicatorContext { services, sessions: Arc::clone(&sessions), clock: clock.clone() };
            SessionReplicator::start(redis, &settings, context, receivers, tasks)
        });
        let relay = Arc::new(Self {
            access: AccessControl::new(settings.token.clone()),
            settings,
            clock,
            tasks: tasks.clone(),
            sessions,
            replicator,
            tickets,
            guesses: GuessLimit::default(),
            listener_limit,
            thumbnails: ThumbnailMaker::default(),
            revocations,
            metrics,
        });
        let ticking = Arc::clone(&relay);
        tasks.spawn(async move { ticking.run().await });
        Ok(relay)
    }

    /// Returns the number of live sessions; of those that several nodes have, the ones for which this node answers.
    pub fn active_sessions(&self) -> u64 {
        self.sessions.live_count() as u64
    }

    async fn run(&self) {
        let ticking = async {
            let mut interval = tokio::time::interval(TICK);
            // Ticks that were missed would come all at once, and bring nothing more.
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let now = self.now();
                self.sessions.tick(now);
                self.tickets.sweep(now);
            }
        };
        tokio::select! {
            () = ticking => {}
            () = self.tasks.stopping() => self.sessions.all().iter().for_each(|session| session.announce_stop()),
        }
    }

    /// Returns the time now.
    fn now(&self) -> UnixMillis {
        self.clock.unix_millis()
    }

    /// Returns the time now, to the microsecond.
    fn micros(&self) -> UnixMicros {
        self.clock.unix_micros()
    }

    /// Starts the session of this id, or of one that is free at all nodes.
    async fn start_session(&self, wanted: Option<SessionId>) -> Result<Arc<Session>, Refusal> {
        let now = self.now();
        let incarnation = Incarnation::random();
        let Some(replicator) = &self.replicator else { return self.sessions.start(wanted, incarnation, now) };
        // An id that is free here may be taken at another node.
        for _ in 0..MAX_ID_TRIES {
            let id = self.sessions.pick_free_id(wanted)?;
            match replicator.claim(id, incarnation, now).await {
                ClaimOutcome::Claimed => {
                    let started = self.sessions.start(Some(id), incarnation, now);
                    if started.is_err() {
                        replicator.release_claim(id).await;
                    }
                    return started;
                }
                ClaimOutcome::Taken if wanted.is_none() => {}
                ClaimOutcome::Taken => return Err(Refusal::SessionIdInUse),
                ClaimOutcome::Full => return Err(Refusal::TooManySessions),
            }
        }
        Err(Refusal::TooManySessions)
    }

    /// Ends a session, at all nodes.
    async fn stop_session(&self, session: &Arc<Session>, now: UnixMillis) {
        session.end(EndReason::Stopped, now);
        if let Some(replicator) = &self.replicator {
            replicator.publish_end(session).await;
        }
    }

    /// Returns the session of this id, at this node or another, for somebody with the token. An address that has
    /// guessed too often finds none but those that it was let in to before.
    async fn find_session(&self, id: SessionId, address: IpAddr) -> Result<Arc<Session>, Refusal> {
        let now = self.now();
        let known = self.sessions.get(id).is_some_and(|session| session.is_guest(address, now));
        if !known && self.guesses.is_blocked(address, now) {
            self.metrics.refused_guesses.inc();
            let wait = Duration::from_secs(3);
            return Err(Refusal::RateLimited { what: "too many session ids that do not exist", wait });
        }
        match self.open_session(id).await {
            Ok(session) => {
                session.note_guest(address, now);
                Ok(session)
            }
            Err(refused) => {
                // A node that cannot ask Redis does not know: that is no guess.
                if refused == Refusal::UnknownSession {
                    self.guesses.record_miss(address, now);
                }
                Err(refused)
            }
        }
    }

    /// Returns the same for a host that sends requests. It has no socket on which to be told that its session gave way
    /// to another, so it is told here that its own is no more.
    async fn find_session_to_send(&self, id: SessionId, address: IpAddr) -> Result<Arc<Session>, Refusal> {
        if self.sessions.was_replaced(id, self.now()) {
            return Err(Refusal::UnknownSession);
        }
        self.find_session(id, address).await
    }

    /// Returns the session of this id, at this node or another, for somebody who has been told of it.
    async fn open_session(&self, id: SessionId) -> Result<Arc<Session>, Refusal> {
        let here = self.sessions.get(id);
        here.iter().for_each(|session| session.note_request(self.now()));
        let found = match &self.replicator {
            // The id of one that has ended may be that of another by now.
            Some(replicator) if here.as_ref().is_none_or(|here| here.ended().is_some()) => {
                replicator.find_session(id, here).await?
            }
            _ => here,
        };
        found.ok_or(Refusal::UnknownSession)
    }

    /// Returns the ticket in `text`, where it is one to the session of this id.
    async fn read_ticket(&self, text: &str, id: SessionId) -> Option<Ticket> {
        let read = self.tickets.read(text, id);
        match &self.replicator {
            // It may be of a node whose key is not known here yet.
            Some(replicator) if read.is_none() && replicator.agree_on_ticket_keys().await => {
                self.tickets.read(text, id)
            }
            _ => read,
        }
    }

    /// Agrees on ticket keys with the other nodes, so that all of them take tickets that are signed from here on.
    async fn prepare_tickets(&self) -> &TicketIssuer {
        if let Some(replicator) = &self.replicator {
            replicator.agree_on_ticket_keys().await;
        }
        &self.tickets
    }
}
