//! Decoder of one track, in a thread that may block: object in, blocks of stereo samples out, into a queue of few blocks. A full
//! queue holds the decoder up, and with it the fetching of the object.

use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{CHANNELS, SAMPLE_RATE};
use track_audio::decoder::{DecodeError, TrackDecoder};
use track_audio::object::{ObjectFile, TrackObject};
use track_audio::{ChannelLayout, MediaSource, SoundForm};

/// Frames of a block: a tenth of a second.
pub const BLOCK_FRAMES: usize = SAMPLE_RATE as usize / 10;
/// Blocks that wait: three seconds, a bit more than a megabyte.
const QUEUED_BLOCKS: usize = 30;
/// Longest track, in frames: twelve hours. Files may say that one part of them comes again and again.
const MAX_FRAMES: u64 = 12 * 3600 * SAMPLE_RATE as u64;
/// Form of a channel's sound.
const SOUND: SoundForm = SoundForm { rate: SAMPLE_RATE, layout: ChannelLayout::Stereo };

/// What a decoder says.
#[derive(Debug)]
pub enum DecodedBlock {
    /// Interleaved stereo samples, [`BLOCK_FRAMES`] frames or, at the end, fewer.
    Samples(Vec<f32>),
    /// Length of the track, where its head says it; once, before the samples.
    Length(Duration),
    /// The track ends early.
    Failed(DecodeError),
}

/// Returns a queue for the blocks of a track.
pub fn block_queue() -> (Sender<DecodedBlock>, Receiver<DecodedBlock>) {
    mpsc::channel(QUEUED_BLOCKS)
}

/// Starts the decoder of a track; it ends when the receiver is dropped. The receiver ends with the track.
pub fn start_decoder(object: Arc<dyn TrackObject>, sender: Sender<DecodedBlock>) {
    let runtime = Handle::current();
    // Detached: it ends with the receiver, and at shutdown the runtime does not wait for it.
    let _detached = tokio::task::spawn_blocking(move || {
        let failures = sender.clone();
        let run = || decode(object, runtime, &sender);
        // What others have made must not end more than itself.
        let failed = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => DecodeError::Damaged("the decoder failed".to_owned()),
        };
        // Nobody who waits is no error.
        let _ = failures.blocking_send(DecodedBlock::Failed(failed));
    });
}

fn decode(object: Arc<dyn TrackObject>, runtime: Handle, into: &Sender<DecodedBlock>) -> Result<(), DecodeError> {
    let extension = object.extension().map(str::to_owned);
    let file = Box::new(WantedFile { file: ObjectFile::new(object, runtime), wanted_by: into.clone() });
    let mut decoder = TrackDecoder::open(file, extension.as_deref(), SOUND)?;
    if let Some(length) = decoder.length() {
        // Nobody who waits is no error.
        let _ = into.blocking_send(DecodedBlock::Length(length));
    }
    let mut output = BlockWriter { into, ready: Vec::new(), written: 0 };
    while decoder.read(&mut output.ready)? {
        if into.is_closed() || !output.write_whole_blocks() {
            return Ok(());
        }
        if output.written > MAX_FRAMES {
            return Err(DecodeError::TooLong);
        }
    }
    output.write_rest();
    Ok(())
}

/// Object that is read while somebody waits for its sound.
struct WantedFile {
    file: ObjectFile,
    wanted_by: Sender<DecodedBlock>,
}

impl Read for WantedFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.wanted_by.is_closed() {
            return Err(io::Error::other("nobody wants it any more"));
        }
        self.file.read(into)
    }
}

impl Seek for WantedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl MediaSource for WantedFile {
    fn is_seekable(&self) -> bool {
        self.file.is_seekable()
    }

    fn byte_len(&self) -> Option<u64> {
        self.file.byte_len()
    }
}

/// Writer of blocks into the queue.
struct BlockWriter<'a> {
    into: &'a Sender<DecodedBlock>,
    ready: Vec<f32>,
    /// Frames that were written.
    written: u64,
}

