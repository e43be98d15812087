//! Which route a request takes, and what a plain route does to it. Pure.

pub mod load_balancing;
pub mod pattern;
pub mod table;
pub mod template;
pub mod transform;
