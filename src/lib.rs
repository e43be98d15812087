//! Tidegate: a reverse proxy that stands at the edge before object storage.
//!
//! Modules, from the ground up: [`http`] and [`clock`] know nothing else; [`route`] and [`s3`] are pure; [`auth`],
//! [`upstream`] talk to the outside; [`object`] is the engine of object routes; [`proxy`] is the one place that knows
//! Pingora's phases; [`api`] is the axum kit; [`config`] turns YAML into the modules' settings; [`app`] composes them.
//!
//! A request's way: listener → [`proxy`] (match the route, CORS, authenticate, authorise) → by kind of route the object
//! engine, the in-process API router, or Pingora's own upstream path → one access line.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod demo;
pub mod embedded;
pub mod http;
pub mod lifecycle;
pub mod object;
pub mod proxy;
pub mod redis;
pub mod relay;
pub mod route;
pub mod s3;
pub mod secret;
pub mod telemetry;
pub mod upstream;
