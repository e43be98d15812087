//! Certificates of clients (mutual TLS, RFC 8446 §4.4.2): how they are verified, and what is known of a client by its own.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

use crate::settings::{ClientCertificateMode, ClientCertificateSettings};
use crate::tls::{self, CertificateError};
use crate::tls_server::RevocationSources;
use primitives::hexadecimal::hexadecimal;

/// A certificate that a client has shown and that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Common name of its subject.
    pub common_name: Option<String>,
    /// Other names of the subject.
    pub alternative_names: AlternativeNames,
    /// Serial number, in lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the whole certificate, in lower-case hexadecimal.
    pub sha256: String,
    /// The whole certificate as the value of a header: its DER in Base64.
    pub encoded: HeaderValue,
    /// The listener takes it in place of a token.
    pub authenticates: bool,
}

impl ClientCertificate {
    /// Reads the certificate; `None` where it is not X.509.
    pub fn parse(der: &CertificateDer<'_>, authenticates: bool) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Some(Self {
            common_name: common_name.map(str::to_owned),
            alternative_names: AlternativeNames::of(&certificate),
            serial: hexadecimal(without_sign(certificate.raw_serial())),
            sha256: hexadecimal(&Sha256::digest(der)),
            encoded: HeaderValue::try_from(STANDARD.encode(der)).expect("Base64 has only characters of headers"),
            authenticates,
        })
    }
}

/// Names of a certificate's subject, each kind apart (RFC 5280 §4.2.1.6): an authority that verifies one kind may let its
/// customers choose another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlternativeNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// Addresses of mail.
    pub emails: Vec<String>,
    /// IP addresses.
    pub ips: Vec<String>,
}

impl AlternativeNames {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self::default();
        let extension = certificate.subject_alternative_name().ok().flatten();
        for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::URI(name) => names.uris.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => names.emails.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.ips.extend(ip_address(bytes)),
                _ => {}
            }
        }
        names
    }
}

fn ip_address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    address.map(|address| address.to_string())
}

/// Returns the number without the zero byte that only keeps it positive (X.690 §8.3.3).
pub fn without_sign(number: &[u8]) -> &[u8] {
    match number {
        [0, rest @ ..] if !rest.is_empty() => rest,
        _ => number,
    }
}

/// The check of clients' certificates.
pub struct ClientVerifier {
    /// The check itself.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// Sources of what it knows of revoked certificates.
    pub lists: RevocationSources,
}

/// Makes the check of clients' certificates. Fails where a file cannot be read, or there is no authority in it.
pub fn verifier(
    settings: &ClientCertificateSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientVerifier, CertificateError> {
    let mut roots = RootCertStore::empty();
    let mut digest = Sha256::new();
    for authority in tls::read_pem::<CertificateDer<'static>>(&settings.authorities)? {
        let path = &settings.authorities;
        digest.update(&authority);
        roots.add(authority).map_err(|source| CertificateError::Authority { path: path.clone(), source })?;
    }
    let mut lists = Vec::new();
    for path in &settings.revocation_lists {
        lists.extend(tls::read_pem::<CertificateRevocationListDer<'static>>(path)?);
    }
    let issuers = lists.iter().filter_map(|list| issuer(list)).collect();
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !lists.is_empty() {
        // The whole chain is looked at: an authority below the root can be revoked too. One without a list here has
        // revoked nothing that is known.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if settings.mode == ClientCertificateMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    let failed = |source| CertificateError::Verifier { path: settings.authorities.clone(), source };
    let lists = RevocationSources { issuers, authorities: digest.finalize().to_vec() };
    Ok(ClientVerifier { verifier: builder.build().map_err(failed)?, lists })
}

/// Returns the distinguished name of the authority that a list is of.
fn issuer(list: &[u8]) -> Option<Vec<u8>> {
    let (_, list) = x509_parser::parse_x509_crl(list).ok()?;
    Some(list.tbs_cert_list.issuer.as_raw().to_vec())
}

/// Checks that no authority's list is missing that was there `before`, while the authorities are the same: a file that was
/// cut between two lists would allow what one of them forbids.
pub fn check_lists(before: &RevocationSources, now: &RevocationSources) -> Result<(), CertificateError> {
    let missing = before.issuers.difference(&now.issuers).next();
    match missing {
        Some(issuer) if before.authorities == now.authorities => {
            let name = X509Name::from_der(issuer).map_or_else(|_| "?".to_owned(), |(_, name)| name.to_string());
            Err(CertificateError::MissingList(name))
        }
        _ => Ok(()),
    }
}

/// Checks that the files of `settings` can be used.
pub fn check(settings: &ClientCertificateSettings) -> Result<(), CertificateError> {
    verifier(settings, &Arc::new(rustls::crypto::aws_lc_rs::default_provider())).map(|_| ())
}
