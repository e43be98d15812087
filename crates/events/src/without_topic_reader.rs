//! The place of the reader of topics in a build without the feature `kafka`, where the configuration is refused for one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::settings::KafkaSettings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;

/// Use of a message's body: true where it is done, false where it is to be tried again later.
pub type UseMessage = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, bool> + Send + Sync>;

/// Topic that nobody reads.
pub struct TopicReader {
    /// The brokers.
    pub brokers: KafkaSettings,
    /// The topic.
    pub topic: Arc<str>,
    /// Age of the oldest message that is read after a start.
    pub replay: Duration,
    /// Gets each message.
    pub use_message: UseMessage,
    /// The time.
    pub clock: Clock,
}

impl TopicReader {
    /// Reads nothing.
    pub fn start(self, _: &BackgroundTasks) {}
}
