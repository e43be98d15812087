//! Routing of requests: path patterns, the route table, the readings of a path, load balancing, and the transforms of
//! plain routes. Pure: no I/O and no clock.

#[cfg(test)]
mod fuzz;
pub mod load_balancing;
pub mod pattern;
pub mod readings;
pub mod table;
pub mod template;
pub mod transform;
