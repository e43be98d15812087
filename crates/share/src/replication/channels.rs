//! Channels between nodes, one for each session that is here: subscriptions, messages that come, and the exchange of
//! what was missed after a time without the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::Message as Published;
use futures::future::join_all;
use tokio::sync::broadcast::error::RecvError;

use super::SessionReplicator;
use super::message::{ControlMessage, NodeId, ReplicaEnvelope, ReplicaMessage};
use crate::replication::outbox::ReplicationOutbox;
use crate::replication::registry::{BACKGROUND_BUDGET, REQUEST_BUDGET};
use crate::session::Session;
use crate::session::id::SessionId;
use crate::session::metadata::{CoverImage, METADATA_LIFE, SongMetadata};
use server_kit::redis::keys::RedisKey;

impl SessionReplicator {
    /// Exchanges what was said while this node was cut off. The node that is back last asks and tells all.
    pub(super) fn resynchronize(&self, sessions: &[Arc<Session>]) {
        let lost = self.context.services.outbox.as_ref().is_some_and(ReplicationOutbox::take_overflowed);
        if lost {
            self.missed_messages.store(true, Ordering::Relaxed);
        }
        let subscribed = {
            let subscribed = self.subscribed.lock();
            sessions.iter().all(|session| subscribed.contains(&session.id()))
        };
        if subscribed
            && !self.unreachable.load(Ordering::Relaxed)
            && self.missed_messages.swap(false, Ordering::Relaxed)
        {
            sessions.iter().filter(|session| session.ended().is_none()).for_each(|session| session.exchange_chat());
        }
    }

    /// Subscribes to those of these sessions that are new here.
    pub(super) async fn subscribe_missing(&self, sessions: &[Arc<Session>]) {
        let new: Vec<SessionId> = {
            let subscribed = self.subscribed.lock();
            sessions.iter().map(|session| session.id()).filter(|id| !subscribed.contains(id)).collect()
        };
        if !new.is_empty() {
            self.subscribe(&new).await;
        }
    }

    /// Subscribes to the channels of these ids. A failure is made good with the next heartbeat.
    pub(super) async fn subscribe(&self, ids: &[SessionId]) {
        let channels: Vec<String> = ids.iter().map(|id| self.channel(*id)).collect();
        if self
            .subscriber
            .run_with_timeout(REQUEST_BUDGET, self.subscriber.client_with_timeout(REQUEST_BUDGET).subscribe(channels))
            .await
            .is_ok()
        {
            self.subscribed.lock().extend(ids);
        }
    }

    /// Leaves the channels of sessions that are not here any more.
    pub(super) async fn unsubscribe_gone(&self, sessions: &[Arc<Session>]) {
        let here: HashSet<SessionId> = sessions.iter().map(|session| session.id()).collect();
        let gone: Vec<SessionId> = self.subscribed.lock().difference(&here).copied().collect();
        if gone.is_empty() {
            return;
        }
        let channels: Vec<String> = gone.iter().map(|id| self.channel(*id)).collect();
        if self
            .subscriber
            .run_with_timeout(
                BACKGROUND_BUDGET,
                self.subscriber.client_with_timeout(BACKGROUND_BUDGET).unsubscribe(channels),
            )
            .await
            .is_ok()
        {
            self.subscribed.lock().retain(|id| here.contains(id));
            // What Redis does not hear of expires there.
            join_all(gone.into_iter().map(|id| self.registry.remove_replica(id))).await;
        }
    }

    /// Receives messages of other nodes until the connection is closed for good.
    pub(super) async fn receive_messages(&self) {
        let client = self.subscriber.client();
        let (mut messages, mut connected) = (client.message_rx(), client.reconnect_rx());
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Ok(message) => self.dispatch(message),
                    Err(RecvError::Lagged(count)) => {
                        self.missed_messages.store(true, Ordering::Relaxed);
                        self.metrics().overflows.inc_by(count);
                    }
                    Err(RecvError::Closed) => return,
                },
                // A new connection knows nothing of subscriptions.
                Ok(_) = connected.recv() => {
                    self.subscribed.lock().clear();
                    self.missed_messages.store(true, Ordering::Relaxed);
                    self.heartbeat_now.notify_one();
                }
            }
        }
    }

    fn dispatch(&self, message: Published) {
        let id = message.channel.rsplit_once(':').and_then(|(_, id)| id.parse::<SessionId>().ok());
        let envelope = message.value.convert::<Bytes>().ok().and_then(ReplicaEnvelope::decode);
        let (Some(id), Some(envelope)) = (id, envelope) else { return };
        let ours = envelope.to == NodeId::ALL || envelope.to == self.node;
        let session = self.context.sessions.get(id).filter(|session| session.incarnation() == envelope.incarnation);
        let Some(session) = session.filter(|_| ours && envelope.from != self.node) else { return };
        self.metrics().replica_messages.with_label_values(&["in"]).inc();
        let now = self.now();
        match envelope.message {
            ReplicaMessage::Control(ControlMessage::Metadata { song, thumb, cover }) => {
                self.apply_metadata(&session, &song, thumb.as_ref(), cover)
            }
            ReplicaMessage::Control(ControlMessage::Ended { reason }) => session.end_remotely(reason, now),
            message => session.receive_message(envelope.from, message, now),
        }
    }

    /// Takes metadata that another node was sent, with its cover if that is new.
    fn apply_metadata(&self, session: &Session, song: &str, thumb: Option<&String>, cover: Option<String>) {
        let now = self.now();
        let known = session.metadata(now).and_then(|song| song.cover.clone());
        // A cover goes along when it changes; otherwise this node has it already.
        let same = known.filter(|picture| Some(&picture.tag) == thumb);
        let picture = same.or_else(|| CoverImage::new(cover?).ok());
        if let Ok(song) =
            SongMetadata::from_slim_json(song.as_bytes(), picture, now + METADATA_LIFE, &|tag| session.sign_cover(tag))
        {
            session.set_remote_metadata(song);
        }
    }

    /// Returns the channel of a session.
    pub(super) fn channel(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::SessionChannel { id: &id.to_string() })
    }
}
