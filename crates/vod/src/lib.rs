//! Video on demand: films in a private bucket, which users with a subscription stream as HLS or DASH.
//!
//! Owns the sessions of viewers ([`session`]), the check of subscriptions, the API with which a film is started, its
//! position reported and its stream stopped, and the events that follow from it. Knows nothing of the proxy: objects
//! below a grant's path are served there.

pub mod grant;
pub mod manifest;
pub mod session;
pub mod settings;
