//! The way to upstream servers: clusters and their destinations and their health, the retry budget, name resolution, HTTP/1.1
//! connections and their pool. Knows nothing of objects or signatures.

mod addresses;
mod body;
pub mod breaker;
pub mod budget;
mod buffers;
pub mod cluster;
pub mod connection;
pub mod destination;
pub mod error;
pub mod health;
pub mod http_client;
mod idle;
pub mod probe;
pub mod settings;
mod splice;
mod tls;
mod window;
