//! Messages that others publish: a topic of Kafka, which each node reads on its own. A build without the feature `kafka` reads
//! none, and refuses a configuration with one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::settings::KafkaSettings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;

/// Use of a message's body: true where it is done, false where it is to be tried again later.
pub type UseMessage = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, bool> + Send + Sync>;

/// Topic to be read.
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
    /// Reads until `tasks` stop. Waits for nothing.
    #[cfg(feature = "kafka")]
    pub fn start(self, tasks: &BackgroundTasks) {
        tasks.spawn(self.run(tasks.clone()));
    }

    /// Reads nothing.
    #[cfg(not(feature = "kafka"))]
    pub fn start(self, _: &BackgroundTasks) {}
}
