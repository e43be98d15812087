//! Facts about a client's connection that are the same for all its requests.

use std::net::IpAddr;
use std::sync::Arc;

use crate::client_certificate::ClientCertificate;

/// Facts about a connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Address of the client, as far as the connection tells it.
    pub peer: IpAddr,
    /// The connection has TLS.
    pub is_tls: bool,
    /// Certificate of the client, which was verified; `None` where it has shown none.
    pub client_certificate: Option<Arc<ClientCertificate>>,
}
