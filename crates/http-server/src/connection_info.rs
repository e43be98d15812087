//! Facts about a client's connection that are the same for all its requests.

use std::net::IpAddr;

/// Facts about a connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Address of the client, as far as the connection tells it.
    pub peer: IpAddr,
    /// The connection has TLS.
    pub is_tls: bool,
}
