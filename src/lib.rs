//! Tidegate: a reverse proxy that stands at the edge before object storage.
//!
//! Modules, from the ground up: [`http`], [`clock`] and [`memo`] know nothing else; [`route`] and [`s3`] are pure;
//! [`auth`], [`catalog`], [`limit`], [`upstream`] talk to the outside, some of them through [`database`] and [`redis`];
//! [`object`] is the engine of object routes; [`proxy`] is the one place that knows
//! Pingora's phases; [`api`] is the axum kit; [`tracks`], [`positions`] and [`playback`] (over [`events`]) are modules of
//! the API; [`config`] turns YAML into the modules' settings; [`app`] composes them.
//!
//! A request's way: listener → [`proxy`] (match the route, CORS, authenticate, authorise) → by kind of route the object
//! engine, the in-process API router, or Pingora's own upstream path → one access line.

pub mod api;
pub mod app;
pub mod attempts;
pub mod auth;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod demo;
pub mod embedded;
pub mod events;
pub mod failure_log;
pub mod http;
pub mod lifecycle;
pub mod limit;
pub mod memo;
pub mod object;
pub mod playback;
pub mod positions;
pub mod proxy;
pub mod redis;
pub mod relay;
pub mod route;
pub mod s3;
pub mod secret;
pub mod telemetry;
pub mod tracks;
pub mod upstream;
