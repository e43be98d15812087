//! Sound of channels: tracks decoded out of the object store, in one form, and joined. Knows neither queues nor sessions.

pub mod decoder;
pub mod mixer;

/// Sample rate of a channel's sound, that of Opus, in hertz.
pub const SAMPLE_RATE: u32 = 48_000;
/// Channels of the sound: stereo, interleaved.
pub const CHANNELS: usize = 2;
