//! The integration tests: the shipped binary before a real MinIO and before a scripted origin.
//!
//! One test binary on purpose, since each one costs a link. One file per subject; what they share is in [`support`].

#![expect(clippy::disallowed_methods, reason = "tests start their own tasks and read the wall clock and environment")]

mod abuse;
mod access_log;
mod api;
mod api_manner;
mod auth;
mod bad_input;
mod cache;
mod cache_policies;
mod catalogue;
mod conditionals;
mod configuration;
mod connections;
mod demo;
mod dependency_log;
mod deployment;
mod events;
mod faults;
mod film_serving;
mod films;
mod framing;
mod guesses;
mod hostile_tokens;
mod http2;
mod inside;
mod keys;
mod layers;
mod leaks;
mod lifecycle;
mod limits;
mod listen;
mod listeners;
mod nodes;
mod observability;
mod outages;
mod path_tokens;
mod plain;
mod playback;
mod player;
mod positions;
mod promises;
mod protected_routes;
mod quotas;
mod ranges;
mod recording;
mod reload;
mod reload_limits;
mod reload_listeners;
mod reload_state;
mod resilience;
mod routes;
mod share;
mod share_access;
mod share_nodes;
mod spelling;
mod stores;
mod streaming;
mod streaming_urls;
mod support;
mod tls;
mod upstream_outcomes;
mod watchdog;
