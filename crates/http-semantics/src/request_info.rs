//! Facts that the proxy passes to a module about a request, beyond its head, as an extension of the request.

use std::net::IpAddr;

use http::HeaderName;

/// Header with the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns a new id for a request: 16 hexadecimal digits.
pub fn new_request_id() -> String {
    // 64 random bits: ids need only be unlikely to collide within the life of the logs, not secret.
    format!("{:016x}", rand::random::<u64>())
}

/// Request as a module sees its origin.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// The request's id.
    pub request_id: String,
    /// Client address, as far as the trusted proxies tell.
    pub client_address: Option<IpAddr>,
    /// Beginning of absolute URLs to this server, as the caller sees it: `https://media.example`.
    pub base_url: String,
}
