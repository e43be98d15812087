//! HLS playlists (RFC 8216): a tokenizer of lines, which leaves every byte alone that is no URI. URIs are the lines without
//! `#`, and the attributes `URI`, `SERVER-URI` and `X-ASSET-…` of any tag: keys, maps, renditions, I-frame playlists,
//! session data, parts, hints, reports, steering, interstitials, and tags that are yet to come.
//!
//! Players differ in what a line is and where a tag begins (hls.js searches for tags within lines, and ends a line at a lone
//! CR). What they would read differently is refused.

mod attributes;
mod variables;

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use attributes::{Attribute, attributes};
use variables::{Definition, Variables};

use super::film_uris::{BaseUris, FilmFolder, UriJudge, UriPurpose};
use super::{CheckedManifest, ManifestEdits, ManifestFault, ManifestRefusal, line_of};

/// Time after which a live playlist without a target duration is asked for again.
const DEFAULT_REFRESH: Duration = Duration::from_secs(1);
/// U+FEFF, which may stand before a playlist.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Longest target duration that is believed.
const MAX_TARGET_DURATION: u64 = 3600;

/// Checks a playlist at `path` in the film's folder.
pub fn check(manifest: &[u8], path: &str, folder: &FilmFolder<'_>) -> Result<CheckedManifest, ManifestRefusal> {
    check_characters(manifest)?;
    let Some((judge, base)) = UriJudge::new(folder, path) else {
        return Err(ManifestRefusal { line: 1, fault: ManifestFault::OutsideFolder });
    };
    let mut playlist = Playlist::new(manifest, judge, base);
    let mut start = manifest.strip_prefix(BYTE_ORDER_MARK).map_or(0, |_| BYTE_ORDER_MARK.len());
    if !manifest[start..].starts_with(b"#EXTM3U") {
        return Err(ManifestRefusal { line: 1, fault: ManifestFault::Malformed("it does not begin with #EXTM3U") });
    }
    let mut number = 0;
    while start < manifest.len() {
        number += 1;
        let length = manifest[start..].iter().position(|byte| *byte == b'\n');
        let end = length.map_or(manifest.len(), |length| start + length);
        let is_last = length.is_none();
        playlist.line(start..end, is_last).map_err(|fault| ManifestRefusal { line: number, fault })?;
        start = end + 1;
    }
    let refresh = playlist.refresh();
    Ok(CheckedManifest { rewritten: playlist.edits.finish(), refresh })
}

/// Checks that every player finds the same lines: no control characters but the ends of lines and tabs (RFC 8216 §4.1), and
/// no CR but before LF.
fn check_characters(manifest: &[u8]) -> Result<(), ManifestRefusal> {
    let refused =
        |at, text| Err(ManifestRefusal { line: line_of(manifest, at), fault: ManifestFault::Malformed(text) });
    for (at, &byte) in manifest.iter().enumerate() {
        match byte {
            b' '..=b'~' | b'\n' => {}
            b'\t' => {}
            b'\r' if manifest.get(at + 1) == Some(&b'\n') || at + 1 == manifest.len() => {}
            b'\r' => return refused(at, "a CR without LF, which ends a line for some players only"),
            0x80.. => {}
            _ => return refused(at, "a control character"),
        }
    }
    let Ok(text) = std::str::from_utf8(manifest) else { return refused(0, "it is not UTF-8") };
    // C1 controls and U+2028 and U+2029 end a line for some, and U+FEFF is white space for some.
    let is_unclear = |c: char| !c.is_ascii() && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'));
    match text.char_indices().find(|(at, c)| *at > 0 && is_unclear(*c)) {
        Some((at, _)) => refused(at, "a character that ends a line, or is white space, for some players only"),
        None => Ok(()),
    }
}

/// A playlist as far as it has been read.
struct Playlist<'a> {
    manifest: &'a [u8],
    judge: UriJudge<'a>,
    base: BaseUris,
    variables: Variables,
    edits: ManifestEdits<'a>,
    /// Beginning of the last segment's URI that was replaced, up to its name, and the text in its place: segments lie side
    /// by side, and the next one need not be resolved.
    folder: Option<(&'a [u8], String)>,
    target_duration: Option<u64>,
    /// True once a segment was found: a multivariant playlist has none, and does not change.
    has_segments: bool,
    has_end: bool,
    /// True once another playlist was found.
    has_variants: bool,
    /// Meaning of the next URI that is a line.
    announced: Announced,
}

/// Meaning of a line that is a URI, by the tags before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    Nothing,
    Segment,
    Variant,
}

impl<'a> Playlist<'a> {
    fn new(manifest: &'a [u8], judge: UriJudge<'a>, base: BaseUris) -> Self {
        Self {
            manifest,
            judge,
            base,
            variables: Variables::default(),
            edits: ManifestEdits::new(manifest),
            folder: None,
            target_duration: None,
            has_segments: false,
            has_end: false,
            has_variants: false,
            announced: Announced::Nothing,
        }
    }

