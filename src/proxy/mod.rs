//! The only place that knows Pingora's phases.

pub mod settings;
