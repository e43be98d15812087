//! The sample music as notes: three short pieces, written by a small sequencer from chords, a scale and a seed.
//!
//! Pure and without chance: the same song is the same notes everywhere.

/// A piece to be played.
#[derive(Clone, Debug)]
pub(super) struct Song {
    /// Title.
    pub title: &'static str,
    /// Its file, and so its object's key.
    pub file: &'static str,
    /// Beats a minute; four of them are a bar.
    pub tempo: f32,
    /// Bars of each section.
    pub sections: &'static [SongSection],
    chords: [MidiChord; 4],
    scale: [u8; 5],
    seed: u32,
}

/// A bass note and four notes above it, as MIDI numbers.
type MidiChord = (u8, [u8; 4]);

/// Some bars and who plays in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct SongSection {
    bars: usize,
    bass: bool,
    keys: bool,
    melody: bool,
    beat: bool,
}

/// Instrument of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instrument {
    /// A warm chord that swells.
    Pad,
    /// A round low note.
    Bass,
    /// An electric piano.
    Keys,
    /// A soft bell.
    Bell,
    /// A low drum.
    Drum,
    /// A shaker.
    Shaker,
}

/// One note.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub instrument: Instrument,
    /// Seconds from the beginning.
    pub start: f32,
    /// Seconds until it is let go.
    pub length: f32,
    /// Hertz.
    pub frequency: f32,
    /// From 0 to 1.
    pub loudness: f32,
    /// From −1 (left) to 1 (right).
    pub pan: f32,
}

/// A whole piece: it comes in, grows, rests, comes back and goes out.
const SECTIONS: [SongSection; 6] = [
    SongSection { bars: 4, bass: false, keys: true, melody: false, beat: false },
    SongSection { bars: 8, bass: true, keys: true, melody: false, beat: false },
    SongSection { bars: 8, bass: true, keys: true, melody: true, beat: true },
    SongSection { bars: 4, bass: false, keys: false, melody: true, beat: false },
    SongSection { bars: 8, bass: true, keys: true, melody: true, beat: true },
    SongSection { bars: 2, bass: true, keys: false, melody: false, beat: false },
];

/// The pieces of the demo.
pub(super) const SONGS: [Song; 3] = [
    Song {
        title: "Low Tide",
        file: "low-tide.wav",
        tempo: 84.0,
        sections: &SECTIONS,
        chords: [(38, [53, 57, 60, 64]), (34, [50, 53, 57, 60]), (41, [52, 55, 57, 60]), (36, [52, 55, 57, 62])],
        scale: [2, 5, 7, 9, 0],
        seed: 7,
    },
    Song {
        title: "Harbour Lights",
        file: "harbour-lights.wav",
        tempo: 96.0,
        sections: &SECTIONS,
        chords: [(36, [52, 55, 59, 62]), (33, [52, 55, 60, 64]), (41, [53, 57, 60, 64]), (43, [50, 55, 59, 64])],
        scale: [0, 2, 4, 7, 9],
        seed: 21,
    },
    Song {
        title: "Night Ferry",
        file: "night-ferry.flac",
        tempo: 72.0,
        sections: &SECTIONS,
        chords: [(40, [55, 59, 62, 66]), (36, [52, 55, 59, 64]), (43, [50, 54, 59, 62]), (38, [54, 57, 59, 64])],
        scale: [4, 7, 9, 11, 2],
        seed: 33,
    },
];

/// Eighths of two bars on which a melody's notes begin.
const RHYTHMS: [&[usize]; 4] = [&[0, 3, 6, 8, 11], &[0, 2, 4, 7, 10, 12], &[2, 4, 6, 8, 14], &[0, 4, 7, 8, 12]];

/// Order in which the electric piano breaks a chord.
const ARPEGGIO: [usize; 8] = [0, 2, 1, 3, 2, 3, 1, 2];

impl Song {
    /// Returns the length in seconds, the last chord's fading included.
    pub fn seconds(&self) -> f32 {
        let bars: usize = self.sections.iter().map(|section| section.bars).sum();
        bars as f32 * self.beat_seconds() * 4.0 + 3.0
    }

    /// Returns the seconds of a beat.
    pub fn beat_seconds(&self) -> f32 {
        60.0 / self.tempo
    }

    /// Returns all notes, in no order.
    pub fn notes(&self) -> Vec<Note> {
        let mut chance = XorshiftRng(self.seed);
        // Three phrases of two bars, played A B A C: what comes back is what a listener remembers.
        let phrases = [(); 3].map(|()| self.phrase(&mut chance));
        let mut notes = Vec::new();
        let mut bar = 0;
        for (number, section) in self.sections.iter().enumerate() {
            let closing = number + 1 == self.sections.len();
            for in_section in 0..section.bars {
                let chord = if closing { &self.chords[0] } else { &self.chords[bar % 4] };
                let start = bar as f32 * self.beat_seconds() * 4.0;
                self.harmony(section, chord, start, &mut notes);
                if section.beat {
                    self.beats(start, &mut notes);
                }
                if section.melody && in_section % 2 == 0 {
                    let phrase = &phrases[[0, 1, 0, 2][in_section / 2 % 4]];
                    notes.extend(phrase.iter().map(|note| Note { start: note.start + start, ..*note }));
                }
                bar += 1;
            }
        }
        notes
    }

