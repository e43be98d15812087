//! Feeds of queues: who follows a channel's queue is told what is in it after each change, on whatever node that was made.
//!
//! A change is told as "changed" and no more: the node reads the queue once for all who listen there, so that nothing that is
//! lost, late or told twice can show a queue that never was.

mod relay;
pub mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::channel::ChannelId;
use crate::queue::estimate::EstimatedItem;
use crate::service::ChannelService;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use relay::FeedRelay;
use server_kit::limit::stream_limits::{StreamLimits, StreamPermit, StreamRefusal};
use server_kit::redis::Redis;

/// Shortest time between two readings of a queue.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// Most streams on a node.
const MAX_STREAMS: usize = 10_000;
/// Most streams of a user on a node.
const MAX_STREAMS_PER_USER: usize = 20;

/// Items of a queue in their order, as they were read.
pub type QueueItems = Arc<Vec<EstimatedItem>>;

/// Feeds of all channels. Clones share them.
#[derive(Clone)]
pub struct QueueFeeds(Arc<FeedState>);

struct FeedState {
    feeds: Vec<QueueFeed>,
    limits: StreamLimits,
    /// The other nodes, where there may be some.
    relay: Option<FeedRelay>,
}

struct QueueFeed {
    channel: ChannelId,
    changed: Notify,
    latest: watch::Sender<QueueItems>,
}

impl QueueFeeds {
    /// Creates the feeds of `channels`, which nobody follows yet.
    pub fn new(channels: &[ChannelId], redis: Option<Redis>) -> Self {
        let feed = |channel: &ChannelId| QueueFeed {
            channel: channel.clone(),
            changed: Notify::new(),
            latest: watch::Sender::new(QueueItems::default()),
        };
        Self(Arc::new(FeedState {
            feeds: channels.iter().map(feed).collect(),
            limits: StreamLimits::new(MAX_STREAMS, MAX_STREAMS_PER_USER),
            relay: redis.map(|redis| FeedRelay::new(redis, channels)),
        }))
    }

    /// Starts reading what has changed, until `tasks` stop.
    pub fn start(&self, service: &ChannelService, tasks: &BackgroundTasks) {
        for number in 0..self.0.feeds.len() {
            let (this, service, stopping) = (self.clone(), service.clone(), tasks.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = follow(&this.0.feeds[number], &service) => {}
                    () = stopping.stopping() => {}
                }
            });
        }
        if let Some(relay) = &self.0.relay {
            relay.start(self, tasks);
        }
    }

    /// Tells all nodes that a queue was changed; waits for nobody.
    pub fn tell_changed(&self, channel: &ChannelId) {
        self.read_anew(channel);
        if let Some(relay) = &self.0.relay {
            relay.tell(channel);
        }
    }

    /// Has this node read a queue that was changed.
    fn read_anew(&self, channel: &ChannelId) {
        self.0.feeds.iter().filter(|feed| feed.channel == *channel).for_each(|feed| feed.changed.notify_one());
    }

    /// Has this node read all queues: it may have missed something.
    fn read_all_anew(&self) {
        self.0.feeds.iter().for_each(|feed| feed.changed.notify_one());
    }

    /// Takes a place for a stream of `user`.
    pub fn admit(&self, user: &UserId) -> Result<StreamPermit, StreamRefusal> {
        self.0.limits.admit(user)
    }

    /// Returns what is read of a queue from now on; `None` where there is no such channel.
    pub fn subscribe(&self, channel: &ChannelId) -> Option<watch::Receiver<QueueItems>> {
        let feed = self.0.feeds.iter().find(|feed| feed.channel == *channel)?;
        let mut latest = feed.latest.subscribe();
        latest.mark_unchanged();
        Some(latest)
    }
}

/// Reads a queue after each change, where somebody follows it.
async fn follow(feed: &QueueFeed, service: &ChannelService) {
    loop {
        feed.changed.notified().await;
        // Who begins to follow it reads it without this.
        if feed.latest.receiver_count() == 0 {
            continue;
        }
        match service.list(&feed.channel).await {
            Ok(items) => drop(feed.latest.send_replace(Arc::new(items))),
            // It is read again soon.
            Err(_) => feed.changed.notify_one(),
        }
        sleep(MIN_INTERVAL).await;
    }
}
