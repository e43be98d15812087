//! SubRip: blocks of a number, two times and lines, with a blank line between them.

use super::budget::TextBudget;
use super::times::parse_clock;
use super::{LyricsLine, LyricsText, ParseError, ParsedLyrics, TextKind};
use primitives::markup::to_plain_line;

/// Parses SubRip; a block without good times is left out.
pub fn parse(text: &str, budget: &mut TextBudget) -> Result<ParsedLyrics, ParseError> {
    let mut lines: Vec<LyricsLine> = Vec::new();
    let mut current: Option<LyricsLine> = None;
    for row in text.split('\n') {
        let row = row.trim_start_matches('\u{feff}').trim();
        if let Some((start, end)) = times(row) {
            lines.extend(current.take());
            current = Some(LyricsLine { start_ms: Some(start), end_ms: Some(end.max(start)), ..LyricsLine::default() });
            continue;
        }
        let plain = to_plain_line(&without_styles(row));
        let Some(line) = current.as_mut() else { continue };
        if row.is_empty() {
            lines.extend(current.take());
        } else if !plain.is_empty() {
            if !line.text.is_empty() {
                line.text.push(' ');
            }
            line.text.push_str(&plain);
        }
    }
    lines.extend(current);
    lines.iter().try_for_each(|line| budget.take(line))?;
    lines.sort_by_key(|line| line.start_ms);
    let text = LyricsText { kind: TextKind::Main, lang: None, is_synced: true, lines };
    Ok(ParsedLyrics { texts: vec![text], ..ParsedLyrics::default() })
}

/// Parses `start --> end`, behind which positions may stand.
fn times(row: &str) -> Option<(u32, u32)> {
    let (start, rest) = row.split_once("-->")?;
    Some((parse_clock(start)?, parse_clock(rest.split_whitespace().next()?)?))
}

/// Returns a row without the styles of SubStation Alpha that many files have: `{\an8}`.
fn without_styles(row: &str) -> String {
    let mut plain = String::with_capacity(row.len());
    let mut rest = row;
    while let Some((before, behind)) = rest.split_once("{\\") {
        plain.push_str(before);
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}
