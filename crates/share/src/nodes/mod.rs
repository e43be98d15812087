//! The relay on several nodes, through Redis: which sessions there are and how they stand (`book`), and what nodes tell each
//! other of one (`wire`) while more than one has it (docs/share.md, "Several nodes").
//!
//! No node owns a session. A node that is asked for one that it does not have makes a copy; a host may send to any of them.
//! Without Redis each node goes on with what it has, and none is kept waiting for it but those who ask for what only Redis
//! knows.

pub mod book;
mod channels;
pub mod link;
mod sender;
pub mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::error::Error;
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::book::{Book, End, Found, LEISURE, Standing, Start};
use self::link::{Ends, Link};
use self::wire::{NodeId, Word};
use super::event::Reason;
use super::id::SessionId;
use super::incarnation::Incarnation;
use super::metadata::{Metadata, Picture};
use super::metrics::Metrics;
use super::refused::Refused;
use super::registry::Registry;
use super::session::{Session, Shared};
use super::settings::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::redis::Redis;

/// How often each session has its turn with Redis.
const ROUND: Duration = Duration::from_secs(1);
/// Between two tries to agree on the keys of tickets beside the rounds, in milliseconds.
const AGREEING: u64 = 1_000;
/// For the connections at the beginning; what is said until then waits.
const CONNECT: Duration = Duration::from_secs(3);
/// Sessions that have their turn at once.
const AT_ONCE: usize = 64;

/// What came of claiming an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It may be used here.
    Made,
    /// Another node has it.
    Taken,
    /// There are as many sessions as there may be.
    Full,
}

/// What nodes need of the relay.
pub struct Means {
    /// What its sessions share.
    pub shared: Arc<Shared>,
    /// Its sessions.
    pub registry: Arc<Registry>,
    /// The time.
    pub clock: Clock,
}

/// This node among the others.
pub struct Nodes {
    redis: Redis,
    book: Book,
    node: NodeId,
    most: usize,
    means: Means,
    /// Connected for the messages of the others.
    subscriber: Redis,
    subscribed: Mutex<HashSet<SessionId>>,
    /// All sessions are to have their turn at once.
    again: Notify,
    /// Whether Redis did not answer the last time.
    away: AtomicBool,
    /// Whether what others said may not have come here, or what was said here to them.
    apart: AtomicBool,
    /// Whether tickets are signed with a key that all nodes have.
    agreed: AtomicBool,
    /// When it was last tried to agree outside of the rounds, in milliseconds since the Unix epoch; held while it is.
    tried: tokio::sync::Mutex<i64>,
}

/// The way of sessions to other nodes, and its other end.
pub fn link(compatibility: bool, metrics: &Metrics) -> (Link, Ends) {
    Link::new(NodeId::random(), compatibility, metrics.overflows.clone())
}

