//! Paths of manifests: the one place where a session becomes a grant in a path.

use std::sync::Arc;

use percent_encoding::utf8_percent_encode;

use crate::grant::GrantKeys;
use crate::session::FilmSession;
use server_kit::url_template::UNRESERVED;

/// Makes the paths of manifests.
pub struct ManifestUrls {
    grants: Arc<GrantKeys>,
}

impl ManifestUrls {
    /// Creates the paths with grants by `grants`.
    pub fn new(grants: Arc<GrantKeys>) -> Self {
        Self { grants }
    }

    /// Returns the token of a session: the same each time.
    pub fn token(&self, session: &FilmSession) -> String {
        self.grants.issue(session)
    }

    /// Returns the path of the manifest `name` for a session.
    pub fn manifest_path(&self, session: &FilmSession, name: &str) -> String {
        let movie = utf8_percent_encode(session.movie.as_str(), UNRESERVED);
        format!("/v/{}/movies/{movie}/{name}", self.token(session))
    }
}
