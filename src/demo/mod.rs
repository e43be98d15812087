//! The demo: sample music, its configuration and a small page that plays it through the proxy.
//!
//! It must not know how the proxy works: the page is a client like any other.

pub mod media;
mod score;
mod synth;
