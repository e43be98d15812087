//! Sound of channels: tracks decoded out of the object store, in one form, and joined. Knows neither queues nor sessions.

mod codec_check;
pub mod decoder;
pub mod mixer;
pub mod object;
#[cfg(feature = "opus")]
mod opus;
mod resampler;
mod track_decoder;

/// Sample rate of a channel's sound, that of Opus, in hertz.
pub const SAMPLE_RATE: u32 = 48_000;
/// Channels of the sound: stereo, interleaved.
pub const CHANNELS: usize = 2;