    /// A bar of pad, bass and broken chord.
    fn harmony(&self, section: &SongSection, (low, high): &MidiChord, start: f32, notes: &mut Vec<Note>) {
        let beat = self.beat_seconds();
        for (voice, pitch) in high.iter().enumerate() {
            let place = (voice as f32 - 1.5) * 0.4;
            notes.push(note(Instrument::Pad, start, beat * 4.0, *pitch, 0.55, place));
        }
        if section.bass {
            notes.push(note(Instrument::Bass, start, beat * 2.3, *low, 0.8, 0.0));
            notes.push(note(Instrument::Bass, start + beat * 2.5, beat * 1.2, *low, 0.6, 0.0));
        }
        if section.keys {
            for (eighth, voice) in ARPEGGIO.iter().enumerate() {
                let loudness = if eighth % 4 == 0 { 0.5 } else { 0.36 };
                let place = if eighth % 2 == 0 { -0.35 } else { 0.35 };
                let at = start + beat * 0.5 * eighth as f32;
                notes.push(note(Instrument::Keys, at, beat * 0.9, high[*voice] + 12, loudness, place));
            }
        }
    }

    /// A bar of soft drum and shaker.
    fn beats(&self, start: f32, notes: &mut Vec<Note>) {
        let beat = self.beat_seconds();
        for at in [0.0, 2.0, 3.5] {
            let loudness = if at > 3.0 { 0.35 } else { 0.7 };
            notes.push(note(Instrument::Drum, start + beat * at, 0.3, 31, loudness, 0.0));
        }
        for eighth in 0..8_u8 {
            let loudness = if eighth % 2 == 1 { 0.32 } else { 0.14 };
            notes.push(note(Instrument::Shaker, start + beat * 0.5 * f32::from(eighth), 0.1, 60, loudness, 0.25));
        }
    }

    /// Two bars of melody: a walk in small steps over the scale.
    fn phrase(&self, chance: &mut XorshiftRng) -> Vec<Note> {
        let ladder: Vec<u8> = (67..=86).filter(|pitch| self.scale.contains(&(pitch % 12))).collect();
        let rhythm = RHYTHMS[chance.below(RHYTHMS.len())];
        let mut step = 2 + chance.below(3);
        let mut notes = Vec::new();
        for (index, eighth) in rhythm.iter().enumerate() {
            let next = rhythm.get(index + 1).copied().unwrap_or(16);
            let length = self.beat_seconds() * 0.5 * (next - eighth) as f32;
            let start = self.beat_seconds() * 0.5 * *eighth as f32;
            notes.push(note(Instrument::Bell, start, length, ladder[step], 0.5, -0.1));
            // At most two steps up or down, and never off the ladder.
            step = (step + chance.below(5)).saturating_sub(2).min(ladder.len() - 1);
        }
        notes
    }
}

fn note(instrument: Instrument, start: f32, length: f32, pitch: u8, loudness: f32, place: f32) -> Note {
    // Equal temperament: MIDI note 69 is the A of 440 Hz.
    let frequency = 440.0 * 2_f32.powf((f32::from(pitch) - 69.0) / 12.0);
    Note { instrument, start, length, frequency, loudness, pan: place }
}

/// A small generator of numbers (xorshift): chance that is the same every time. The seed must not be 0, which would
/// give zeros only.
pub(super) struct XorshiftRng(pub u32);

impl XorshiftRng {
    /// Returns the next number below 2³².
    pub fn next_u32(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        // The high half: the low bits of a young xorshift repeat.
        (self.next_u32() >> 16) as usize % limit
    }
}

#[cfg(test)]
impl Song {
    /// The same song, two bars long: enough to look at a file.
    pub fn shortened(self) -> Self {
        const TWO_BARS: [SongSection; 1] = [SongSection { bars: 2, bass: true, keys: true, melody: true, beat: true }];
        Self { sections: &TWO_BARS, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{SONGS, Song};

    #[test]
    fn songs_last_between_one_and_two_minutes_and_every_note_is_inside() {
        for song in SONGS {
            assert!((60.0..120.0).contains(&song.seconds()), "{}: {} s", song.title, song.seconds());
            let notes = song.notes();
            assert!(notes.len() > 500, "{}: {} notes", song.title, notes.len());
            for note in notes {
                assert!(note.start >= 0.0 && note.start + note.length <= song.seconds(), "{}: {note:?}", song.title);
                assert!((20.0..4000.0).contains(&note.frequency), "{}: {note:?}", song.title);
            }
        }
    }

    #[test]
    fn a_song_is_the_same_every_time() {
        let text = |song: &Song| format!("{:?}", song.notes());
        assert_eq!(text(&SONGS[0]), text(&SONGS[0]));
        assert_ne!(text(&SONGS[0]), text(&SONGS[1]));
    }
}
