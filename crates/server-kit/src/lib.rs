//! Parts that every service needs around its own subject: authentication, limits, clients of the database and of Redis,
//! logs and metrics, and the conventions of the axum router (envelope, extractors, pages, OpenAPI). It knows no route,
//! no store and no module.

pub mod admission;
pub mod api;
pub mod auth;
pub mod database;
pub mod failed_attempts;
pub mod limit;
pub mod live_streams;
pub mod redis;
pub mod telemetry;
pub mod url_template;
pub mod user_shares;
