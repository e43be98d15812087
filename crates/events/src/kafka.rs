//! Events to Kafka, by librdkafka: an idempotent producer (`enable.idempotence`, `acks=all`), so that what librdkafka
//! sends again by itself is there once. Event id, form and time zone are headers; the body is the body.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use tokio::task::spawn_blocking;

use super::{DeliveryError, Event, EventSink};
use super::{EventsOpenError, settings};
use primitives::lifecycle::BackgroundTasks;

/// Time between two looks whether Kafka answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// Time for Kafka to answer; the process's end may have to wait for it.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// The sink that produces to Kafka.
pub struct KafkaSink {
    config: ClientConfig,
    producer: FutureProducer<QuietClientContext>,
    topic: Arc<str>,
    reachable: Arc<AtomicBool>,
}

/// Keeps librdkafka's own lines out of the log: they name hosts, and come with every try.
#[derive(Clone)]
pub(super) struct QuietClientContext;

impl ClientContext for QuietClientContext {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, _: &str) {
        let code = error.rdkafka_error_code();
        // The watch reports that Kafka is away; these errors do not end by waiting.
        let told = [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SSL, RDKafkaErrorCode::Fatal];
        if let Some(code) = code.filter(|code| told.contains(code)) {
            tracing::error!(?code, "Kafka cannot be used: see Events.Kafka");
        }
    }
}

/// Makes the sink, and the flag that says whether a broker answers; begins to watch that. Does not wait for a broker.
/// Fails where librdkafka refuses the settings.
pub fn open(
    settings: &settings::KafkaSettings,
    tasks: &BackgroundTasks,
) -> Result<(Box<dyn EventSink>, Arc<AtomicBool>), EventsOpenError> {
    let reachable = Arc::new(AtomicBool::new(false));
    let kafka = KafkaSink::new(settings, Arc::clone(&reachable)).map_err(EventsOpenError::Kafka)?;
    tasks.spawn(kafka.watch(tasks.clone()));
    Ok((Box::new(kafka), reachable))
}

