//! The token of a film's request: in the path, `/v/{token}/movies/{id}/…`, for players that can set nothing; or beside a path
//! that repeats the film's id in its place, `/v/{id}/movies/{id}/…`, in a header or a cookie.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderName, header};

use crate::proxy::admission::authorization::replace_path;
use vod::grant::{GRANT_COOKIE, GRANT_HEADER, GrantToken};

const PATH_PREFIX: &str = "/v/";

/// The token of a film's request, taken out of its path.
#[derive(Clone, Debug)]
pub struct FilmCredential {
    /// What stood in the token's place.
    first: GrantToken,
    /// The token; `None` where there is none.
    pub token: Option<GrantToken>,
}

impl FilmCredential {
    /// Returns the path of the request, `path` being the rest of it.
    pub fn full_path(&self, path: &str) -> String {
        format!("{PATH_PREFIX}{}{path}", self.first.expose())
    }
}

/// Takes a token out of the request's path, before anything else looks at it: no route, no log and no store sees it. A header
/// or cookie with one is taken off too.
pub fn extract_credential(request: &mut Parts) {
    let Some(rest) = request.uri.path().strip_prefix(PATH_PREFIX) else { return };
    let end = rest.find('/').unwrap_or(rest.len());
    let (first, below) = rest.split_at(end);
    let below = if below.is_empty() { "/" } else { below };
    // `/movies/{id}/…`
    let movie = below.split('/').nth(2).filter(|movie| !movie.is_empty());
    let beside = token_beside(request);
    let first_token = GrantToken::new(first);
    let token = if movie == Some(first) { beside } else { Some(first_token.clone()) };
    let below = below.to_owned();
    replace_path(request, &below);
    request.headers.remove(GRANT_HEADER);
    request.extensions.insert(FilmCredential { first: first_token, token });
}

/// Returns the token in the header, else in the cookie.
fn token_beside(request: &Parts) -> Option<GrantToken> {
    let header = HeaderName::from_static(GRANT_HEADER);
    if let Some(value) = request.headers.get(header) {
        return Some(GrantToken::new(value.to_str().unwrap_or_default()));
    }
    let cookies = request.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.find(|(name, _)| *name == GRANT_COOKIE).map(|(_, value)| Cow::Borrowed(value));
    value.map(|value| GrantToken::new(value.into_owned()))
}
