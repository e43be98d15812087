//! State of the process and the parts it depends on, for health checks.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::storage::StateStorage;
use crate::proxy::runtime::Runtime;
use events::EventPublisher;
use http_server::workers::{STUCK_AFTER, Workers};
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::health::{ComponentHealth, ComponentStatus};

/// Counts the live sessions.
pub type ActiveSessions = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The parts of the process that health depends on.
pub struct ProcessHealth {
    /// The settings at work, with the stores' health.
    pub runtime: Arc<ArcSwap<Runtime>>,
    /// The events, where there are any.
    pub events: Option<EventPublisher>,
    /// Everything that shutdown waits for.
    pub tasks: BackgroundTasks,
    /// Redis and the database.
    pub storage: StateStorage,
    /// The number of live sessions, where sharing is configured.
    pub active_sessions: Option<ActiveSessions>,
    /// The threads that serve clients.
    pub workers: Arc<Workers>,
}

impl ProcessHealth {
    /// The process without modules.
    pub fn new(
        runtime: &Arc<ArcSwap<Runtime>>,
        tasks: &BackgroundTasks,
        storage: &StateStorage,
        workers: &Arc<Workers>,
    ) -> Self {
        let (runtime, workers) = (Arc::clone(runtime), Arc::clone(workers));
        Self { runtime, events: None, tasks: tasks.clone(), storage: storage.clone(), active_sessions: None, workers }
    }
}

impl ComponentHealth for ProcessHealth {
    fn is_alive(&self) -> bool {
        self.workers.stuck(STUCK_AFTER).is_empty()
    }

    fn stores(&self) -> ComponentStatus {
        if self.runtime.load().stores_are_good() { ComponentStatus::Ok } else { ComponentStatus::Unavailable }
    }

    fn store_faults(&self) -> Vec<String> {
        self.runtime.load().store_faults()
    }

    fn redis(&self) -> ComponentStatus {
        self.storage.redis_status()
    }

    fn database(&self) -> ComponentStatus {
        self.storage.database_status()
    }

    fn has_lost_file(&self) -> bool {
        self.storage.has_lost_file()
    }

    fn kafka(&self) -> ComponentStatus {
        match self.events.as_ref().and_then(EventPublisher::reaches_kafka) {
            None => ComponentStatus::Disabled,
            Some(true) => ComponentStatus::Enabled,
            Some(false) => ComponentStatus::Unavailable,
        }
    }

    fn active_sessions(&self) -> u64 {
        self.active_sessions.as_ref().map_or(0, |count| count())
    }

    fn is_stopping(&self) -> bool {
        self.tasks.is_draining()
    }
}
