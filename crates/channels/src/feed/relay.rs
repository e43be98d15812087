//! Changes of queues between nodes, by a channel of Redis for each queue. A node that was cut off reads all queues anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{EventInterface, PubsubInterface};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use super::QueueFeeds;
use crate::channel::ChannelId;
use primitives::lifecycle::BackgroundTasks;
use server_kit::redis::Redis;
use server_kit::redis::keys::{QueueKeyPart, RedisKey};

/// Timeout of publishing.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Connection to the other nodes. Clones share it.
#[derive(Clone)]
pub struct FeedRelay {
    redis: Redis,
    channels: Arc<[(ChannelId, String)]>,
    /// Queues of whose change the other nodes are not told yet.
    untold: Arc<UntoldChanges>,
}

#[derive(Default)]
struct UntoldChanges {
    channels: Mutex<BTreeSet<usize>>,
    added: Notify,
}

impl UntoldChanges {
    /// Takes one out, before it is told: a change from now on is told again.
    fn take(&self) -> Option<usize> {
        self.channels.lock().pop_first()
    }
}

impl FeedRelay {
    /// Creates the connection for these channels.
    pub fn new(redis: Redis, channels: &[ChannelId]) -> Self {
        let name = |channel: &ChannelId| {
            let key = RedisKey::Queue { channel: channel.as_str(), part: QueueKeyPart::Events };
            (channel.clone(), redis.key(key))
        };
        let channels = channels.iter().map(name).collect();
        Self { redis, channels, untold: Arc::default() }
    }

    /// Starts telling the other nodes and hearing them, until `tasks` stop.
    pub fn start(&self, feeds: &QueueFeeds, tasks: &BackgroundTasks) {
        let (telling, stopping) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = telling.publish_changes() => {}
                () = stopping.stopping() => {}
            }
        });
        let (hearing, feeds, stopping) = (self.clone(), feeds.clone(), tasks.clone());
        tasks.spawn(async move {
            let subscriber = hearing.redis.with_own_connections();
            tokio::select! {
                () = hearing.receive(&subscriber, &feeds) => {}
                () = stopping.stopping() => {}
            }
            // A client that is not connected any more needs no farewell.
            let _ = subscriber.close(SUBSCRIBE_TIMEOUT).await;
        });
    }

    /// Has the other nodes told that a queue was changed.
    pub fn tell(&self, channel: &ChannelId) {
        let Some(number) = self.channels.iter().position(|(known, _)| known == channel) else { return };
        self.untold.channels.lock().insert(number);
        self.untold.added.notify_one();
    }

    async fn publish_changes(&self) {
        loop {
            self.untold.added.notified().await;
            while let Some(number) = self.untold.take() {
                let client = self.redis.client_with_timeout(PUBLISH_TIMEOUT);
                let publish = client.publish::<(), _, _>(self.channels[number].1.clone(), "changed");
                if self.redis.run_with_timeout(PUBLISH_TIMEOUT, publish).await.is_err() {
                    self.untold.channels.lock().insert(number);
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    async fn receive(&self, subscriber: &Redis, feeds: &QueueFeeds) {
        let client = subscriber.client();
        let (mut messages, mut connected) = (client.message_rx(), client.reconnect_rx());
        loop {
            self.subscribe(subscriber).await;
            // Queues may have been changed before the subscription.
            feeds.read_all_anew();
            loop {
                tokio::select! {
                    message = messages.recv() => match message {
                        Ok(message) => {
                            let channels = self.channels.iter().filter(|(_, name)| *name == *message.channel);
                            channels.for_each(|(channel, _)| feeds.read_anew(channel));
                        }
                        Err(RecvError::Lagged(_)) => feeds.read_all_anew(),
                        Err(RecvError::Closed) => return,
                    },
                    // A new connection knows nothing of subscriptions.
                    _ = connected.recv() => break,
                }
            }
        }
    }

    async fn subscribe(&self, subscriber: &Redis) {
        let names: Vec<String> = self.channels.iter().map(|(_, name)| name.clone()).collect();
        loop {
            let client = subscriber.client_with_timeout(SUBSCRIBE_TIMEOUT);
            let subscribed = subscriber.run_with_timeout(SUBSCRIBE_TIMEOUT, client.subscribe(names.clone())).await;
            if subscribed.is_ok() {
                return;
            }
            sleep(RETRY_INTERVAL).await;
        }
    }
}
