//! TLS toward upstream servers: the system's trust anchors, HTTP/1.1 only. Verification cannot be switched off.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connector that makes TLS connections to upstream servers.
#[derive(Clone)]
pub struct UpstreamTlsConnector(TlsConnector);

impl UpstreamTlsConnector {
    /// Reads the system's trust anchors. Those that cannot be read are left out, as browsers do.
    pub fn new() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        // Without ALPN a server could choose HTTP/2, which this crate does not speak.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Performs the handshake over `stream` and verifies the certificate for `host`. Fails where the handshake does, or
    /// where `host` cannot be in a certificate.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}
