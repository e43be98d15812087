//! Section `Events`.

use std::sync::Arc;

use super::cache::size;
use super::{ConfigLocation, require_feature};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::{ConfigFlag, ConfigText};
use events::settings::{
    FileSinkSettings, KafkaCompression, KafkaSaslSettings, KafkaSettings, KafkaTlsSettings, OutboxSettings, Settings,
    SinkSettings,
};

const LEAST: u64 = 1 << 20;
/// Upper bound in bytes, more than any machine has.
const MOST: u64 = 1 << 50;

/// Resolves the sink of events and their derivation from playback; `Some(None)` if the section is absent.
pub fn events(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Events>,
) -> Option<Option<(Settings, playback::reports::settings::Settings)>> {
    let Some(raw) = raw else { return Some(None) };
    if let Some(kafka) = &raw.kafka {
        let is_enabled = at.key("Kafka").variable("ENABLE_KAFKA", "`true` or `false`", enabled)?.unwrap_or(true);
        if !is_enabled {
            // Checked all the same: it is what the next start may use. Only brokers may be missing.
            self::kafka(&at.key("Kafka"), kafka, "", false)?;
            return Some(None);
        }
    }
    let topic = match &raw.topic {
        None => Some("playback.events".to_owned()),
        Some(text) => self::topic(&at.key("Topic"), text),
    };
    if let (Some(_), Some(_)) = (&raw.kafka, &raw.file) {
        let problem = ConfigProblem::new("events go either to a file or to Kafka");
        at.key("File").report(problem.help("remove one of `File` and `Kafka`"));
    }
    let sink = match &raw.kafka {
        Some(raw) => kafka(&at.key("Kafka"), raw, topic.as_deref().unwrap_or_default(), true).map(SinkSettings::Kafka),
        None => file(at, raw).map(SinkSettings::File),
    };
    if raw.kafka.is_some() && raw.rotation.is_some() {
        at.key("Rotation").report(ConfigProblem::new("only a file is rotated").help("remove it"));
    }
    let own = at.key("Outbox");
    let path = text_or(&own.key("Path"), raw.outbox.path.as_ref(), "./data/outbox");
    let size = size(&own.key("Size"), raw.outbox.size, 256 << 20, LEAST, MOST);
    let playback = playback::reports::settings::Settings { topic: topic?.into(), from_streams: raw.from_streams };
    Some(Some((Settings { sink: sink?, outbox: OutboxSettings { path: path?.into(), size: size? } }, playback)))
}

/// Reports that events are to be published and there are none.
pub fn report_missing(at: &ConfigLocation<'_>) {
    let problem = ConfigProblem::new("there is nothing that events could be published to");
    at.report(problem.help("add `Events: { File: ./data/events.jsonl }`, or Kafka there"));
}

/// Resolves the name of a topic.
pub fn topic(at: &ConfigLocation<'_>, text: &ConfigText) -> Option<String> {
    at.parse(text, "1 to 249 of letters, digits, `.`, `_` and `-`", |text| {
        // Kafka's own rule for topic names, which the broker would otherwise enforce only at the first event.
        let plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'));
        (plain && (1..=249).contains(&text.len()) && !matches!(text, "." | "..")).then(|| text.to_owned())
    })
}

/// Resolves the topic of a module's events, which `(PublishEvents, EventsTopic)` switch on; `Some(None)` if there are none.
pub fn module_topic(
    at: &ConfigLocation<'_>,
    (publishes, topic): (Option<ConfigFlag>, Option<&ConfigText>),
    default: &str,
    has_events: bool,
) -> Option<Option<Arc<str>>> {
    let topic = topic.map(|text| self::topic(&at.key("EventsTopic"), text));
    if !publishes.is_some_and(|flag| flag.0) {
        return topic.is_none_or(|topic| topic.is_some()).then_some(None);
    }
    if !has_events {
        report_missing(&at.key("PublishEvents"));
        return None;
    }
    Some(Some(topic.unwrap_or_else(|| Some(default.to_owned()))?.into()))
}

fn text_or(at: &ConfigLocation<'_>, text: Option<&ConfigText>, default: &str) -> Option<String> {
    text.map_or_else(|| Some(default.to_owned()), |text| at.text(text))
}

