//! `EventPublisher.KafkaSettings` in a program that is built without its client.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use primitives::lifecycle::BackgroundTasks;

use super::{EventSink, EventsOpenError, settings};

/// Fails: `check` has refused the key before.
pub fn open(
    _: &settings::KafkaSettings,
    _: &BackgroundTasks,
) -> Result<(Box<dyn EventSink>, Arc<AtomicBool>), EventsOpenError> {
    Err(EventsOpenError::NoKafka)
}
