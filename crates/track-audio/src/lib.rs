//! Sound of tracks: an object of the store, or bytes in memory, decoded into samples of one form. For channels, which play
//! tracks, and for recognition, which compares them. Knows neither.

mod codec_check;
pub mod decoder;
pub mod object;
#[cfg(feature = "opus")]
mod opus;
mod packet_decoder;
mod read_budget;
mod resampler;

pub use symphonia::core::io::MediaSource;

/// Form of decoded sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundForm {
    /// Sample rate in hertz.
    pub rate: u32,
    /// Channels, interleaved.
    pub layout: ChannelLayout,
}

/// Channels of decoded sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelLayout {
    /// One channel.
    Mono,
    /// Left and right.
    Stereo,
}

impl ChannelLayout {
    /// Returns the number of channels.
    pub const fn channels(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}
