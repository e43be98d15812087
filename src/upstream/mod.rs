//! The way to upstream servers: clusters and their destinations, name resolution, HTTP/1.1 connections and their pool.
//! Knows nothing of objects or signatures.

mod body;
pub mod cluster;
pub mod connection;
pub mod destination;
pub mod settings;
mod tls;
