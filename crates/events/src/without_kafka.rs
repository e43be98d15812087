//! `EventPublisher.KafkaSettings` in a program that is built without its client.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use primitives::lifecycle::Tasks;

use super::{OpenError, Sink, settings};

/// Fails: `check` has refused the key before.
pub fn open(_: &settings::Kafka, _: &Tasks) -> Result<(Box<dyn Sink>, Arc<AtomicBool>), OpenError> {
    Err(OpenError::NoKafka)
}
