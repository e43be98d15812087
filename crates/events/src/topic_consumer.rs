//! Messages that others publish: a topic of Kafka, read by each node on its own, from a while ago on. There is no group and
//! no committed offset: every node sees every message, and after a start once more those of the last while.
//!
//! A broker that is away, or was never there, is waited for; so is a topic that nobody has made yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::spawn_blocking;

use super::kafka::{QuietClientContext, connection};
use super::topic_reader::TopicReader;
use primitives::clock::monotonic_now;
use primitives::failure_log::FailureLog;
use primitives::lifecycle::BackgroundTasks;

/// Time for Kafka to answer a question; the process's end may have to wait for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// First and longest wait before another try.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Interval at which the topic's partitions are counted again.
const PARTITIONS_INTERVAL: Duration = Duration::from_secs(60);
/// Wait before a message that could not be used is tried again.
const MESSAGE_WAIT: Duration = Duration::from_millis(500);

/// Consumer whose own lines stay out of the log.
type TopicConsumer = StreamConsumer<QuietClientContext>;
/// Offsets of the messages that come next, by partition.
type Offsets = BTreeMap<i32, i64>;

impl TopicReader {
    /// Reads until `tasks` stop.
    pub(crate) async fn run(self, tasks: BackgroundTasks) {
        let failures = FailureLog::default();
        let (mut next, mut wait) = (Offsets::new(), WAITS.0);
        while !tasks.is_stopping() {
            match self.read(&mut next, &tasks, &failures).await {
                Ok(()) => wait = WAITS.0,
                Err(error) => {
                    self.log_failure(&failures, &error);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = tasks.stopping() => {}
                    }
                    wait = (wait * 2).min(WAITS.1);
                }
            }
        }
    }

    /// Makes a consumer and reads with it.
    async fn read(&self, next: &mut Offsets, tasks: &BackgroundTasks, failures: &FailureLog) -> Result<(), String> {
        let consumer: Arc<TopicConsumer> =
            Arc::new(self.config().create_with_context(QuietClientContext).map_err(text)?);
        let outcome = self.read_with(&consumer, next, tasks, failures).await;
        // Its end may wait for a broker.
        let _ = spawn_blocking(move || drop(consumer)).await;
        outcome
    }

    /// Reads until the topic has other partitions, or something fails that does not mend by itself.
    async fn read_with(
        &self,
        consumer: &Arc<TopicConsumer>,
        next: &mut Offsets,
        tasks: &BackgroundTasks,
        failures: &FailureLog,
    ) -> Result<(), String> {
        let count = self.assign(consumer, next).await?;
        let mut looks = tokio::time::interval(PARTITIONS_INTERVAL);
        looks.tick().await;
        loop {
            tokio::select! {
                biased;
                () = tasks.stopping() => return Ok(()),
                _ = looks.tick() => {
                    // One that does not answer now has not changed.
                    if self.partitions(consumer).await.is_ok_and(|now| now.len() != count) {
                        return Ok(());
                    }
                }
                message = consumer.recv() => {
                    let message = message.map(|message| {
                        (message.payload().unwrap_or_default().to_vec(), message.partition(), message.offset())
                    });
                    match message {
                        Ok((body, partition, offset)) => {
                            if failures.is_over(monotonic_now()) {
                                tracing::info!(topic = &*self.topic, "a topic of Kafka is read again");
                            }
                            if !self.is_used(body, tasks).await {
                                return Ok(());
                            }
                            next.insert(partition, offset + 1);
                        }
                        Err(error) if is_passing(&error) => self.log_failure(failures, &text(error)),
                        // The topic may be another one of that name.
                        Err(error) => {
                            next.clear();
                            return Err(text(error));
                        }
                    }
                }
            }
        }
    }

    fn log_failure(&self, failures: &FailureLog, error: &str) {
        if failures.is_news(error, monotonic_now()) {
            tracing::warn!(topic = &*self.topic, error, "a topic of Kafka cannot be read");
        }
    }

    /// Has a message used, again and again where that fails; false if the process stops meanwhile.
    async fn is_used(&self, body: Vec<u8>, tasks: &BackgroundTasks) -> bool {
        while !(self.use_message)(body.clone()).await {
            tokio::select! {
                () = tokio::time::sleep(MESSAGE_WAIT) => {}
                () = tasks.stopping() => return false,
            }
        }
        true
    }

    /// Assigns all partitions, each from where it was read to, else from [`TopicReader::replay`] ago; returns their number.
    async fn assign(&self, consumer: &Arc<TopicConsumer>, next: &mut Offsets) -> Result<usize, String> {
        let partitions = self.partitions(consumer).await?;
        let since = (self.clock.unix_millis() - self.replay).as_millis();
        let (consumer, topic, known) = (Arc::clone(consumer), Arc::clone(&self.topic), next.clone());
        let found = spawn_blocking(move || -> Result<Offsets, KafkaError> {
            let mut times = TopicPartitionList::new();
            for partition in partitions.iter().filter(|partition| !known.contains_key(partition)) {
                times.add_partition_offset(&topic, *partition, Offset::Offset(since))?;
            }
            let mut offsets = known;
            if times.count() > 0 {
                // Before the question by time: what is published between the two is read.
                let mut ends = Offsets::new();
                for element in times.elements() {
                    let partition = element.partition();
                    ends.insert(partition, consumer.fetch_watermarks(&topic, partition, ANSWER_TIMEOUT)?.1);
                }
                for element in consumer.offsets_for_times(times, ANSWER_TIMEOUT)?.elements() {
                    match element.offset() {
                        Offset::Offset(offset) => offsets.insert(element.partition(), offset),
                        // None is as young: the next one that comes.
                        _ => ends
                            .remove_entry(&element.partition())
                            .and_then(|(partition, end)| offsets.insert(partition, end)),
                    };
                }
            }
            let mut assigned = TopicPartitionList::new();
            for (partition, offset) in &offsets {
                assigned.add_partition_offset(&topic, *partition, Offset::Offset(*offset))?;
            }
            consumer.assign(&assigned)?;
            Ok(offsets)
        });
        *next = found.await.map_err(|error| error.to_string())?.map_err(text)?;
        Ok(next.len())
    }

    async fn partitions(&self, consumer: &Arc<TopicConsumer>) -> Result<Vec<i32>, String> {
        let (consumer, topic) = (Arc::clone(consumer), Arc::clone(&self.topic));
        let metadata = spawn_blocking(move || {
            let metadata = consumer.fetch_metadata(Some(&topic), ANSWER_TIMEOUT)?;
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            Ok::<Vec<i32>, KafkaError>(partitions.map(|partition| partition.id()).collect())
        });
        let partitions = metadata.await.map_err(|error| error.to_string())?.map_err(text)?;
        if partitions.is_empty() { Err("Kafka: there is no such topic".to_owned()) } else { Ok(partitions) }
    }

    fn config(&self) -> rdkafka::ClientConfig {
        let mut config = connection(&self.brokers);
        for (name, value) in [
            // Needed for a queue of its own; nothing joins it, since the partitions are assigned here.
            ("group.id", "tidegate"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "latest"),
            // Messages are short: one user's id each.
            ("fetch.message.max.bytes", "65536"),
            ("queued.max.messages.kbytes", "1024"),
        ] {
            config.set(name, value);
        }
        config
    }
}

impl ConsumerContext for QuietClientContext {}

/// Returns the words for an error, without hosts.
fn text(error: KafkaError) -> String {
    error
        .rdkafka_error_code()
        .map_or_else(|| "Kafka: the client cannot be used".to_owned(), |code| format!("Kafka: {code}"))
}

/// Returns true for what librdkafka mends by itself.
fn is_passing(error: &KafkaError) -> bool {
    let passing = [
        RDKafkaErrorCode::AllBrokersDown,
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::OperationTimedOut,
        RDKafkaErrorCode::Resolve,
        RDKafkaErrorCode::LeaderNotAvailable,
        RDKafkaErrorCode::NotLeaderForPartition,
        RDKafkaErrorCode::RequestTimedOut,
    ];
    error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
}
