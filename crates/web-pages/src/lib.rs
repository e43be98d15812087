//! Pages that stand in the binary: their files as they are served, and what all pages share (`shared/`): colours and
//! basic elements, texts in the reader's language, what the browser remembers, tries after a break.
//!
//! Shared files are served below the prefix of each page, so that pages of different modules need nothing of each other.
//! Knows no module.

pub mod checks;
mod static_file;

pub use static_file::{Lifetime, StaticFile};

use axum::Router;
use axum::routing::get;
use http::HeaderMap;

/// Files that all pages share: name and text.
pub const SHARED: [(&str, &str); 9] = [
    ("base.css", include_str!("shared/base.css")),
    ("chevron.svg", include_str!("shared/chevron.svg")),
    ("components.css", include_str!("shared/components.css")),
    ("elements.js", include_str!("shared/elements.js")),
    ("icon.svg", include_str!("shared/icon.svg")),
    ("memory.js", include_str!("shared/memory.js")),
    ("retry.js", include_str!("shared/retry.js")),
    ("texts.js", include_str!("shared/texts.js")),
    ("time.js", include_str!("shared/time.js")),
];

/// Returns the paths of `files` below `prefix`, which ends with a slash.
pub fn asset_routes(prefix: &str, files: impl IntoIterator<Item = StaticFile>) -> Router {
    files.into_iter().fold(Router::new(), |router, file| {
        let path = format!("{prefix}{}", file.name());
        router.route(&path, get(async move |headers: HeaderMap| file.answer(&headers)))
    })
}
