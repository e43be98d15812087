//! Opus to floats: blocks of the size that the document's receivers know.

use bytes::Bytes;
use opusic_c::{Channels, SampleRate};

use super::{AudioConverter, TranscodeInput, TranscodeOutput};

/// Frames of a block.
const BLOCK_FRAMES: usize = 4096;
/// Frames of the longest packet, 120 ms.
const MAX_PACKET_FRAMES: usize = 5760;

/// Opus decoder of one session.
pub struct OpusDecoder {
    opus: opusic_c::Decoder,
    /// Stereo samples, as bytes.
    ready: Vec<u8>,
}

impl OpusDecoder {
    /// Creates a decoder; `None` where libopus does not start.
    pub fn new() -> Option<Self> {
        let opus = opusic_c::Decoder::new(Channels::Stereo, SampleRate::Hz48000).ok()?;
        Some(Self { opus, ready: Vec::new() })
    }
}

impl AudioConverter for OpusDecoder {
    fn convert(&mut self, input: TranscodeInput) -> TranscodeOutput {
        let TranscodeInput::Packets(packets) = input else { return TranscodeOutput::Blocks(Vec::new()) };
        let mut blocks = Vec::new();
        let mut samples = vec![0.0_f32; 2 * MAX_PACKET_FRAMES];
        for packet in packets {
            // What cannot be decoded is left out; the next packet stands for itself.
            let frames = self.opus.decode_float_to_slice(&packet.bytes, &mut samples, false).unwrap_or(0);
            self.ready.extend(samples[..2 * frames].iter().flat_map(|sample| sample.to_le_bytes()));
            while self.ready.len() >= 8 * BLOCK_FRAMES {
                let rest = self.ready.split_off(8 * BLOCK_FRAMES);
                blocks.push((Bytes::from(std::mem::replace(&mut self.ready, rest)), packet.server_time));
            }
        }
        TranscodeOutput::Blocks(blocks)
    }
}
