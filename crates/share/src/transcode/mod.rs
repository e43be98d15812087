//! Other formats of a session's audio, made only while somebody needs them: each in a task of its own whose work is done
//! on the blocking threads, behind a short queue, never in a request. How many there may be is limited.

mod decode;
mod encode;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};

use super::chunk::Chunk;
use super::frame::Codec;
use super::lane::Packet;
use super::metrics::Metrics;
use primitives::lifecycle::BackgroundTasks;

/// What waits at most: a bit less than the audio that is kept.
const QUEUE: usize = 64;

/// What goes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// Floats, for Opus.
    Chunk(Arc<Chunk>),
    /// Opus, for floats.
    Packets(Vec<Packet>),
}

/// What comes out.
#[derive(Debug)]
pub enum Output {
    /// Opus.
    Packets(Vec<Packet>),
    /// Blocks of floats, 48 kHz stereo, with the server's time of each in microseconds.
    Blocks(Vec<(Bytes, i64)>),
}

/// Whoever turns one into the other.
trait Work: Send {
    fn run(&mut self, input: Input) -> Output;
}

/// The transcoders of the node.
pub struct Transcoders {
    slots: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    tasks: BackgroundTasks,
    metrics: Arc<Metrics>,
}

impl Transcoders {
    /// Up to `most` at the same time.
    pub fn new(most: usize, tasks: BackgroundTasks, metrics: Arc<Metrics>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { slots: Arc::new(Semaphore::new(most)), turns: Arc::new(Semaphore::new(cores)), tasks, metrics }
    }

    /// Starts one that makes `codec`; it ends when the sender is dropped, or when `deliver` says that nobody is there any
    /// more. `None`: there are as many as there may be.
    pub fn start(
        &self,
        codec: Codec,
        deliver: impl Fn(Output) -> bool + Send + Sync + 'static,
    ) -> Option<Sender<Input>> {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.metrics.transcodes_refused.inc();
            return None;
        };
        let mut work: Box<dyn Work> = match codec {
            Codec::Opus => Box::new(encode::Encoder::new()?),
            Codec::F32 => Box::new(decode::Decoder::new()?),
        };
        let (sender, mut inputs) = mpsc::channel(QUEUE);
        let (turns, tasks, running) = (Arc::clone(&self.turns), self.tasks.clone(), self.metrics.transcodes.clone());
        running.inc();
        self.tasks.spawn(async move {
            let working = async {
                while let Some(input) = inputs.recv().await {
                    let Ok(_turn) = turns.acquire().await else { return };
                    let done = tokio::task::spawn_blocking(move || {
                        let output = work.run(input);
                        (work, output)
                    });
                    let Ok((back, output)) = done.await else { return };
                    work = back;
                    if !deliver(output) {
                        return;
                    }
                }
            };
            tokio::select! {
                () = working => {}
                () = tasks.stopping() => {}
            }
            running.dec();
            drop(slot);
        });
        Some(sender)
    }
}
