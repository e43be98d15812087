//! DASH manifests (ISO/IEC 23009-1), read as a stream of XML events; every byte that is no URI stays as it is. URIs are
//! `BaseURL` at each level, `Location`, `PatchLocation`, `ContentSteering` and `ImportedMPD`; the templates of
//! `SegmentTemplate`; `SegmentURL`, `Initialization`, `RepresentationIndex` and `BitstreamSwitching`; and `xlink:href`.
//! Licence servers, clocks (`UTCTiming`), events and texts for people are left alone: no player takes a segment from them.
//!
//! A reference counts from the `BaseURL`s of its own level and of all below it, so each is judged with all of them.

mod levels;
mod names;
mod segment_template;

use std::ops::Range;
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};

use levels::Levels;
use segment_template::SegmentTemplate;

use super::film_uris::{FilmFolder, UriJudge, UriPurpose};
use super::{CheckedManifest, ManifestEdits, ManifestFault, ManifestRefusal, line_of};

/// Time after which a dynamic manifest is asked for again.
const REFRESH: Duration = Duration::from_secs(1);
/// The reference that only says that an element is to be dropped (§5.5.3).
const RESOLVE_TO_ZERO: &str = "urn:mpeg:dash:resolve-to-zero:2013";

/// Checks a manifest at `path` in the film's folder.
pub fn check(manifest: &[u8], path: &str, folder: &FilmFolder<'_>) -> Result<CheckedManifest, ManifestRefusal> {
    let Ok(text) = std::str::from_utf8(manifest) else {
        return Err(ManifestRefusal { line: 1, fault: ManifestFault::Malformed("it is not UTF-8") });
    };
    let Some((judge, base)) = UriJudge::new(folder, path) else {
        return Err(ManifestRefusal { line: 1, fault: ManifestFault::OutsideFolder });
    };
    check_characters(text)?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut document = Document {
        text,
        judge,
        levels: Levels::new(base),
        edits: ManifestEdits::new(manifest),
        uri: None,
        ignored: 0,
        is_dynamic: false,
        uses_bandwidth: false,
        lacks_bandwidth: false,
    };
    loop {
        let start = position(&reader);
        let refused = |fault| ManifestRefusal { line: line_of(manifest, start), fault };
        let event = reader.read_event().map_err(|_| refused(ManifestFault::Malformed("it is no well-formed XML")))?;
        if matches!(event, Event::Eof) {
            break;
        }
        document.event(&event, start..position(&reader)).map_err(refused)?;
    }
    let at_end = |fault| ManifestRefusal { line: line_of(manifest, manifest.len()), fault };
    document.levels.check_end().map_err(at_end)?;
    if document.uses_bandwidth && document.lacks_bandwidth {
        return Err(at_end(ManifestFault::Malformed(
            "a representation without the bandwidth that its segments' names have",
        )));
    }
    Ok(CheckedManifest { rewritten: document.edits.finish(), refresh: document.is_dynamic.then_some(REFRESH) })
}

/// Checks that there are no characters that XML does not have (§2.2), and none that are white space for some only.
fn check_characters(text: &str) -> Result<(), ManifestRefusal> {
    let is_unclear = |at: usize, c: char| match c {
        '\t' | '\n' | '\r' => false,
        '\u{feff}' => at > 0,
        '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' => true,
        _ => c.is_control(),
    };
    match text.char_indices().find(|(at, c)| is_unclear(*at, *c)) {
        Some((at, _)) => {
            let fault = ManifestFault::Malformed("a control character, or one that only some players skip");
            Err(ManifestRefusal { line: line_of(text.as_bytes(), at), fault })
        }
        None => Ok(()),
    }
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

/// A manifest as far as it has been read.
struct Document<'a> {
    text: &'a str,
    judge: UriJudge<'a>,
    levels: Levels,
    edits: ManifestEdits<'a>,
    /// The element under way whose text is a URI.
    uri: Option<UriElement>,
    /// Depth within an element whose content is not a player's.
    ignored: usize,
    is_dynamic: bool,
    /// True where bandwidths stand in segments' names.
    uses_bandwidth: bool,
    /// True where a representation has none.
    lacks_bandwidth: bool,
}

