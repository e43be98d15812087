//! Tracks of the caller, `/api/v1/tracks`: what a player lists and searches, and one of them.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::tracks::{database_unavailable, no_track};
use crate::track_name::{ListeningKind, TrackName};
use crate::{Catalog, LibraryQuery, Track};
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Query};
use server_kit::api::id::PathTrackId;
use server_kit::api::pagination::{self, Page, PageLimits};
use server_kit::api::user::User;

/// Page sizes of the list.
const PAGE_LIMITS: PageLimits = PageLimits { default_limit: 50, max_limit: 200 };
/// Longest search, in bytes.
const MAX_SEARCH_BYTES: usize = 256;
/// Most words of a search.
const MAX_WORDS: usize = 8;
/// Separator of the two parts of a cursor, which neither a key nor an id has.
const SEPARATOR: char = '\n';

/// State of the path.
pub struct LibraryState {
    /// The tracks.
    pub catalog: Arc<Catalog>,
    /// True where users see every track.
    pub is_whole: bool,
}

/// Page of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrackSearch {
    /// Words that the key or the id has, in any case; at most 8 words and 256 bytes. Default: all tracks.
    q: Option<String>,
    /// Tracks per page, 1 to 200. Default: 50.
    limit: Option<u32>,
    /// `nextCursor` of the previous page.
    cursor: Option<String>,
}

/// Track as a player shows it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LibraryTrack {
    /// Track id.
    id: String,
    /// Title, by the name of the object.
    title: String,
    /// Artist, by the folder above the album's.
    artist: Option<String>,
    /// Album, by the folder of the object.
    album: Option<String>,
    /// What it is to a listener, under which a player keeps positions.
    kind: ListeningKind,
    /// The media type.
    content_type: Option<String>,
    /// The size in bytes.
    size_bytes: Option<u64>,
}

impl From<Track> for LibraryTrack {
    fn from(track: Track) -> Self {
        let content_type = track.content_type.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned);
        let kind = ListeningKind::of_track(&track.key, content_type.as_deref());
        let TrackName { title, artist, album } = TrackName::of_key(&track.key);
        Self { id: track.id.to_string(), title, artist, album, kind, content_type, size_bytes: track.size }
    }
}

/// Lists the tracks that the caller may know of, by their keys: the own and granted ones, or all where the page is set up so.
#[utoipa::path(get, path = "/api/v1/tracks", tag = "catalogue", security(("bearer" = [])), params(TrackSearch), responses(
    (status = 200, description = "A page of tracks", body = Page<LibraryTrack>), (status = 400, description = "The cursor is none of ours"),
    (status = 401, description = "No valid token"), (status = 422, description = "The limit or the search is out of range"),
    (status = 429, description = "Too many requests"), (status = 503, description = "The database is away")))]
pub async fn list(
    user: User,
    State(state): State<Arc<LibraryState>>,
    Query(search): Query<TrackSearch>,
) -> Result<Json<Page<LibraryTrack>>, Error> {
    let limit = PAGE_LIMITS.limit(search.limit)?;
    let place = pagination::decode_cursor(search.cursor.as_deref(), |text| {
        text.split_once(SEPARATOR).map(|(key, id)| (key.to_owned(), id.to_owned()))
    })?;
    let query = LibraryQuery {
        user: (!state.is_whole).then(|| user.id().clone()),
        id: None,
        words: words(search.q.as_deref().unwrap_or_default())?,
        after: place.unwrap_or_default(),
        // One more than the page tells whether there is a next page.
        limit: u32::from(limit) + 1,
    };
    let tracks = state.catalog.search(&query).await.map_err(database_unavailable)?;
    let page = Page::from_lookahead(tracks, limit, |last| format!("{}{SEPARATOR}{}", last.key, last.id));
    Ok(Json(page.map(LibraryTrack::from)))
}

/// Returns a track that the caller may know of, as the list has it.
#[utoipa::path(get, path = "/api/v1/tracks/{id}", tag = "catalogue", security(("bearer" = [])), params(("id" = String, Path, description = "The track")), responses(
    (status = 200, description = "The track", body = LibraryTrack), (status = 400, description = "The id cannot be one"),
    (status = 401, description = "No valid token"), (status = 404, description = "The caller's list has no such track"),
    (status = 429, description = "Too many requests"), (status = 503, description = "The database is away")))]
pub async fn read(
    user: User,
    State(state): State<Arc<LibraryState>>,
    PathTrackId(id): PathTrackId,
) -> Result<Json<LibraryTrack>, Error> {
    let query = LibraryQuery {
        user: (!state.is_whole).then(|| user.id().clone()),
        id: Some(id),
        words: Vec::new(),
        after: Default::default(),
        limit: 1,
    };
    let found = state.catalog.search(&query).await.map_err(database_unavailable)?;
    // One of somebody else is none, so that nobody learns which ids there are.
    found.into_iter().next().map(|track| Json(track.into())).ok_or_else(no_track)
}

fn words(search: &str) -> Result<Vec<String>, Error> {
    let words: Vec<String> = search.split_whitespace().map(str::to_owned).collect();
    match search.len() <= MAX_SEARCH_BYTES && words.len() <= MAX_WORDS && !search.contains('\0') {
        true => Ok(words),
        false => Err(Error::unprocessable("`q` must have at most 256 bytes and 8 words")),
    }
}
