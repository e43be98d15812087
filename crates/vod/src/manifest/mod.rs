//! Manifests of films on their way to players: every URI in them is judged, so that a player that follows them stays below
//! the path of its grant. A manifest whose URIs all do passes byte for byte; a URI of the store becomes relative; any other
//! makes the manifest refused, with the line for the operator.
//!
//! Pure: bytes in, bytes out. Must not know tokens, requests or the store. HLS: RFC 8216 and draft-pantos-hls-rfc8216bis;
//! DASH: ISO/IEC 23009-1; references: RFC 3986 §5 as browsers read it (WHATWG URL).

mod checks;
pub mod dash;
mod disguise;
mod film_uris;
pub mod hls;

pub use checks::{ManifestChecks, ManifestMemory, ManifestReader, ServedManifest, SharedManifest, ViewerPlace};
pub use disguise::is_manifest;
pub use film_uris::{FilmFolder, ManifestRules};

use std::time::Duration;

use crate::session::ManifestType;

/// Longest manifest in bytes: 5 MB.
pub const MAX_MANIFEST_BYTES: usize = 5_000_000;

/// A manifest that players may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedManifest {
    /// The manifest with its URIs made relative; `None` where it passes as it is.
    pub rewritten: Option<Vec<u8>>,
    /// Time after which a player asks for a live manifest again; `None` where the manifest does not change.
    pub refresh: Option<Duration>,
}

/// Reason for which a manifest is not served, with its line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the manifest: {fault}")]
pub struct ManifestRefusal {
    /// Line, counted from 1.
    pub line: usize,
    /// Fault of the line.
    pub fault: ManifestFault,
}

/// Fault for which a manifest is not served. The texts are for the operator: they name hosts, and never a whole URI, which
/// may be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    /// More bytes than are read.
    #[error("it has more than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge,
    /// A URI names a host that is neither the store nor allowed.
    #[error("a URI names the host `{host}`; expected the store's, or one of `Vod.AllowedHosts`")]
    ForeignHost {
        /// The host.
        host: String,
    },
    /// A URI leads out of the film's folder.
    #[error("a URI leads out of the film's folder")]
    OutsideFolder,
    /// A URI has another scheme than http or https.
    #[error("a URI has the scheme `{scheme}`; expected http or https")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// A manifest in a file that is not named as one.
    #[error("a manifest in a file whose name says something else; expected `.m3u8`, `.m3u` or `.mpd`")]
    Disguised,
    /// A URI of something that players follow further, and that nobody would check.
    #[error("a URI of {0}, which is not checked; expected {1}")]
    UncheckedDocument(&'static str, &'static str),
    /// A URI that players read differently from each other.
    #[error("a URI that players read differently: {0}")]
    AmbiguousUri(&'static str),
    /// A variable in a URI whose value is not known (EXT-X-DEFINE).
    #[error("a URI uses a variable whose value is not in the playlist")]
    UnknownVariable,
    /// Something that players read differently from each other, or that is no manifest of its kind.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Checks a manifest at `path` in the film's folder, such as `720p/index.m3u8`.
pub fn check(
    kind: ManifestType,
    manifest: &[u8],
    path: &str,
    folder: &FilmFolder<'_>,
) -> Result<CheckedManifest, ManifestRefusal> {
    if manifest.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestRefusal { line: 1, fault: ManifestFault::TooLarge });
    }
    match kind {
        ManifestType::Hls => hls::check(manifest, path, folder),
        ManifestType::Dash => dash::check(manifest, path, folder),
    }
}

/// Returns the kind of the manifest that a file of this name is; `None` for every other file.
pub fn kind_of(name: &str) -> Option<ManifestType> {
    let (_, extension) = name.rsplit_once('.')?;
    if extension.eq_ignore_ascii_case("m3u8") || extension.eq_ignore_ascii_case("m3u") {
        Some(ManifestType::Hls)
    } else if extension.eq_ignore_ascii_case("mpd") {
        Some(ManifestType::Dash)
    } else {
        None
    }
}

/// Replacements in a manifest, which leave all other bytes as they are.
struct ManifestEdits<'a> {
    source: &'a [u8],
    rewritten: Vec<u8>,
    copied: usize,
}

impl<'a> ManifestEdits<'a> {
    fn new(source: &'a [u8]) -> Self {
        Self { source, rewritten: Vec::new(), copied: 0 }
    }

    /// Puts `text` in the place of `range`, which must lie behind the ranges before. Fails where the manifest becomes longer
    /// than one may be.
    fn replace(&mut self, range: std::ops::Range<usize>, text: &str) -> Result<(), ManifestFault> {
        self.rewritten.extend_from_slice(&self.source[self.copied..range.start]);
        self.rewritten.extend_from_slice(text.as_bytes());
        self.copied = range.end;
        match self.rewritten.len() > MAX_MANIFEST_BYTES {
            true => Err(ManifestFault::TooLarge),
            false => Ok(()),
        }
    }

    /// Returns the whole manifest; `None` where nothing was replaced.
    fn finish(mut self) -> Option<Vec<u8>> {
        if self.copied == 0 {
            return None;
        }
        self.rewritten.extend_from_slice(&self.source[self.copied..]);
        Some(self.rewritten)
    }
}

/// Returns the number of the line in which the byte at `offset` is, counted from 1.
fn line_of(manifest: &[u8], offset: usize) -> usize {
    1 + manifest[..offset.min(manifest.len())].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests;
