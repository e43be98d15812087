//! What a service needs around its own subject: authentication, limits, the clients of the database and of Redis, logs and
//! metrics, and the axum router's manner (envelope, extractors, pages, OpenAPI). It knows no route, no store and no module.

pub mod api;
pub mod auth;
pub mod database;
pub mod failed_attempts;
pub mod limit;
pub mod redis;
pub mod telemetry;
