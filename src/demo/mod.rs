//! The demo: sample music, its configuration and a small page that plays it through the proxy.
//!
//! It must not know how the proxy works: the page is a client like any other.

pub mod media;
mod score;
mod synth;


/// stub
pub fn router(_tracks: Vec<media::Track>, _token: String, _prefix: &str) -> axum::Router { axum::Router::new() }
/// stub
pub fn configuration(_root: &std::path::Path, _listen: std::net::SocketAddr) -> String { String::new() }
