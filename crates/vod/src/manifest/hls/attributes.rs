//! Attribute lists of tags (RFC 8216 §4.2), read strictly: what hls.js, ffmpeg and others would read differently is refused.

use std::ops::Range;

use crate::manifest::ManifestFault;

/// Most attributes of one tag: each is compared with those before it.
const MAX_ATTRIBUTES: usize = 64;

/// An attribute, by the places of its name and its value.
pub struct Attribute {
    pub name: Range<usize>,
    /// Without quotes.
    pub value: Range<usize>,
}

impl Attribute {
    /// Returns its name.
    pub fn name<'a>(&self, manifest: &'a [u8]) -> &'a [u8] {
        &manifest[self.name.clone()]
    }

    /// Returns its value, without quotes.
    pub fn value<'a>(&self, manifest: &'a [u8]) -> &'a [u8] {
        &manifest[self.value.clone()]
    }

    /// Returns true if its value is a URI: `URI`, any name that ends so, and the URLs of interstitials.
    pub fn is_uri(&self, manifest: &[u8]) -> bool {
        let name = self.name(manifest);
        name == b"URI" || name.ends_with(b"-URI") || name.starts_with(b"X-ASSET-")
    }
}

/// Reads the attributes in `range`.
pub fn attributes(manifest: &[u8], range: Range<usize>) -> Result<Vec<Attribute>, ManifestFault> {
    let malformed = |what| Err(ManifestFault::Malformed(what));
    let mut attributes: Vec<Attribute> = Vec::new();
    let mut at = range.start;
    let is_at = |at: usize, byte: u8| at < range.end && manifest[at] == byte;
    while at < range.end {
        while is_at(at, b' ') {
            at += 1;
        }
        let start = at;
        // Some players compare names in any case, others do not.
        while at < range.end
            && (manifest[at].is_ascii_uppercase() || manifest[at].is_ascii_digit() || manifest[at] == b'-')
        {
            at += 1;
        }
        let name = start..at;
        if name.is_empty() || !is_at(at, b'=') {
            return malformed("an attribute without a name of capitals, digits and `-`, or without a value");
        }
        // Players differ in which of the two counts.
        if attributes.len() == MAX_ATTRIBUTES {
            return malformed("a tag with more than 64 attributes");
        }
        if attributes.iter().any(|known| known.name(manifest) == &manifest[name.clone()]) {
            return malformed("an attribute that stands twice in its tag");
        }
        at += 1;
        let (value, end) = value(manifest, at..range.end)?;
        at = end;
        while is_at(at, b' ') {
            at += 1;
        }
        if at < range.end {
            if !is_at(at, b',') {
                return malformed("something behind a value other than a comma");
            }
            at += 1;
        }
        attributes.push(Attribute { name, value });
    }
    Ok(attributes)
}

/// Reads the value at the beginning of `range`; returns its place without quotes, and the end of it with them.
fn value(manifest: &[u8], range: Range<usize>) -> Result<(Range<usize>, usize), ManifestFault> {
    let malformed = |what| Err(ManifestFault::Malformed(what));
    let text = &manifest[range.clone()];
    if let Some(text) = text.strip_prefix(b"\"") {
        let Some(length) = text.iter().position(|byte| *byte == b'"') else {
            return malformed("a quoted value without its end");
        };
        // ffmpeg reads `\"` as a quote within the value.
        if length > 0 && text[length - 1] == b'\\' {
            return malformed("a backslash before a quote, which some players read as a part of the value");
        }
        let start = range.start + 1;
        return Ok((start..start + length, start + length + 1));
    }
    let length = text.iter().position(|byte| *byte == b',').unwrap_or(text.len());
    if text[..length].contains(&b'"') {
        return malformed("a quote within a value");
    }
    if !text[..length].is_ascii() {
        return malformed("a character that is not ASCII outside of quotes");
    }
    let end = range.start + length;
    Ok((range.start..end, end))
}
