//! API kit of the modules beside the proxy: the error envelope as an axum response, health, and the one router.

pub mod cache_admin;
pub mod config_reload;
pub mod error;
pub mod event_stream;
pub mod explain;
pub mod extractors;
pub mod health;
pub mod id;
pub mod json_values;
mod openapi_document;
pub mod pagination;
pub mod plain_text;
pub mod rate_limit_layer;
pub mod revision;
pub mod router;
pub mod status_admin;
pub mod streams_admin;
#[cfg(feature = "docs-ui")]
mod swagger_ui;
pub mod timestamps;
pub mod usage;
pub mod user;
