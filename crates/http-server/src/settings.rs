//! Settings of the server: its listeners and the limits of their connections.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::connection_counts::ConnectionCountSettings;
use crate::connection_limits::ConnectionLimits;

/// Settings of the server (the part of `Server` in the YAML that concerns connections).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Listeners that clients connect to; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Threads that serve clients; `None`: as many as the process may use cores when it starts.
    pub threads: Option<usize>,
    /// Limits of each connection.
    pub limits: ConnectionLimits,
    /// Time in which connections are still accepted after SIGTERM, while the node says that it is not ready.
    pub shutdown_delay: Duration,
    /// Longest time that streams under way may go on after that.
    pub shutdown_grace: Duration,
    /// Most connections over all listeners; more are closed at once.
    pub connections: ConnectionCountSettings,
    /// Most HTTP/2 streams over all connections whose clients take none of the bytes that wait for them.
    pub stalled_streams: usize,
}

/// Addresses that clients connect to, and the ways to be spoken to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The addresses; at least one.
    pub addresses: Vec<ListenAddress>,
    /// Mode of the files of Unix sockets; `None`: as the process's umask leaves it.
    pub socket_mode: Option<u32>,
    /// Name of the sockets that are taken over in place of opening them on the addresses, where they are passed.
    pub socket: Option<String>,
    /// TLS; `None`: plain text.
    pub tls: Option<TlsSettings>,
    /// Accepts HTTP/2 without TLS (prior knowledge, RFC 9113 §3.3).
    pub h2c: bool,
    /// Networks from which each connection begins with a header of the PROXY protocol, and from which alone connections
    /// are taken; `None`: connections have no such header.
    pub proxy_sources: Option<Vec<IpNet>>,
    /// Port of HTTPS that each request is redirected to; `None`: requests are answered.
    pub https_redirect: Option<u16>,
}

impl Settings {
    /// Returns the number of threads that serve clients, which depends on the machine where it is not set.
    pub fn worker_threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl ListenerSettings {
    /// Makes a listener on `address` in the clear.
    pub fn plain(address: ListenAddress) -> Self {
        Self {
            addresses: vec![address],
            socket: None,
            socket_mode: None,
            tls: None,
            h2c: false,
            proxy_sources: None,
            https_redirect: None,
        }
    }

    /// Returns true where connections are served by the same rules as those of `other`, whatever their addresses are.
    pub fn has_rules_of(&self, other: &Self) -> bool {
        (self.h2c, self.https_redirect) == (other.h2c, other.https_redirect)
            && (&self.tls, &self.proxy_sources) == (&other.tls, &other.proxy_sources)
    }
}

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// IP address and port; port 0 takes a free one.
    Ip(SocketAddr),
    /// Host name and port: every address that the name resolves to.
    Host {
        /// The name.
        name: String,
        /// The port; 0 takes a free one for each address.
        port: u16,
    },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates, the first being the default where no name matches; at least one.
    pub certificates: Vec<CertificatePaths>,
    /// Names of the certificate among them that is ordered by ACME, in lower case; empty where none is.
    pub acme_names: Vec<String>,
    /// Certificates of clients; `None`: they are not asked for one.
    pub client_certificates: Option<ClientCertificateSettings>,
    /// Protocols that are offered by ALPN, the preferred one first; at least one.
    pub alpn: Vec<AlpnProtocol>,
    /// Clients may resume their sessions by tickets. Those that show certificates never can.
    pub session_tickets: bool,
    /// Files of the keys of tickets, the one that encrypts first; none: the process makes keys of its own.
    pub ticket_keys: Vec<PathBuf>,
    /// Time for which clients are to come back by HTTPS only (RFC 6797); `None`: they are not told.
    pub hsts: Option<Duration>,
}

/// Protocol that the handshake may select (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlpnProtocol {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1.
    Http1,
}

impl AlpnProtocol {
    /// Returns the protocol's registered name.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

/// Verification of clients' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificateSettings {
    /// PEM file with the certificates of the authorities.
    pub authorities: PathBuf,
    /// PEM files with revocation lists.
    pub revocation_lists: Vec<PathBuf>,
    /// Treatment of clients that show none.
    pub mode: ClientCertificateMode,
    /// A certificate stands for a token where a request has none.
    pub authenticates: bool,
}

/// Treatment of clients that show no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// Their handshake fails.
    Required,
    /// They are served.
    Optional,
}

/// Files of a certificate: its chain and its key as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
    /// Answer of the authority's OCSP responder about the leaf, in DER; `None`: none is shown.
    pub ocsp_response: Option<PathBuf>,
}
