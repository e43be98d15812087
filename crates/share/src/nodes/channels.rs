//! What nodes say to each other: the channels of the sessions that are here, what is heard on them, and what has to be said
//! again after a time without the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::Message as Published;
use futures::future::join_all;
use tokio::sync::broadcast::error::RecvError;

use super::Nodes;
use super::book::{BUDGET, LEISURE};
use super::link::Link;
use super::wire::{Letter, Message, NodeId, Word};
use crate::id::SessionId;
use crate::metadata::{LIFE, Metadata, Picture};
use crate::session::Session;
use server_kit::redis::keys::RedisKey;

impl Nodes {
    /// After a time without the others: what was said meanwhile. Who is the last to be back asks and tells all.
    pub(super) fn exchange(&self, sessions: &[Arc<Session>]) {
        let lost = self.means.shared.link.as_ref().is_some_and(Link::take_lost);
        if lost {
            self.apart.store(true, Ordering::Relaxed);
        }
        let subscribed = {
            let subscribed = self.subscribed.lock();
            sessions.iter().all(|session| subscribed.contains(&session.id()))
        };
        if subscribed && !self.away.load(Ordering::Relaxed) && self.apart.swap(false, Ordering::Relaxed) {
            sessions.iter().filter(|session| session.ended().is_none()).for_each(|session| session.exchange_chat());
        }
    }

    /// Hears of these sessions from now on.
    pub(super) async fn subscribe_to(&self, sessions: &[Arc<Session>]) {
        let new: Vec<SessionId> = {
            let subscribed = self.subscribed.lock();
            sessions.iter().map(|session| session.id()).filter(|id| !subscribed.contains(id)).collect()
        };
        if !new.is_empty() {
            self.subscribe(&new).await;
        }
    }

    /// Hears of the sessions of these ids. What fails is tried again in the next round.
    pub(super) async fn subscribe(&self, ids: &[SessionId]) {
        let channels: Vec<String> = ids.iter().map(|id| self.channel(*id)).collect();
        if self
            .subscriber
            .run_with_timeout(BUDGET, self.subscriber.client_with_timeout(BUDGET).subscribe(channels))
            .await
            .is_ok()
        {
            self.subscribed.lock().extend(ids);
        }
    }

    /// Leaves the channels of sessions that are not here any more.
    pub(super) async fn leave(&self, sessions: &[Arc<Session>]) {
        let here: HashSet<SessionId> = sessions.iter().map(|session| session.id()).collect();
        let gone: Vec<SessionId> = self.subscribed.lock().difference(&here).copied().collect();
        if gone.is_empty() {
            return;
        }
        let channels: Vec<String> = gone.iter().map(|id| self.channel(*id)).collect();
        if self
            .subscriber
            .run_with_timeout(LEISURE, self.subscriber.client_with_timeout(LEISURE).unsubscribe(channels))
            .await
            .is_ok()
        {
            self.subscribed.lock().retain(|id| here.contains(id));
            // What Redis does not hear of expires there.
            join_all(gone.into_iter().map(|id| self.book.leave(id))).await;
        }
    }

    /// Hears what other nodes say.
    pub(super) async fn listen(&self) {
        let client = self.subscriber.client();
        let (mut messages, mut connected) = (client.message_rx(), client.reconnect_rx());
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Ok(message) => self.heard(message),
                    Err(RecvError::Lagged(count)) => {
                        self.apart.store(true, Ordering::Relaxed);
                        self.metrics().overflows.inc_by(count);
                    }
                    Err(RecvError::Closed) => return,
                },
                // A new connection knows nothing of subscriptions.
                Ok(_) = connected.recv() => {
                    self.subscribed.lock().clear();
                    self.apart.store(true, Ordering::Relaxed);
                    self.again.notify_one();
                }
            }
        }
    }

    fn heard(&self, message: Published) {
        let id = message.channel.rsplit_once(':').and_then(|(_, id)| id.parse::<SessionId>().ok());
        let letter = message.value.convert::<Bytes>().ok().and_then(Letter::read);
        let (Some(id), Some(letter)) = (id, letter) else { return };
        let ours = letter.to == NodeId::ALL || letter.to == self.node;
        let session = self.means.registry.get(id).filter(|session| session.incarnation() == letter.incarnation);
        let Some(session) = session.filter(|_| ours && letter.from != self.node) else { return };
        self.metrics().crossed.with_label_values(&["in"]).inc();
        let now = self.now();
        match letter.message {
            Message::Word(Word::Song { song, thumb, cover }) => self.sing(&session, &song, thumb.as_ref(), cover),
            Message::Word(Word::Ended { reason }) => session.end_elsewhere(reason, now),
            message => session.receive(letter.from, message, now),
        }
    }

    /// A song that another node was told, with its cover if that is new.
    fn sing(&self, session: &Session, song: &str, thumb: Option<&String>, cover: Option<String>) {
        let now = self.now();
        let known = session.metadata(now).and_then(|song| song.picture.clone());
        let same = known.filter(|picture| Some(&picture.tag) == thumb);
        let picture = same.or_else(|| Picture::new(cover?).ok());
        if let Ok(song) = Metadata::from_slim(song.as_bytes(), picture, now + LIFE, &|tag| session.cover(tag)) {
            session.sing(song);
        }
    }

    /// The channel of a session.
    pub(super) fn channel(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::SessionChannel { id: &id.to_string() })
    }
}
