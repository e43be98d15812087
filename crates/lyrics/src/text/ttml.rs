//! TTML: paragraphs with times, spans of words, and the translations and transliterations of Apple's profile, both as spans
//! with a role and in the head, by the keys of lines.
//!
//! Documents with a type or entities of their own are refused, so that no text is more than its bytes. Times are taken as
//! absolute, as files of lyrics have them.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

use super::budget::TextBudget;
use super::times::parse_clock;
use super::{LyricsLine, LyricsText, LyricsWord, ParseError, ParsedLyrics, TextKind, is_language};
use primitives::markup::to_plain_line;

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 32;
/// Most texts of a file.
const MAX_TEXTS: usize = 8;
/// Longest key of a line, in bytes: a longer one is none, as keys are copied and compared.
const MAX_KEY_BYTES: usize = 256;
/// Elements within a paragraph whose text is not the line's own.
const TRANSLATION_ROLE: &str = "x-translation";
const PRONUNCIATION_ROLE: &str = "x-roman";

/// Parses TTML.
pub fn parse(text: &str, budget: &mut TextBudget) -> Result<ParsedLyrics, ParseError> {
    let mut reader = Reader::from_str(text);
    let mut document = Document::default();
    loop {
        match reader.read_event().map_err(|_| ParseError::BadXml)? {
            Event::Start(element) => document.start(&element)?,
            Event::Empty(element) => {
                document.start(&element)?;
                document.end();
            }
            Event::End(_) => document.end(),
            Event::Text(content) => document.text(std::str::from_utf8(&content).map_err(|_| ParseError::BadXml)?),
            Event::CData(content) => document.text(std::str::from_utf8(&content).map_err(|_| ParseError::BadXml)?),
            Event::GeneralRef(reference) => {
                let name = std::str::from_utf8(&reference).map_err(|_| ParseError::BadXml)?;
                // The five names of XML and numbers of characters: no text becomes longer by them.
                document.text(&unescape(&format!("&{name};")).map_err(|_| ParseError::BadXml)?);
            }
            Event::DocType(_) => return Err(ParseError::BadXml),
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
    (document.is_ttml && document.depth.is_empty()).then_some(()).ok_or(ParseError::BadXml)?;
    document.finish(budget)
}

/// Meaning of an element that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    /// None that is read.
    Other,
    /// `p`, a line.
    Line,
    /// A span with times of its own.
    Word(u32, Option<u32>),
    /// A part of a line that is another text of it.
    Aside(usize),
    /// All translations or transliterations into a language, in the head.
    Group(usize),
    /// One line of such a group.
    GroupLine,
    /// Metadata whose text is read.
    Title,
}

/// Another text of the lines, by what it is.
type AsideKind = (TextKind, Option<String>);

/// A line with its other texts, by the numbers of their kinds.
#[derive(Default)]
struct OpenLine {
    key: Option<String>,
    line: LyricsLine,
    text: String,
    asides: Vec<(usize, String)>,
}

/// A line of a group in the head, while it is open: its pieces of text are many, so its key is copied once, at its end.
struct HeadText {
    group: usize,
    key: String,
    text: String,
}

#[derive(Default)]
struct Document {
    is_ttml: bool,
    depth: Vec<Element>,
    lang: Option<String>,
    title: String,
    lines: Vec<OpenLine>,
    kinds: Vec<AsideKind>,
    /// Texts of the head by their group and the key of their line.
    of_head: HashMap<(usize, String), String>,
    open_head_text: Option<HeadText>,
}

impl Document {
    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), ParseError> {
        if self.depth.len() >= MAX_DEPTH {
            return Err(ParseError::BadXml);
        }
        let local = element.local_name();
        let within = self.depth.last().cloned();
        let meaning = match local.as_ref() {
            b"tt" if self.depth.is_empty() => {
                self.is_ttml = true;
                self.lang = attribute(element, b"lang").filter(|lang| is_language(lang));
                Element::Other
            }
            b"p" => self.start_line(element),
            b"br" if self.line_is_open() => {
                self.text(" ");
                Element::Other
            }
            b"span" if self.line_is_open() => self.span(element, within.as_ref()),
            b"translation" => self.group(element, TextKind::Translation),
            b"transliteration" => self.group(element, TextKind::Pronunciation),
            b"text" => match within {
                Some(Element::Group(group)) => {
                    let text = |key| HeadText { group, key, text: String::new() };
                    self.open_head_text = line_key(element, b"for").map(text);
                    Element::GroupLine
                }
                _ => Element::Other,
            },
            b"title" if self.title.is_empty() => Element::Title,
            _ => Element::Other,
        };
        self.depth.push(meaning);
        Ok(())
    }

    fn line_is_open(&self) -> bool {
        self.depth.contains(&Element::Line)
    }

    fn start_line(&mut self, element: &BytesStart<'_>) -> Element {
        let time = |name: &[u8]| attribute(element, name).and_then(|text| parse_clock(&text));
        let start = time(b"begin");
        let end = time(b"end").or_else(|| Some(start?.saturating_add(time(b"dur")?)));
        let line = LyricsLine {
            start_ms: start,
            end_ms: end.map(|end| end.max(start.unwrap_or_default())),
            ..LyricsLine::default()
        };
        self.lines.push(OpenLine { key: line_key(element, b"key"), line, ..OpenLine::default() });
        Element::Line
    }

    fn span(&mut self, element: &BytesStart<'_>, within: Option<&Element>) -> Element {
        // What is in another text of the line belongs to that text, whatever times it has.
        if let Some(Element::Aside(number)) = within {
            return Element::Aside(*number);
        }
        let kind = match attribute(element, b"role").as_deref() {
            Some(TRANSLATION_ROLE) => Some(TextKind::Translation),
            Some(PRONUNCIATION_ROLE) => Some(TextKind::Pronunciation),
            _ => None,
        };
        if let Some(kind) = kind {
            return self.kind(element, kind).map_or(Element::Other, Element::Aside);
        }
        let time = |name: &[u8]| attribute(element, name).and_then(|text| parse_clock(&text));
        time(b"begin").map_or(Element::Other, |start| Element::Word(start, time(b"end").map(|end| end.max(start))))
    }

    fn group(&mut self, element: &BytesStart<'_>, kind: TextKind) -> Element {
        self.kind(element, kind).map_or(Element::Other, Element::Group)
    }

    /// The number of a kind of text; `None` where there are too many.
    fn kind(&mut self, element: &BytesStart<'_>, kind: TextKind) -> Option<usize> {
        let kind = (kind, attribute(element, b"lang").filter(|lang| is_language(lang)));
        let known = self.kinds.iter().position(|known| *known == kind);
        known.or_else(|| {
            (self.kinds.len() + 1 < MAX_TEXTS).then(|| self.kinds.push(kind))?;
            Some(self.kinds.len() - 1)
        })
    }

    fn end(&mut self) {
        if self.depth.pop() == Some(Element::GroupLine)
            && let Some(HeadText { group, key, text }) = self.open_head_text.take()
        {
            self.of_head.entry((group, key)).or_default().push_str(&text);
        }
    }

    fn text(&mut self, text: &str) {
        if self.depth.contains(&Element::GroupLine) {
            if let Some(open) = &mut self.open_head_text {
                open.text.push_str(text);
            }
            return;
        }
        let meaning = self.depth.iter().rev().find(|element| **element != Element::Other);
        let (Some(meaning), is_open) = (meaning.cloned(), self.line_is_open()) else { return };
        if meaning == Element::Title {
            self.title.push_str(text);
        }
        let Some(line) = self.lines.last_mut().filter(|_| is_open) else { return };
        match meaning {
            Element::Aside(number) => match line.asides.iter_mut().find(|(known, _)| *known == number) {
                Some((_, known)) => known.push_str(text),
                None => line.asides.push((number, text.to_owned())),
            },
            Element::Word(start_ms, end_ms) => line.word(start_ms, end_ms, text),
            _ => line.between(text),
        }
    }

    fn finish(self, budget: &mut TextBudget) -> Result<ParsedLyrics, ParseError> {
        let (mut main, mut others) = (Vec::new(), vec![Vec::new(); self.kinds.len()]);
        for OpenLine { key, line, text, asides } in self.lines {
            let line = finished(line, &text);
            budget.take(&line)?;
            for (number, lines) in others.iter_mut().enumerate() {
                let aside = asides.iter().find(|(known, _)| *known == number).map(|(_, text)| text);
                let of_head = || key.as_ref().and_then(|key| self.of_head.get(&(number, key.clone())));
                if let Some(text) = aside.or_else(of_head) {
                    let aside = LyricsLine { text: to_plain_line(text), words: Vec::new(), ..line.clone() };
                    budget.take(&aside)?;
                    lines.push(aside);
                }
            }
            main.push(line);
        }
        let main = std::iter::once((TextKind::Main, self.lang, main));
        let others = self.kinds.into_iter().zip(others).map(|((kind, lang), lines)| (kind, lang, lines));
        let texts = main.chain(others).map(|(kind, lang, lines)| text(kind, lang, lines)).collect();
        let title = Some(to_plain_line(&self.title)).filter(|title| !title.is_empty());
        Ok(ParsedLyrics { texts, title, ..ParsedLyrics::default() })
    }
}

