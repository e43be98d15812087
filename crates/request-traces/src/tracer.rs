//! Which requests are traced, and the queue of traces for the collector.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::metrics::{DropReason, TraceMetrics};
use crate::request_trace::FinishedTrace;
use crate::settings::Settings;
use crate::{RequestTrace, TraceContext};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;

/// Most traces that wait for the collector; further ones are dropped and counted. One has 65 spans at most.
pub(crate) const MAX_WAITING: usize = 1024;

/// Decides which requests are traced, and hands their traces to the task that sends them. The task ends when the tracer is
/// dropped and what waited has been sent.
pub struct Tracer {
    settings: Settings,
    queue: mpsc::Sender<FinishedTrace>,
    metrics: TraceMetrics,
    clock: Clock,
}

/// Services of the task that sends traces.
#[derive(Clone)]
pub struct ExporterServices {
    /// Counts of spans.
    pub metrics: TraceMetrics,
    /// Tasks that outlive the requests: at their end what waits is sent once more, and then dropped.
    pub tasks: BackgroundTasks,
    /// The time.
    pub clock: Clock,
}

/// Failure to set up the way to the collector.
#[derive(Debug, thiserror::Error)]
pub enum TracerError {
    /// No client could be built.
    #[error("the client of the collector (`Telemetry.Otlp`) cannot be built: {0}")]
    Client(String),
}

impl Tracer {
    /// Starts the task that sends traces as `settings` say. Fails where TLS cannot be set up.
    #[cfg(feature = "otlp")]
    pub fn start(settings: &Settings, services: &ExporterServices) -> Result<Arc<Self>, TracerError> {
        let (tracer, waiting) = Self::new(settings, services);
        crate::otlp::start(settings, waiting, services)?;
        Ok(tracer)
    }

    /// Creates a tracer, whose traces come out of the queue.
    pub(crate) fn new(settings: &Settings, services: &ExporterServices) -> (Arc<Self>, mpsc::Receiver<FinishedTrace>) {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let (metrics, clock) = (services.metrics.clone(), services.clock.clone());
        (Arc::new(Self { settings: settings.clone(), queue, metrics, clock }), waiting)
    }

    /// Returns the settings that it was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins the trace of a request with these headers. The context that they have is believed where they come from a
    /// trusted proxy; a stranger neither chooses what is traced nor joins a trace of others.
    pub fn begin(&self, headers: &HeaderMap, is_trusted: bool) -> RequestTrace {
        let parent = if is_trusted { TraceContext::from_headers(headers) } else { None };
        let is_sampled = match &parent {
            Some(parent) => parent.is_sampled,
            None => self.settings.sample_rate.includes(rand::random()),
        };
        if !is_sampled && !self.settings.sample_errors {
            return RequestTrace::default();
        }
        RequestTrace::new(is_sampled, parent)
    }

    /// Writes the context of a request that is not traced into what goes on to a server: that of a trusted proxy as it
    /// came, else a new one that is not sampled, so that no stranger's goes on.
    pub fn write_untraced(headers: &mut HeaderMap, is_trusted: bool) {
        if !is_trusted || TraceContext::from_headers(headers).is_none() {
            TraceContext::begin(false).write(headers);
        }
    }

    /// Hands a trace to the task, if there is room.
    pub(crate) fn export(&self, trace: FinishedTrace) {
        let spans = trace.spans.len() + 1;
        match self.queue.try_send(trace) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.metrics.dropped(DropReason::QueueFull, spans),
            Err(TrySendError::Closed(_)) => self.metrics.dropped(DropReason::Stopped, spans),
        }
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

#[cfg(test)]
mod tests;
