//! TLS of one listener (RFC 8446): the certificates that it shows, those that it asks for, and the protocols that it
//! offers. Its files are loaded again when they change.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{ServerConfig, ServerConnection};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::acme_challenges::{ACME_TLS_PROTOCOL, AcmeChallenges};
use crate::client_certificate::{self, ClientCertificate, ClientVerifier};
use crate::client_revalidation::{ClientRevalidation, VerifierInForce};
use crate::ocsp::OcspStaple;
use crate::settings::TlsSettings;
use crate::ticket_keys;
use crate::tls::{self, CertificateError, LoadedCertificates};
use primitives::change_detector::ChangeDetector;
use primitives::clock::monotonic_now;

/// Time for which the files have stayed the same before they are loaded: less than that between two looks, so that two
/// have found them the same.
const SETTLING: Duration = Duration::from_secs(4);

/// TLS of a listener.
pub struct TlsServer {
    settings: TlsSettings,
    challenges: AcmeChallenges,
    /// Keys of session tickets of this process, where there are tickets; in force where the settings name no files of keys.
    /// They outlive the certificates. rustls makes a new one every six hours, and takes tickets of the one before for as
    /// long again.
    ticketer: Option<Arc<dyn ProducesTickets>>,
    config: ArcSwap<ServerConfig>,
    /// OCSP responses of the certificates in `config`.
    staples: ArcSwap<Vec<Arc<OcspStaple>>>,
    /// The verifier of clients' certificates in `config`, for connections that are open.
    verifiers: watch::Sender<VerifierInForce>,
    files: Mutex<WatchedFiles>,
    attempts: AtomicU64,
}

/// Files of TLS, as far as their state tells that one was written.
struct WatchedFiles {
    changes: ChangeDetector<Vec<Option<FileStamp>>>,
    /// State of the files when they were loaded.
    in_use: Vec<Option<FileStamp>>,
    /// Authorities whose revocation lists were loaded, and the authorities of clients.
    lists: RevocationSources,
    /// Number of the attempt that loaded them: one that hung may end after a later one.
    attempt: u64,
}

/// Sources of what is known of revoked certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationSources {
    /// Distinguished names of the authorities that have a list.
    pub issuers: BTreeSet<Vec<u8>>,
    /// Digest of the file of authorities.
    pub authorities: Vec<u8>,
}

/// Times of modification and of the last change of anything (content, owner, mode), size, number and device of a file.
type FileStamp = ([i64; 4], [u64; 3]);

