//! Events between nodes, by one channel of Redis. A node that was cut off, or was told more than it could take, has its
//! listeners read everything anew; so do those of users of whom something could not be told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{EventInterface, PubsubInterface};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::channel::{ChannelId, PlayerKey};
use super::event_hub::{EventHub, EventKind};
use super::metrics::PlayerMetrics;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::event_stream::event_frame;
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// Timeout of publishing: the request whose change it tells waits for it.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(200);
/// Timeout of a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between two tries to subscribe.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Shortest time between two readings of everything for messages that were too many: it is unknown whose they were, and
/// nobody shall have all be read again and again.
const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// Longest message that is taken.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Most users of whom it is kept that other nodes were not told of a change; of further ones no node learns before its next
/// reading of everything.
const MAX_MISSED_USERS: usize = 1000;
/// Kind of a message by which the listeners of its user read everything anew. No event has this name.
const READ_ANEW: &str = "read_anew";

/// Message between nodes.
#[derive(Debug, Serialize, Deserialize)]
struct RelayMessage {
    /// The node that sends it.
    node: Uuid,
    user: String,
    channel: ChannelId,
    kind: String,
    /// The event's data, one line of JSON.
    json: String,
}

/// Connection to the other nodes. Clones share it.
#[derive(Clone)]
pub struct EventRelay {
    redis: Redis,
    node: Uuid,
    metrics: PlayerMetrics,
    missed: Arc<MissedUsers>,
}

/// Users of whom the other nodes were not told something.
#[derive(Default)]
struct MissedUsers {
    users: Mutex<HashSet<UserId>>,
    added: Notify,
}

impl MissedUsers {
    fn add(&self, user: &UserId) {
        let mut users = self.users.lock();
        if users.len() < MAX_MISSED_USERS {
            users.insert(user.clone());
        }
        drop(users);
        self.added.notify_one();
    }

    fn take(&self) -> Option<UserId> {
        let mut users = self.users.lock();
        let user = users.iter().next().cloned()?;
        users.take(&user)
    }
}

impl EventRelay {
    /// Starts giving the events of other nodes to the listeners of `hub`, until `tasks` stop.
    pub fn start(redis: Redis, hub: EventHub, metrics: PlayerMetrics, tasks: &BackgroundTasks) -> Self {
        let this = Self { redis, node: Uuid::new_v4(), metrics, missed: Arc::default() };
        let (telling, stopping) = (this.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = telling.tell_of_missed() => {}
                () = stopping.stopping() => {}
            }
        });
        let (receiving, stopping) = (this.clone(), tasks.clone());
        tasks.spawn(async move {
            let subscriber = receiving.redis.with_own_connections();
            tokio::select! {
                () = receiving.receive(&subscriber, &hub) => {}
                () = stopping.stopping() => {}
            }
            // A client that is not connected any more needs no farewell.
            let _ = subscriber.close(SUBSCRIBE_TIMEOUT).await;
        });
        this
    }

    /// Tells the other nodes of an event. A failure is counted, and they are told later that there was something.
    pub async fn publish(&self, key: &PlayerKey, kind: EventKind, json: &str) {
        if !self.send(key, kind.name(), json).await {
            self.metrics.publish_failures.inc();
            self.missed.add(&key.user);
        }
    }

    /// Sends a message; returns false where it is not known to have been sent.
    async fn send(&self, key: &PlayerKey, kind: &str, json: &str) -> bool {
        let PlayerKey { user, channel } = key.clone();
        let (user, kind, json) = (user.as_str().to_owned(), kind.to_owned(), json.to_owned());
        let message = RelayMessage { node: self.node, user, channel, kind, json };
        let text = serde_json::to_string(&message).expect("texts have a JSON form");
        let client = self.redis.client_with_timeout(PUBLISH_TIMEOUT);
        let publish = client.publish::<(), _, _>(self.redis.key(RedisKey::PlayerEvents), text);
        self.redis.run_with_timeout(PUBLISH_TIMEOUT, publish).await.is_ok()
    }

    /// Tells the other nodes of the users whom they missed something of, once Redis takes it again. They read what holds:
    /// events that are sent twice or late could bring back what has changed since.
    async fn tell_of_missed(&self) {
        loop {
            self.missed.added.notified().await;
            sleep(RETRY_INTERVAL).await;
            // Taken out before it is sent: what is missed from now on is told again.
            while let Some(user) = self.missed.take() {
                let key = PlayerKey { user, channel: ChannelId::main() };
                if !self.send(&key, READ_ANEW, "").await {
                    self.missed.add(&key.user);
                    break;
                }
            }
        }
    }

    async fn receive(&self, subscriber: &Redis, hub: &EventHub) {
        let client = subscriber.client();
        let (mut messages, mut connected) = (client.message_rx(), client.reconnect_rx());
        loop {
            self.subscribe(subscriber).await;
            // Events may have been published before the subscription.
            hub.resynchronize();
            let (mut resynchronized, mut has_lagged) = (Instant::now(), false);
            loop {
                tokio::select! {
                    message = messages.recv() => match message {
                        Ok(message) => self.dispatch(&message.value, hub),
                        Err(RecvError::Lagged(_)) => has_lagged = true,
                        Err(RecvError::Closed) => return,
                    },
                    () = sleep_until(resynchronized + LAG_INTERVAL), if has_lagged => {
                        hub.resynchronize();
                        (resynchronized, has_lagged) = (Instant::now(), false);
                    }
                    // A new connection knows nothing of subscriptions.
                    _ = connected.recv() => break,
                }
            }
        }
    }

    async fn subscribe(&self, subscriber: &Redis) {
        let channel = self.redis.key(RedisKey::PlayerEvents);
        loop {
            let client = subscriber.client_with_timeout(SUBSCRIBE_TIMEOUT);
            let subscribed = subscriber.run_with_timeout(SUBSCRIBE_TIMEOUT, client.subscribe(channel.clone())).await;
            if subscribed.is_ok() {
                return;
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    fn dispatch(&self, value: &fred::types::Value, hub: &EventHub) {
        let text = value.as_bytes().filter(|text| text.len() <= MAX_MESSAGE_BYTES);
        let message = text.and_then(|text| serde_json::from_slice::<RelayMessage>(text).ok());
        let Some(RelayMessage { node, user, channel, kind, json }) = message else { return };
        // A line end would begin another event.
        let is_sound = node != self.node && !json.contains(['\n', '\r']);
        let (Some(user), true) = (UserId::parse(user), is_sound) else { return };
        if kind == READ_ANEW {
            return hub.resynchronize_user(&user);
        }
        let Some(kind) = EventKind::from_name(&kind) else { return };
        self.metrics.received.inc();
        hub.deliver(&PlayerKey { user, channel }, kind, &event_frame(kind.name(), &json));
    }
}
