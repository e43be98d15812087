//! The tasks of the outbox: the writer puts publications into it, many in one commit; the delivery takes what waits
//! there to the sink; a watch looks each second whether its files are still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::metrics::{DropReason, EventMetrics};
use super::outbox::{EventBatch, Outbox, OutboxError};
use super::{AppendRequest, EventSink, PublishError};
use primitives::lifecycle::BackgroundTasks;

/// Most publications that are taken from the queue at once.
const MAX_PUBLICATIONS: usize = 1024;
/// Bytes of one commit, one publication more at most.
const MAX_COMMIT_BYTES: u64 = 1 << 20;
/// Time between two tries to deliver, and between two looks at the files.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Time for what waits to be delivered at the end; the rest waits for the next start.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(700);

/// Puts publications into the outbox.
pub struct OutboxWriter {
    outbox: Arc<Outbox>,
    publications: mpsc::Receiver<AppendRequest>,
    written: Arc<Notify>,
    /// Reason why the last publication was refused; `None` where it was taken.
    last_error: Option<PublishError>,
}

/// Publications of one commit.
#[derive(Default)]
struct CommitGroup {
    events: Vec<String>,
    bytes: u64,
    done: Vec<oneshot::Sender<Result<(), PublishError>>>,
}

impl OutboxWriter {
    /// Makes a writer that notifies `written` of each commit.
    pub fn new(outbox: Arc<Outbox>, publications: mpsc::Receiver<AppendRequest>, written: Arc<Notify>) -> Self {
        Self { outbox, publications, written, last_error: None }
    }

    /// Writes `first` and then publications until shutdown begins and the queue is empty.
    pub async fn run(mut self, first: Option<AppendRequest>, tasks: BackgroundTasks) {
        self.write(first.into_iter().collect()).await;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                // Publications first: with shutdown begun, `stopping` is always ready.
                biased;
                count = self.publications.recv_many(&mut batch, MAX_PUBLICATIONS) => if count == 0 {
                    return;
                },
                () = tasks.stopping() => {
                    // What is in the queue by now is written.
                    self.publications.close();
                    continue;
                }
            }
            self.write(batch).await;
        }
    }

    async fn write(&mut self, batch: Vec<AppendRequest>) {
        let mut group = CommitGroup::default();
        for append in batch {
            // Whoever has given up was told that it is not kept.
            if append.done.is_closed() {
                continue;
            }
            let (events, bytes) = (group.events.len() + append.events.len(), group.bytes + append.bytes);
            if !self.outbox.has_room(events as u64, bytes) {
                self.log_change(Some(PublishError::Full));
                // Whoever asked may have gone.
                let _ = append.done.send(Err(PublishError::Full));
                continue;
            }
            group.events.extend(append.events);
            group.bytes = bytes;
            group.done.push(append.done);
            if group.bytes >= MAX_COMMIT_BYTES {
                self.commit(std::mem::take(&mut group)).await;
            }
        }
        self.commit(group).await;
    }

    async fn commit(&mut self, group: CommitGroup) {
        if group.done.is_empty() {
            return;
        }
        let outcome = match self.outbox.append(&group.events).await {
            Ok(()) => Ok(()),
            Err(trouble) => Err(PublishError::Disk(trouble.to_string().into())),
        };
        if outcome.is_ok() {
            self.written.notify_one();
        }
        self.log_change(outcome.clone().err());
        for done in group.done {
            // Whoever asked may have gone.
            let _ = done.send(outcome.clone());
        }
    }

    /// Logs once that events are refused, and once that they are taken again.
    fn log_change(&mut self, trouble: Option<PublishError>) {
        match &trouble {
            Some(refused) if self.last_error != trouble => tracing::error!(
                "new events are refused: {refused}; see that they can be delivered, or give Events.Outbox more room"
            ),
            None if self.last_error.is_some() => tracing::info!("new events are taken again"),
            _ => {}
        }
        self.last_error = trouble;
    }
}

