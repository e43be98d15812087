//! The place of the Kafka sink (`Events.Kafka`) in a build without the feature `kafka`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use primitives::lifecycle::BackgroundTasks;

use super::{EventSink, EventsOpenError, settings};

/// Fails as [`EventsOpenError::NoKafka`], where the configuration was not refused for it before.
pub fn open(
    _: &settings::KafkaSettings,
    _: &BackgroundTasks,
) -> Result<(Box<dyn EventSink>, Arc<AtomicBool>), EventsOpenError> {
    Err(EventsOpenError::NoKafka)
}

/// Fails: there is no client for Kafka.
pub async fn check(_: &settings::KafkaSettings, _: Duration) -> Result<(), String> {
    Err(EventsOpenError::NoKafka.to_string())
}