    fn line(&mut self, range: Range<usize>, is_last: bool) -> Result<(), ManifestFault> {
        let start = range.start;
        let range = trimmed(self.manifest, range);
        let line = &self.manifest[range.clone()];
        if line.get(1..).is_some_and(has_tag) {
            return Err(ManifestFault::Malformed("a tag within a line, which only some players see"));
        }
        match line.first() {
            None => Ok(()),
            Some(b'#') if range.start > start => {
                Err(ManifestFault::Malformed("white space before a `#`, which some players read as a part of a URI"))
            }
            Some(b'#') => self.tag(range, is_last),
            Some(_) => {
                let purpose = match std::mem::replace(&mut self.announced, Announced::Nothing) {
                    Announced::Segment => UriPurpose::Media,
                    // A list without tags may be one of playlists.
                    Announced::Variant | Announced::Nothing => UriPurpose::Playlist,
                };
                self.uri(range, purpose)
            }
        }
    }

    /// Reads a tag or a comment.
    fn tag(&mut self, range: Range<usize>, is_last: bool) -> Result<(), ManifestFault> {
        let line = &self.manifest[range.clone()];
        if let Some(duration) = line.strip_prefix(b"#EXTINF:") {
            self.has_segments = true;
            self.announced = Announced::Segment;
            self.check_level()?;
            return check_duration(duration, is_last);
        }
        if !line.starts_with(b"#EXT") {
            return match line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"#EXT")) {
                true => Err(ManifestFault::Malformed("a tag that is not in capitals")),
                false => Ok(()),
            };
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, rest) = line.split_at(colon.unwrap_or(line.len()));
        match name {
            b"#EXT-X-ENDLIST" => self.has_end = true,
            b"#EXT-X-TARGETDURATION" => {
                self.has_segments = true;
                self.target_duration = number(&rest[1.min(rest.len())..]);
                self.check_level()?;
            }
            b"#EXT-X-STREAM-INF" => {
                (self.has_variants, self.announced) = (true, Announced::Variant);
                self.check_level()?;
            }
            b"#EXT-X-DEFINE" => {
                let attributes = attributes(self.manifest, after_colon(&range, colon))?;
                return self.variables.define(&Definition { manifest: self.manifest, attributes: &attributes });
            }
            b"#EXT-X-PART" | b"#EXT-X-PRELOAD-HINT" => self.has_segments = true,
            _ => {}
        }
        if !has_uri(rest) {
            return Ok(());
        }
        let attributes = attributes(self.manifest, after_colon(&range, colon))?;
        if is_drm_key(name, self.manifest, &attributes) {
            return Ok(());
        }
        for attribute in attributes.iter().filter(|attribute| attribute.is_uri(self.manifest)) {
            self.uri(attribute.value.clone(), purpose_of(name, attribute.name(self.manifest)))?;
        }
        Ok(())
    }

    /// Checks that it lists segments or playlists: players differ in what a playlist with both is.
    fn check_level(&self) -> Result<(), ManifestFault> {
        match self.has_segments && self.has_variants {
            true => Err(ManifestFault::Malformed("segments and playlists in one playlist")),
            false => Ok(()),
        }
    }

    /// Judges the URI at `range`.
    fn uri(&mut self, range: Range<usize>, purpose: UriPurpose) -> Result<(), ManifestFault> {
        let raw = &self.manifest[range.clone()];
        if UriJudge::is_plainly_inside(raw) && matches!(purpose, UriPurpose::Media | UriPurpose::Key) {
            return Ok(());
        }
        if let Some((folder, replacement)) = self.folder.as_ref().filter(|_| purpose == UriPurpose::Media)
            && let Some(name) = raw.strip_prefix(*folder).filter(|name| is_plain_name(name))
        {
            let text = format!("{replacement}{}", String::from_utf8_lossy(name));
            return self.edits.replace(range, &text);
        }
        let raw = std::str::from_utf8(raw).map_err(|_| ManifestFault::Malformed("a URI that is not UTF-8"))?;
        let uri = self.variables.substitute(raw)?;
        let judged = self.judge.judge(&uri, &self.base, purpose)?;
        let replacement = match (judged.replacement, &uri) {
            // Players that do not know variables read the URI as it stands.
            (None, Cow::Owned(uri)) => {
                let literal = self.judge.judge(raw, &self.base, purpose);
                let is_same = literal.is_ok_and(|literal| literal.replacement.is_none());
                (!is_same).then(|| uri.clone())
            }
            (replacement, _) => replacement,
        };
        if let Some(text) = replacement {
            if text.contains("{$") {
                return Err(ManifestFault::UnknownVariable);
            }
            self.edits.replace(range, &text)?;
            let name = raw.len() - raw.rfind('/').map_or(0, |slash| slash + 1);
            let (folder, name) = raw.as_bytes().split_at(raw.len() - name);
            if purpose == UriPurpose::Media && is_plain_name(name) && !raw.contains(['?', '#', '{']) {
                let start = std::str::from_utf8(name).ok().and_then(|name| text.strip_suffix(name));
                self.folder = start.map(|start| (folder, start.to_owned()));
            }
        }
        Ok(())
    }

    /// Time after which a player asks again: half the target duration (RFC 8216 §6.3.4).
    fn refresh(&self) -> Option<Duration> {
        if self.has_end || !self.has_segments {
            return None;
        }
        let seconds = self.target_duration.map(|seconds| seconds.min(MAX_TARGET_DURATION));
        Some(seconds.map_or(DEFAULT_REFRESH, |seconds| Duration::from_millis(seconds * 500)))
    }
}

