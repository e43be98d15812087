//! Settings of the server: its listeners and the limits of their connections.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::connection_counts::ConnectionCountSettings;
use crate::connection_limits::ConnectionLimits;

/// Settings of the server (the part of `Server` in the YAML that concerns connections).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses that clients connect to; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Threads that serve clients; one per core unless set.
    pub threads: usize,
    /// Limits of each connection.
    pub limits: ConnectionLimits,
    /// Longest time that streams under way may go on after SIGTERM.
    pub shutdown_grace: Duration,
    /// Most connections over all listeners; more are closed at once.
    pub connections: ConnectionCountSettings,
}

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The address; port 0 takes a free one and logs it.
    pub address: SocketAddr,
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
