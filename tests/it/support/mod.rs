//! What the subjects share: the gate under test, the origins behind it, and the clients before it.

pub mod chromium;
pub mod client;
pub mod config;
pub mod curl;
pub mod cutter;
pub mod described;
pub mod eventually;
pub mod fault;
pub mod frames;
pub mod gate;
pub mod h2;
pub mod heard;
pub mod issuer;
pub mod kafka;
pub mod minio;
pub mod nginx;
pub mod origin;
pub mod origin_http;
pub mod pebble;
pub mod postgres;
pub mod raw;
pub mod redis;
mod selftest;
pub mod service;
pub mod store;
pub mod token;
pub mod tools;
pub mod user;

pub use client::Client;
pub use eventually::{LIMIT, eventually, in_time};
pub use gate::Gate;
pub use minio::Minio;
pub use origin::{Object, ScriptedOrigin};
pub use postgres::Postgres;
pub use redis::Redis;
pub use store::StoreKind;
