//! Access to upstream servers: clusters, their destinations and health, the retry budget, name resolution, HTTP/1.1
//! connections and their pools. Knows nothing of objects, routes or signatures.

mod body_reader;
mod buffer_pool;
pub mod circuit_breaker;
pub mod cluster;
pub mod connection;
pub mod destination;
pub mod error;
mod failure_rate;
pub mod health;
pub mod http_client;
mod idle_connections;
pub mod probe;
mod resolver;
mod response_head;
pub mod retry_budget;
pub mod session_affinity;
pub mod settings;
mod sliding_window;
mod splice;
mod tls;