/// Checks that a broker answers within `limit`; the error is for the operator.
pub async fn check(settings: &settings::KafkaSettings, limit: Duration) -> Result<(), String> {
    let sink = KafkaSink::new(settings, Arc::default()).map_err(|error| error.to_string())?;
    let asked = spawn_blocking(move || sink.producer.client().fetch_metadata(Some(&sink.topic), limit).map(|_| ()));
    match asked.await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl KafkaSink {
    /// Makes a producer, which connects by itself; `reachable` is set by [`KafkaSink::watch`] and by deliveries. Fails
    /// where librdkafka refuses the settings.
    pub fn new(settings: &settings::KafkaSettings, reachable: Arc<AtomicBool>) -> KafkaResult<Self> {
        let config = config(settings);
        let producer = config.create_with_context(QuietClientContext)?;
        Ok(Self { config, producer, topic: Arc::clone(&settings.topic), reachable })
    }

    /// Returns the task that looks every 3 seconds, until shutdown, whether Kafka answers.
    pub fn watch(&self, tasks: BackgroundTasks) -> impl Future<Output = ()> + use<> {
        let (producer, topic, reachable) =
            (self.producer.clone(), Arc::clone(&self.topic), Arc::clone(&self.reachable));
        async move {
            let mut known = None;
            while !tasks.is_stopping() {
                let (producer, topic) = (producer.clone(), Arc::clone(&topic));
                let look =
                    spawn_blocking(move || producer.client().fetch_metadata(Some(&topic), METADATA_TIMEOUT).is_ok());
                let answers = look.await.unwrap_or(false);
                reachable.store(answers, Ordering::Relaxed);
                match (known.replace(answers), answers) {
                    (None | Some(true), false) => {
                        tracing::warn!("Kafka (Events.Kafka) does not answer: events wait in the outbox");
                    }
                    (Some(false), true) => tracing::info!("Kafka (Events.Kafka) answers again"),
                    _ => {}
                }
                tokio::select! {
                    () = tokio::time::sleep(CHECK_INTERVAL) => {}
                    () = tasks.stopping() => {}
                }
            }
        }
    }

    /// Returns the error of one event; `None` where the broker has it.
    async fn outcome(delivery: DeliveryFuture) -> Option<KafkaError> {
        match delivery.await {
            Ok(Ok(_)) => None,
            Ok(Err((error, _))) => Some(error),
            Err(_) => Some(KafkaError::Canceled),
        }
    }

    /// Makes the error of a batch whose first `delivered` events were delivered before `error`. Replaces a producer
    /// that has failed for good.
    fn undelivered(&mut self, delivered: usize, error: &KafkaError) -> DeliveryError {
        let code = error.rdkafka_error_code();
        if self.producer.client().fatal_error().is_some() {
            // A producer with a fatal error sends nothing any more.
            match self.config.create_with_context(QuietClientContext) {
                Ok(producer) => self.producer = producer,
                Err(error) => tracing::error!(code = ?error.rdkafka_error_code(), "no producer can be made"),
            }
        }
        // Sent again, these would fail again, and block all events behind them.
        let never = [RDKafkaErrorCode::MessageSizeTooLarge, RDKafkaErrorCode::InvalidMessage];
        let for_good = code.is_some_and(|code| never.contains(&code));
        let cause = code.map_or_else(|| "Kafka: the delivery was given up".to_owned(), |code| format!("Kafka: {code}"));
        DeliveryError { delivered, is_permanent: for_good, cause }
    }
}

fn config(settings: &settings::KafkaSettings) -> ClientConfig {
    let mut config = connection(settings);
    for (name, value) in [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        // As Java's producers do it: one user's events are in one partition, whoever produces them.
        ("partitioner", "murmur2_random"),
        ("compression.type", settings.compression.name()),
        ("linger.ms", "5"),
        // They wait in the outbox anyway: an outage ends when it ends, without sending anything twice.
        ("message.timeout.ms", "0"),
    ] {
        config.set(name, value);
    }
    config
}

/// Makes the part of a client's configuration by which it reaches the brokers.
pub(super) fn connection(settings: &settings::KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", settings.brokers.join(",").as_str()),
        ("client.id", "tidegate"),
        ("reconnect.backoff.ms", "100"),
        // Shorter than librdkafka's 10 s, so that delivery goes on soon after an outage.
        ("reconnect.backoff.max.ms", "1000"),
        ("socket.keepalive.enable", "true"),
    ] {
        config.set(name, value);
    }
    let protocol = match (&settings.tls, &settings.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(ca) = settings.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        config.set("ssl.ca.location", ca.to_string_lossy());
    }
    if let Some(sasl) = &settings.sasl {
        config.set("sasl.mechanism", sasl.mechanism);
        config.set("sasl.username", &sasl.username);
        config.set("sasl.password", sasl.password.expose());
    }
    config
}

fn headers(event: &Event) -> OwnedHeaders {
    OwnedHeaders::new_with_capacity(3)
        .insert(Header { key: "event-id", value: Some(&event.id) })
        .insert(Header { key: "schema-version", value: Some(&event.schema.to_string()) })
        .insert(Header { key: "time-zone", value: Some("UTC") })
}

#[async_trait]
impl EventSink for KafkaSink {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), DeliveryError> {
        let mut sent = Vec::with_capacity(events.len());
        let mut refused = None;
        for event in events {
            let record =
                FutureRecord::to(&event.topic).key(&event.key).payload(event.body.get()).headers(headers(event));
            match self.producer.send_result(record) {
                Ok(delivery) => sent.push(delivery),
                Err((error, _)) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        // All are sent before the first result is awaited, so that they travel together. The count ends at the first
        // failure: events behind it are sent again, even those that arrived (at least once).
        let mut delivered = 0;
        for delivery in sent {
            if let Some(error) = Self::outcome(delivery).await {
                return Err(self.undelivered(delivered, &error));
            }
            delivered += 1;
            self.reachable.store(true, Ordering::Relaxed);
        }
        refused.map_or(Ok(()), |error| Err(self.undelivered(delivered, &error)))
    }
}
