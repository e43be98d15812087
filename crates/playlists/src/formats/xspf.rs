//! XSPF 1. Documents with a type or entities of their own are refused, so that no text is more than its bytes.

use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::Event;

use super::location::{location_of_track, track_of_location};
use super::{Entry, FormatError, ParsedPlaylist, plain};
use crate::playlist::Playlist;

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 32;

/// Meaning of an element that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Other,
    Playlist,
    Name,
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
    is_xspf: bool,
    name: String,
    entry: Entry,
    identifier: String,
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
    Ok(ParsedPlaylist { name: plain(&document.name), ..document.parsed })
}

impl Document {
    fn start(&mut self, name: &[u8]) -> Result<(), FormatError> {
        if self.depth.len() >= MAX_DEPTH {
            return Err(FormatError::BadXml);
        }
        let element = match (self.depth.last(), name) {
            (None, b"playlist") => Element::Playlist,
            (Some(Element::Playlist), b"title") => Element::Name,
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
            self.text.push_str(text);
        }
    }

    fn end(&mut self) -> Result<(), FormatError> {
        let text = std::mem::take(&mut self.text);
        match self.depth.pop() {
            Some(Element::Name) => self.name = text,
            // A track may have several, of which one is enough.
            Some(Element::Location) => set_location(&mut self.entry.location, text),
            Some(Element::Identifier) => set_location(&mut self.identifier, text),
            Some(Element::Title) => self.entry.title = text,
            Some(Element::Creator) => self.entry.artist = text,
            Some(Element::Duration) => self.duration = text,
            Some(Element::Track) => return self.end_track(),
            Some(Element::Playlist | Element::TrackList | Element::Other) | None => {}
        }
        Ok(())
    }

    fn end_track(&mut self) -> Result<(), FormatError> {
        let (mut entry, identifier) = (std::mem::take(&mut self.entry), std::mem::take(&mut self.identifier));
        entry.duration_ms = std::mem::take(&mut self.duration).trim().parse().ok().filter(|millis| *millis > 0);
        set_location(&mut entry.location, identifier);
        self.parsed.push(entry)
    }
}

/// Takes over a location, unless the one that is there names a track.
fn set_location(there: &mut String, new: String) {
    if track_of_location(there.trim()).is_none() {
        *there = new;
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
