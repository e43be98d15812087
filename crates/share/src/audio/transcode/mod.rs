//! Transcoders: the other format of a session's audio, made only while somebody needs it. Each is a task whose work is
//! done on the blocking threads, behind a short queue, never in a request. Their number is limited.

mod decode;
mod encode;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};

use super::chunk::AudioChunk;
use super::frame::Codec;
use super::packet_queue::{AudioFormat, AudioPacket};
use crate::metrics::Metrics;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMicros;

/// Format of everything that transcoders make.
pub const TRANSCODED_FORMAT: AudioFormat = AudioFormat { sample_rate: 48_000, channels: 2 };
/// Inputs that wait at most: a bit less than the audio that is kept.
const QUEUED_INPUTS: usize = 64;

/// Input of a transcoder.
#[derive(Clone, Debug)]
pub enum TranscodeInput {
    /// Floats, to be made Opus.
    Chunk(Arc<AudioChunk>),
    /// Opus, to be made floats.
    Packets(Vec<AudioPacket>),
}

/// Output of a transcoder.
#[derive(Debug)]
pub enum TranscodeOutput {
    /// Packets of Opus.
    Packets(Vec<AudioPacket>),
    /// Blocks of floats in [`TRANSCODED_FORMAT`], each with its server time.
    Blocks(Vec<(Bytes, UnixMicros)>),
}

/// Converter from one codec to the other.
trait AudioConverter: Send {
    fn convert(&mut self, input: TranscodeInput) -> TranscodeOutput;
}

/// Pool of the node's transcoders.
pub struct TranscoderPool {
    slots: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    tasks: BackgroundTasks,
    metrics: Arc<Metrics>,
}

impl TranscoderPool {
    /// Creates a pool of up to `most` transcoders at the same time.
    pub fn new(most: usize, tasks: BackgroundTasks, metrics: Arc<Metrics>) -> Self {
        // More at a time would only take turns, and the blocking threads are others' too.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { slots: Arc::new(Semaphore::new(most)), turns: Arc::new(Semaphore::new(cores)), tasks, metrics }
    }

    /// Starts a transcoder that makes `codec`; it ends when the sender is dropped, or when `deliver` returns false.
    /// `None` where the pool has no more, or where the codec cannot be set up.
    pub fn start(
        &self,
        codec: Codec,
        deliver: impl Fn(TranscodeOutput) -> bool + Send + Sync + 'static,
    ) -> Option<Sender<TranscodeInput>> {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.metrics.refused_transcodes.inc();
            return None;
        };
        let mut work: Box<dyn AudioConverter> = match codec {
            Codec::Opus => Box::new(encode::OpusEncoder::new()?),
            Codec::F32 => Box::new(decode::OpusDecoder::new()?),
        };
        let (sender, mut inputs) = mpsc::channel(QUEUED_INPUTS);
        let (turns, tasks, running) =
            (Arc::clone(&self.turns), self.tasks.clone(), self.metrics.active_transcodes.clone());
        running.inc();
        self.tasks.spawn(async move {
            let working = async {
                while let Some(input) = inputs.recv().await {
                    let Ok(_turn) = turns.acquire().await else { return };
                    let done = tokio::task::spawn_blocking(move || {
                        let output = work.convert(input);
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
