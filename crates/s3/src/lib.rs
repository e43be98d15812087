//! What S3 asks for: signatures with a cache of them, and what a store's errors mean. Knows no sockets.
//! Signature Version 4 by query parameters: AWS "Authenticating Requests: Using Query Parameters".

pub mod error_body;
pub mod listing;
pub mod settings;
pub mod signed_request_cache;
pub mod signer;
pub mod upload;

/// Whether a bucket can have this name (AWS, "General purpose buckets naming rules"; MinIO takes the same).
pub fn is_bucket_name(name: &str) -> bool {
    let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (3..=63).contains(&name.len()) && name.bytes().all(|c| letter(c) || c == b'-' || c == b'.');
    good && name.bytes().next().is_some_and(letter)
}

/// Longest key of an object, in bytes of UTF-8 (AWS, "Naming Amazon S3 objects").
pub const MAX_KEY_BYTES: usize = 1024;

/// Whether an object can have this key: no store needs to be asked for one that cannot be there.
pub fn is_valid_key(key: &str) -> bool {
    key.len() <= MAX_KEY_BYTES
}
