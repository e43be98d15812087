//! Attribute lists of tags (RFC 8216 §4.2), read strictly: what hls.js, ffmpeg and others would read differently is refused.

use std::ops::Range;

use crate::manifest::ManifestFault;

/// An attribute, by the places of its name and its value.
pub struct Attribute {
    pub name: Range<usize>,
    /// Without quotes.
    pub value: Range<usize>,
}

impl Attribute {
    /// Returns true if it has this name.
    pub fn is(&self, manifest: &[u8], name: &[u8]) -> bool {
        manifest[self.name.clone()].eq_ignore_ascii_case(name)
    }

    /// Returns true if its value is a URI: `URI`, any name that ends so, and the URLs of interstitials.
    pub fn is_uri(&self, manifest: &[u8]) -> bool {
        let name = manifest[self.name.clone()].to_ascii_uppercase();
        name == b"URI" || name.ends_with(b"-URI") || name.starts_with(b"X-ASSET-")
    }
}

/// Reads the attributes in `range`.
pub fn attributes(manifest: &[u8], range: Range<usize>) -> Result<Vec<Attribute>, ManifestFault> {
    let malformed = |what| Err(ManifestFault::Malformed(what));
    let mut attributes = Vec::new();
    let mut at = range.start;
    let is_at = |at: usize, byte: u8| at < range.end && manifest[at] == byte;
    while at < range.end {
        while is_at(at, b' ') {
            at += 1;
        }
        let start = at;
        while at < range.end && (manifest[at].is_ascii_alphanumeric() || b"-_".contains(&manifest[at])) {
            at += 1;
        }
        let name = start..at;
        if name.is_empty() || !is_at(at, b'=') {
            return malformed("an attribute without a name or a value");
        }
        at += 1;
        let value = if is_at(at, b'"') {
            let text = &manifest[at + 1..range.end];
            let Some(length) = text.iter().position(|byte| *byte == b'"') else {
                return malformed("a quoted value without its end");
            };
            // ffmpeg reads `\"` as a quote within the value.
            if length > 0 && text[length - 1] == b'\\' {
                return malformed("a backslash before a quote, which some players read as a part of the value");
            }
            let value = at + 1..at + 1 + length;
            at = value.end + 1;
            value
        } else {
            let start = at;
            while at < range.end && manifest[at] != b',' {
                if manifest[at] == b'"' {
                    return malformed("a quote within a value");
                }
                at += 1;
            }
            start..at
        };
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