/// Checks each second, until shutdown, that the outbox's files are still there, and has them restored; logs each new
/// failure once.
pub async fn watch_files(outbox: Arc<Outbox>, tasks: BackgroundTasks) {
    let mut known: Option<String> = None;
    while !tasks.is_stopping() {
        let trouble = outbox.check().await.err().map(|trouble| trouble.to_string());
        if trouble.is_some() && trouble != known {
            let trouble = trouble.as_deref().unwrap_or_default();
            tracing::error!("the outbox (Events.Outbox) does not keep what waits: {trouble}");
        }
        known = trouble;
        tokio::select! {
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            () = tasks.stopping() => {}
        }
    }
}

/// Delivers what waits in the outbox to the sink.
pub struct EventDelivery {
    outbox: Arc<Outbox>,
    sink: Box<dyn EventSink>,
    written: Arc<Notify>,
    /// Set where the sink has to open its files anew.
    reopen: Arc<AtomicBool>,
    metrics: EventMetrics,
    failing: bool,
    /// Set while delivered events cannot be removed from the outbox.
    stuck: bool,
}

impl EventDelivery {
    /// Makes a delivery that `written` wakes, also to look at `reopen`.
    pub fn new(
        outbox: Arc<Outbox>,
        sink: Box<dyn EventSink>,
        written: Arc<Notify>,
        reopen: Arc<AtomicBool>,
        numbers: EventMetrics,
    ) -> Self {
        Self { outbox, sink, written, reopen, metrics: numbers, failing: false, stuck: false }
    }

    /// Delivers until shutdown, and then what still waits, for 700 ms at most.
    pub async fn run(mut self, tasks: BackgroundTasks) {
        let end = async {
            tasks.stopping().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            () = self.deliver_all(&tasks) => {}
            () = end => {}
        }
    }

    async fn deliver_all(&mut self, tasks: &BackgroundTasks) {
        loop {
            self.reopen_sink().await;
            match self.outbox.read().await {
                Ok(batch) if !batch.events.is_empty() => self.deliver(batch).await,
                Ok(_) if tasks.is_stopping() => return,
                // A notification that comes before this wait is kept, so that no event is overlooked.
                Ok(_) => tokio::select! {
                    () = self.written.notified() => {}
                    () = tasks.stopping() => {}
                },
                Err(trouble) => self.pause(&format!("the outbox cannot be read: {trouble}")).await,
            }
        }
    }

    async fn reopen_sink(&mut self) {
        if self.reopen.swap(false, Ordering::Relaxed) {
            self.sink.reopen().await;
        }
    }

    /// Delivers the batch to its end: events are passed over only where they never can be.
    async fn deliver(&mut self, batch: EventBatch) {
        let mut done = 0;
        while done < batch.events.len() {
            // Also between tries: a batch may wait for its sink for hours.
            self.reopen_sink().await;
            let outcome = self.sink.deliver(&batch.events[done..]).await;
            let (delivered, failure) = match outcome {
                Ok(()) => (batch.events.len() - done, None),
                Err(undelivered) => (undelivered.delivered, Some(undelivered)),
            };
            self.metrics.published.inc_by(delivered as u64);
            let mut passed = delivered;
            if failure.as_ref().is_some_and(|failure| failure.is_permanent) {
                self.metrics.record_dropped(DropReason::Rejected, 1);
                passed += 1;
            }
            if passed > 0 {
                let forgotten = self.outbox.mark_done(&batch, done..done + passed).await;
                self.log_removal(forgotten);
            }
            done += passed;
            match failure {
                None => self.recovered(),
                Some(failure) if failure.is_permanent => {
                    tracing::error!("an event is lost, the broker refuses it: {}", failure.cause);
                }
                Some(failure) => self.pause(&failure.cause).await,
            }
        }
    }

    /// Logs once that delivered events stay on the disk.
    fn log_removal(&mut self, forgotten: Result<(), OutboxError>) {
        if let Err(trouble) = &forgotten
            && !self.stuck
        {
            tracing::warn!("what is delivered cannot be removed from the outbox yet: {trouble}");
        }
        self.stuck = forgotten.is_err();
    }

    async fn pause(&mut self, cause: &str) {
        if !self.failing {
            tracing::error!("events cannot be delivered and wait in the outbox: {cause}");
        }
        self.failing = true;
        tokio::time::sleep(RETRY_INTERVAL).await;
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("events are delivered again");
        }
    }
}
