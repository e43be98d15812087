//! LRC: `[mm:ss.xx]` before lines, several before one that comes again, `<mm:ss.xx>` before words, and tags such as
//! `[ar:…]`.

use super::budget::TextBudget;
use super::times::{MAX_MILLIS, parse_lrc};
use super::{LyricsLine, LyricsText, LyricsWord, ParseError, ParsedLyrics, TextKind, is_language};
use primitives::markup::{has_markup, to_plain_line};

/// Largest offset in milliseconds, either way; a larger one is a mistake, and ignored.
const MAX_OFFSET: i64 = 60 * 60 * 1000;
/// Longest time of a word with the blanks around it, in bytes.
const MAX_TIME_BYTES: usize = 24;
/// Tags that are no text, beside those that are read.
const OTHER_TAGS: [&str; 8] = ["by", "au", "re", "ve", "tool", "id", "#", "lr"];

/// Line with its times, before they are taken apart.
struct TimedLine {
    starts: Vec<u32>,
    words: Vec<LyricsWord>,
    text: String,
}

/// What a file says beside its lines.
#[derive(Default)]
struct Header {
    lyrics: ParsedLyrics,
    lang: Option<String>,
    length: Option<u32>,
}

/// Parses LRC; lines are in the order of their times. A file without a time is a text without times.
pub fn parse(text: &str, budget: &mut TextBudget) -> Result<ParsedLyrics, ParseError> {
    let (mut header, mut timed, mut untimed) = (Header::default(), Vec::<TimedLine>::new(), Vec::new());
    for line in text.split(['\n', '\r']) {
        let line = line.trim_start_matches('\u{feff}').trim();
        if header.take(line) {
            continue;
        }
        let (starts, rest) = line_times(line);
        let (words, text) = words(rest, starts.first().copied());
        let starts = match (starts.is_empty(), words.first()) {
            (true, Some(first)) => vec![first.start_ms],
            _ => starts,
        };
        if !starts.is_empty() {
            timed.push(TimedLine { starts, words, text });
        } else if let Some(last) = timed.last_mut() {
            // A line that was broken: it goes on with the one before it.
            continue_line(last, &text);
        } else {
            untimed.push(text);
        }
    }
    let offset = header.lyrics.offset_ms;
    let text = match timed.is_empty() {
        true => untimed_text(untimed, budget)?,
        false => timed_text(&timed, offset, header.length, budget)?,
    };
    let text = LyricsText { lang: header.lang, ..text };
    Ok(ParsedLyrics { texts: vec![text], ..header.lyrics })
}

/// Parses lines without times.
pub fn parse_untimed(text: &str, budget: &mut TextBudget) -> Result<ParsedLyrics, ParseError> {
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).map(to_plain_line).collect();
    Ok(ParsedLyrics { texts: vec![untimed_text(lines, budget)?], ..ParsedLyrics::default() })
}

impl Header {
    /// Takes a line that is a tag; false for another one.
    fn take(&mut self, line: &str) -> bool {
        let tag = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.split_once(':'));
        let Some((name, value)) = tag else { return false };
        let (name, lyrics) = (name.trim().to_ascii_lowercase(), &mut self.lyrics);
        let text = || Some(to_plain_line(value)).filter(|text| !text.is_empty());
        match &*name {
            "ar" => lyrics.artist = text(),
            "ti" => lyrics.title = text(),
            "al" => lyrics.album = text(),
            "offset" => {
                let given = value.trim().trim_start_matches('+').parse().ok();
                let offset = given.filter(|offset: &i64| offset.abs() <= MAX_OFFSET).unwrap_or_default();
                lyrics.offset_ms = i32::try_from(offset).unwrap_or_default();
            }
            "length" => self.length = parse_lrc(value.trim()),
            "la" | "lang" => self.lang = text().filter(|lang| is_language(lang)),
            other => return OTHER_TAGS.contains(&other),
        }
        true
    }
}

