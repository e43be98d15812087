//! Traces of requests (`Telemetry.Otlp`): the tracer of a runtime, which a reload keeps where its settings are the same.

use std::sync::Arc;

use prometheus::Registry;

use crate::config::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use request_traces::{ExporterServices, TraceMetrics, Tracer, TracerError};

/// Returns the services of the tasks that send traces, which are among `tasks`.
pub fn services(
    registry: &Registry,
    tasks: &BackgroundTasks,
    clock: &Clock,
) -> Result<ExporterServices, prometheus::Error> {
    Ok(ExporterServices { metrics: TraceMetrics::register(registry)?, tasks: tasks.clone(), clock: clock.clone() })
}

/// Returns the tracer that `settings` ask for: `previous` where it was started with the same ones. That of other settings
/// sends what it has once the last request is over which began with it.
#[cfg(feature = "otlp")]
pub fn tracer(
    settings: &Settings,
    services: &ExporterServices,
    previous: Option<&Arc<Tracer>>,
) -> Result<Option<Arc<Tracer>>, TracerError> {
    let Some(traces) = &settings.traces else { return Ok(None) };
    match previous.filter(|previous| previous.settings() == traces) {
        Some(previous) => Ok(Some(Arc::clone(previous))),
        None => Tracer::start(traces, services).map(Some),
    }
}

/// Returns none: this program is built without traces.
#[cfg(not(feature = "otlp"))]
pub fn tracer(_: &Settings, _: &ExporterServices, _: Option<&Arc<Tracer>>) -> Result<Option<Arc<Tracer>>, TracerError> {
    Ok(None)
}
