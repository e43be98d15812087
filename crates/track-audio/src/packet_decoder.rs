//! Decoder of a track's packets: Symphonia's, and for Opus, which that has none for, libopus.

use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as SoundError;
use symphonia::core::packet::Packet;

use super::decoder::{DecodeError, failure};
#[cfg(feature = "opus")]
use super::opus::OpusTrackDecoder;

/// Samples of one packet at most; a damaged file may say anything.
const MAX_PACKET_SAMPLES: usize = 1 << 20;

/// The decoder.
pub enum PacketDecoder {
    /// Of Symphonia.
    Symphonia(Box<dyn AudioDecoder>),
    /// Of libopus.
    #[cfg(feature = "opus")]
    Opus(OpusTrackDecoder),
}

/// What a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedFormat {
    /// Sample rate in hertz.
    pub rate: u32,
    /// Channels.
    pub channels: usize,
}

/// Reason for which a packet brings no sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketFault {
    /// The packet is damaged; the next one may be good.
    Packet(String),
    /// The track cannot be decoded.
    Track(DecodeError),
}

impl PacketDecoder {
    /// Creates the decoder of a track with these parameters.
    pub fn new(parameters: &AudioCodecParameters) -> Result<Self, DecodeError> {
        if parameters.codec == CODEC_ID_OPUS {
            return Self::opus(parameters);
        }
        let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &AudioDecoderOptions::default());
        decoder.map(Self::Symphonia).map_err(|error| DecodeError::Format(error.to_string()))
    }

    #[cfg(feature = "opus")]
    fn opus(parameters: &AudioCodecParameters) -> Result<Self, DecodeError> {
        OpusTrackDecoder::new(parameters.extra_data.as_deref().unwrap_or_default()).map(Self::Opus)
    }

    #[cfg(not(feature = "opus"))]
    fn opus(_: &AudioCodecParameters) -> Result<Self, DecodeError> {
        Err(DecodeError::Format("this Tidegate is built without Opus".to_owned()))
    }

    /// Decodes a packet into `samples`, interleaved.
    pub fn decode(&mut self, packet: &Packet, samples: &mut Vec<f32>) -> Result<DecodedFormat, PacketFault> {
        let decoder = match self {
            Self::Symphonia(decoder) => decoder,
            #[cfg(feature = "opus")]
            Self::Opus(decoder) => return decoder.decode(packet, samples),
        };
        let block = match decoder.decode(packet) {
            Ok(block) => block,
            Err(SoundError::DecodeError(what)) => return Err(PacketFault::Packet(what.to_owned())),
            Err(error) => return Err(PacketFault::Track(failure(error))),
        };
        if block.samples_interleaved() > MAX_PACKET_SAMPLES {
            return Err(PacketFault::Track(DecodeError::Damaged("a packet is too large".to_owned())));
        }
        block.copy_to_vec_interleaved(samples);
        Ok(DecodedFormat { rate: block.spec().rate(), channels: block.spec().channels().count() })
    }
}