impl Nodes {
    /// Joins the other nodes in `redis` until `tasks` stop.
    pub fn start(redis: &Redis, settings: &Settings, means: Means, ends: Ends, tasks: &BackgroundTasks) -> Arc<Self> {
        let node = means.shared.link.as_ref().map_or(NodeId::ALL, Link::node);
        let timeout = i64::try_from(settings.timeout.as_millis()).unwrap_or(i64::MAX);
        let nodes = Arc::new(Self {
            book: Book::new(redis.clone(), node, timeout),
            subscriber: redis.with_own_connections(),
            // Audio is large: what is small and has little time goes over another connection.
            redis: redis.with_own_connections(),
            node,
            most: settings.max_sessions,
            means,
            subscribed: Mutex::default(),
            again: Notify::new(),
            away: AtomicBool::new(false),
            apart: AtomicBool::new(false),
            agreed: AtomicBool::new(false),
            tried: tokio::sync::Mutex::new(0),
        });
        let Ends { out, turns } = ends;
        let (listening, turning, sending) = (Arc::clone(&nodes), Arc::clone(&nodes), Arc::clone(&nodes));
        let stopping = tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = listening.listen() => {}
                () = turning.turns(turns) => {}
                () = sender::run(&sending, out) => {}
                () = stopping.stopping() => {}
            }
            // Who is gone already needs no farewell.
            let _ = sending.subscriber.close(LEISURE).await;
            let _ = sending.redis.close(LEISURE).await;
        });
        nodes
    }

    /// Claims an id for a session that begins here. Without Redis it is free if it is free here.
    pub async fn claim(&self, id: SessionId, incarnation: Incarnation, now: i64) -> Claim {
        let claim = async {
            if !self.book.admit(id, self.most).await? {
                return Ok(Claim::Full);
            }
            let claimed = self.book.claim(id, Start { incarnation, at: now }).await?;
            if claimed {
                self.subscribe(&[id]).await;
            }
            Ok(if claimed { Claim::Made } else { Claim::Taken })
        };
        self.answered("start", Box::pin(claim).await).unwrap_or(Claim::Made)
    }

    /// Takes back a claim.
    pub async fn take_back(&self, id: SessionId) {
        self.answered("start", self.book.forget(id).await);
    }

    /// Has tickets signed so that all nodes take them; false where that was not to be had.
    pub async fn agree(&self) -> bool {
        if self.agreed.load(Ordering::Relaxed) {
            return true;
        }
        // One try for all who ask, and no more than one a second: tickets that nobody signed cost Redis nothing.
        let mut tried = self.tried.lock().await;
        if !self.agreed.load(Ordering::Relaxed) && self.now().abs_diff(*tried) >= AGREEING {
            self.exchange_keys().await;
            *tried = self.now();
        }
        self.agreed.load(Ordering::Relaxed)
    }

    /// Learns the keys of the other nodes, and tells its own: Redis may have lost them.
    async fn exchange_keys(&self) -> bool {
        let tickets = &self.means.shared.tickets;
        let held = self.answered("ticket", self.book.ticket_keys(&tickets.seeds()).await);
        let agreed = held.is_some_and(|held| tickets.adopt(&held));
        self.agreed.store(agreed, Ordering::Relaxed);
        agreed
    }

    /// The session of this id as Redis knows it, or `here` where Redis knows nothing newer.
    pub fn open(
        &self,
        id: SessionId,
        here: Option<Arc<Session>>,
    ) -> BoxFuture<'_, Result<Option<Arc<Session>>, Refused>> {
        Box::pin(async move {
            let Some(found) = self.answered("find", self.book.look(id).await) else {
                return here.map_or(Err(Refused::Unreachable), |here| Ok(Some(here)));
            };
            let known = |start: Start| here.as_ref().is_some_and(|here| here.incarnation() == start.incarnation);
            Ok(match found {
                Found::Live(standing) if !known(standing.start) => Some(self.copy(id, &standing).await),
                Found::Ended { start, reason, age } if !known(start) => {
                    let (now, ended) = (self.now(), self.now() - age);
                    let session = self.means.registry.copy(id, start, ended, now);
                    session.end_elsewhere(reason, ended);
                    Some(session)
                }
                Found::Live(_) | Found::Ended { .. } | Found::Gone | Found::Other => here,
            })
        })
    }

    /// A copy of a session of other nodes.
    async fn copy(&self, id: SessionId, standing: &Standing) -> Arc<Session> {
        // What is told from now on is heard: before it is asked what was told.
        self.subscribe(&[id]).await;
        let now = self.now();
        let session = self.means.registry.copy(id, standing.start, now - standing.age, now);
        session.learn(standing, self.node, now);
        session.announce(Word::Recall);
        if let Some(song) = self.answered("find", self.book.song(id).await).flatten()
            && session.metadata(now).is_none()
        {
            let picture = song.picture.and_then(|text| Picture::new(text).ok());
            let (json, until) = (song.json.as_bytes(), now + song.life);
            if let Ok(song) = Metadata::from_slim(json, picture, until, &|tag| session.cover(tag)) {
                session.sing(song);
            }
        }
        session
    }

    /// Tells all nodes that a session has ended; it is tried again in the next round where that fails.
    pub async fn finish(&self, session: &Arc<Session>) {
        let report = session.report(self.now());
        let Some(reason) = report.ended else { return };
        match self.answered("end", self.book.finish(&report, reason).await) {
            Some(End::Done) => {
                session.announce(Word::Ended { reason });
                session.settle();
            }
            Some(End::Before) => session.settle(),
            // This node was cut off from a host that others hear: whoever asks for it finds it anew.
            Some(End::Live) => self.means.registry.forget(session),
            None => {}
        }
    }

    /// Each session has its turn once a second, and those at once that ask for it.
    async fn turns(&self, mut turns: tokio::sync::mpsc::Receiver<SessionId>) {
        self.subscriber.wait_connected(CONNECT).await;
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asking = Vec::new();
        loop {
            tokio::select! {
                _ = round.tick() => self.round().await,
                () = self.again.notified() => self.round().await,
                count = turns.recv_many(&mut asking, AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    let ids: HashSet<SessionId> = asking.drain(..).collect();
                    let mut sessions: Vec<_> =
                        ids.into_iter().filter_map(|id| self.means.registry.get(id)).collect();
                    sessions.retain(|session| !session.is_settled());
                    self.subscribe_to(&sessions).await;
                    sessions.iter().for_each(|session| self.ask(session));
                    self.turn(&sessions).await;
                }
            }
        }
    }

    async fn round(&self) {
        self.exchange_keys().await;
        let mut sessions = self.means.registry.all();
        sessions.retain(|session| !session.is_settled());
        self.subscribe_to(&sessions).await;
        self.leave(&sessions).await;
        self.turn(&sessions).await;
        self.exchange(&sessions);
        let home: Vec<_> = sessions.iter().filter(|session| session.is_home()).map(|session| session.id()).collect();
        if !home.is_empty() {
            self.answered("beat", self.book.renew(home.into_iter()).await);
        }
    }

    /// Asks the other nodes for audio, where somebody here has begun to need it.
    fn ask(&self, session: &Session) {
        let report = session.report(self.now());
        if report.ended.is_none() && report.needs {
            session.announce(Word::Needs { backlog: report.backlog });
        }
    }

    /// Tells Redis of these sessions, and learns of them.
    async fn turn(&self, sessions: &[Arc<Session>]) {
        for some in sessions.chunks(AT_ONCE) {
            let turns = some.iter().map(|session| self.turn_of(session));
            // Where Redis does not answer, the others need not wait for it too.
            if join_all(turns).await.contains(&false) {
                return;
            }
        }
    }

    async fn turn_of(&self, session: &Arc<Session>) -> bool {
        let report = session.report(self.now());
        if report.ended.is_some() {
            self.finish(session).await;
            return true;
        }
        let found = self.answered("beat", self.book.beat(&report).await);
        let now = self.now();
        match &found {
            Some(Found::Live(standing)) => session.learn(standing, self.node, now),
            Some(Found::Ended { reason, age, .. }) => session.end_elsewhere(*reason, now - age),
            Some(Found::Other) => {
                if session.yields(now) {
                    self.means.registry.replaced(session.id(), now);
                    session.end_elsewhere(Reason::Replaced, now);
                }
            }
            // What Redis has lost it was told anew.
            Some(Found::Gone) | None => {}
        }
        found.is_some()
    }

    /// What Redis has said; `None` where it has not. Said once in the log, and again when it is over.
    fn answered<T>(&self, operation: &str, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("sharing sessions are shared with other nodes again");
                    self.apart.store(true, Ordering::Relaxed);
                    self.again.notify_one();
                }
                Some(answer)
            }
            Err(error) => {
                self.metrics().state_errors.with_label_values(&[operation]).inc();
                if !self.away.swap(true, Ordering::Relaxed) {
                    let error = self.redis.error_text(&error);
                    tracing::warn!(
                        error,
                        "sharing sessions stay with their nodes: Redis (State.Url) does not do its part"
                    );
                }
                None
            }
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.means.shared.metrics
    }

    /// Milliseconds since the Unix epoch.
    fn now(&self) -> i64 {
        self.means.clock.unix_millis()
    }
}
