//! Settings of the server: its listeners and the limits of their connections.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the server (the part of `Server` in the YAML that concerns connections).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses that clients connect to; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Threads that serve clients; one per core unless set.
    pub threads: usize,
    /// Longest time that a client may take to send a whole request head.
    pub header_timeout: Duration,
    /// Longest time that a client may take none of the bytes it asked for before the connection is closed.
    pub write_timeout: Duration,
    /// Longest time that a client may send nothing of a request's body.
    pub body_timeout: Duration,
    /// Longest time that a connection is kept on which nothing is asked.
    pub keep_alive_timeout: Duration,
    /// Time in which connections are still accepted after SIGTERM, while the node says that it is not ready.
    pub shutdown_delay: Duration,
    /// Longest time that streams under way may go on after that.
    pub shutdown_grace: Duration,
    /// Connections accepted at once over all listeners; more are closed at once.
    pub max_connections: usize,
}

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The address; port 0 takes a free one and logs it.
    pub address: SocketAddr,
    /// Name of the socket that is taken over in place of opening one on the address, where one is passed.
    pub socket: Option<String>,
    /// TLS certificates, the first being the default where no name matches. Empty: plain text.
    pub certificates: Vec<CertificatePaths>,
    /// Accepts HTTP/2 without TLS (prior knowledge, RFC 9113 §3.3).
    pub h2c: bool,
}

/// A certificate chain and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}
