//! Speed, pitch and equalizer as values; pure.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bands of the equalizer: 31.25, 62.5, 125, 250, 500, 1,000, 2,000, 4,000, 8,000 and 16,000 Hz.
pub const BANDS: usize = 10;
/// Largest change of pitch, in semitones up or down.
pub const MAX_SEMITONES: i64 = 12;
/// Largest gain of a band, in dB up or down.
const MAX_GAIN: f64 = 12.0;

/// Playback speed in hundredths, 50 to 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlaybackSpeed(u16);

impl PlaybackSpeed {
    /// Speed of the recording.
    pub const NORMAL: Self = Self(100);

    /// Returns the speed of a factor, to two decimals; `None` unless it is 0.5 to 2.
    pub fn from_factor(factor: f64) -> Option<Self> {
        // The range first: 0.499 must not be rounded into it.
        (0.5..=2.0).contains(&factor).then(|| Self((factor * 100.0).round() as u16))
    }

    /// Returns the speed of hundredths; `None` unless they are 50 to 200.
    pub fn from_hundredths(hundredths: i64) -> Option<Self> {
        let hundredths = u16::try_from(hundredths).ok()?;
        (50..=200).contains(&hundredths).then_some(Self(hundredths))
    }

    /// Returns the hundredths.
    pub fn hundredths(self) -> i64 {
        self.0.into()
    }

    /// Returns the factor.
    pub fn factor(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

/// Presets of the equalizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EqualizerPreset {
    /// Nothing is changed.
    #[default]
    Flat,
    /// Rock.
    Rock,
    /// Jazz.
    Jazz,
    /// Pop.
    Pop,
    /// Hip-hop.
    HipHop,
    /// Dance.
    Dance,
    /// Metal.
    Metal,
    /// Electronic music.
    Electronic,
    /// Acoustic instruments.
    Acoustic,
    /// Classical music.
    Classical,
    /// Lo-fi.
    LoFi,
    /// The user's own bands.
    Custom,
}

impl EqualizerPreset {
    /// All presets.
    pub const ALL: [Self; 12] = [
        Self::Flat,
        Self::Rock,
        Self::Jazz,
        Self::Pop,
        Self::HipHop,
        Self::Dance,
        Self::Metal,
        Self::Electronic,
        Self::Acoustic,
        Self::Classical,
        Self::LoFi,
        Self::Custom,
    ];

    /// Returns the name as it is written in JSON and SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Rock => "rock",
            Self::Jazz => "jazz",
            Self::Pop => "pop",
            Self::HipHop => "hiphop",
            Self::Dance => "dance",
            Self::Metal => "metal",
            Self::Electronic => "electronic",
            Self::Acoustic => "acoustic",
            Self::Classical => "classical",
            Self::LoFi => "lofi",
            Self::Custom => "custom",
        }
    }

    /// Returns the preset of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// Returns the gains in whole dB; those of [`Self::Custom`] are the user's.
    fn gains(self) -> [i16; BANDS] {
        match self {
            Self::Flat | Self::Custom => [0; BANDS],
            Self::Rock => [5, 4, 3, 1, -1, -1, 1, 3, 4, 4],
            Self::Jazz => [3, 2, 1, 2, -1, -1, 0, 1, 2, 3],
            Self::Pop => [-1, 0, 1, 2, 3, 3, 2, 1, 0, -1],
            Self::HipHop => [5, 5, 3, 1, -1, -1, 1, 0, 2, 3],
            Self::Dance => [5, 6, 4, 0, -1, -2, 0, 2, 3, 3],
            Self::Metal => [4, 4, 3, 0, -2, -2, 1, 3, 4, 3],
            Self::Electronic => [5, 4, 2, 0, -2, 1, 0, 1, 4, 5],
            Self::Acoustic => [4, 3, 2, 1, 1, 1, 2, 3, 3, 2],
            Self::Classical => [3, 2, 1, 1, 0, 0, 0, 1, 2, 3],
            Self::LoFi => [3, 4, 3, 1, 0, -1, -2, -4, -6, -9],
        }
    }

    /// Returns the gains of each band; `custom` are the user's own.
    pub fn bands(self, custom: Option<EqualizerBands>) -> EqualizerBands {
        match self {
            Self::Custom => custom.unwrap_or_default(),
            _ => EqualizerBands(self.gains().map(|gain| gain * 10)),
        }
    }
}

/// Gains of the bands, in tenths of a dB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EqualizerBands([i16; BANDS]);

impl EqualizerBands {
    /// Returns the bands of gains in dB, to a tenth; `None` unless there are ten, each −12 to 12.
    pub fn from_gains(gains: &[f64]) -> Option<Self> {
        let gains: [f64; BANDS] = gains.try_into().ok()?;
        let good = gains.iter().all(|gain| (-MAX_GAIN..=MAX_GAIN).contains(gain));
        good.then(|| Self(gains.map(|gain| (gain * 10.0).round() as i16)))
    }

    /// Returns the gains in dB.
    pub fn gains(self) -> [f64; BANDS] {
        self.0.map(|tenths| f64::from(tenths) / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_taken_to_two_decimals_and_never_rounded_into_its_range() {
        for (factor, expected) in [
            (0.5, Some(50)),
            (0.499_999, None),
            (0.504, Some(50)),
            (1.100_000_023_841_858, Some(110)),
            (1.234, Some(123)),
            (2.0, Some(200)),
            (2.000_1, None),
            (-1.0, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(PlaybackSpeed::from_factor(factor).map(PlaybackSpeed::hundredths), expected, "{factor}");
        }
        assert_eq!(PlaybackSpeed::from_hundredths(201), None);
        assert_eq!(PlaybackSpeed::from_hundredths(-1), None);
    }

    #[test]
    fn presets_are_found_by_the_names_that_json_has() {
        for preset in EqualizerPreset::ALL {
            assert_eq!(EqualizerPreset::from_name(preset.name()), Some(preset));
            assert_eq!(serde_json::to_value(preset).expect("JSON"), preset.name());
        }
        assert_eq!(EqualizerPreset::from_name("Rock"), None);
    }

    #[test]
    fn bands_are_ten_and_within_twelve_decibels() {
        let gains = [12.0, -12.0, 0.0, 1.25, 0.04, 0.0, 0.0, 0.0, 0.0, 0.0];
        let bands = EqualizerBands::from_gains(&gains).expect("they are in range");
        assert_eq!(bands.gains()[..5], [12.0, -12.0, 0.0, 1.3, 0.0]);
        assert_eq!(EqualizerPreset::Custom.bands(Some(bands)), bands);
        assert_eq!(EqualizerPreset::Custom.bands(None), EqualizerBands::default());
        assert_eq!(EqualizerBands::from_gains(&gains[..9]), None);
        assert_eq!(EqualizerBands::from_gains(&[12.01; BANDS]), None);
    }
}
