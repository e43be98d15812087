//! Decoder of one track, in a thread that may block: object in, blocks of stereo samples out, into a queue of few blocks. A full
//! queue holds the decoder up, and with it the fetching of the object.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use symphonia::core::common::Limit;
use symphonia::core::errors::Error as SoundError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::codec_check::bounded_parameters;
use super::object::{ObjectFile, ReadBudget, TrackObject};
use super::resampler::StereoResampler;
use super::track_decoder::{DecodedFormat, PacketFault, TrackDecoder};
use super::{CHANNELS, SAMPLE_RATE};

/// Frames of a block: a tenth of a second.
pub const BLOCK_FRAMES: usize = SAMPLE_RATE as usize / 10;
/// Blocks that wait: three seconds, a bit more than a megabyte.
const QUEUED_BLOCKS: usize = 30;
/// Faulty packets in a row after which a track is given up.
const MAX_FAULTS: u32 = 50;
/// Largest tag that is read, in bytes.
const MAX_TAG_BYTES: usize = 64 << 10;
/// Longest track, in frames: twelve hours. Files may say that one part of them comes again and again.
const MAX_FRAMES: u64 = 12 * 3600 * SAMPLE_RATE as u64;

/// Reason for which a track cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It has no form that is known.
    #[error("its format is not known: {0}")]
    Format(String),
    /// It cannot be read, or breaks off.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// Its sound is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It goes on for longer than a track may.
    #[error("it is longer than twelve hours")]
    TooLong,
}

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
    let budget = Arc::new(ReadBudget::default());
    let file = ObjectFile::new(object, runtime, Arc::clone(&budget), into.clone());
    let (mut format, mut decoder, track) = open(file, into)?;
    let mut output = BlockWriter { into, ready: Vec::new(), written: 0 };
    let (mut samples, mut resampler) = (Vec::<f32>::new(), None::<StereoResampler>);
    let mut faults = 0;
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(error) => return Err(failure(error)),
        };
        if into.is_closed() {
            return Ok(());
        }
        if packet.track_id != track {
            continue;
        }
        let DecodedFormat { rate, channels } = match decoder.decode(&packet, &mut samples) {
            Ok(format) => format,
            Err(PacketFault::Packet(what)) => {
                faults += 1;
                if faults > MAX_FAULTS {
                    return Err(DecodeError::Damaged(what));
                }
                continue;
            }
            Err(PacketFault::Track(error)) => return Err(error),
        };
        faults = 0;
        if !samples.is_empty() {
            budget.renew();
        }
        if resampler.as_ref().is_none_or(|resampler| !resampler.fits(rate, channels)) {
            finish(resampler.take(), &mut output)?;
            let made = StereoResampler::new(rate, channels);
            resampler = Some(made.ok_or_else(|| DecodeError::Format(format!("{rate} Hz, {channels} channels")))?);
        }
        let is_converted = resampler.as_mut().is_some_and(|resampler| resampler.push(&samples, &mut output.ready));
        if !is_converted {
            return Err(DecodeError::Damaged("it cannot be resampled".to_owned()));
        }
        if !output.write_whole_blocks() {
            return Ok(());
        }
        if output.written > MAX_FRAMES {
            return Err(DecodeError::TooLong);
        }
    }
    finish(resampler, &mut output)?;
    output.write_rest();
    Ok(())
}

/// Appends what a converter still has.
fn finish(resampler: Option<StereoResampler>, output: &mut BlockWriter<'_>) -> Result<(), DecodeError> {
    let is_whole = resampler.is_none_or(|mut resampler| resampler.finish(&mut output.ready));
    if is_whole { Ok(()) } else { Err(DecodeError::Damaged("it cannot be resampled".to_owned())) }
}

type OpenTrack = (Box<dyn FormatReader>, TrackDecoder, u32);

