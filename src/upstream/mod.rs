//! The way to upstream servers: clusters, destinations, name resolution, connections.

pub mod settings;