impl OpenLine {
    fn word(&mut self, start_ms: u32, end_ms: Option<u32>, text: &str) {
        match self.line.words.last_mut() {
            // A text in several pieces, such as one with a reference in it.
            Some(last) if last.start_ms == start_ms && last.end_ms == end_ms && !last.text.ends_with(' ') => {
                last.text.push_str(text);
            }
            _ => self.line.words.push(LyricsWord { start_ms, end_ms, text: text.to_owned() }),
        }
        self.text.push_str(text);
    }

    /// Text between the spans: mostly the blanks between words.
    fn between(&mut self, text: &str) {
        if let Some(last) = self.line.words.last_mut() {
            last.text.push_str(text);
        }
        self.text.push_str(text);
    }
}

/// A line with its text and its words in one form: single blanks, words that together are the text.
fn finished(mut line: LyricsLine, text: &str) -> LyricsLine {
    let mut words: Vec<LyricsWord> = Vec::new();
    for mut word in std::mem::take(&mut line.words) {
        let (is_first, has_blank) = (words.is_empty(), word.text.ends_with(char::is_whitespace));
        let begins_with_blank = word.text.starts_with(char::is_whitespace);
        if let Some(last) =
            words.last_mut().filter(|last: &&mut LyricsWord| begins_with_blank && !last.text.ends_with(' '))
        {
            last.text.push(' ');
        }
        word.text = single_blanks(&to_plain_line(&word.text));
        if word.text.is_empty() {
            continue;
        }
        if has_blank {
            word.text.push(' ');
        }
        word.start_ms = word.start_ms.max(words.last().filter(|_| !is_first).map_or(0, |last| last.start_ms));
        word.end_ms = word.end_ms.map(|end| end.max(word.start_ms));
        words.push(word);
    }
    if let Some(last) = words.last_mut() {
        last.text.truncate(last.text.trim_end().len());
    }
    let joined: String = words.iter().map(|word| word.text.as_str()).collect();
    let plain = single_blanks(&to_plain_line(text));
    // Text outside the spans, before the first of them: the line has it, and then no words.
    (line.text, line.words) = if joined == plain { (joined, words) } else { (plain, Vec::new()) };
    line.start_ms = line.start_ms.or_else(|| line.words.first().map(|word| word.start_ms));
    line.end_ms = line.end_ms.map(|end| end.max(line.start_ms.unwrap_or_default()));
    line
}

fn single_blanks(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text is one with times only if each of its lines has one.
fn text(kind: TextKind, lang: Option<String>, mut lines: Vec<LyricsLine>) -> LyricsText {
    let is_synced = !lines.is_empty() && lines.iter().all(|line| line.start_ms.is_some());
    if is_synced {
        lines.sort_by_key(|line| line.start_ms);
    } else {
        for line in &mut lines {
            (line.start_ms, line.end_ms, line.words) = (None, None, Vec::new());
        }
    }
    LyricsText { kind, lang, is_synced, lines }
}

/// The key of a line; `None` where it is longer than [`MAX_KEY_BYTES`].
fn line_key(element: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    attribute(element, name).filter(|key| key.len() <= MAX_KEY_BYTES)
}

/// The value of an attribute, whatever its namespace.
fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    // Without the check for doubles, which takes the square of their number.
    let mut attributes = element.attributes();
    let found = attributes.with_checks(false).flatten().find(|found| found.key.local_name().as_ref() == name)?;
    let value = std::str::from_utf8(&found.value).ok()?;
    unescape(value).ok().map(|value| value.into_owned())
}
