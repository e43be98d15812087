//! Opus to floats: blocks of the size that the document's receivers know.

use bytes::Bytes;
use opusic_c::{Channels, SampleRate};

use super::{Input, Output, Work};

/// Frames of a block.
const BLOCK: usize = 4096;
/// Frames of the longest packet, 120 ms.
const LONGEST: usize = 5760;

/// One session's decoder.
pub struct Decoder {
    opus: opusic_c::Decoder,
    /// Stereo samples, as bytes.
    ready: Vec<u8>,
}

impl Decoder {
    /// `None` where libopus does not start.
    pub fn new() -> Option<Self> {
        let opus = opusic_c::Decoder::new(Channels::Stereo, SampleRate::Hz48000).ok()?;
        Some(Self { opus, ready: Vec::new() })
    }
}

impl Work for Decoder {
    fn run(&mut self, input: Input) -> Output {
        let Input::Packets(packets) = input else { return Output::Blocks(Vec::new()) };
        let mut blocks = Vec::new();
        let mut samples = vec![0.0_f32; 2 * LONGEST];
        for packet in packets {
            // What cannot be decoded is left out; the next packet stands for itself.
            let frames = self.opus.decode_float_to_slice(&packet.bytes, &mut samples, false).unwrap_or(0);
            self.ready.extend(samples[..2 * frames].iter().flat_map(|sample| sample.to_le_bytes()));
            while self.ready.len() >= 8 * BLOCK {
                let rest = self.ready.split_off(8 * BLOCK);
                blocks.push((Bytes::from(std::mem::replace(&mut self.ready, rest)), packet.time));
            }
        }
        Output::Blocks(blocks)
    }
}
