//! Events that leave the process: to Kafka, or to a file of JSON Lines.
//!
//! Whoever publishes waits until the event is written to the outbox, a bounded table on this machine's disk, and never
//! for the broker; one task delivers from there to the sink, in order. At least once: an event that was acknowledged
//! arrives, after `kill -9` and after an outage of the broker too, and now and then it arrives twice, with the same id.
//! Knows nothing of the contents of events. Beside that it
//! reads topics that others publish to ([`topic_reader`]).

mod delivery;
mod file_sink;
mod former_outbox;
#[cfg_attr(not(feature = "kafka"), path = "without_kafka.rs")]
mod kafka;
mod metrics;
mod outbox;
pub mod settings;
#[cfg(feature = "kafka")]
mod topic_consumer;
pub mod topic_reader;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use prometheus::Registry;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::{NoContext, Timestamp, Uuid};

pub use former_outbox::OutboxHolder;
pub use kafka::check as check_kafka;
use metrics::{DropReason, EventMetrics};
use outbox::Outbox;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use settings::Settings;

/// Most publications that wait to be written.
const QUEUE_CAPACITY: usize = 4096;
/// Most bytes of the publications that wait to be written.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Time for the outbox's disk to take an event.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A fact that leaves the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its id (UUID v7), the same however often it arrives.
    pub id: String,
    /// The topic that it belongs to.
    pub topic: Arc<str>,
    /// The version of its body's form.
    pub schema: u16,
    /// Ordering key: events of one key arrive in their order.
    pub key: String,
    /// The body, which is delivered to the byte.
    pub body: Box<RawValue>,
}

impl Event {
    /// Makes an event in version 1 of its topic's form. Fails where `body` has no JSON form.
    pub fn new(id: Uuid, topic: Arc<str>, key: &str, body: &impl Serialize) -> Result<Self, serde_json::Error> {
        let body = serde_json::value::to_raw_value(body)?;
        Ok(Self { id: id.to_string(), topic, schema: 1, key: key.to_owned(), body })
    }

    /// Returns the event as a line of JSON, without the line end.
    fn to_json_line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers have a JSON form")
    }
}

/// Returns the id of an event that happened at `at`, a UUID v7: later ones sort later.
pub fn event_id(at: UnixMillis) -> Uuid {
    let since = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or_default());
    Uuid::new_v7(Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos()))
}

/// Reason why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The outbox is full.
    #[error("the outbox is full: more events wait to be delivered than Events.Outbox.Size holds")]
    Full,
    /// The outbox cannot be written.
    #[error("the outbox cannot be written: {0}")]
    Disk(Arc<str>),
    /// More publications are waiting than are kept.
    #[error("the outbox's disk does not keep up")]
    Busy,
}

impl From<PublishError> for DropReason {
    fn from(refused: PublishError) -> Self {
        match refused {
            PublishError::Full => Self::Full,
            PublishError::Disk(_) => Self::Disk,
            PublishError::Busy => Self::Busy,
        }
    }
}

