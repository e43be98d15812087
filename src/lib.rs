//! Tidegate: a reverse proxy that stands at the edge before object storage. The package holds what knows the whole product;
//! everything else is a member of the workspace in `crates/` (docs/architecture.md).
//!
//! [`proxy`] takes a request from the listener to its answer; [`config`] turns YAML into the settings of all members; [`app`]
//! composes them; [`cli`] is the command.

pub mod app;
pub mod cli;
pub mod config;
pub mod proxy;