/// An element whose text is a URI.
struct UriElement {
    is_base: bool,
    purpose: UriPurpose,
    /// Place at which its content begins.
    start: usize,
    text: String,
}

impl<'a> Document<'a> {
    fn event(&mut self, event: &Event<'a>, place: Range<usize>) -> Result<(), ManifestFault> {
        match event {
            Event::Start(element) => self.start(element, &place, false),
            Event::Empty(element) => self.start(element, &place, true),
            Event::End(_) => self.end(place.start),
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => self.content(event, place),
            Event::DocType(_) => Err(ManifestFault::Malformed("a DOCTYPE, which could hide URIs in entities")),
            Event::Decl(_) if !self.text[..place.start].trim_start_matches('\u{feff}').is_empty() => {
                Err(ManifestFault::Malformed("an XML declaration that is not at the beginning"))
            }
            Event::Decl(declaration) if declaration.contains(&b'>') || declaration.contains(&b'<') => {
                Err(ManifestFault::Malformed("an XML declaration that cannot be read"))
            }
            Event::Decl(declaration) => match declaration.encoding() {
                Some(Ok(name)) if !name.eq_ignore_ascii_case(b"utf-8") && !name.eq_ignore_ascii_case(b"us-ascii") => {
                    Err(ManifestFault::Malformed("an encoding other than UTF-8"))
                }
                Some(Err(_)) => Err(ManifestFault::Malformed("an XML declaration that cannot be read")),
                Some(Ok(_)) | None => Ok(()),
            },
            // Some players end it at the first `>` behind `--`.
            Event::Comment(comment) if is_unclear_comment(comment) => {
                Err(ManifestFault::Malformed("a comment that begins with `>` or `->`, or has `--` in it"))
            }
            Event::PI(_) => Err(ManifestFault::Malformed("a processing instruction")),
            Event::Comment(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, element: &BytesStart<'a>, place: &Range<usize>, is_empty: bool) -> Result<(), ManifestFault> {
        if self.ignored > 0 {
            self.ignored += usize::from(!is_empty);
            return Ok(());
        }
        if self.uri.is_some() {
            return Err(ManifestFault::Malformed("an element within a URI"));
        }
        let name = element.local_name();
        let name = name.as_ref();
        names::check_element(element.name().as_ref(), name)?;
        self.levels.check_root(name)?;
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|_| ManifestFault::Malformed("an attribute that cannot be read"))?;
            self.attribute(name, attribute.key, &attribute.value)?;
        }
        if name == b"Representation" && element.attributes().flatten().all(|it| it.key.as_ref() != b"id") {
            return Err(ManifestFault::Malformed("a representation without an id"));
        }
        let bandwidth = b"bandwidth";
        self.lacks_bandwidth |=
            name == b"Representation" && element.attributes().flatten().all(|it| it.key.as_ref() != bandwidth);
        if name == b"BaseURL" && !self.levels.is_directly_in_level() {
            return Err(ManifestFault::Malformed("a BaseURL in an element that has none"));
        }
        if is_empty {
            self.levels.pass_empty(name);
            return Ok(());
        }
        match name {
            b"BaseURL" | b"Location" | b"PatchLocation" | b"ContentSteering" | b"ImportedMPD" => {
                let purpose = match name {
                    b"BaseURL" => UriPurpose::Media,
                    b"Location" | b"ImportedMPD" => UriPurpose::Presentation,
                    _ => UriPurpose::Document,
                };
                let is_base = name == b"BaseURL";
                self.uri = Some(UriElement { is_base, purpose, start: place.end, text: String::new() });
            }
            b"ContentProtection" | b"UTCTiming" | b"Event" | b"Metrics" | b"ProgramInformation" => self.ignored = 1,
            _ => self.levels.open(name)?,
        }
        Ok(())
    }

