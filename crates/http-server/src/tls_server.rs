//! TLS of one listener (RFC 8446): the certificates that it shows, those that it asks for, and the protocols that it
//! offers.

use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use crate::client_certificate::{self, ClientCertificate};
use crate::settings::TlsSettings;
use crate::tls::{self, CertificateError};

/// TLS of a listener.
pub struct TlsServer {
    settings: TlsSettings,
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Loads the files that `settings` name. Fails where one cannot be read, or a certificate does not fit its key.
    pub fn new(settings: &TlsSettings) -> Result<Self, CertificateError> {
        Ok(Self { settings: settings.clone(), config: Arc::new(server_config(settings)?) })
    }

    /// Returns what makes the handshake of a connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Returns the certificate that the client has shown in a handshake, which has verified it.
    pub fn client_certificate(&self, connection: &ServerConnection) -> Option<Arc<ClientCertificate>> {
        let settings = self.settings.client_certificates.as_ref()?;
        let leaf = connection.peer_certificates()?.first()?;
        ClientCertificate::parse(leaf, settings.authenticates).map(Arc::new)
    }
}

fn server_config(settings: &TlsSettings) -> Result<ServerConfig, CertificateError> {
    // Given here, so that no provider of the whole process has to be installed before.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = settings.client_certificates.as_ref().map(|it| client_certificate::verifier(it, &provider));
    let verifier = verifier.transpose()?;
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let resolver = tls::resolver(&settings.certificates)?;
    let mut config = match verifier {
        Some(verifier) => {
            let mut config = versions.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
            // A session that is resumed shows no certificate again: one that has expired or was revoked would go on.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
        None => versions.with_no_client_auth().with_cert_resolver(resolver),
    };
    // RFC 7301 §3.2: the server's order decides.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
