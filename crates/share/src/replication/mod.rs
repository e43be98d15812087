//! Replication of sessions over several nodes, through Redis: the registry of sessions (`registry`), and messages
//! between the nodes that have one (`message`; docs/share.md, "Several nodes").
//!
//! No node owns a session. A node that is asked for one that it does not have makes a copy; a host may send to any of
//! them. Without Redis each node goes on with its sessions, and nobody waits for it but those who ask for what only
//! Redis knows.

mod channels;
pub mod message;
pub mod outbox;
pub mod registry;
pub mod report;
mod sender;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::error::Error;
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::message::{ControlMessage, NodeId};
use self::outbox::{OutboxReceivers, ReplicationOutbox};
use self::registry::{BACKGROUND_BUDGET, SessionRegistry};
use self::report::{FinishOutcome, RegistryEntry, RegistryLookup};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::session::event::EndReason;
use crate::session::id::SessionId;
use crate::session::incarnation::{Incarnation, SessionStart};
use crate::session::local_sessions::LocalSessions;
use crate::session::metadata::{CoverImage, SongMetadata};
use crate::session::{Session, SessionServices};
use crate::settings::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::redis::Redis;

/// Interval of a session's heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two rounds of heartbeats at least, also where Redis comes and goes.
const MIN_ROUND_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two tries to agree on ticket keys beside the heartbeats.
const AGREE_INTERVAL: Duration = Duration::from_secs(1);
/// Time for connecting at the beginning; messages wait until then.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// Heartbeats that are sent at once.
const HEARTBEAT_BATCH: usize = 64;

/// Outcome of claiming an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The id may be used here.
    Claimed,
    /// Another node has a session of this id.
    Taken,
    /// There are as many sessions as there may be.
    Full,
}

/// Parts of the relay that replication needs.
pub struct ReplicatorContext {
    /// Services of the node's sessions.
    pub services: Arc<SessionServices>,
    /// Sessions of the node.
    pub sessions: Arc<LocalSessions>,
    /// Clock of the node.
    pub clock: Clock,
}

/// Connection of this node to the others.
pub struct SessionReplicator {
    redis: Redis,
    registry: SessionRegistry,
    node: NodeId,
    max_sessions: usize,
    context: ReplicatorContext,
    /// Client with a connection of its own for subscriptions.
    subscriber: Redis,
    subscribed: Mutex<HashSet<SessionId>>,
    /// Wish that all sessions have their heartbeats at once.
    heartbeat_now: Notify,
    /// True where Redis did not answer the last time.
    unreachable: AtomicBool,
    /// True where messages of others may not have come here, or those from here to them.
    missed_messages: AtomicBool,
    /// True where tickets are signed with a key that all nodes have.
    ticket_keys_agreed: AtomicBool,
    /// Time of the last try to agree on ticket keys beside the heartbeats; held while it is tried.
    ticket_keys_tried: tokio::sync::Mutex<UnixMillis>,
}

/// Creates the queue of messages to other nodes, and its receiving end.
pub fn replication_outbox(compatibility: bool, metrics: &Metrics) -> (ReplicationOutbox, OutboxReceivers) {
    ReplicationOutbox::new(NodeId::random(), compatibility, metrics.overflows.clone())
}