/// Splits the times before a line from the rest.
fn line_times(mut line: &str) -> (Vec<u32>, &str) {
    let mut starts = Vec::new();
    while let Some((time, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let Some(start) = parse_lrc(time.trim()) else { break };
        starts.push(start);
        line = rest.trim_start();
    }
    (starts, line)
}

/// Splits a line into its words with their times, and its text. Where no word has a time there are none.
fn words(line: &str, start: Option<u32>) -> (Vec<LyricsWord>, String) {
    let mut parts: Vec<(Option<u32>, &str)> = Vec::new();
    let (mut rest, mut begun, mut from) = (line, None, 0);
    while let Some(at) = rest.get(from..).and_then(|behind| behind.find('<')).map(|at| from + at) {
        let time = word_time(&rest[at + 1..]);
        match time {
            Some((time, behind)) => {
                parts.push((begun, &rest[..at]));
                (rest, begun, from) = (behind, Some(time), 0);
            }
            // A sign of the text.
            None => from = at + 1,
        }
    }
    if begun.is_none() {
        return (Vec::new(), to_plain_line(line));
    }
    parts.push((begun, rest));
    timed_words(&parts, start)
}

/// Splits the time of a word, up to its `>`, from what stands behind it.
fn word_time(rest: &str) -> Option<(u32, &str)> {
    // Only as far as a time may reach: a line of nothing but `<` would else be read once for each of them.
    let end = rest.bytes().take(MAX_TIME_BYTES).position(|byte| byte == b'>')?;
    Some((parse_lrc(rest[..end].trim())?, &rest[end + 1..]))
}

/// Makes words of the parts of a line, of which the first may have no time of its own.
fn timed_words(parts: &[(Option<u32>, &str)], start: Option<u32>) -> (Vec<LyricsWord>, String) {
    let mut words: Vec<LyricsWord> = Vec::new();
    for (time, part) in parts {
        let text = plain_part(part, words.last().is_none_or(|word| word.text.ends_with(' ')));
        // A time behind the last word is that word's end.
        if let (Some(last), Some(time)) = (words.last_mut(), time) {
            last.end_ms = last.end_ms.or(Some((*time).max(last.start_ms)));
        }
        let begins = time.or(start).or_else(|| parts.iter().find_map(|(time, _)| *time)).unwrap_or_default();
        match words.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if text.trim().is_empty() => last.text.push(' '),
            _ if text.trim().is_empty() => {}
            Some(last) => {
                // Times that go back would make a player jump.
                let begins = begins.max(last.start_ms);
                words.push(LyricsWord { start_ms: begins, end_ms: None, text });
            }
            None => words.push(LyricsWord { start_ms: begins, end_ms: None, text }),
        }
    }
    if let Some(last) = words.last_mut() {
        last.text.truncate(last.text.trim_end().len());
    }
    let text: String = words.iter().map(|word| word.text.as_str()).collect();
    // Words that only together are markup.
    if has_markup(&text) { (Vec::new(), to_plain_line(&text)) } else { (words, text) }
}

/// Returns a part of a line as plain text that keeps one blank on each side where there is one; none before it where the
/// part before ends with one.
fn plain_part(part: &str, is_blank_before: bool) -> String {
    let plain = to_plain_line(part);
    let before = !is_blank_before && part.starts_with(char::is_whitespace) && !plain.is_empty();
    let behind = part.ends_with(char::is_whitespace);
    format!("{}{plain}{}", if before { " " } else { "" }, if behind { " " } else { "" })
}

fn continue_line(line: &mut TimedLine, text: &str) {
    if text.is_empty() {
        return;
    }
    let more = format!("{}{text}", if line.text.is_empty() { "" } else { " " });
    line.text.push_str(&more);
    if let Some(last) = line.words.last_mut() {
        last.text.push_str(&more);
    }
}

fn untimed_text(mut lines: Vec<String>, budget: &mut TextBudget) -> Result<LyricsText, ParseError> {
    let is_blank = |line: &String| line.is_empty();
    lines.truncate(lines.len() - lines.iter().rev().take_while(|line| is_blank(line)).count());
    let first = lines.iter().take_while(|line| is_blank(line)).count();
    let lines = lines.into_iter().skip(first).map(|text| LyricsLine { text, ..LyricsLine::default() });
    let lines = lines.map(|line| budget.take(&line).map(|()| line)).collect::<Result<_, _>>()?;
    Ok(LyricsText { kind: TextKind::Main, lang: None, is_synced: false, lines })
}

/// Gives each line its place, as often as it comes, and its end: the beginning of the next one.
fn timed_text(
    timed: &[TimedLine],
    offset: i32,
    length: Option<u32>,
    budget: &mut TextBudget,
) -> Result<LyricsText, ParseError> {
    // A positive offset has lyrics appear sooner.
    let shifted = |time: u32, by: i64| (i64::from(time) + by).clamp(0, MAX_MILLIS.into()) as u32;
    let mut lines = Vec::new();
    for TimedLine { starts, words, text } in timed {
        for start in starts {
            let by = i64::from(*start) - i64::from(starts[0]) - i64::from(offset);
            let words = words.iter().map(|word| LyricsWord {
                start_ms: shifted(word.start_ms, by),
                end_ms: word.end_ms.map(|end| shifted(end, by)),
                text: word.text.clone(),
            });
            let start = shifted(*start, -i64::from(offset));
            let text = text.clone();
            let line = LyricsLine { start_ms: Some(start), end_ms: None, text, words: words.collect() };
            budget.take(&line)?;
            lines.push(line);
        }
    }
    lines.sort_by_key(|line| line.start_ms);
    set_ends(&mut lines, length.map(|length| shifted(length, 0)));
    Ok(LyricsText { kind: TextKind::Main, lang: None, is_synced: true, lines })
}

/// Sets the ends that are not known: of a line the beginning of the next later one, of a last word the line's.
fn set_ends(lines: &mut [LyricsLine], length: Option<u32>) {
    let mut next = length;
    let mut at = lines.len();
    while at > 0 {
        // Lines that begin together end together.
        let start = lines[at - 1].start_ms;
        let first = lines[..at].iter().rposition(|line| line.start_ms != start).map_or(0, |before| before + 1);
        for line in &mut lines[first..at] {
            line.end_ms = next.filter(|next| Some(*next) > start);
            if let Some(word) = line.words.last_mut() {
                word.end_ms = word.end_ms.or(line.end_ms.map(|end| end.max(word.start_ms)));
            }
        }
        (next, at) = (start, first);
    }
}
