//! TLS of one listener (RFC 8446): the certificates that it shows and the protocols that it offers.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::settings::TlsSettings;
use crate::tls::{self, CertificateError};

/// TLS of a listener.
pub struct TlsServer {
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Loads the files that `settings` name. Fails where one cannot be read, or a certificate does not fit its key.
    pub fn new(settings: &TlsSettings) -> Result<Self, CertificateError> {
        Ok(Self { config: Arc::new(server_config(settings)?) })
    }

    /// Returns what makes the handshake of a connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn server_config(settings: &TlsSettings) -> Result<ServerConfig, CertificateError> {
    // Given here, so that no provider of the whole process has to be installed before.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let mut config = versions.with_no_client_auth().with_cert_resolver(tls::resolver(&settings.certificates)?);
    // RFC 7301 §3.2: the server's order decides.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
