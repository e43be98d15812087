//! Health: the documents' health check in one response, and the two checks of an orchestrator.

use std::sync::Arc;
use std::time::Instant;

use primitives::clock::monotonic_now;
use serde::Serialize;
use utoipa::ToSchema;

/// The state of one part of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComponentStatus {
    /// It works.
    Ok,
    /// Events are published to it: the word that document 003 has for Kafka.
    Enabled,
    /// It is configured but does not work.
    Unavailable,
    /// It is not configured.
    Disabled,
}

/// The process and the parts it depends on.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    /// `healthy`, or `unhealthy` with status 503.
    pub status: &'static str,
    /// The object stores: `ok` while each can be reached.
    pub s3: ComponentStatus,
    /// Redis.
    pub redis: ComponentStatus,
    /// The database; for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<ComponentStatus>,
    /// Kafka: `enabled` while it answers.
    pub kafka: ComponentStatus,
    /// Live sharing sessions.
    pub active_sessions: u64,
    /// Seconds since the start; for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<u64>,
    /// Memory of the process; for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_usage: Option<MemoryUsage>,
}

/// Memory in MB.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct MemoryUsage {
    /// Resident.
    pub used: u64,
    /// Of the machine.
    pub total: u64,
}

/// Health of the parts on which the process depends.
pub trait ComponentHealth: Send + Sync {
    /// Returns true if every thread that serves clients gives signs of life.
    fn is_alive(&self) -> bool {
        true
    }

    /// Returns the status of all object stores together.
    fn stores(&self) -> ComponentStatus;

    /// Reasons why a store cannot be used, for the operator.
    fn store_faults(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the status of Redis.
    fn redis(&self) -> ComponentStatus {
        ComponentStatus::Disabled
    }

    /// Returns the status of the database.
    fn database(&self) -> ComponentStatus {
        ComponentStatus::Disabled
    }

    /// Returns true if the file that the database was opened from is gone.
    fn has_lost_file(&self) -> bool {
        false
    }

    /// Returns the status of Kafka. Streams do not need it: without it the process is healthy.
    fn kafka(&self) -> ComponentStatus {
        ComponentStatus::Disabled
    }

    /// Live sharing sessions.
    fn active_sessions(&self) -> u64 {
        0
    }

    /// Returns true if the process is finishing its streams and accepts no new ones.
    fn is_stopping(&self) -> bool {
        false
    }
}

/// Health of the process.
#[derive(Clone)]
pub struct HealthService {
    started: Instant,
    probe: Arc<dyn ComponentHealth>,
}

impl HealthService {
    /// Creates the service of a process that starts now.
    pub fn new(probe: Arc<dyn ComponentHealth>) -> Self {
        Self { started: monotonic_now(), probe }
    }

    /// Returns true if the process can serve at all.
    pub fn is_alive(&self) -> bool {
        self.probe.is_alive()
    }

    /// Returns true if the process is stopping.
    pub fn is_stopping(&self) -> bool {
        self.probe.is_stopping()
    }

    /// Returns true if the file that the database was opened from is gone.
    pub fn has_lost_file(&self) -> bool {
        self.probe.has_lost_file()
    }

    /// Reasons why a store cannot be used, for the operator.
    pub fn store_faults(&self) -> Vec<String> {
        self.probe.store_faults()
    }

    /// Returns the current state, for everybody.
    pub fn report(&self) -> HealthReport {
        let s3 = self.probe.stores();
        // Nothing can be served without the stores; every other part has a fallback.
        let status = if s3 == ComponentStatus::Unavailable { "unhealthy" } else { "healthy" };
        HealthReport {
            status,
            s3,
            redis: self.probe.redis(),
            database: None,
            kafka: self.probe.kafka(),
            active_sessions: self.probe.active_sessions(),
            uptime: None,
            memory_usage: None,
        }
    }

    /// Returns the current state, with the details for the operator.
    pub fn detailed_report(&self) -> HealthReport {
        HealthReport {
            database: Some(self.probe.database()),
            uptime: Some(self.started.elapsed().as_secs()),
            memory_usage: Some(memory()),
            ..self.report()
        }
    }
}

/// Reads VmRSS and MemTotal from /proc; zero if there is no /proc.
fn memory() -> MemoryUsage {
    let megabytes = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let kilobytes =
            line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
        // /proc gives kB, which are KiB.
        kilobytes.unwrap_or(0) / 1024
    };
    MemoryUsage { used: megabytes("/proc/self/status", "VmRSS:"), total: megabytes("/proc/meminfo", "MemTotal:") }
}
