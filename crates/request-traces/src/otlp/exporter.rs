//! The task that sends traces: in batches, one after the other, each tried again for a while, and at the end of the process
//! once more.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::{AcceptedBatch, CollectorClient, DeliveryError, messages};
use crate::TracerError;
use crate::metrics::{DropReason, TraceMetrics};
use crate::request_trace::FinishedTrace;
use crate::settings::Settings;
use crate::tracer::ExporterServices;
use primitives::clock::monotonic_now;
use primitives::failure_log::FailureLog;
use primitives::lifecycle::BackgroundTasks;

/// Most spans of a batch, but for those of its last trace.
const MAX_BATCH_SPANS: usize = 512;
/// Time for which a batch waits for more.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Time for which a batch is tried again.
const RETRY_TIME: Duration = Duration::from_secs(60);
/// First wait before another try; doubled each time up to [`MAX_BACK_OFF`].
const BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_secs(16);

/// Starts the task that sends the traces that come out of `waiting`, until their sender is gone or the process ends.
pub(crate) fn start(
    settings: &Settings,
    waiting: mpsc::Receiver<FinishedTrace>,
    services: &ExporterServices,
) -> Result<(), TracerError> {
    let exporter = TraceExporter {
        client: CollectorClient::new(settings)?,
        waiting,
        service_name: settings.service_name.clone(),
        timeout: settings.timeout,
        metrics: services.metrics.clone(),
        tasks: services.tasks.clone(),
        failures: FailureLog::default(),
    };
    services.tasks.spawn(exporter.run());
    Ok(())
}

struct TraceExporter {
    client: CollectorClient,
    waiting: mpsc::Receiver<FinishedTrace>,
    service_name: String,
    timeout: Duration,
    metrics: TraceMetrics,
    tasks: BackgroundTasks,
    failures: FailureLog,
}

impl TraceExporter {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            let spans = batch.iter().map(FinishedTrace::span_count).sum();
            let request = messages::request(&self.service_name, &batch);
            drop(batch);
            self.deliver(&request, spans).await;
        }
    }

    /// Returns the traces that have come within a time; `None` where no more will come.
    async fn next_batch(&mut self) -> Option<Vec<FinishedTrace>> {
        let first = tokio::select! {
            biased;
            first = self.waiting.recv() => first?,
            () = self.tasks.stopping() => {
                self.waiting.close();
                self.waiting.recv().await?
            }
        };
        let (mut spans, mut batch) = (first.span_count(), vec![first]);
        let until = Instant::now() + BATCH_TIME;
        while spans < MAX_BATCH_SPANS {
            let next = tokio::select! {
                biased;
                next = self.waiting.recv() => next,
                () = sleep_until(until) => None,
                // The requests are over, so that nothing else will come.
                () = self.tasks.stopping() => None,
            };
            let Some(next) = next else { break };
            spans += next.span_count();
            batch.push(next);
        }
        Some(batch)
    }

    /// Delivers a batch, or drops it.
    async fn deliver(&mut self, request: &ExportTraceServiceRequest, spans: usize) {
        let (begun, mut wait) = (monotonic_now(), BACK_OFF);
        loop {
            // Asked before the try: one that the end of the process has woken is the last.
            let is_last = self.tasks.is_stopping();
            let (reason, asked) = match self.try_once(request).await {
                Ok(AcceptedBatch { rejected }) => return self.note_accepted(spans, rejected.min(spans)),
                Err(DeliveryError::Temporary(text, asked)) => {
                    self.note_failure(&text);
                    (DropReason::Unavailable, asked)
                }
                Err(DeliveryError::Final(text)) => {
                    self.note_failure(&text);
                    return self.metrics.dropped(DropReason::Refused, spans);
                }
            };
            let pause = asked.unwrap_or(wait + wait.mul_f64(rand::random_range(0.0..0.25)));
            if is_last || begun.elapsed() + pause > RETRY_TIME {
                let reason = if is_last { DropReason::Stopped } else { reason };
                return self.metrics.dropped(reason, spans);
            }
            wait = (wait * 2).min(MAX_BACK_OFF);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.tasks.stopping() => {}
            }
        }
    }

    async fn try_once(&mut self, request: &ExportTraceServiceRequest) -> Result<AcceptedBatch, DeliveryError> {
        let limit = self.timeout;
        let late = || DeliveryError::Temporary(format!("no answer within {limit:?}"), None);
        timeout(limit, self.client.send(request)).await.unwrap_or_else(|_| Err(late()))
    }

    fn note_accepted(&self, spans: usize, rejected: usize) {
        self.metrics.exported(spans - rejected);
        self.metrics.dropped(DropReason::Refused, rejected);
        if rejected > 0 {
            self.note_failure("it refused some spans of a batch");
        } else if self.failures.is_over(monotonic_now()) {
            info!("traces: the collector takes them again");
        }
    }

    fn note_failure(&self, text: &str) {
        if self.failures.is_news(text, monotonic_now()) {
            warn!("traces: the collector (`Telemetry.Otlp`) does not take them: {text}");
        }
    }
}
