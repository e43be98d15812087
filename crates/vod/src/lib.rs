//! Video on demand: films in a private bucket, which users with a subscription stream as HLS or DASH.
//!
//! Owns the sessions of viewers ([`session`]) and their grants ([`grant`]), the check of manifests ([`manifest`]) and of
//! subscriptions ([`subscription`]), the API with which a film is started, its position reported and its stream stopped
//! ([`routes`]), the page that plays one ([`page`]), the events and rows that follow from it, and the metrics of what players
//! say of themselves ([`cmcd`]). Knows nothing of the proxy, which serves the objects below
//! a grant's path, and nothing of where positions are kept.

pub mod cmcd;
pub mod events;
pub mod film_store;
pub mod grant;
pub mod manifest;
pub mod manifest_url;
pub mod metrics;
mod movie_id;
pub mod page;
pub mod player_metrics;
pub mod routes;
pub mod service;
pub mod session;
pub mod session_routes;
pub mod settings;
pub mod subscription;
pub mod view_log;