impl SessionReplicator {
    /// Connects to the other nodes by `redis` until `tasks` stop.
    pub fn start(
        redis: &Redis,
        settings: &Settings,
        context: ReplicatorContext,
        receivers: OutboxReceivers,
        tasks: &BackgroundTasks,
    ) -> Arc<Self> {
        let node = context.services.outbox.as_ref().map_or(NodeId::ALL, ReplicationOutbox::node);
        let replicator = Arc::new(Self {
            registry: SessionRegistry::new(redis.clone(), node, settings.timeout),
            subscriber: redis.with_own_connections(),
            // Audio is large: what is small and has little time goes over another connection.
            redis: redis.with_own_connections(),
            node,
            max_sessions: settings.max_sessions,
            context,
            subscribed: Mutex::default(),
            heartbeat_now: Notify::new(),
            unreachable: AtomicBool::new(false),
            missed_messages: AtomicBool::new(false),
            ticket_keys_agreed: AtomicBool::new(false),
            ticket_keys_tried: tokio::sync::Mutex::new(UnixMillis::EPOCH),
        });
        let OutboxReceivers { items, heartbeats } = receivers;
        let (listening, beating, sending) = (Arc::clone(&replicator), Arc::clone(&replicator), Arc::clone(&replicator));
        let stopping = tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = listening.receive_messages() => {}
                () = beating.run_heartbeats(heartbeats) => {}
                () = sender::run(&sending, items) => {}
                () = stopping.stopping() => {}
            }
            // Who is gone already needs no farewell.
            let _ = sending.subscriber.close(BACKGROUND_BUDGET).await;
            let _ = sending.redis.close(BACKGROUND_BUDGET).await;
        });
        replicator
    }

    /// Claims an id for a session that begins here. Without Redis it is free if it is free here.
    pub async fn claim(&self, id: SessionId, incarnation: Incarnation, now: UnixMillis) -> ClaimOutcome {
        let claim = async {
            if !self.registry.admit_session(id, self.max_sessions).await? {
                return Ok(ClaimOutcome::Full);
            }
            let claimed = self.registry.claim(id, SessionStart { incarnation, at: now }).await?;
            // Before anybody can ask for it, so that nothing about it is missed.
            if claimed {
                self.subscribe(&[id]).await;
            }
            Ok(if claimed { ClaimOutcome::Claimed } else { ClaimOutcome::Taken })
        };
        self.track_answer("start", Box::pin(claim).await).unwrap_or(ClaimOutcome::Claimed)
    }

    /// Releases a claim.
    pub async fn release_claim(&self, id: SessionId) {
        self.track_answer("start", self.registry.release_claim(id).await);
    }

    /// Agrees on ticket keys with the other nodes; returns false where that could not be done.
    pub async fn agree_on_ticket_keys(&self) -> bool {
        if self.ticket_keys_agreed.load(Ordering::Relaxed) {
            return true;
        }
        // One try for all who ask, and no more than one a second: tickets that nobody signed cost Redis nothing.
        let mut tried = self.ticket_keys_tried.lock().await;
        if !self.ticket_keys_agreed.load(Ordering::Relaxed) && self.now().abs_diff(*tried) >= AGREE_INTERVAL {
            self.exchange_ticket_keys().await;
            *tried = self.now();
        }
        self.ticket_keys_agreed.load(Ordering::Relaxed)
    }

    /// Exchanges ticket keys with the other nodes, over and over: Redis may have lost them.
    async fn exchange_ticket_keys(&self) -> bool {
        let tickets = &self.context.services.tickets;
        let held = self.track_answer("ticket", self.registry.merge_ticket_keys(&tickets.seeds()).await);
        let agreed = held.is_some_and(|held| tickets.adopt(&held));
        self.ticket_keys_agreed.store(agreed, Ordering::Relaxed);
        agreed
    }

    /// Returns the session of this id as Redis knows it, or `here` where Redis knows nothing newer. Fails where Redis
    /// does not answer and the session is not here.
    pub fn find_session(
        &self,
        id: SessionId,
        here: Option<Arc<Session>>,
    ) -> BoxFuture<'_, Result<Option<Arc<Session>>, Refusal>> {
        Box::pin(async move {
            let Some(found) = self.track_answer("find", self.registry.look_up(id).await) else {
                return here.map_or(Err(Refusal::RegistryUnreachable), |here| Ok(Some(here)));
            };
            // |SKIP
            let known = |start: SessionStart| here.as_ref().is_some_and(|here| here.incarnation() == start.incarnation);
            Ok(match found {
                RegistryLookup::Live(entry) if !known(entry.start) => Some(self.copy_session(id, &entry).await),
                RegistryLookup::Ended { start, reason, age } if !known(start) => {
                    let (now, ended) = (self.now(), self.now() - age);
                    let session = self.context.sessions.add_copy(id, start, ended, now);
                    session.end_remotely(reason, ended);
                    Some(session)
                }
                RegistryLookup::Live(_)
                | RegistryLookup::Ended { .. }
                | RegistryLookup::Absent
                | RegistryLookup::OtherIncarnation => here,
            })
        })
    }

    /// Makes a copy of a session of other nodes.
    async fn copy_session(&self, id: SessionId, entry: &RegistryEntry) -> Arc<Session> {
        // What is told from now on is heard: before it is asked what was told.
        self.subscribe(&[id]).await;
        let now = self.now();
        let session = self.context.sessions.add_copy(id, entry.start, now - entry.heard_ago, now);
        session.apply_registry_entry(entry, self.node, now);
        session.announce(ControlMessage::RequestChat);
        if let Some(stored) = self.track_answer("find", self.registry.metadata(id).await).flatten()
            && session.metadata(now).is_none()
        {
            let picture = stored.cover.and_then(|text| CoverImage::new(text).ok());
            let (json, until) = (stored.json.as_bytes(), now + stored.fresh_for);
            if let Ok(metadata) = SongMetadata::from_slim_json(json, picture, until, &|tag| session.sign_cover(tag)) {
                session.set_remote_metadata(metadata);
            }
        }
        session
    }

    /// Tells all nodes that a session has ended; where that fails it is tried again with the next heartbeat.
    pub async fn publish_end(&self, session: &Arc<Session>) {
        let report = session.replica_report(self.now());
        let Some(reason) = report.ended else { return };
        match self.track_answer("end", self.registry.finish(&report, reason).await) {
            Some(FinishOutcome::Ended) => {
                session.announce(ControlMessage::Ended { reason });
                session.set_end_published();
            }
            Some(FinishOutcome::AlreadyEnded) => session.set_end_published(),
            // This node was cut off from a host that others hear: whoever asks for it finds it anew.
            Some(FinishOutcome::StillLive) => self.context.sessions.forget(session),
            None => {}
        }
    }

    /// Sends heartbeats: once a second for each session, and at once for those that ask for it.
    async fn run_heartbeats(&self, mut heartbeats: tokio::sync::mpsc::Receiver<SessionId>) {
        self.subscriber.wait_connected(CONNECT_TIME).await;
        let mut round = tokio::time::interval(HEARTBEAT_INTERVAL);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut asking, mut began) = (Vec::new(), Instant::now());
        loop {
            tokio::select! {
                _ = round.tick() => {
                    began = Instant::now();
                    self.heartbeat_all().await;
                }
                // A round may find Redis away and there again, and ask for the next one: without a pause it went on for ever.
                () = self.heartbeat_now.notified() => round.reset_at(Instant::now().max(began + MIN_ROUND_INTERVAL)),
                count = heartbeats.recv_many(&mut asking, HEARTBEAT_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let ids: HashSet<SessionId> = asking.drain(..).collect();
                    let mut sessions: Vec<_> =
                        ids.into_iter().filter_map(|id| self.context.sessions.get(id)).collect();
                    sessions.retain(|session| !session.is_end_published());
                    // Redis may have lost both: a node that finds the session must be able to read its host's secret.
                    self.exchange_ticket_keys().await;
                    self.subscribe_missing(&sessions).await;
                    sessions.iter().for_each(|session| self.request_audio(session));
                    self.heartbeat(&sessions).await;
                }
            }
        }
    }

    async fn heartbeat_all(&self) {
        self.exchange_ticket_keys().await;
        let mut sessions = self.context.sessions.all();
        sessions.retain(|session| !session.is_end_published());
        self.subscribe_missing(&sessions).await;
        self.unsubscribe_gone(&sessions).await;
        self.heartbeat(&sessions).await;
        self.resynchronize(&sessions);
        // Only the home counts it, or a session of three nodes would count three times.
        let home: Vec<_> = sessions.iter().filter(|session| session.is_home()).map(|session| session.id()).collect();
        if !home.is_empty() {
            self.track_answer("beat", self.registry.renew_counted(home.into_iter()).await);
        }
    }

    /// Asks the other nodes for audio, where somebody here has begun to need it.
    fn request_audio(&self, session: &Session) {
        let report = session.replica_report(self.now());
        if report.ended.is_none() && report.needs_audio {
            session.announce(ControlMessage::NeedsAudio { backlog: report.needs_backlog });
        }
    }

    /// Sends heartbeats of these sessions, and takes in the answers.
    async fn heartbeat(&self, sessions: &[Arc<Session>]) {
        for some in sessions.chunks(HEARTBEAT_BATCH) {
            let heartbeats = some.iter().map(|session| self.heartbeat_one(session));
            // Where Redis does not answer, the others need not wait for it too.
            if join_all(heartbeats).await.contains(&false) {
                return;
            }
        }
    }

    async fn heartbeat_one(&self, session: &Arc<Session>) -> bool {
        let report = session.replica_report(self.now());
        if report.ended.is_some() {
            self.publish_end(session).await;
            return true;
        }
        let answer = self.registry.send_heartbeat(&report).await;
        // A session that Redis refuses keeps nobody else's from it.
        let answered = answer.as_ref().err().is_none_or(Redis::is_refusal);
        let found = self.track_answer("beat", answer);
        let now = self.now();
        match &found {
            Some(RegistryLookup::Live(entry)) => session.apply_registry_entry(entry, self.node, now),
            Some(RegistryLookup::Ended { reason, age, .. }) => session.end_remotely(*reason, now - *age),
            Some(RegistryLookup::OtherIncarnation) => {
                if session.yields_to_rival(now) {
                    self.context.sessions.note_replaced(session.id(), now);
                    session.end_remotely(EndReason::Replaced, now);
                }
            }
            // What Redis has lost it was told anew.
            Some(RegistryLookup::Absent) | None => {}
        }
        answered
    }

    /// Returns the answer of Redis; `None` where there is none. The log says so once, and again when it is over. A command
    /// that Redis refuses (a key of another type, no memory, a replica that is only read) says nothing of the others: it
    /// counts as an error, and the client has told it.
    fn track_answer<T>(&self, operation: &str, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => {
                if self.unreachable.swap(false, Ordering::Relaxed) {
                    tracing::info!("sharing sessions are shared with other nodes again");
                    self.missed_messages.store(true, Ordering::Relaxed);
                    self.heartbeat_now.notify_one();
                }
                Some(answer)
            }
            Err(error) => {
                self.metrics().state_errors.with_label_values(&[operation]).inc();
                if !Redis::is_refusal(&error) && !self.unreachable.swap(true, Ordering::Relaxed) {
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
        &self.context.services.metrics
    }

    /// Returns the time now.
    fn now(&self) -> UnixMillis {
        self.context.clock.unix_millis()
    }
}
