//! Texts as LRC and as plain text.

use std::fmt::Write as _;

use super::times;
use super::{LyricsLine, LyricsText};

/// Returns the lines of a text, each on a line; lines without text that follow one another are one.
pub fn to_plain(text: &LyricsText) -> String {
    let mut plain = String::new();
    let mut is_blank = true;
    for line in &text.lines {
        if line.text.is_empty() && is_blank {
            continue;
        }
        is_blank = line.text.is_empty();
        plain.push_str(&line.text);
        plain.push('\n');
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// Returns a text with times as LRC, with the times of words where it has them; `None` for one without times.
pub fn to_lrc(text: &LyricsText) -> Option<String> {
    text.is_synced.then(|| text.lines.iter().map(lrc_line).collect::<Vec<_>>().join("\n"))
}

fn lrc_line(line: &LyricsLine) -> String {
    let mut text = format!("[{}]", times::to_lrc(line.start_ms.unwrap_or_default()));
    if line.words.is_empty() {
        text.push_str(&line.text);
    }
    for word in &line.words {
        // Writing to a string does not fail.
        let _ = write!(text, "<{}>{}", times::to_lrc(word.start_ms), word.text);
    }
    if let Some(end) = line.words.last().and_then(|word| word.end_ms) {
        let _ = write!(text, "<{}>", times::to_lrc(end));
    }
    text
}
