//! Bounds of what a file may become: a few bytes of it may stand for many lines.

use super::{LyricsLine, ParseError};

/// Largest file, in bytes.
pub const MAX_TEXT_BYTES: usize = 256 << 10;
/// Most bytes that all texts of a track become, with [`ITEM_BYTES`] for each line and word.
const MAX_PARSED_BYTES: usize = 1 << 20;
/// Bytes that a line or a word counts for beside its text.
const ITEM_BYTES: usize = 64;
/// Most lines.
const MAX_LINES: usize = 5000;

/// Remainder of what the texts of a track may become.
#[derive(Debug)]
pub struct TextBudget {
    bytes: usize,
    lines: usize,
}

impl Default for TextBudget {
    fn default() -> Self {
        Self { bytes: MAX_PARSED_BYTES, lines: MAX_LINES }
    }
}

impl TextBudget {
    /// Takes a line out; fails where too little is left.
    pub fn take(&mut self, line: &LyricsLine) -> Result<(), ParseError> {
        let words: usize = line.words.iter().map(|word| word.text.len() + ITEM_BYTES).sum();
        self.lines = self.lines.checked_sub(1).ok_or(ParseError::TooLarge)?;
        self.bytes = self.bytes.checked_sub(words + line.text.len() + ITEM_BYTES).ok_or(ParseError::TooLarge)?;
        Ok(())
    }
}
