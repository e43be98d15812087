//! Floats to Opus: 48 kHz stereo packets of 20 ms.

use opusic_c::{Application, Bitrate, Channels, SampleRate};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

use super::{AudioConverter, TranscodeInput, TranscodeOutput};
use crate::audio::chunk::{self, AudioChunk};
use crate::audio::packet_queue::AudioPacket;

/// Frames of a packet.
const PACKET_FRAMES: usize = 960;
/// Sample rate of Opus.
const OPUS_RATE: u32 = 48_000;
/// Bytes of a packet at most: far more than 96 kbit/s take.
const MAX_PACKET_BYTES: usize = 4_000;

/// Opus encoder of one session.
pub struct OpusEncoder {
    opus: opusic_c::Encoder,
    resampler: Option<(u32, Fft<f32>)>,
    /// Stereo samples at the rate of the chunks.
    pending: Vec<f32>,
    ready: Vec<f32>,
}

impl OpusEncoder {
    /// Creates an encoder; `None` where libopus does not start.
    pub fn new() -> Option<Self> {
        let mut opus = opusic_c::Encoder::new(Channels::Stereo, SampleRate::Hz48000, Application::Audio).ok()?;
        opus.set_bitrate(Bitrate::Value(96_000)).ok()?;
        opus.set_complexity(5).ok()?;
        Some(Self { opus, resampler: None, pending: Vec::new(), ready: Vec::new() })
    }

    fn encode(&mut self, chunk: &AudioChunk) -> Option<Vec<AudioPacket>> {
        self.append_stereo(chunk);
        if chunk.header.sample_rate == OPUS_RATE {
            self.ready.append(&mut self.pending);
        } else {
            self.resample(chunk.header.sample_rate)?;
        }
        let whole = self.ready.len() / (2 * PACKET_FRAMES) * (2 * PACKET_FRAMES);
        let mut packets = Vec::with_capacity(whole / (2 * PACKET_FRAMES));
        for (number, frames) in self.ready[..whole].chunks_exact(2 * PACKET_FRAMES).enumerate() {
            let mut packet = vec![0; MAX_PACKET_BYTES];
            let length = self.opus.encode_float_to_slice(frames, &mut packet).ok()?;
            packet.truncate(length);
            // Packets are kept for seconds.
            packet.shrink_to_fit();
            let time = chunk.arrived_at + chunk::play_duration(number * PACKET_FRAMES, OPUS_RATE);
            packets.push(AudioPacket {
                bytes: packet.into(),
                frames: u32::try_from(PACKET_FRAMES).ok()?,
                server_time: time,
            });
        }
        self.ready.drain(..whole);
        Some(packets)
    }

    /// Adds the chunk's samples as stereo; a sample that is not a number is silence.
    fn append_stereo(&mut self, chunk: &AudioChunk) {
        let samples = chunk.samples().as_chunks::<4>().0.iter().map(|bytes| {
            let sample = f32::from_le_bytes(*bytes);
            // libopus takes loud samples, but no infinite ones.
            if sample.is_finite() { sample.clamp(-4.0, 4.0) } else { 0.0 }
        });
        if chunk.header.channels == 1 {
            self.pending.extend(samples.flat_map(|sample| [sample, sample]));
        } else {
            self.pending.extend(samples);
        }
    }

    fn resample(&mut self, rate: u32) -> Option<()> {
        if self.resampler.as_ref().is_none_or(|(of, _)| *of != rate) {
            let made = Fft::new(usize::try_from(rate).ok()?, OPUS_RATE as usize, 1024, 2, FixedSync::Input).ok()?;
            self.resampler = Some((rate, made));
        }
        let (_, resampler) = self.resampler.as_mut()?;
        let mut used = 0;
        loop {
            let frames = resampler.input_frames_next();
            let Some(input) = self.pending.get(used..used + 2 * frames) else { break };
            let room = resampler.output_frames_next();
            let start = self.ready.len();
            self.ready.resize(start + 2 * room, 0.0);
            let input = InterleavedSlice::new(input, 2, frames).ok()?;
            let mut output = InterleavedSlice::new_mut(&mut self.ready[start..], 2, room).ok()?;
            let (_, made) = resampler.process_into_buffer(&input, &mut output, None).ok()?;
            self.ready.truncate(start + 2 * made);
            used += 2 * frames;
        }
        self.pending.drain(..used);
        Some(())
    }
}

impl AudioConverter for OpusEncoder {
    fn convert(&mut self, input: TranscodeInput) -> TranscodeOutput {
        match input {
            // A chunk that cannot be encoded is a gap for those who hear Opus, and the next one is tried.
            TranscodeInput::Chunk(chunk) => TranscodeOutput::Packets(self.encode(&chunk).unwrap_or_default()),
            TranscodeInput::Packets(_) => TranscodeOutput::Packets(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::decode::OpusDecoder;
    use super::*;
    use crate::audio::chunk::ChunkHeader;
    use primitives::unix_time::{UnixMicros, UnixMillis};

    /// A tone of 440 Hz, encoded and decoded: its loudness and how often it passes zero upward per second.
    fn heard(rate: u32, channels: u16) -> (f32, f32) {
        let (mut encoder, mut decoder) = (OpusEncoder::new().expect("libopus"), OpusDecoder::new().expect("libopus"));
        let mut out = Vec::new();
        for sequence in 0..30_i64 {
            let start = usize::try_from(sequence).expect("small") * 4096;
            let tone = (start..start + 4096).flat_map(|frame| {
                let time = frame as f64 / f64::from(rate);
                let sample = ((time * 440.0 * std::f64::consts::TAU).sin() * 0.5) as f32;
                vec![sample; usize::from(channels)]
            });
            let bytes: Vec<u8> = tone.flat_map(f32::to_le_bytes).collect();
            let label = ChunkHeader { sequence, sample_rate: rate, channels, timestamp: UnixMillis::EPOCH };
            let chunk = AudioChunk::from_samples(label, bytes.into(), UnixMicros::EPOCH).expect("a good chunk");
            let packets = encoder.convert(TranscodeInput::Chunk(Arc::new(chunk)));
            let TranscodeOutput::Packets(packets) = packets else { panic!("packets come out") };
            let TranscodeOutput::Blocks(blocks) = decoder.convert(TranscodeInput::Packets(packets)) else {
                panic!("blocks come out")
            };
            for (block, _) in blocks {
                out.extend(block.as_chunks::<4>().0.iter().step_by(2).map(|bytes| f32::from_le_bytes(*bytes)));
            }
        }
        let steady = &out[9_600..];
        let square: f32 = steady.iter().map(|sample| sample * sample).sum();
        let passes = steady.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
        ((square / steady.len() as f32).sqrt(), passes as f32 * 48_000.0 / steady.len() as f32)
    }

    #[test]
    fn a_tone_goes_in_and_the_same_tone_comes_out() {
        for (rate, channels) in [(44_100, 2), (48_000, 2), (44_100, 1), (22_050, 2)] {
            let (loudness, pitch) = heard(rate, channels);
            assert!((loudness - 0.3535).abs() < 0.02, "{rate}/{channels}: loudness {loudness}");
            assert!((pitch - 440.0).abs() < 4.0, "{rate}/{channels}: {pitch} Hz");
        }
    }
}
