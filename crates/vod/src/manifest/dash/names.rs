//! Names of the schema (ISO/IEC 23009-1 annex B) that decide where a player goes. Some players find them in any case, or
//! whatever prefix they have: only one spelling passes.

use crate::manifest::ManifestFault;

const ELEMENTS: [&[u8]; 24] = [
    b"MPD",
    b"Period",
    b"AdaptationSet",
    b"Representation",
    b"SubRepresentation",
    b"BaseURL",
    b"Location",
    b"PatchLocation",
    b"ContentSteering",
    b"ImportedMPD",
    b"SegmentBase",
    b"SegmentList",
    b"SegmentTemplate",
    b"SegmentTimeline",
    b"SegmentURL",
    b"Initialization",
    b"RepresentationIndex",
    b"BitstreamSwitching",
    b"ContentProtection",
    b"UTCTiming",
    b"Event",
    b"EventStream",
    b"Metrics",
    b"ProgramInformation",
];
const ATTRIBUTES: [&[u8]; 15] = [
    b"id",
    b"type",
    b"bandwidth",
    b"media",
    b"initialization",
    b"index",
    b"bitstreamSwitching",
    b"sourceURL",
    b"href",
    b"base",
    b"startNumber",
    b"endNumber",
    b"timescale",
    b"duration",
    b"presentationTimeOffset",
];

/// Checks the name of an element, of which `local` is the part behind a prefix.
pub fn check_element(name: &[u8], local: &[u8]) -> Result<(), ManifestFault> {
    check_characters(name)?;
    let known = ELEMENTS.iter().find(|known| known.eq_ignore_ascii_case(local));
    match known {
        Some(known) if *known != local => Err(ManifestFault::Malformed("an element of the schema in another case")),
        Some(_) if name != local => Err(ManifestFault::Malformed("an element of the schema with a prefix")),
        _ => Ok(()),
    }
}

/// Checks the name of an attribute, of which `local` is the part behind a prefix.
pub fn check_attribute(name: &[u8], local: &[u8]) -> Result<(), ManifestFault> {
    check_characters(name)?;
    match ATTRIBUTES.iter().any(|known| known.eq_ignore_ascii_case(local) && *known != local) {
        true => Err(ManifestFault::Malformed("an attribute of the schema in another case")),
        false => Ok(()),
    }
}

fn check_characters(name: &[u8]) -> Result<(), ManifestFault> {
    match name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte)) {
        true => Ok(()),
        false => Err(ManifestFault::Malformed("a name of other characters than letters, digits and `-_.:`")),
    }
}

/// Checks that a value which stands in segments' names is a number.
pub fn check_number(element: &[u8], attribute: &[u8], value: &[u8]) -> Result<(), ManifestFault> {
    let is_number = matches!(
        (element, attribute),
        (b"Representation" | b"SubRepresentation", b"bandwidth")
            | (b"S", b"t" | b"d" | b"r" | b"n" | b"k")
            | (
                b"SegmentTemplate" | b"SegmentList" | b"SegmentBase",
                b"startNumber" | b"endNumber" | b"timescale" | b"duration" | b"presentationTimeOffset"
            )
    );
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    match is_number && (digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit)) {
        true => Err(ManifestFault::Malformed("a number that is none, and stands in segments' names")),
        false => Ok(()),
    }
}
