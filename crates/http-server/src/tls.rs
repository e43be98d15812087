//! Certificates of a listener: chosen by the name that the client asks for (SNI), the first where none fits.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, VerifierBuilderError};
use rustls::sign::CertifiedKey;

use crate::acme_challenges::{self, AcmeChallenges};
use crate::ocsp::OcspStaple;
use crate::settings::{CertificatePaths, Settings};
use crate::ticket_keys::TicketKeyError;
use primitives::regular_file;

/// Most bytes of a file: the revocation lists of a large authority.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Seconds of a day.
const DAY: i64 = 86_400;
/// Seconds before its end in which a certificate is warned of.
const EXPIRY_WARNING: i64 = 7 * DAY;

/// Reason why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is missing or holds no PEM.
    #[error("cannot read {path}: {source}; expected PEM, as `certs/make.sh` writes it")]
    File {
        /// The file.
        path: PathBuf,
        /// Error of reading it.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate of an authority cannot be used.
    #[error("{path} holds a certificate that is no authority's: {source}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Error of the TLS library.
        source: rustls::Error,
    },
    /// A revocation list is gone.
    #[error(
        "the revocation list of the authority `{0}` is missing, which was loaded before: the file may have been written \
         half; to do without the list, change the authorities or restart"
    )]
    MissingList(String),
    /// Clients' certificates cannot be verified.
    #[error("clients' certificates cannot be verified by {path}: {source}")]
    Verifier {
        /// The file with the authorities.
        path: PathBuf,
        /// Error of the TLS library.
        source: VerifierBuilderError,
    },
    /// A file of the keys of session tickets cannot be used.
    #[error("the key of session tickets {path} cannot be used: {source}")]
    TicketKey {
        /// The file.
        path: PathBuf,
        /// Reason.
        source: TicketKeyError,
    },
    /// Random numbers for the keys of session tickets are missing.
    #[error("the keys of session tickets cannot be made: {0}")]
    Tickets(rustls::Error),
    /// The pair does not work.
    #[error("the certificate {path} cannot be used with its key: {source}")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Error of the TLS library.
        source: rustls::Error,
    },
}

/// Certificates of a listener, loaded.
pub struct LoadedCertificates {
    /// Chooses one by the name that a client asks for; an ACME server gets those of the challenges.
    pub resolver: Arc<dyn ResolvesServerCert>,
    /// OCSP responses of the settings, those that cannot be shown too.
    pub staples: Vec<Arc<OcspStaple>>,
}

impl LoadedCertificates {
    /// Loads the certificates. Fails where a file cannot be read, or a certificate does not fit its key.
    pub fn load(certificates: &[CertificatePaths], challenges: &AcmeChallenges) -> Result<Self, CertificateError> {
        let keys = certificates.iter().map(ServedCertificate::load).collect::<Result<Vec<_>, _>>()?;
        let staples = keys.iter().flat_map(|key| &key.stapled).map(|(staple, _)| Arc::clone(staple)).collect();
        Ok(Self { resolver: Arc::new(CertificatesByName { keys, challenges: challenges.clone() }), staples })
    }
}

/// A certificate with its key.
struct ServedCertificate {
    /// Without an OCSP response.
    bare: Arc<CertifiedKey>,
    /// The OCSP response, and the certificate with it; where it can never be shown, without it.
    stapled: Option<(Arc<OcspStaple>, Arc<CertifiedKey>)>,
}

impl ServedCertificate {
    fn load(certificate: &CertificatePaths) -> Result<Self, CertificateError> {
        let path = &certificate.certificate;
        let chain = read_pem(path)?;
        let key = read_file(&certificate.key).and_then(|text| PrivateKeyDer::from_pem_slice(&text));
        let key = key.map_err(|source| CertificateError::File { path: certificate.key.clone(), source })?;
        let pair = |source| CertificateError::Pair { path: path.clone(), source };
        // Given here, so that no provider of the whole process has to be installed before.
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let bare = CertifiedKey::from_der(chain, key, &provider).map_err(pair)?;
        let leaf = bare.cert.first().map_or(&[][..], |leaf| leaf.as_ref());
        let staple = certificate.ocsp_response.as_deref().map(|path| OcspStaple::read(path, leaf));
        let stapled = staple.map(|staple| {
            let ocsp = staple.response().map(<[u8]>::to_vec);
            (Arc::new(staple), Arc::new(CertifiedKey { ocsp, ..bare.clone() }))
        });
        Ok(Self { bare: Arc::new(bare), stapled })
    }