    fn end(&mut self, start: usize) -> Result<(), ManifestFault> {
        if self.ignored > 0 {
            self.ignored -= 1;
            return Ok(());
        }
        let Some(element) = self.uri.take() else {
            self.levels.close();
            return Ok(());
        };
        let uri = element.text.trim_ascii();
        if uri.contains('$') {
            return Err(ManifestFault::Malformed("a `$` in a URI that is no template"));
        }
        if element.is_base {
            let replacement = self.levels.add_base(&self.judge, uri)?;
            if let Some(text) = replacement {
                self.edits.replace(element.start..start, &escape(&*text))?;
            }
            return Ok(());
        }
        if let Some(text) = self.levels.judge_document(&self.judge, uri, element.purpose)? {
            self.edits.replace(element.start..start, &escape(&*text))?;
        }
        Ok(())
    }

    /// Adds text to the URI that is under way.
    fn content(&mut self, event: &Event<'a>, place: Range<usize>) -> Result<(), ManifestFault> {
        if matches!(event, Event::CData(_)) && self.text[place.clone()][1..].contains('<') {
            return Err(ManifestFault::Malformed("a `<` in a CDATA section"));
        }
        let Some(element) = self.uri.as_mut().filter(|_| self.ignored == 0) else { return Ok(()) };
        let unreadable = ManifestFault::Malformed("a URI that cannot be read");
        let raw = &self.text[place];
        match event {
            Event::CData(data) => {
                let text = std::str::from_utf8(data).map_err(|_| unreadable)?;
                element.text.push_str(text);
            }
            _ => element.text.push_str(&unescape(raw).map_err(|_| unreadable)?),
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        element: &[u8],
        key: quick_xml::name::QName<'_>,
        value: &[u8],
    ) -> Result<(), ManifestFault> {
        let text = || {
            let raw = std::str::from_utf8(value).ok()?;
            unescape(raw).ok()
        };
        let unreadable = ManifestFault::Malformed("an attribute that cannot be read");
        let name = key.local_name();
        let name = name.as_ref();
        names::check_attribute(key.as_ref(), name)?;
        names::check_number(element, name, value)?;
        if value.contains(&b'<') || value.contains(&b'>') {
            return Err(ManifestFault::Malformed("a `<` or `>` in an attribute"));
        }
        match (element, name) {
            (b"MPD", b"type") => self.is_dynamic = value == b"dynamic",
            (b"Representation", b"id") if !text().is_some_and(|id| segment_template::is_safe_id(&id)) => {
                let what = "a representation's id that cannot stand in a segment's name";
                return Err(ManifestFault::Malformed(what));
            }
            (_, b"base") if key.prefix().is_some_and(|prefix| prefix.as_ref() == b"xml") => {
                return Err(ManifestFault::Malformed("xml:base, which only some players follow"));
            }
            (_, b"media" | b"initialization" | b"index" | b"bitstreamSwitching" | b"sourceURL") => {
                if UriJudge::is_plainly_inside(value) {
                    self.levels.use_base();
                    return Ok(());
                }
                let text = text().ok_or(unreadable)?;
                let template = SegmentTemplate::parse(&text)?;
                self.uses_bandwidth |= template.has_bandwidth();
                let replacement = self.levels.judge_inherited(&self.judge, template.example())?;
                if let Some(example) = replacement {
                    self.replace(value, &template.restore(&example))?;
                }
            }
            (_, b"href") => {
                let text = text().ok_or(unreadable)?;
                let text = text.trim_ascii();
                if text == RESOLVE_TO_ZERO {
                    return Ok(());
                }
                if let Some(text) = self.levels.judge_once(&self.judge, text, UriPurpose::Document)? {
                    self.replace(value, &text)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts `text` in the place of an attribute's value, a part of the manifest.
    fn replace(&mut self, value: &[u8], text: &str) -> Result<(), ManifestFault> {
        let start = value.as_ptr().addr() - self.text.as_ptr().addr();
        self.edits.replace(start..start + value.len(), &escape(text))
    }
}

/// Returns true for a comment that only some parsers end where it ends.
fn is_unclear_comment(comment: &[u8]) -> bool {
    comment.starts_with(b">")
        || comment.starts_with(b"->")
        || comment.ends_with(b"-")
        || comment.windows(2).any(|two| two == b"--")
}
