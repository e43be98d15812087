//! Sound of the page: speed with the pitch kept, pitch in semitones, the equalizer. Scripts only.

/// Scripts of the sound: name below the page's assets, and text.
pub const SCRIPTS: [(&str, &str); 6] = [
    ("audio/engine.js", include_str!("engine.js")),
    ("audio/equalizer.js", include_str!("equalizer.js")),
    ("audio/pitch.js", include_str!("pitch.js")),
    ("audio/presets.js", include_str!("presets.js")),
    ("audio/ramp.js", include_str!("ramp.js")),
    ("audio/response.js", include_str!("response.js")),
];

/// The pitch shifter, which others have made, under names with its version: see `vendor/README.md`.
pub const VENDORED: [(&str, &str); 2] = [
    ("audio/signalsmith-stretch-1.3.2.js", include_str!("vendor/SignalsmithStretch.mjs")),
    ("audio/signalsmith-stretch-1.3.2.LICENSE.txt", include_str!("vendor/signalsmith-stretch.LICENSE")),
];

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_pitch_shifter_is_the_one_that_was_published() {
        let sums = include_str!("vendor/SHA256SUMS");
        let files = ["SignalsmithStretch.mjs", "signalsmith-stretch.LICENSE"];
        assert_eq!(sums.lines().count(), files.len());
        for (file, (name, text)) in files.iter().zip(VENDORED) {
            let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(sums.contains(&format!("{sum}  {file}\n")), "{name} is not {file} of SHA256SUMS: {sum}");
        }
    }
}
