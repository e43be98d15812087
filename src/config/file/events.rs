//! `Events`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, ConfigText, SecretRef};

/// What listeners do, as events for others: to a file or to Kafka, through an outbox on this machine.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Events {
    /// A file of JSON Lines, in place of Kafka. May be `env:NAME`. Default: `./data/events.jsonl` where there is no `Kafka`.
    pub file: Option<ConfigText>,
    /// When the file becomes `FILE.1`, and how many older ones are kept.
    pub rotation: Option<Rotation>,
    /// Kafka, in place of a file. There are no events where `ENABLE_KAFKA` of the environment is `false`.
    pub kafka: Option<Kafka>,
    /// The topic of playback events. Default: `playback.events`.
    pub topic: Option<ConfigText>,
    /// Where events wait until they are delivered.
    #[serde(default)]
    pub outbox: Outbox,
    /// Whether the streams of users with a token tell of Start and Complete, for players that do not. Default: `false`.
    #[serde(default)]
    pub from_streams: bool,
}

/// When the file becomes `FILE.1`, and how many older ones are kept.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Rotation {
    /// The file's size at most, from `1MiB`. Default: `64MiB`.
    pub size: Option<ByteSize>,
    /// Older files that are kept, 1 to 1000. Default: 8.
    pub keep: Option<u32>,
}

/// A Kafka cluster.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Kafka {
    /// Brokers to begin with, each `HOST:PORT`. May be `env:NAME`, also of a list with commas. Default:
    /// `KAFKA_BOOTSTRAP_SERVERS` of the environment, which must be set then.
    #[serde(default)]
    pub brokers: Vec<ConfigText>,
    /// How batches are compressed: `none`, `lz4`, `snappy`; `gzip` and `zstd` in builds that have them. Default: `lz4`.
    pub compression: Option<Compression>,
    /// TLS to the brokers, in builds with the feature `kafka-tls`. Default: in the clear.
    pub tls: Option<KafkaTls>,
    /// Name and password for the brokers, in builds with the feature `kafka-tls`. Default: none.
    pub sasl: Option<Sasl>,
}

/// How batches are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, in builds with the feature `kafka-gzip`.
    Gzip,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
    /// Zstandard, in builds with the feature `kafka-zstd`.
    Zstd,
}

/// TLS to the brokers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct KafkaTls {
    /// PEM file with the certificate of the brokers' CA. Default: the system's.
    pub ca: Option<ConfigText>,
}

/// Name and password for the brokers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Sasl {
    /// How they are proven.
    pub mechanism: Mechanism,
    /// The name. May be `env:NAME`.
    pub username: ConfigText,
    /// The password.
    pub password: SecretRef,
}

/// How name and password are proven.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// As they are: over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// By SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// By SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Where events wait until they are delivered.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Outbox {
    /// A folder of its own, for the file `outbox.db`; used by one process at a time. May be `env:NAME`. Default: `./data/outbox`.
    pub path: Option<ConfigText>,
    /// Bytes of events that wait at most, from `1MiB`; when it is full, new events are refused. Default: `256MiB`.
    pub size: Option<ByteSize>,
}
