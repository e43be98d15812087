//! Tracks as files name them: by the path that streams them, or by the bare id.

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use url::Url;

use primitives::ids::TrackId;
use server_kit::url_template::UNRESERVED;

/// Longest location that may name a track, in bytes: an id with every byte escaped, under a long name of a server.
pub const MAX_LOCATION_BYTES: usize = 4096;
const BEFORE_ID: &str = "/api/v1/tracks/";
const AFTER_ID: &str = "/stream";

/// Returns the location of a track: a path of this server, since a file may be read under any of its names.
pub fn location_of_track(track: &TrackId) -> String {
    format!("{BEFORE_ID}{}{AFTER_ID}", utf8_percent_encode(track.as_str(), UNRESERVED))
}

/// Returns the track of a location; `None` for one of something else.
pub fn track_of_location(location: &str) -> Option<TrackId> {
    if location.len() > MAX_LOCATION_BYTES {
        return None;
    }
    let path = match Url::parse(location) {
        Ok(url) if url.has_host() => url.path().to_owned(),
        Ok(_) if location.contains(['/', '\\']) => return None,
        // `urn:isrc:…` may be an id.
        _ => location.to_owned(),
    };
    if let Some((_, rest)) = path.split_once(BEFORE_ID) {
        let id = rest.split(['?', '#']).next()?.strip_suffix(AFTER_ID)?;
        let id = percent_decode_str(id).decode_utf8().ok().filter(|_| !id.contains('/'))?;
        return TrackId::parse(id.into_owned());
    }
    // A file in some folder is no track, though an id may look like one.
    let is_bare = path == location && !location.starts_with(['/', '.']) && !location.contains('\\');
    is_bare.then(|| TrackId::parse(location)).flatten()
}
