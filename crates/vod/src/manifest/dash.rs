//! DASH manifests (ISO/IEC 23009-1), read as a stream of XML events; every byte that is no URI stays as it is. URIs are
//! `BaseURL` at each level, `Location`, `PatchLocation`, `ContentSteering` and `ImportedMPD`; the templates of
//! `SegmentTemplate`; `SegmentURL`, `Initialization`, `RepresentationIndex` and `BitstreamSwitching`; and `xlink:href`.
//! Licence servers, clocks (`UTCTiming`), events and texts for people are left alone: no player takes a segment from them.
//!
//! A reference counts from the `BaseURL`s of its own level and of all below it, so each is judged with all of them.

mod levels;
mod segment_template;

use std::ops::Range;
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};

use levels::Levels;
use segment_template::SegmentTemplate;

use super::film_uris::{FilmFolder, UriJudge};
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
    let mut reader = Reader::from_str(text);
    let mut document = Document {
        text,
        judge,
        levels: Levels::new(base),
        edits: ManifestEdits::new(manifest),
        uri: None,
        ignored: 0,
        is_dynamic: false,
        names: RepresentationNames::default(),
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
    document.names.check()?;
    Ok(CheckedManifest { rewritten: document.edits.finish(), refresh: document.is_dynamic.then_some(REFRESH) })
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
    names: RepresentationNames,
}

/// An element whose text is a URI.
struct UriElement {
    is_base: bool,
    /// Place at which its content begins.
    start: usize,
    text: String,
}

/// Ids of representations, which stand in segments' names.
#[derive(Default)]
struct RepresentationNames {
    are_used: bool,
    /// Line of the first id that could lead out of the folder.
    unsafe_line: Option<usize>,
}

impl RepresentationNames {
    fn check(&self) -> Result<(), ManifestRefusal> {
        match self.unsafe_line.filter(|_| self.are_used) {
            Some(line) => {
                let fault = ManifestFault::Malformed("a representation's id that cannot stand in a segment's name");
                Err(ManifestRefusal { line, fault })
            }
            None => Ok(()),
        }
    }
}

impl<'a> Document<'a> {
    fn event(&mut self, event: &Event<'a>, place: Range<usize>) -> Result<(), ManifestFault> {
        match event {
            Event::Start(element) => self.start(element, &place, false),
            Event::Empty(element) => self.start(element, &place, true),
            Event::End(_) => self.end(place.start),
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => self.content(event, place),
            Event::DocType(_) => Err(ManifestFault::Malformed("a DOCTYPE, which could hide URIs in entities")),
            Event::Decl(declaration) => match declaration.encoding() {
                Some(Ok(name)) if !name.eq_ignore_ascii_case(b"utf-8") && !name.eq_ignore_ascii_case(b"us-ascii") => {
                    Err(ManifestFault::Malformed("an encoding other than UTF-8"))
                }
                Some(Err(_)) => Err(ManifestFault::Malformed("an XML declaration that cannot be read")),
                Some(Ok(_)) | None => Ok(()),
            },
            Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
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
        self.levels.check_root(name)?;
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|_| ManifestFault::Malformed("an attribute that cannot be read"))?;
            self.attribute(name, attribute.key, &attribute.value, place.start)?;
        }
        if is_empty {
            self.levels.pass_empty(name);
            return Ok(());
        }
        match name {
            b"BaseURL" | b"Location" | b"PatchLocation" | b"ContentSteering" | b"ImportedMPD" => {
                self.uri = Some(UriElement { is_base: name == b"BaseURL", start: place.end, text: String::new() });
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
        let uri = element.text.trim();
        if element.is_base {
            let replacement = self.levels.add_base(&self.judge, uri)?;
            if let Some(text) = replacement {
                self.edits.replace(element.start..start, &escape(&*text));
            }
            return Ok(());
        }
        if let Some(text) = self.levels.judge_document(&self.judge, uri)? {
            self.edits.replace(element.start..start, &escape(&*text));
        }
        Ok(())
    }

    /// Adds text to the URI that is under way.
    fn content(&mut self, event: &Event<'a>, place: Range<usize>) -> Result<(), ManifestFault> {
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
        start: usize,
    ) -> Result<(), ManifestFault> {
        let text = || {
            let raw = std::str::from_utf8(value).ok()?;
            unescape(raw).ok()
        };
        let unreadable = ManifestFault::Malformed("an attribute that cannot be read");
        match (element, key.local_name().as_ref()) {
            (b"MPD", b"type") => self.is_dynamic = value == b"dynamic",
            (b"Representation", b"id") => {
                let is_known = self.names.unsafe_line.is_some();
                if !is_known && !text().is_some_and(|id| segment_template::is_safe_id(&id)) {
                    self.names.unsafe_line = Some(line_of(self.text.as_bytes(), start));
                }
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
                let template = SegmentTemplate::parse(&text);
                self.names.are_used |= template.has_representation_id();
                let replacement = self.levels.judge_inherited(&self.judge, template.example())?;
                if let Some(example) = replacement {
                    self.replace(value, &template.restore(&example));
                }
            }
            (_, b"href") => {
                let text = text().ok_or(unreadable)?;
                if text.trim() == RESOLVE_TO_ZERO {
                    return Ok(());
                }
                if let Some(text) = self.levels.judge_once(&self.judge, text.trim())? {
                    self.replace(value, &text);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts `text` in the place of an attribute's value, a part of the manifest.
    fn replace(&mut self, value: &[u8], text: &str) {
        let start = value.as_ptr().addr() - self.text.as_ptr().addr();
        self.edits.replace(start..start + value.len(), &escape(text));
    }
}
