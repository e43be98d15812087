//! Sound of the page: speed with the pitch kept, pitch in semitones, the equalizer. Scripts only.

/// Scripts of the sound: name below the page's assets, and text.
pub const SCRIPTS: [(&str, &str); 2] =
    [("audio/engine.js", include_str!("engine.js")), ("audio/presets.js", include_str!("presets.js"))];

/// What others have made, under names with their version, kept by browsers for a year.
pub const VENDORED: [(&str, &str); 0] = [];