impl BlockWriter<'_> {
    /// Returns false where nobody wants any more.
    fn write_whole_blocks(&mut self) -> bool {
        let length = CHANNELS * BLOCK_FRAMES;
        let whole = self.ready.len() / length * length;
        for block in self.ready[..whole].chunks_exact(length) {
            if self.into.blocking_send(DecodedBlock::Samples(block.to_vec())).is_err() {
                return false;
            }
        }
        self.ready.drain(..whole);
        self.written += (whole / CHANNELS) as u64;
        true
    }

    fn write_rest(&mut self) {
        if self.write_whole_blocks() && !self.ready.is_empty() {
            // Nobody who waits is no error.
            let _ = self.into.blocking_send(DecodedBlock::Samples(std::mem::take(&mut self.ready)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use proptest::prelude::*;

    use track_audio::object::TrackObjectError;

    use super::*;

    /// Object in memory that counts the bytes that are read of it.
    struct MemoryObject {
        bytes: Bytes,
        extension: &'static str,
        read: AtomicU64,
    }

    impl TrackObject for MemoryObject {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn extension(&self) -> Option<&str> {
            Some(self.extension)
        }

        fn read(&self, offset: u64, length: u64) -> BoxFuture<'_, Result<Bytes, TrackObjectError>> {
            Box::pin(async move {
                self.read.fetch_add(length, Ordering::SeqCst);
                let (from, to) = (offset as usize, (offset + length) as usize);
                Ok(self.bytes.slice(from..to.min(self.bytes.len())))
            })
        }
    }

    fn object(bytes: Vec<u8>, extension: &'static str) -> Arc<MemoryObject> {
        Arc::new(MemoryObject { bytes: bytes.into(), extension, read: AtomicU64::new(0) })
    }

    /// WAVE of 16-bit stereo at 48 kHz, whose samples count up.
    fn wave(frames: u32) -> Vec<u8> {
        let data = frames * 4;
        let mut file = b"RIFF".to_vec();
        file.extend((36 + data).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
        file.extend(48_000_u32.to_le_bytes());
        file.extend(192_000_u32.to_le_bytes());
        file.extend(b"\x04\0\x10\0data");
        file.extend(data.to_le_bytes());
        file.extend((0..frames).flat_map(|frame| {
            let sample = ((frame % 30_000) as i16).to_le_bytes();
            [sample, sample].concat()
        }));
        file
    }

    async fn decoded(object: Arc<MemoryObject>) -> (Vec<f32>, Option<Duration>, Option<DecodeError>) {
        let (sender, mut blocks) = block_queue();
        start_decoder(object, sender);
        let (mut all, mut length, mut failure) = (Vec::new(), None, None);
        while let Some(block) = blocks.recv().await {
            match block {
                DecodedBlock::Samples(samples) => all.extend(samples),
                DecodedBlock::Length(said) => length = Some(said),
                DecodedBlock::Failed(error) => failure = Some(error),
            }
        }
        (all, length, failure)
    }

    #[tokio::test]
    async fn every_sample_of_a_track_comes_out_once_and_in_order() {
        let frames = 100_003;
        let (samples, length, failure) = decoded(object(wave(frames), "wav")).await;
        assert_eq!((failure, samples.len()), (None, CHANNELS * frames as usize));
        assert_eq!(length, Some(Duration::from_millis(2083)));
        let is_in_order = |(at, frame): (usize, &[f32])| {
            let expected = (at % 30_000) as f32 / 32_768.0;
            (frame[0] - expected).abs() < 1e-4 && frame[0] == frame[1]
        };
        assert!(samples.chunks_exact(CHANNELS).enumerate().all(is_in_order));
    }

    #[tokio::test]
    async fn no_more_is_read_than_what_is_taken_and_the_queue() {
        let object = object(wave(48_000 * 120), "wav");
        let (sender, mut blocks) = block_queue();
        start_decoder(Arc::clone(&object) as Arc<dyn TrackObject>, sender);
        for _ in 0..100 {
            blocks.recv().await.expect("a block");
        }
        // What was taken, the queue, the block that waits for room, and some ranges ahead; the probe looks at the end too.
        let second = 192_000;
        let most = second * (100 + QUEUED_BLOCKS as u64 + 1) / 10 + 6 * (256 << 10);
        assert!(object.read.load(Ordering::SeqCst) < most, "{} of {most}", object.read.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_decoder_that_nobody_wants_reads_nothing_more() {
        let object = object(wave(48_000), "wav");
        let (sender, blocks) = block_queue();
        drop(blocks);
        let file = ObjectFile::new(Arc::clone(&object) as Arc<dyn TrackObject>, Handle::current());
        let mut file = WantedFile { file, wanted_by: sender };
        let read = tokio::task::spawn_blocking(move || file.read(&mut [0; 10]).is_err()).await;
        assert!(read.expect("no panic"));
        assert_eq!(object.read.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn what_is_no_music_is_said_to_be_none() {
        for bytes in [b"this is a text and no music at all".to_vec(), Vec::new(), vec![0; 100_000]] {
            let (samples, _, failure) = decoded(object(bytes, "mp3")).await;
            assert!(samples.is_empty());
            assert!(failure.is_some() || samples.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_that_comes_in_panics(
            begin in prop::sample::select(vec![&b"ID3\x04\0\0"[..], b"fLaC\0\0\0\x22", b"RIFF\0\x10\0\0WAVEfmt ", b"OggS\0\x02",
                b"OggS\0\x02\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead\x01\x02", b"\xff\xfb\x90\x64", b"\0\0\0\x18ftypM4A ", b"\xff\xf1\x50\x80"]),
            rest in prop::collection::vec(any::<u8>(), 0..4000),
        ) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
            let bytes = [begin, rest.as_slice()].concat();
            let (_, _, failure) = runtime.block_on(decoded(object(bytes, "mp3")));
            prop_assert!(failure.is_none_or(|failure| !failure.to_string().contains("the decoder failed")));
        }
    }
}