/// Returns true for a name that means the file of that name in whatever folder it stands behind.
fn is_plain_name(name: &[u8]) -> bool {
    UriJudge::is_plainly_inside(name) && !name.contains(&b'/')
}

/// Checks what stands behind `#EXTINF:`. Without a comma hls.js takes the rest of the line for the URI, and with one but
/// without the line's end the last word of the title.
fn check_duration(text: &[u8], is_last: bool) -> Result<(), ManifestFault> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(text.len());
    match text.get(end) {
        _ if end == 0 => Err(ManifestFault::Malformed("a segment without a duration")),
        None => Ok(()),
        Some(b',') if !is_last => Ok(()),
        Some(b',') => Err(ManifestFault::Malformed("the last line is a segment's duration, and no segment follows")),
        Some(_) => Err(ManifestFault::Malformed("a segment's duration with something other than a comma behind it")),
    }
}

/// Returns true for a key that only a DRM system can mean: its URI has a scheme that no player asks anything by, and its
/// format and method are such a system's. A player without that system reads the URI itself, and with AES-128 each does.
fn is_drm_key(name: &[u8], manifest: &[u8], attributes: &[Attribute]) -> bool {
    const METHODS: [&[u8]; 4] = [b"SAMPLE-AES", b"SAMPLE-AES-CTR", b"SAMPLE-AES-CENC", b"ISO-23001-7"];
    const FORMATS: [&[u8]; 3] = [b"com.apple.streamingkeydelivery", b"com.microsoft.playready", b"com.widevine"];
    let value = |name: &[u8]| {
        let found = attributes.iter().find(|attribute| attribute.name(manifest) == name);
        found.map(|attribute| attribute.value(manifest)).unwrap_or_default()
    };
    let is_uuid = |format: &[u8]| {
        let uuid = format.strip_prefix(b"urn:uuid:");
        uuid.is_some_and(|uuid| !uuid.is_empty() && uuid.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-'))
    };
    let (format, uri) = (value(b"KEYFORMAT"), value(b"URI"));
    matches!(name, b"#EXT-X-KEY" | b"#EXT-X-SESSION-KEY")
        && METHODS.contains(&value(b"METHOD"))
        && (FORMATS.contains(&format) || is_uuid(format))
        && (uri.starts_with(b"skd://") || uri.starts_with(b"data:"))
        && uri.is_ascii()
}

/// Returns the purpose of the URI in an attribute of a tag.
fn purpose_of(tag: &[u8], attribute: &[u8]) -> UriPurpose {
    match (tag, attribute) {
        (_, b"SERVER-URI" | b"X-ASSET-LIST") => UriPurpose::Document,
        (_, b"X-ASSET-URI")
        | (
            b"#EXT-X-MEDIA"
            | b"#EXT-X-I-FRAME-STREAM-INF"
            | b"#EXT-X-IMAGE-STREAM-INF"
            | b"#EXT-X-STREAM-INF"
            | b"#EXT-X-RENDITION-REPORT",
            _,
        ) => UriPurpose::Playlist,
        (b"#EXT-X-KEY" | b"#EXT-X-SESSION-KEY", _) => UriPurpose::Key,
        _ => UriPurpose::Media,
    }
}

/// Returns true where the attributes of a tag may have a URI among them.
fn has_uri(text: &[u8]) -> bool {
    text.windows(3).any(|word| word.eq_ignore_ascii_case(b"URI"))
        || text.windows(7).any(|word| word.eq_ignore_ascii_case(b"X-ASSET"))
}

/// Returns true where a tag begins in the text.
fn has_tag(text: &[u8]) -> bool {
    text.contains(&b'#') && text.windows(4).any(|word| word.eq_ignore_ascii_case(b"#EXT"))
}

/// The place of a tag's value.
fn after_colon(line: &Range<usize>, colon: Option<usize>) -> Range<usize> {
    colon.map_or(line.end, |colon| line.start + colon + 1)..line.end
}

/// Returns the whole number that a text is.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Returns the range without spaces and tabs, and the CR, around it.
fn trimmed(text: &[u8], range: Range<usize>) -> Range<usize> {
    let line = &text[range.clone()];
    let end = range.start + line.trim_ascii_end().len();
    let start = range.end - line.trim_ascii_start().len();
    start.min(end)..end
}
