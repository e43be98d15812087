//! The two tasks of the outbox: the writer puts publications into it, many at once; the sender brings what waits there
//! to the sink.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;

use super::metrics::{Dropped, Numbers};
use super::outbox::{Appender, Batch, Reader};
use super::{Append, Refused, Sink};
use crate::lifecycle::Tasks;

/// Publications that are written at once.
const MOST_PUBLICATIONS: usize = 1024;
/// Between two tries to deliver.
const PAUSE: Duration = Duration::from_secs(1);
/// For what waits to be delivered at the end; the rest waits for the next start.
const FAREWELL: Duration = Duration::from_millis(700);

/// Puts publications into the outbox.
pub struct Writer {
    appender: Appender,
    publications: mpsc::Receiver<Append>,
    written: Arc<Notify>,
    numbers: Numbers,
    /// Why the last one was refused.
    trouble: Option<Refused>,
}

impl Writer {
    /// A writer that tells `written` of what it wrote.
    pub fn new(
        appender: Appender,
        publications: mpsc::Receiver<Append>,
        written: Arc<Notify>,
        numbers: Numbers,
    ) -> Self {
        Self { appender, publications, written, numbers, trouble: None }
    }

    /// Writes until the end.
    pub async fn run(mut self, tasks: Tasks) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                count = self.publications.recv_many(&mut batch, MOST_PUBLICATIONS) => if count == 0 {
                    return;
                },
                () = tasks.stopping() => {
                    // What is in the queue by now is written.
                    self.publications.close();
                    continue;
                }
            }
            // A disk may take its time: that must not hold up the streams of this thread.
            match spawn_blocking(move || self.write(batch)).await {
                Ok(back) => self = back,
                Err(_) => return,
            }
        }
    }

    fn write(mut self, batch: Vec<Append>) -> Self {
        let (mut lines, mut taken, mut events) = (Vec::new(), Vec::new(), 0);
        for append in batch {
            if self.appender.has_room(lines.len() + append.lines.len()) {
                lines.extend_from_slice(&append.lines);
                events += append.events;
                taken.push(append.done);
            } else {
                self.notice(Some(Refused::Full));
                // Whoever asked may have gone.
                let _ = append.done.send(Err(Refused::Full));
            }
        }
        if taken.is_empty() {
            return self;
        }
        // Before they can be seen, and leave.
        self.numbers.waits(events, lines.len() as u64);
        let outcome = self.appender.append(&lines);
        match outcome {
            Ok(()) => self.written.notify_one(),
            Err(_) => self.numbers.leaves(events, lines.len() as u64),
        }
        self.notice(outcome.err());
        for done in taken {
            let _ = done.send(outcome);
        }
        self
    }

    /// Says once what is the matter, and once that it is over.
    fn notice(&mut self, trouble: Option<Refused>) {
        match trouble {
            Some(refused) if self.trouble != trouble => tracing::error!(
                "new events are refused: {refused}; see that they can be delivered, or give Events.Outbox more room"
            ),
            None if self.trouble.is_some() => tracing::info!("new events are taken again"),
            _ => {}
        }
        self.trouble = trouble;
    }
}

/// Brings what waits in the outbox to the sink.
pub struct Sender {
    reader: Option<Reader>,
    sink: Box<dyn Sink>,
    written: Arc<Notify>,
    numbers: Numbers,
    failing: bool,
}

impl Sender {
    /// A sender that `written` wakes.
    pub fn new(reader: Reader, sink: Box<dyn Sink>, written: Arc<Notify>, numbers: Numbers) -> Self {
        Self { reader: Some(reader), sink, written, numbers, failing: false }
    }

    /// Delivers until the end, and a moment longer.
    pub async fn run(mut self, tasks: Tasks) {
        let end = async {
            tasks.stopping().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            () = self.deliver_all(&tasks) => {}
            () = end => {}
        }
    }

    async fn deliver_all(&mut self, tasks: &Tasks) {
        loop {
            match self.with_reader(Reader::read).await {
                Ok(batch) if !batch.events.is_empty() => self.deliver(batch).await,
                Ok(_) if tasks.is_stopping() => return,
                Ok(_) => tokio::select! {
                    () = self.written.notified() => {}
                    () = tasks.stopping() => {}
                },
                Err(error) => self.pause(&format!("the outbox cannot be read: {}", error.kind())).await,
            }
        }
    }

    /// Delivers the batch to its end: events are passed over only where they never can be.
    async fn deliver(&mut self, batch: Batch) {
        let batch = Arc::new(batch);
        let mut done = 0;
        while done < batch.events.len() {
            let outcome = self.sink.deliver(&batch.events[done..]).await;
            let (delivered, failure) = match outcome {
                Ok(()) => (batch.events.len() - done, None),
                Err(undelivered) => (undelivered.delivered, Some(undelivered)),
            };
            self.numbers.published.inc_by(delivered as u64);
            done += delivered;
            if failure.as_ref().is_some_and(|failure| failure.for_good) {
                self.numbers.dropped(Dropped::Rejected, 1);
                done += 1;
            }
            let of = Arc::clone(&batch);
            if let Err(error) = self.with_reader(move |reader| reader.done(&of, done)).await {
                // Told twice rather than never: the next batch moves the cursor on.
                tracing::warn!(error = %error.kind(), "the outbox's cursor cannot be written");
            }
            match failure {
                None => self.recovered(),
                Some(failure) if failure.for_good => {
                    tracing::error!("an event is lost, the broker refuses it: {}", failure.cause);
                }
                Some(failure) => self.pause(&failure.cause).await,
            }
        }
    }

    /// Reading and writing files, beside the threads of the streams.
    async fn with_reader<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut reader = self.reader.take().ok_or_else(|| io::Error::other("the reader is lost"))?;
        let (reader, result) = spawn_blocking(move || {
            let result = work(&mut reader);
            (reader, result)
        })
        .await?;
        self.reader = Some(reader);
        result
    }

    async fn pause(&mut self, cause: &str) {
        if !self.failing {
            tracing::error!("events cannot be delivered and wait in the outbox: {cause}");
        }
        self.failing = true;
        tokio::time::sleep(PAUSE).await;
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("events are delivered again");
        }
    }
}
