//! What the proxy tells a module of a request beyond its head: an extension of the request.

use std::net::IpAddr;

use http::HeaderName;

/// The header with the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A new id for a request.
pub fn new_request_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Who calls a module.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// The request's id.
    pub request_id: String,
    /// Where it came from, as far as the trusted proxies tell.
    pub client_address: Option<IpAddr>,
    /// What absolute URLs to this server begin with, as the caller sees it: `https://media.example`.
    pub base_url: String,
}
