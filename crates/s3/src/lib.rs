//! The client's side of the S3 protocol: presigned requests with a cache of them, and the meaning of a store's errors.
//! Opens no sockets. Signature Version 4 by query parameters: AWS "Authenticating Requests: Using Query Parameters".

pub mod credentials;
pub mod error_body;
#[cfg(test)]
mod fuzz;
pub mod listing;
pub mod page_token;
pub mod refusal;
pub mod settings;
pub mod signed_request_cache;
pub mod signer;
pub mod upload;

/// Returns true where a bucket can have this name: the characters and the length of AWS' "General purpose buckets naming
/// rules", but not all of them, since stores differ in the rest.
pub fn is_bucket_name(name: &str) -> bool {
    // Looser than AWS's rules, which also bar `..`, IP addresses and a hyphen or dot at the end: the store decides on
    // those.
    let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (3..=63).contains(&name.len()) && name.bytes().all(|c| letter(c) || c == b'-' || c == b'.');
    good && name.bytes().next().is_some_and(letter)
}

/// Longest key of an object, in bytes of UTF-8 (AWS, "Naming Amazon S3 objects").
pub const MAX_KEY_BYTES: usize = 1024;

/// Returns true if `key` has at most [`MAX_KEY_BYTES`] bytes, and checks nothing else. No store needs to be asked for a
/// longer one.
pub fn is_key_length_valid(key: &str) -> bool {
    key.len() <= MAX_KEY_BYTES
}
