//! What S3 asks for: signatures with a cache of them, and what a store's errors mean. Knows no sockets.
//! Signature Version 4 by query parameters: AWS "Authenticating Requests: Using Query Parameters".

pub mod error_body;
pub mod settings;
pub mod signer;
pub mod url_cache;
