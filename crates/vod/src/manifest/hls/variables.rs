//! Variables of a playlist (EXT-X-DEFINE, draft-pantos-hls-rfc8216bis §4.3), which could hide where a URI leads.

use std::borrow::Cow;
use std::collections::HashMap;

use super::attributes::Attribute;
use crate::manifest::{MAX_MANIFEST_BYTES, ManifestFault};

/// Longest URI after substitution, in bytes: a few variables of variables' length must not fill the memory.
const MAX_URI_BYTES: usize = 8192;
/// Most variables of a playlist.
const MAX_VARIABLES: usize = 256;

/// The variables that are defined so far; `None` for one whose value is in another playlist or in the URL.
#[derive(Default)]
pub struct Variables {
    values: HashMap<Box<str>, Option<Box<str>>>,
    /// Bytes of all URIs that variables were filled in to.
    substituted: usize,
}

/// Definition of variables, with the playlist that it is in.
pub struct Definition<'a> {
    pub manifest: &'a [u8],
    pub attributes: &'a [Attribute],
}

impl Variables {
    /// Takes the variable of an EXT-X-DEFINE. A second definition is refused: players differ in which one counts.
    pub fn define(&mut self, definition: &Definition<'_>) -> Result<(), ManifestFault> {
        let value = |name: &[u8]| {
            let found = definition.attributes.iter().find(|attribute| attribute.name(definition.manifest) == name);
            let text = found.map(|attribute| std::str::from_utf8(attribute.value(definition.manifest)));
            text.transpose().map_err(|_| ManifestFault::Malformed("a variable that is not UTF-8"))
        };
        let name = value(b"NAME")?;
        let (name, text) = match (name, value(b"IMPORT")?, value(b"QUERYPARAM")?) {
            (Some(name), None, None) => (name, value(b"VALUE")?),
            (None, Some(name), None) | (None, None, Some(name)) => (name, None),
            _ => return Err(ManifestFault::Malformed("EXT-X-DEFINE has not one of NAME, IMPORT and QUERYPARAM")),
        };
        if self.values.len() == MAX_VARIABLES {
            return Err(ManifestFault::Malformed("more than 256 variables"));
        }
        match self.values.insert(name.into(), text.map(Into::into)) {
            Some(_) => Err(ManifestFault::Malformed("a variable is defined twice")),
            None => Ok(()),
        }
    }

    /// Returns the URI with the values of its variables. One whose value is not known may stand in the query only, where it
    /// cannot change which object is meant.
    pub fn substitute<'t>(&mut self, uri: &'t str) -> Result<Cow<'t, str>, ManifestFault> {
        let Some(first) = uri.find("{$") else { return Ok(Cow::Borrowed(uri)) };
        let mut text = uri[..first].to_owned();
        let mut rest = &uri[first..];
        let mut has_query = text.contains('?');
        while let Some(start) = rest.find("{$") {
            let (before, reference) = rest.split_at(start);
            let end = reference.find('}').ok_or(ManifestFault::UnknownVariable)?;
            has_query |= before.contains('?');
            text.push_str(before);
            match self.values.get(&reference[2..end]) {
                Some(Some(value)) => {
                    has_query |= value.contains('?');
                    text.push_str(value);
                }
                _ if has_query => text.push_str(&reference[..=end]),
                _ => return Err(ManifestFault::UnknownVariable),
            }
            if text.len() > MAX_URI_BYTES {
                return Err(ManifestFault::Malformed("a URI of more than 8,192 bytes"));
            }
            rest = &reference[end + 1..];
        }
        text.push_str(rest);
        // A short line may be a long URI, and there may be many of them: all are judged, and may be written out.
        self.substituted += text.len();
        if self.substituted > MAX_MANIFEST_BYTES {
            return Err(ManifestFault::TooLarge);
        }
        Ok(Cow::Owned(text))
    }
}