impl TlsServer {
    /// Loads the files that `settings` name; `challenges` are answered too. Fails where one cannot be read, or a certificate does not fit its key.
    pub fn new(settings: &TlsSettings, challenges: &AcmeChallenges) -> Result<Self, CertificateError> {
        // Before they are read: what is written meanwhile is then loaded once more.
        let in_use = stamps(settings);
        let tickets = settings.session_tickets && settings.client_certificates.is_none();
        let ticketer = tickets.then(Ticketer::new).transpose().map_err(CertificateError::Tickets)?;
        let LoadedFiles { config, staples, verifier, lists } = load(settings, challenges, ticketer.as_ref())?;
        let changes = ChangeDetector::new(SETTLING);
        let files = Mutex::new(WatchedFiles { changes, in_use, lists, attempt: 0 });
        Ok(Self {
            settings: settings.clone(),
            challenges: challenges.clone(),
            ticketer,
            config: ArcSwap::from_pointee(config),
            staples: ArcSwap::from_pointee(staples),
            verifiers: watch::Sender::new(verifier),
            files,
            attempts: AtomicU64::new(0),
        })
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

    /// Returns what verifies the certificates that the client has shown for as long as the connection is open; `None`
    /// where it has shown none.
    pub fn client_revalidation(&self, connection: &ServerConnection) -> Option<ClientRevalidation> {
        let chain = connection.peer_certificates()?;
        let mut verifiers = self.verifiers.subscribe();
        // The handshake may have been made by the one before.
        verifiers.mark_changed();
        Some(ClientRevalidation::new(chain, verifiers))
    }

    /// Loads the files again, which blocks, where they are not those that were loaded and were not written since the call
    /// before: a certificate and its key are two files, and are written one after the other. New connections have what
    /// was loaded, and certificates of clients on open ones are verified again; where it cannot be used, all have what
    /// they had, and it is tried again at later calls. `None` where nothing was tried.
    pub fn refresh(&self) -> Option<Result<(), CertificateError>> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let found = stamps(&self.settings);
        let before = {
            let mut files = self.files.lock();
            let WatchedFiles { changes, in_use, lists, .. } = &mut *files;
            if !changes.look(&found, in_use, monotonic_now()) {
                return None;
            }
            lists.clone()
        };
        // Without the lock: the files may be on a file system that hangs.
        let loaded = load(&self.settings, &self.challenges, self.ticketer.as_ref());
        let loaded = loaded.and_then(|loaded| client_certificate::check_lists(&before, &loaded.lists).map(|()| loaded));
        let mut files = self.files.lock();
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                files.changes.refuse(found, monotonic_now());
                return Some(Err(error));
            }
        };
        if files.attempt > attempt {
            return None;
        }
        (files.attempt, files.in_use, files.lists) = (attempt, found, loaded.lists);
        self.config.store(Arc::new(loaded.config));
        self.staples.store(Arc::new(loaded.staples));
        self.verifiers.send_replace(loaded.verifier);
        Some(Ok(()))
    }

    /// Reads the certificate files again, which blocks, and returns the end of the validity of the one that ends first,
    /// in Unix seconds. Files that cannot be loaded are left out; `None` where none is left.
    pub fn read_first_expiry(&self) -> Option<i64> {
        tls::read_first_expiry(&self.settings.certificates)
    }

    /// Returns the Unix second from which on one of the OCSP responses is not shown, 0 where one never is; `None` where the
    /// settings name none.
    pub fn first_staple_end(&self) -> Option<i64> {
        self.staples.load().iter().map(|staple| staple.end()).min()
    }

    /// Returns warnings about OCSP responses at `now`, in Unix seconds.
    pub fn staple_warnings(&self, now: i64) -> Vec<String> {
        self.staples.load().iter().filter_map(|staple| staple.warning(now)).collect()
    }
}

/// Returns the stamps of all files, `None` for one that is not there.
fn stamps(settings: &TlsSettings) -> Vec<Option<FileStamp>> {
    let stamp = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Some((times, [file.size(), file.ino(), file.dev()]))
    };
    let certificates = settings.certificates.iter();
    let own = certificates.flat_map(|it| [Some(&it.certificate), Some(&it.key), it.ocsp_response.as_ref()]);
    let clients = settings.client_certificates.iter();
    let theirs = clients.flat_map(|it| std::iter::once(&it.authorities).chain(&it.revocation_lists));
    own.flatten().chain(theirs).chain(&settings.ticket_keys).map(|path| stamp(path)).collect()
}

/// Configuration of TLS made of the files.
struct LoadedFiles {
    config: ServerConfig,
    staples: Vec<Arc<OcspStaple>>,
    verifier: VerifierInForce,
    lists: RevocationSources,
}

fn load(
    settings: &TlsSettings,
    challenges: &AcmeChallenges,
    ticketer: Option<&Arc<dyn ProducesTickets>>,
) -> Result<LoadedFiles, CertificateError> {
    // Given here, so that no provider of the whole process has to be installed before.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = settings.client_certificates.as_ref().map(|it| client_certificate::verifier(it, &provider));
    let (verifier, lists) = match clients.transpose()? {
        Some(ClientVerifier { verifier, lists }) => (Some(verifier), lists),
        None => (None, RevocationSources::default()),
    };
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let LoadedCertificates { resolver, staples } = LoadedCertificates::load(&settings.certificates, challenges)?;
    let mut config = match &verifier {
        Some(verifier) => versions.with_client_cert_verifier(Arc::clone(verifier)).with_cert_resolver(resolver),
        None => versions.with_no_client_auth().with_cert_resolver(resolver),
    };
    match ticket_keys::tickets_by(&settings.ticket_keys, ticketer)? {
        Some(ticketer) => config.ticketer = ticketer,
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
    Ok(LoadedFiles { config, staples, verifier, lists })
}
