//! XSPF 1. Documents with a type or entities of their own are refused, so that no text is more than its bytes.

use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::Event;

use super::location::{MAX_LOCATION_BYTES, location_of_track, track_of_location};
use super::{Entry, FormatError, MAX_ENTRIES, ParsedPlaylist, duration, plain, plain_of};
use crate::bodies::MAX_DESCRIPTION_BYTES;
use crate::playlist::Playlist;
use primitives::ids::TrackId;

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 32;
/// Most elements of a file that are read: a longer file is refused whole.
const MAX_ELEMENTS: usize = 20 * MAX_ENTRIES;
/// Most bytes of an element's text that are kept: more than any location that names a track, even when a character is left out
/// at the end, and than any text that is taken over.
const MAX_ELEMENT_BYTES: usize = MAX_LOCATION_BYTES + 4;

/// Meaning of an element that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Other,
    Playlist,
    Name,
    Annotation,
    TrackList,
    Track,
    Location,
    Identifier,
    Title,
    Creator,
    Duration,
}

/// Document as far as it was read.
#[derive(Default)]
struct Document {
    parsed: ParsedPlaylist,
    depth: Vec<Element>,
    elements: usize,
    is_xspf: bool,
    name: String,
    annotation: String,
    entry: Entry,
    /// Track that an identifier names, for an entry whose locations name none.
    identified: Option<TrackId>,
    duration: String,
    /// Text of the element that is open.
    text: String,
}

/// Parses XSPF.
pub fn parse(text: &str) -> Result<ParsedPlaylist, FormatError> {
    let bad = |_| FormatError::BadXml;
    let mut reader = Reader::from_str(text);
    let mut document = Document::default();
    loop {
        match reader.read_event().map_err(|_| FormatError::BadXml)? {
            Event::Start(element) => document.start(element.local_name().as_ref())?,
            Event::Empty(element) => {
                document.start(element.local_name().as_ref())?;
                document.end()?;
            }
            Event::End(_) => document.end()?,
            Event::Text(content) => document.add_text(std::str::from_utf8(&content).map_err(bad)?),
            Event::CData(content) => document.add_text(std::str::from_utf8(&content).map_err(bad)?),
            Event::GeneralRef(reference) => {
                let name = std::str::from_utf8(&reference).map_err(bad)?;
                // The five names of XML and numbers of characters: no text becomes longer by them.
                document.add_text(&unescape(&format!("&{name};")).map_err(|_| FormatError::BadXml)?);
            }
            Event::DocType(_) => return Err(FormatError::BadXml),
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
    if !document.depth.is_empty() {
        return Err(FormatError::BadXml);
    }
    if !document.is_xspf {
        return Err(FormatError::NotXspf);
    }
    let description = plain_of(&document.annotation, MAX_DESCRIPTION_BYTES);
    Ok(ParsedPlaylist { name: plain(&document.name), description, ..document.parsed })
}

impl Document {
    fn start(&mut self, name: &[u8]) -> Result<(), FormatError> {
        if self.depth.len() >= MAX_DEPTH {
            return Err(FormatError::BadXml);
        }
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(FormatError::TooManyElements);
        }
        let element = match (self.depth.last(), name) {
            (None, b"playlist") => Element::Playlist,
            (Some(Element::Playlist), b"title") => Element::Name,
            (Some(Element::Playlist), b"annotation") => Element::Annotation,
            (Some(Element::Playlist), b"trackList") => Element::TrackList,
            (Some(Element::TrackList), b"track") => Element::Track,
            (Some(Element::Track), b"location") => Element::Location,
            (Some(Element::Track), b"identifier") => Element::Identifier,
            (Some(Element::Track), b"title") => Element::Title,
            (Some(Element::Track), b"creator") => Element::Creator,
            (Some(Element::Track), b"duration") => Element::Duration,
            _ => Element::Other,
        };
        self.is_xspf |= element == Element::Playlist;
        self.depth.push(element);
        self.text.clear();
        Ok(())
    }

    fn add_text(&mut self, text: &str) {
        if !matches!(self.depth.last(), None | Some(Element::Other)) {
            let room = MAX_ELEMENT_BYTES.saturating_sub(self.text.len());
            self.text.push_str(&text[..text.floor_char_boundary(room)]);
        }
    }

    fn end(&mut self) -> Result<(), FormatError> {
        let text = std::mem::take(&mut self.text);
        match self.depth.pop() {
            Some(Element::Name) => self.name = text,
            Some(Element::Annotation) => self.annotation = text,
            // A track may have several, of which the first that names a track is enough. Each is parsed once.
            Some(Element::Location) => {
                self.entry.track = self.entry.track.take().or_else(|| track_of_location(text.trim()))
            }
            Some(Element::Identifier) => {
                self.identified = self.identified.take().or_else(|| track_of_location(text.trim()))
            }
            Some(Element::Title) => self.entry.title = text,
            Some(Element::Creator) => self.entry.artist = text,
            Some(Element::Duration) => self.duration = text,
            Some(Element::Track) => return self.end_track(),
            Some(Element::Playlist | Element::TrackList | Element::Other) | None => {}
        }
        Ok(())
    }

    fn end_track(&mut self) -> Result<(), FormatError> {
        let (mut entry, identified) = (std::mem::take(&mut self.entry), self.identified.take());
        entry.duration_ms = std::mem::take(&mut self.duration).trim().parse().ok().and_then(duration);
        entry.track = entry.track.or(identified);
        self.parsed.push(entry)
    }
}

/// Returns the XSPF of a playlist.
pub fn write(playlist: &Playlist) -> String {
    let mut file = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    file.push_str("<playlist version=\"1\" xmlns=\"http://xspf.org/ns/0/\">\n");
    push_element(&mut file, "  ", "title", &playlist.head.name);
    if let Some(description) = &playlist.head.description {
        push_element(&mut file, "  ", "annotation", description);
    }
    file.push_str("  <trackList>\n");
    for item in &playlist.items {
        file.push_str("    <track>\n");
        let mut push = |name: &str, text: &str| push_element(&mut file, "      ", name, text);
        push("location", &location_of_track(&item.track));
        item.title.iter().for_each(|title| push("title", title));
        item.artist.iter().for_each(|artist| push("creator", artist));
        item.duration_ms.iter().for_each(|millis| push("duration", &millis.to_string()));
        file.push_str("    </track>\n");
    }
    file.push_str("  </trackList>\n</playlist>\n");
    file
}

fn push_element(file: &mut String, indent: &str, name: &str, text: &str) {
    // XML has no sign for the last two code points of a plane, nor for most control characters.
    let is_sign = |c: &char| (*c as u32) & 0xfffe != 0xfffe && (!c.is_control() || *c == '\n');
    let text: String = text.chars().filter(is_sign).collect();
    file.push_str(&format!("{indent}<{name}>{}</{name}>\n", escape(&text)));
}