fn open(file: ObjectFile, into: &Sender<DecodedBlock>) -> Result<OpenTrack, DecodeError> {
    let mut hint = Hint::new();
    if let Some(extension) = file.extension() {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    // Pictures are not looked at.
    let tags =
        MetadataOptions::default().limit_tag_bytes(Limit::Maximum(MAX_TAG_BYTES)).limit_visual_bytes(Limit::Maximum(0));
    let probed = symphonia::default::get_probe().probe(&hint, stream, FormatOptions::default(), tags);
    let format = probed.map_err(|error| match error {
        SoundError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Read(error.to_string())
        }
        error => DecodeError::Format(error.to_string()),
    })?;
    let no_sound = || DecodeError::Format("there is no sound that can be decoded".to_owned());
    let track = format.default_track(TrackType::Audio).ok_or_else(no_sound)?;
    let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio()).ok_or_else(no_sound)?;
    let parameters = bounded_parameters(parameters)?;
    let decoder = TrackDecoder::new(&parameters)?;
    if let (Some(frames), Some(rate)) = (track.num_frames, parameters.sample_rate.filter(|rate| *rate > 0)) {
        let length = Duration::from_millis(frames.saturating_mul(1000) / u64::from(rate));
        // Nobody who waits is no error.
        let _ = into.blocking_send(DecodedBlock::Length(length));
    }
    let id = track.id;
    Ok((format, decoder, id))
}

/// Returns the reason that an error of Symphonia is.
pub fn failure(error: SoundError) -> DecodeError {
    match error {
        SoundError::IoError(error) => DecodeError::Read(error.to_string()),
        error => DecodeError::Damaged(error.to_string()),
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
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::object::TrackObjectError;
    use super::*;

    /// Object in memory that counts the bytes that are read of it.
    pub struct MemoryObject {
        bytes: Bytes,
        extension: &'static str,
        read: AtomicU64,
    }

    #[async_trait]
    impl TrackObject for MemoryObject {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn extension(&self) -> Option<&str> {
            Some(self.extension)
        }

        async fn read(&self, offset: u64, length: u64) -> Result<Bytes, TrackObjectError> {
            self.read.fetch_add(length, Ordering::SeqCst);
            let (from, to) = (offset as usize, (offset + length) as usize);
            Ok(self.bytes.slice(from..to.min(self.bytes.len())))
        }
    }

    pub fn object(bytes: Vec<u8>, extension: &'static str) -> Arc<MemoryObject> {
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

    pub async fn decoded(object: Arc<MemoryObject>) -> (Vec<f32>, Option<Duration>, Option<DecodeError>) {
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

    /// Object of any size: a file that goes on with zeros.
    struct EndlessObject {
        head: Vec<u8>,
        size: u64,
        read: AtomicU64,
    }

    #[async_trait]
    impl TrackObject for EndlessObject {
        fn size(&self) -> u64 {
            self.size
        }

        fn extension(&self) -> Option<&str> {
            None
        }

        async fn read(&self, offset: u64, length: u64) -> Result<Bytes, TrackObjectError> {
            self.read.fetch_add(length, Ordering::SeqCst);
            let mut bytes = vec![0; length.min(self.size - offset) as usize];
            let head = self.head.get(offset as usize..).unwrap_or_default();
            let count = head.len().min(bytes.len());
            bytes[..count].copy_from_slice(&head[..count]);
            Ok(bytes.into())
        }
    }

    #[tokio::test]
    async fn what_holds_no_sound_is_read_no_further() {
        // FLAC whose padding goes on behind the head, block after block.
        let mut head = b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0b\xb8\x02\xf0\0\0\0\0".to_vec();
        head.extend([0; 16]);
        head.extend(b"\x81\0\0\0");
        let object = Arc::new(EndlessObject { head, size: 4 << 30, read: AtomicU64::new(0) });
        let (sender, mut blocks) = block_queue();
        start_decoder(Arc::clone(&object) as Arc<dyn TrackObject>, sender);
        let mut failed = false;
        while let Some(block) = blocks.recv().await {
            failed |= matches!(block, DecodedBlock::Failed(_));
        }
        let read = object.read.load(Ordering::SeqCst);
        assert!(failed && read < 150 << 20, "{failed} {read}");
    }

    #[tokio::test]
    async fn a_decoder_that_nobody_wants_reads_nothing_more() {
        let object = Arc::new(EndlessObject { head: b"fLaC".to_vec(), size: 50 << 30, read: AtomicU64::new(0) });
        let (sender, blocks) = block_queue();
        drop(blocks);
        let mut file = ObjectFile::new(Arc::clone(&object) as _, Handle::current(), Arc::default(), sender);
        let read = tokio::task::spawn_blocking(move || std::io::Read::read(&mut file, &mut [0; 10])).await;
        assert!(read.expect("no panic").is_err());
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
