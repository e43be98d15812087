//! The kit of the modules beside the proxy: the error envelope as an axum answer, health, and the one router.

pub mod cache;
pub mod caller;
mod description;
#[cfg(feature = "docs-ui")]
mod docs;
pub mod error;
pub mod extract;
pub mod health;
pub mod id;
pub mod limits;
pub mod page;
pub mod router;
pub mod usage;
pub mod value;
