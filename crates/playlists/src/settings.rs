//! Settings of playlists.

/// Bounds of what users keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most playlists of one user.
    pub max_playlists_per_user: u32,
    /// Most tracks of one playlist.
    pub max_items: u32,
    /// Most bytes of one playlist: of its ids and texts.
    pub max_bytes: u64,
}

impl Default for Settings {
    /// More than people make by hand; a row of a megabyte is still read in milliseconds.
    fn default() -> Self {
        Self { max_playlists_per_user: 500, max_items: 5000, max_bytes: 1 << 20 }
    }
}
