//! Decoder of one track, for a thread that may block: a file in, samples of one form out, a packet at a time.

use std::sync::Arc;
use std::time::Duration;

use symphonia::core::common::Limit;
use symphonia::core::errors::Error as SoundError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

use crate::SoundForm;
use crate::codec_check::bounded_parameters;
use crate::packet_decoder::{DecodedFormat, PacketDecoder, PacketFault};
use crate::read_budget::{BudgetedSource, ReadBudget};
use crate::resampler::SoundResampler;

/// Faulty packets in a row after which a track is given up.
const MAX_FAULTS: u32 = 50;
/// Largest tag that is read, in bytes.
const MAX_TAG_BYTES: usize = 64 << 10;

/// Reason for which a track cannot be decoded.
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
    #[error("it is longer than a track may be")]
    TooLong,
}

/// Decoder of a track's sound into one form.
pub struct TrackDecoder {
    format: Box<dyn FormatReader>,
    decoder: PacketDecoder,
    track: u32,
    length: Option<Duration>,
    form: SoundForm,
    resampler: Option<SoundResampler>,
    samples: Vec<f32>,
    faults: u32,
    budget: Arc<ReadBudget>,
}

impl TrackDecoder {
    /// Opens a track, whose key may have an extension that hints at its format.
    pub fn open(file: Box<dyn MediaSource>, extension: Option<&str>, form: SoundForm) -> Result<Self, DecodeError> {
        let mut hint = Hint::new();
        if let Some(extension) = extension {
            hint.with_extension(extension);
        }
        let budget = Arc::new(ReadBudget::default());
        let file = Box::new(BudgetedSource::new(file, Arc::clone(&budget)));
        let stream = MediaSourceStream::new(file, Default::default());
        // Pictures are not looked at.
        let tags = MetadataOptions::default();
        let tags = tags.limit_tag_bytes(Limit::Maximum(MAX_TAG_BYTES)).limit_visual_bytes(Limit::Maximum(0));
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
        let decoder = PacketDecoder::new(&parameters)?;
        let rate = parameters.sample_rate.filter(|rate| *rate > 0);
        let frames = track.num_frames.map(|frames| frames.saturating_sub(decoder.left_out()));
        let length = frames.zip(rate);
        let length = length.map(|(frames, rate)| Duration::from_millis(frames.saturating_mul(1000) / u64::from(rate)));
        let track = track.id;
        Ok(Self { format, decoder, track, length, form, resampler: None, samples: Vec::new(), faults: 0, budget })
    }

    /// Returns the length of the track, where its head says it.
    pub fn length(&self) -> Option<Duration> {
        self.length
    }

    /// Appends the samples of the next packet to `ready`, which may be none; returns false at the end of the track.
    pub fn read(&mut self, ready: &mut Vec<f32>) -> Result<bool, DecodeError> {
        let packet = match self.format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => {
                self.finish(ready)?;
                return Ok(false);
            }
            Err(error) => return Err(failure(error)),
        };
        if packet.track_id != self.track {
            return Ok(true);
        }
        let DecodedFormat { rate, channels } = match self.decoder.decode(&packet, &mut self.samples) {
            Ok(format) => format,
            Err(PacketFault::Packet(what)) => {
                self.faults += 1;
                return if self.faults > MAX_FAULTS { Err(DecodeError::Damaged(what)) } else { Ok(true) };
            }
            Err(PacketFault::Track(error)) => return Err(error),
        };
        self.faults = 0;
        if !self.samples.is_empty() {
            self.budget.renew();
        }
        self.convert(rate, channels, ready)?;
        Ok(true)
    }

    /// Appends what the converter still has.
    fn finish(&mut self, ready: &mut Vec<f32>) -> Result<(), DecodeError> {
        let is_whole = self.resampler.take().is_none_or(|mut resampler| resampler.finish(ready));
        if is_whole { Ok(()) } else { Err(not_resampled()) }
    }

    fn convert(&mut self, rate: u32, channels: usize, ready: &mut Vec<f32>) -> Result<(), DecodeError> {
        if self.resampler.as_ref().is_none_or(|resampler| !resampler.fits(rate, channels)) {
            self.finish(ready)?;
            let made = SoundResampler::new(rate, channels, self.form);
            self.resampler = Some(made.ok_or_else(|| DecodeError::Format(format!("{rate} Hz, {channels} channels")))?);
        }
        let is_converted = self.resampler.as_mut().is_some_and(|resampler| resampler.push(&self.samples, ready));
        if is_converted { Ok(()) } else { Err(not_resampled()) }
    }
}

fn not_resampled() -> DecodeError {
    DecodeError::Damaged("it cannot be resampled".to_owned())
}

/// Returns the reason that an error of Symphonia is.
pub fn failure(error: SoundError) -> DecodeError {
    match error {
        SoundError::IoError(error) => DecodeError::Read(error.to_string()),
        error => DecodeError::Damaged(error.to_string()),
    }
}