    /// Returns the certificate, with its OCSP response where that may be shown now.
    fn current(&self) -> Arc<CertifiedKey> {
        match &self.stapled {
            // As in the handshake, which takes the system's time too.
            Some((staple, certificate)) if staple.is_current(unix_now()) => Arc::clone(certificate),
            Some(_) | None => Arc::clone(&self.bare),
        }
    }
}

/// Returns the system's time in Unix seconds.
pub fn unix_now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

/// Reads every item of that kind in a PEM file; fails where there is none.
pub fn read_pem<T: PemObject>(path: &Path) -> Result<Vec<T>, CertificateError> {
    let items = read_file(path).and_then(|text| T::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>());
    let items = items.and_then(|items| if items.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(items) });
    items.map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

fn read_file(path: &Path) -> Result<Vec<u8>, pem::Error> {
    regular_file::read(path, MAX_BYTES).map_err(pem::Error::Io)
}

/// Reads the files, which blocks, and returns the end of the validity of the certificate that ends first, in Unix
/// seconds. Those that cannot be loaded are left out; `None` where none is left.
pub fn read_first_expiry(certificates: &[CertificatePaths]) -> Option<i64> {
    certificates.iter().filter_map(|paths| check(paths).ok().flatten()).map(|validity| validity.not_after).min()
}

/// The time within which a certificate is good, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateValidity {
    /// First second at which it is valid.
    pub not_before: i64,
    /// Last second at which it is valid.
    pub not_after: i64,
}

/// Checks that the files of `certificate` are a certificate and its key. Returns the time within which it is valid,
/// where the certificate has one that can be read.
pub fn check(certificate: &CertificatePaths) -> Result<Option<CertificateValidity>, CertificateError> {
    let key = ServedCertificate::load(certificate)?.bare;
    let leaf = key.cert.first().and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
    Ok(leaf.map(|(_, leaf)| {
        let validity = leaf.validity();
        CertificateValidity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
    }))
}

/// Returns warnings about the listeners' certificates at the time `now`, in Unix seconds: they can be served, but
/// clients refuse them, or will within a week; or an OCSP response is not shown, or soon will not be.
pub fn certificate_warnings(server: &Settings, now: i64) -> Vec<String> {
    let tls = server.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let certificates = tls.flat_map(|tls| &tls.certificates);
    let warning = |certificate: &CertificatePaths| {
        // A certificate that cannot be loaded is no warning: the server does not start with it.
        let validity = check(certificate).ok().flatten()?;
        let what = match validity {
            CertificateValidity { not_after, .. } if not_after < now => {
                format!("expired {}", days(now - not_after, "ago"))
            }
            CertificateValidity { not_before, .. } if not_before > now => {
                format!("is not valid before {}", days(not_before - now, "from now"))
            }
            CertificateValidity { not_after, .. } if not_after < now + EXPIRY_WARNING => {
                format!("expires {}", days(not_after - now, "from now"))
            }
            CertificateValidity { .. } => return None,
        };
        Some(format!("the certificate {} {what}", certificate.certificate.display()))
    };
    let staple = |certificate: &CertificatePaths| {
        certificate.ocsp_response.as_ref()?;
        ServedCertificate::load(certificate).ok()?.stapled?.0.warning(now)
    };
    certificates.flat_map(|certificate| warning(certificate).into_iter().chain(staple(certificate))).collect()
}

fn days(seconds: i64, when: &str) -> String {
    match seconds / DAY {
        0 => format!("less than a day {when}"),
        1 => format!("a day {when}"),
        days => format!("{days} days {when}"),
    }
}

struct CertificatesByName {
    keys: Vec<ServedCertificate>,
    challenges: AcmeChallenges,
}

impl fmt::Debug for CertificatesByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.keys.len())
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if acme_challenges::is_challenge(&hello) {
            return self.challenges.certificate(&hello);
        }
        // The usual case, in which names decide nothing.
        if let [only] = &self.keys[..] {
            return Some(only.current());
        }
        let fits = |key: &&ServedCertificate| {
            let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
            let certificate = key.bare.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            name.zip(certificate).is_some_and(|(name, leaf)| verify_server_name(&leaf, &name).is_ok())
        };
        // A name that fits none gets the first: the client then reports which certificate it did not accept.
        self.keys.iter().find(fits).or(self.keys.first()).map(ServedCertificate::current)
    }
}