/// Reason why the publisher cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EventsOpenError {
    /// The outbox cannot be opened.
    #[error("the outbox (Events.Outbox.Path) cannot be opened: {0}")]
    Outbox(#[from] outbox::OutboxError),
    /// The file cannot be opened.
    #[error("the file of events (Events.File) cannot be opened: {0}")]
    File(#[source] io::Error),
    /// librdkafka refuses the settings.
    #[cfg(feature = "kafka")]
    #[error("the client of Kafka (Events.Kafka) cannot be made: {0}")]
    Kafka(#[source] rdkafka::error::KafkaError),
    /// A build without Kafka's client.
    #[cfg(not(feature = "kafka"))]
    #[error("this Tidegate is built without `kafka` (Events.Kafka)")]
    NoKafka,
    /// The metrics cannot be registered.
    #[error("the metrics of events cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A destination of events.
#[async_trait]
trait EventSink: Send {
    /// Delivers `events` in order. An error says how many of them were delivered.
    async fn deliver(&mut self, events: &[Event]) -> Result<(), DeliveryError>;

    /// Opens its files anew, where it has any: somebody has moved them away.
    async fn reopen(&mut self) {}
}

/// Not all of a batch could be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DeliveryError {
    /// Number of the batch's first events that are delivered.
    delivered: usize,
    /// True where the event after them can never be delivered.
    is_permanent: bool,
    /// Cause, without names of hosts.
    cause: String,
}

/// The sink, and for Kafka the flag that says whether it answers.
type OpenedSink = (Box<dyn EventSink>, Option<Arc<AtomicBool>>);

fn open_sink(settings: &settings::SinkSettings, tasks: &BackgroundTasks) -> Result<OpenedSink, EventsOpenError> {
    Ok(match settings {
        settings::SinkSettings::File(file) => {
            (Box::new(file_sink::FileSink::open(file).map_err(EventsOpenError::File)?), None)
        }
        settings::SinkSettings::Kafka(kafka) => {
            let (sink, reachable) = kafka::open(kafka, tasks)?;
            (sink, Some(reachable))
        }
    })
}

/// Publishes events. Clones use the same outbox.
#[derive(Clone)]
pub struct EventPublisher {
    queue: mpsc::Sender<AppendRequest>,
    /// Bytes that may still come into the queue.
    free_bytes: Arc<Semaphore>,
    /// Wakes the delivery.
    written: Arc<Notify>,
    reopen: Arc<AtomicBool>,
    metrics: EventMetrics,
    /// Set where Kafka answers; `None` where events go to a file. Empty until the sink is open.
    reachable: Option<Arc<OnceLock<Arc<AtomicBool>>>>,
}

/// Events that wait to be written to the outbox.
struct AppendRequest {
    /// Lines of JSON.
    events: Vec<String>,
    bytes: u64,
    done: oneshot::Sender<Result<(), PublishError>>,
    _room: OwnedSemaphorePermit,
}

impl EventPublisher {
    /// Opens the outbox and begins to deliver what waits there; `tasks` must outlive whoever publishes. Fails where the
    /// outbox or the sink cannot be opened, or the metrics are registered already.
    pub async fn open(
        settings: &Settings,
        tasks: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Self, EventsOpenError> {
        let (this, mut opening) = Self::new(settings, tasks, registry)?;
        let (outbox, sink) = former_outbox::open(settings, &opening.metrics, tasks).await?;
        opening.set_reachable(sink.1);
        tasks.spawn(opening.run(outbox, sink.0, None));
        Ok(this)
    }

    /// Makes the publisher of a process that replaces `holder`, which has the outbox until it ends. Fails where the
    /// metrics are registered already.
    pub fn open_after(
        settings: &Settings,
        mut holder: Box<dyn OutboxHolder>,
        tasks: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Self, EventsOpenError> {
        let (this, mut opening) = Self::new(settings, tasks, registry)?;
        let settings = settings.clone();
        tasks.spawn(async move {
            let kept = former_outbox::forward(&mut opening.publications, &mut *holder, &opening.tasks).await;
            // Where shutdown has begun meanwhile, the outbox stays to the other process or to the next start.
            if let Some((outbox, sink)) = former_outbox::take_over(&settings, &opening.metrics, &opening.tasks).await {
                opening.set_reachable(sink.1);
                opening.run(outbox, sink.0, kept).await;
            }
        });
        Ok(this)
    }

    fn new(
        settings: &Settings,
        tasks: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<(Self, OpeningPublisher), EventsOpenError> {
        let (name, reachable) = match &settings.sink {
            settings::SinkSettings::File(_) => ("file", None),
            settings::SinkSettings::Kafka(_) => ("kafka", Some(Arc::default())),
        };
        let metrics = EventMetrics::new(registry, name)?;
        let (queue, publications) = mpsc::channel(QUEUE_CAPACITY);
        let (written, reopen) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let this = Self {
            queue,
            free_bytes: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
            written: Arc::clone(&written),
            reopen: Arc::clone(&reopen),
            metrics: metrics.clone(),
            reachable: reachable.clone(),
        };
        Ok((this, OpeningPublisher { publications, written, reopen, metrics, reachable, tasks: tasks.clone() }))
    }

    /// Takes all of `events` or none; returns once they survive the end of the process. Fails where the outbox is full
    /// or cannot be written, and as [`PublishError::Busy`] where that takes longer than 5 seconds: then they may still
    /// have been written.
    pub async fn publish(&self, events: &[Event]) -> Result<(), PublishError> {
        self.publish_lines(events.iter().map(Event::to_json_line).collect()).await
    }

    /// As [`EventPublisher::publish`], of events in the form that the outbox has: a line of JSON each.
    pub async fn publish_lines(&self, events: Vec<String>) -> Result<(), PublishError> {
        let written = self.enqueue(events)?;
        match tokio::time::timeout(APPEND_TIMEOUT, written).await {
            Ok(Ok(outcome)) => outcome,
            // Only at the end of the process is there nobody to say it.
            Ok(Err(_)) | Err(_) => Err(PublishError::Busy),
        }
    }

    /// Returns true where no more events are taken: shutdown has begun.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Publishes an event that nobody waits for: where it cannot be taken it is lost, and counted.
    pub async fn publish_or_drop(&self, event: Event) {
        self.publish_all_or_drop(&[event]).await;
    }

    /// Publishes events that nobody waits for, all of them or none.
    pub async fn publish_all_or_drop(&self, events: &[Event]) {
        if let Err(refused) = self.publish(events).await {
            self.metrics.record_dropped(refused.into(), events.len() as u64);
        }
    }

    /// Counts `count` events that were lost before they could be offered: more happened than could wait.
    pub fn record_lost(&self, count: u64) {
        self.metrics.record_dropped(DropReason::Busy, count);
    }

    /// Opens the file of events anew, where there is one: somebody has moved it away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
        self.written.notify_one();
    }

    /// Returns true where Kafka answers; `None` where events go to a file.
    pub fn reaches_kafka(&self) -> Option<bool> {
        // Until the sink is open it is another process that delivers.
        self.reachable.as_ref().map(|sink| sink.get().is_none_or(|reachable| reachable.load(Ordering::Relaxed)))
    }

    fn enqueue(&self, events: Vec<String>) -> Result<oneshot::Receiver<Result<(), PublishError>>, PublishError> {
        let bytes = events.iter().map(String::len).sum::<usize>();
        // Permits are counted in `u32`; so large a publication would not fit in any case.
        let permits = u32::try_from(bytes).map_err(|_| PublishError::Full)?;
        // Not waited for: where the disk does not keep up, publications must not pile up in memory.
        let room = Arc::clone(&self.free_bytes).try_acquire_many_owned(permits).map_err(|_| PublishError::Busy)?;
        let (done, written) = oneshot::channel();
        let append = AppendRequest { events, bytes: bytes as u64, done, _room: room };
        self.queue.try_send(append).map_err(|_| PublishError::Busy)?;
        Ok(written)
    }
}

/// A publisher whose outbox is not open yet.
struct OpeningPublisher {
    publications: mpsc::Receiver<AppendRequest>,
    written: Arc<Notify>,
    reopen: Arc<AtomicBool>,
    metrics: EventMetrics,
    reachable: Option<Arc<OnceLock<Arc<AtomicBool>>>>,
    tasks: BackgroundTasks,
}

impl OpeningPublisher {
    fn set_reachable(&mut self, flag: Option<Arc<AtomicBool>>) {
        if let (Some(reachable), Some(flag)) = (&self.reachable, flag) {
            reachable.get_or_init(|| flag);
        }
    }

    /// Writes what is published, `first` before it, and delivers it, until shutdown.
    async fn run(self, outbox: Outbox, sink: Box<dyn EventSink>, first: Option<AppendRequest>) {
        let Self { publications, written, reopen, metrics, tasks, .. } = self;
        let outbox = Arc::new(outbox);
        let writer = delivery::OutboxWriter::new(Arc::clone(&outbox), publications, Arc::clone(&written));
        let sender = delivery::EventDelivery::new(Arc::clone(&outbox), sink, written, reopen, metrics);
        let watch = delivery::watch_files(Arc::clone(&outbox), tasks.clone());
        // Closed after all three: each of them uses the files until its end.
        tokio::join!(writer.run(first, tasks.clone()), sender.run(tasks.clone()), watch);
        outbox.close().await;
    }
}
