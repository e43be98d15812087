//! What the proxy tells a module of a request beyond its head: an extension of the request.

use std::net::IpAddr;

/// Who calls a module.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The request's id.
    pub request_id: String,
    /// Where it came from, as far as the trusted proxies tell.
    pub address: Option<IpAddr>,
}
