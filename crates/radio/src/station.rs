//! Stations as they are listed.

use url::Url;
use uuid::Uuid;

use crate::source::audio_format::AudioCodec;
use primitives::unix_time::UnixMillis;

/// Station of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its id, of which later ones are larger.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its address as it was given.
    pub url: Url,
    /// Address that its sound came from when it was added.
    pub resolved_url: String,
    /// Its genre.
    pub genre: Option<String>,
    /// Its country.
    pub country: Option<String>,
    /// Codec of its sound.
    pub codec: AudioCodec,
    /// Its bit rate in kbit/s.
    pub bitrate_kbps: Option<u32>,
    /// True where it is an HLS stream.
    pub is_hls: bool,
    /// Name that it gives itself.
    pub icy_name: Option<String>,
    /// Station that is heard in its place while it is away.
    pub fallback: Option<Uuid>,
    /// When it was added.
    pub created_at: UnixMillis,
}

/// Filter of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StationFilter {
    /// Genre, whatever the case.
    pub genre: Option<String>,
    /// Country, whatever the case.
    pub country: Option<String>,
    /// Piece of the name, whatever the case.
    pub name_part: Option<String>,
}
