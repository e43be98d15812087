//! Settings of events.

use std::path::PathBuf;
use std::sync::Arc;

use primitives::secret::Secret;

/// Settings of events: their sink and their outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Sink to which they are delivered.
    pub sink: SinkSettings,
    /// Outbox in which they wait.
    pub outbox: OutboxSettings,
}

/// Sink of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkSettings {
    /// A file of JSON Lines.
    File(FileSinkSettings),
    /// Kafka.
    Kafka(KafkaSettings),
}

/// A file of JSON Lines, rotated by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSinkSettings {
    /// The file.
    pub path: PathBuf,
    /// Its size at most, in bytes; then it becomes `PATH.1`, the one before `PATH.2`.
    pub size: u64,
    /// Number of older files that are kept.
    pub keep: u32,
}

/// A cluster of Kafka brokers.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `HOST:PORT`, at least one.
    pub brokers: Vec<String>,
    /// A topic that tells by its metadata whether the cluster answers.
    pub topic: Arc<str>,
    /// Compression of batches.
    pub compression: KafkaCompression,
    /// TLS settings; `None` connects without TLS.
    pub tls: Option<KafkaTlsSettings>,
    /// SASL credentials; `None` sends none.
    pub sasl: Option<KafkaSaslSettings>,
}

impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither hosts nor credentials belong in a log.
        f.debug_struct("Kafka").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Compression of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaCompression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
    /// Zstandard.
    Zstd,
}

impl KafkaCompression {
    /// Returns the name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

/// TLS to the brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaTlsSettings {
    /// PEM file of the CA; `None`: the system's.
    pub ca: Option<PathBuf>,
}

/// SASL credentials for the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSaslSettings {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: &'static str,
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// The folder in which events wait until they are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// The folder, used by one process at a time.
    pub path: PathBuf,
    /// Bytes that it takes at most.
    pub size: u64,
}
