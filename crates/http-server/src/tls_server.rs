//! TLS of one listener (RFC 8446): the certificates that it shows, those that it asks for, and the protocols that it
//! offers. Its files are loaded again when they change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use crate::acme_challenges::{ACME_TLS_PROTOCOL, AcmeChallenges};
use crate::client_certificate::{self, ClientCertificate};
use crate::settings::TlsSettings;
use crate::tls::{self, CertificateError};
use primitives::change_detector::ChangeDetector;

/// TLS of a listener.
pub struct TlsServer {
    settings: TlsSettings,
    challenges: AcmeChallenges,
    /// Keys of session tickets, which outlive the certificates. rustls makes a new one every six hours, and takes tickets of
    /// the one before for as long again.
    ticketer: Option<Arc<dyn ProducesTickets>>,
    config: ArcSwap<ServerConfig>,
    /// State of the files, as far as it tells that one was written.
    files: Mutex<ChangeDetector<Vec<Option<FileStamp>>>>,
}

/// Modification time in seconds and nanoseconds, size, and number of a file.
type FileStamp = (i64, i64, u64, u64);

impl TlsServer {
    /// Loads the files that `settings` name; `challenges` are answered too. Fails where one cannot be read, or a certificate does not fit its key.
    pub fn new(settings: &TlsSettings, challenges: &AcmeChallenges) -> Result<Self, CertificateError> {
        // Before they are read: what is written meanwhile is then loaded once more.
        let loaded = stamps(settings);
        let tickets = settings.session_tickets && settings.client_certificates.is_none();
        let ticketer = tickets.then(Ticketer::new).transpose().map_err(CertificateError::Tickets)?;
        let config = ArcSwap::from_pointee(server_config(settings, challenges, ticketer.as_ref())?);
        let files = Mutex::new(ChangeDetector::new(loaded));
        Ok(Self { settings: settings.clone(), challenges: challenges.clone(), ticketer, config, files })
    }

    /// Returns what makes the handshake of a connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Returns the certificate that the client has shown in a handshake, which has verified it.
    pub fn client_certificate(&self, connection: &ServerConnection) -> Option<Arc<ClientCertificate>> {
        let settings = self.settings.client_certificates.as_ref()?;
        let leaf = connection.peer_certificates()?.first()?;
        ClientCertificate::parse(leaf, settings.authenticates).map(Arc::new)
    }

    /// Loads the files again where they were written since they were loaded last, and not since the last call: a
    /// certificate and its key are two files, and are written one after the other. New connections have what was loaded;
    /// where it cannot be used, they have what they had. `None` where nothing was loaded.
    pub fn refresh(&self) -> Option<Result<(), CertificateError>> {
        if !self.files.lock().look(stamps(&self.settings)) {
            return None;
        }
        let loaded = server_config(&self.settings, &self.challenges, self.ticketer.as_ref());
        Some(loaded.map(|config| self.config.store(Arc::new(config))))
    }

    /// Reads the certificate files again, which blocks, and returns the end of the validity of the one that ends first,
    /// in Unix seconds. Files that cannot be loaded are left out; `None` where none is left.
    pub fn read_first_expiry(&self) -> Option<i64> {
        tls::read_first_expiry(&self.settings.certificates)
    }
}

/// Returns the stamps of all files, `None` for one that is not there.
fn stamps(settings: &TlsSettings) -> Vec<Option<FileStamp>> {
    let stamp = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
    };
    let certificates = settings.certificates.iter();
    let own = certificates.flat_map(|it| [Some(&it.certificate), Some(&it.key), it.ocsp_response.as_ref()]);
    let clients = settings.client_certificates.iter();
    let theirs = clients.flat_map(|it| std::iter::once(&it.authorities).chain(&it.revocation_lists));
    own.flatten().chain(theirs).map(|path| stamp(path)).collect()
}

fn server_config(
    settings: &TlsSettings,
    challenges: &AcmeChallenges,
    ticketer: Option<&Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, CertificateError> {
    // Given here, so that no provider of the whole process has to be installed before.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = settings.client_certificates.as_ref().map(|it| client_certificate::verifier(it, &provider));
    let verifier = verifier.transpose()?;
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let resolver = tls::resolver(&settings.certificates, challenges)?;
    let mut config = match verifier {
        Some(verifier) => versions.with_client_cert_verifier(verifier).with_cert_resolver(resolver),
        None => versions.with_no_client_auth().with_cert_resolver(resolver),
    };
    match ticketer {
        Some(ticketer) => config.ticketer = Arc::clone(ticketer),
        None => {
            // A session that is resumed shows no certificate again: one that has expired or was revoked would go on.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    // RFC 7301 §3.2: the server's order decides.
    config.alpn_protocols = settings.alpn.iter().map(|protocol| protocol.name().to_vec()).collect();
    if !settings.acme_names.is_empty() {
        config.alpn_protocols.push(ACME_TLS_PROTOCOL.to_vec());
    }
    Ok(config)
}
