//! Settings of the certificates that are ordered.

use std::path::PathBuf;

use http_server::settings::{CertificatePaths, Settings as ServerSettings};

/// Directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Settings of ACME (`Server.Acme`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// URL of the authority's directory.
    pub directory: String,
    /// Address that the authority writes to; `None`: it is told none.
    pub email: Option<String>,
    /// Folder of the account and the certificates of this directory.
    pub folder: PathBuf,
    /// Challenge by which the authority verifies the names.
    pub challenge: AcmeChallengeType,
    /// PEM file with the certificates that the directory's own is verified by; `None`: those of the system.
    pub authorities: Option<PathBuf>,
}

/// Challenge by which an authority verifies that a name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallengeType {
    /// HTTP-01 (RFC 8555 §8.3): a request to port 80.
    Http,
    /// TLS-ALPN-01 (RFC 8737): a handshake on port 443.
    TlsAlpn,
}

impl AcmeSettings {
    /// Returns the files of the certificate for `names`; they are called by the first.
    pub fn certificate_paths(&self, names: &[String]) -> CertificatePaths {
        let name = names.first().map_or("", String::as_str);
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        CertificatePaths { certificate: file("pem"), key: file("key"), ocsp_response: None }
    }

    /// Returns the certificates that the listeners of `server` need.
    pub fn certificates(&self, server: &ServerSettings) -> Vec<OrderedCertificate> {
        let mut all: Vec<OrderedCertificate> = Vec::new();
        for names in server.listeners.iter().filter_map(|listener| Some(&listener.tls.as_ref()?.acme_names)) {
            let certificate = OrderedCertificate { names: names.clone(), paths: self.certificate_paths(names) };
            if !names.is_empty() && !all.contains(&certificate) {
                all.push(certificate);
            }
        }
        all
    }
}

/// A certificate that is ordered: its names and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedCertificate {
    /// The names, in lower case; at least one.
    pub names: Vec<String>,
    /// Files that it is written to.
    pub paths: CertificatePaths,
}
