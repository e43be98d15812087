//! The outbox while another process has it: the one that this process replaces, and that still serves streams. It takes
//! the events of both until it ends; then this process opens the outbox.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::metrics::EventMetrics;
use super::outbox::{Outbox, OutboxError};
use super::{AppendRequest, EventSink, EventsOpenError, PublishError, open_sink, settings};
use primitives::lifecycle::BackgroundTasks;

/// Time between two tries to open the outbox once the other process ends: the end takes it some milliseconds.
const OPEN_INTERVAL: Duration = Duration::from_millis(20);
/// Time between two tries after a failure that does not go away so soon.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Another process, which has the outbox.
#[async_trait]
pub trait OutboxHolder: Send {
    /// Has it keep `events`, lines of JSON. `None`: it ends, and has kept none of them, as far as is known.
    async fn append(&mut self, events: Vec<String>) -> Option<Result<(), PublishError>>;

    /// Resolves when it has ended. Can be dropped and called again.
    async fn ended(&mut self);
}

/// Gives publications to `holder` until it ends. Returns the one that it did not take; none where shutdown begins and all
/// are given.
pub async fn forward(
    publications: &mut mpsc::Receiver<AppendRequest>,
    holder: &mut dyn OutboxHolder,
    tasks: &BackgroundTasks,
) -> Option<AppendRequest> {
    loop {
        let append = tokio::select! {
            biased;
            append = publications.recv() => append?,
            () = holder.ended() => return None,
            () = tasks.stopping(), if !publications.is_closed() => {
                // What is in the queue by now is given away.
                publications.close();
                continue;
            }
        };
        // Whoever has given up was told that it is not kept.
        if append.done.is_closed() {
            continue;
        }
        match holder.append(append.events.clone()).await {
            // Whoever asked may have gone.
            Some(outcome) => drop(append.done.send(outcome)),
            None => {
                holder.ended().await;
                return Some(append);
            }
        }
    }
}

/// Opens the outbox and the sink, as soon as the process that had them leaves them; `None` where shutdown begins before.
pub async fn take_over(
    settings: &settings::Settings,
    numbers: &EventMetrics,
    tasks: &BackgroundTasks,
) -> Option<(Outbox, super::OpenedSink)> {
    let mut known = None;
    loop {
        let pause = match open(settings, numbers, tasks).await {
            Ok(opened) => return Some(opened),
            Err(EventsOpenError::Outbox(OutboxError::InUse)) => OPEN_INTERVAL,
            Err(error) => {
                let text = error.to_string();
                if known.as_ref() != Some(&text) {
                    tracing::error!(%error, "events are refused until the outbox can be opened");
                }
                known = Some(text);
                RETRY_INTERVAL
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = tasks.stopping() => return None,
        }
    }
}

/// Opens the outbox and the sink. Fails where another process has them, or their files cannot be used.
pub async fn open(
    settings: &settings::Settings,
    numbers: &EventMetrics,
    tasks: &BackgroundTasks,
) -> Result<(Outbox, super::OpenedSink), EventsOpenError> {
    // First: a process that may not have the outbox touches no file of the one that has it.
    let outbox = Outbox::open(&settings.outbox, numbers.clone()).await?;
    let sink: (Box<dyn EventSink>, _) = open_sink(&settings.sink, tasks)?;
    Ok((outbox, sink))
}