fn file(at: &ConfigLocation<'_>, raw: &file::Events) -> Option<FileSinkSettings> {
    let path = text_or(&at.key("File"), raw.file.as_ref(), "./data/events.jsonl");
    let (at, raw) = (at.key("Rotation"), raw.rotation.as_ref());
    let size = size(&at.key("Size"), raw.and_then(|raw| raw.size), 64 << 20, LEAST, MOST);
    let keep = raw.and_then(|raw| raw.keep).unwrap_or(8);
    if !(1..=1000).contains(&keep) {
        at.key("Keep").report(ConfigProblem::new(format!("{keep} is out of range")).expected("1 to 1000"));
        return None;
    }
    Some(FileSinkSettings { path: path?.into(), size: size?, keep })
}

fn kafka(at: &ConfigLocation<'_>, raw: &file::Kafka, topic: &str, is_enabled: bool) -> Option<KafkaSettings> {
    // First, so that a build without Kafka says only this.
    require_feature(at, cfg!(feature = "kafka"), "kafka")?;
    let own = at.key("Brokers");
    let named = match raw.brokers.is_empty() {
        true => own.variable("KAFKA_BOOTSTRAP_SERVERS", "HOST:PORT", brokers)?,
        false => None,
    };
    if is_enabled && raw.brokers.is_empty() && named.is_none() {
        own.report(ConfigProblem::new("there is no broker").expected("at least one HOST:PORT"));
        return None;
    }
    let brokers = own.each(&raw.brokers, |at, text| at.parse(text, "HOST:PORT", brokers));
    let brokers = brokers.map(|brokers| named.unwrap_or_else(|| brokers.concat()));
    let tls = raw.tls.as_ref().map(|raw| {
        let at = at.key("Tls");
        require_feature(&at, cfg!(feature = "kafka-tls"), "kafka-tls")?;
        let ca = raw.ca.as_ref().map_or(Some(None), |text| at.key("Ca").text(text).map(Some));
        Some(KafkaTlsSettings { ca: ca?.map(Into::into) })
    });
    let sasl = raw.sasl.as_ref().map(|raw| sasl(&at.key("Sasl"), raw, shows_password(tls.is_some(), raw.mechanism)));
    let compression = compression(&at.key("Compression"), raw.compression);
    Some(KafkaSettings {
        brokers: brokers?,
        topic: topic.into(),
        compression: compression?,
        tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
        sasl: sasl.map_or(Some(None), |sasl| sasl.map(Some))?,
    })
}

/// Returns true if the password would cross the network in clear text.
fn shows_password(tls: bool, mechanism: file::Mechanism) -> bool {
    !tls && matches!(mechanism, file::Mechanism::Plain)
}

/// Parses one broker, or several separated by commas, as in `KAFKA_BOOTSTRAP_SERVERS`.
fn brokers(text: &str) -> Option<Vec<String>> {
    text.split(',').map(broker).collect()
}

/// Parses `ENABLE_KAFKA`, in any case: Python writes `True`.
fn enabled(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn broker(text: &str) -> Option<String> {
    let text = text.trim();
    let (host, port) = text.rsplit_once(':')?;
    let good =
        !host.is_empty() && !host.contains(['/', ',', ' ', '@']) && port.parse::<u16>().is_ok_and(|port| port > 0);
    good.then(|| text.to_owned())
}

fn sasl(at: &ConfigLocation<'_>, raw: &file::Sasl, clear: bool) -> Option<KafkaSaslSettings> {
    require_feature(at, cfg!(feature = "kafka-tls"), "kafka-tls")?;
    if clear {
        let problem = ConfigProblem::new("PLAIN without TLS shows the password to the network");
        at.key("Mechanism").report(problem.help("add `Tls: {}`, or use SCRAM-SHA-512"));
        return None;
    }
    let mechanism = match raw.mechanism {
        file::Mechanism::Plain => "PLAIN",
        file::Mechanism::ScramSha256 => "SCRAM-SHA-256",
        file::Mechanism::ScramSha512 => "SCRAM-SHA-512",
    };
    let username = at.key("Username").text(&raw.username);
    let password = at.key("Password").secret(&raw.password);
    Some(KafkaSaslSettings { mechanism, username: username?, password: password?.value })
}

fn compression(at: &ConfigLocation<'_>, raw: Option<file::Compression>) -> Option<KafkaCompression> {
    Some(match raw {
        None | Some(file::Compression::Lz4) => KafkaCompression::Lz4,
        Some(file::Compression::None) => KafkaCompression::None,
        Some(file::Compression::Snappy) => KafkaCompression::Snappy,
        Some(file::Compression::Gzip) => {
            require_feature(at, cfg!(feature = "kafka-gzip"), "kafka-gzip")?;
            KafkaCompression::Gzip
        }
        Some(file::Compression::Zstd) => {
            require_feature(at, cfg!(feature = "kafka-zstd"), "kafka-zstd")?;
            KafkaCompression::Zstd
        }
    })
}
