//! `Server.Acme`, and the names of certificates that are ordered.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::ConfigLocation;
use super::listener::check_pem;
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use ::acme::settings::{AcmeChallengeType, AcmeSettings, LETS_ENCRYPT};

/// Most names of a certificate, which is what Let's Encrypt takes.
const MAX_NAMES: usize = 100;
/// Longest host name in bytes (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// Settings of ACME as far as they are resolved: `None` where they are wrong, which is reported already; `Some(None)` where
/// there are none.
pub type ResolvedAcme<'s> = Option<Option<&'s AcmeSettings>>;

/// Resolves `Server.Acme`.
pub fn acme(at: &ConfigLocation<'_>, raw: &file::Acme) -> Option<AcmeSettings> {
    if !raw.accept_terms {
        let problem = ConfigProblem::new("certificates can be ordered only by who accepts the authority's terms");
        at.key("AcceptTerms").report(problem.help("read them, and write `AcceptTerms: true`"));
    }
    let directory = raw.directory.as_ref().map(|text| {
        at.key("Directory").parse(text, "an https URL, such as https://acme.example/directory", |text| {
            let url = super::http_url(text).filter(|url| url.scheme() == "https")?;
            Some(url.to_string())
        })
    });
    let directory = directory.unwrap_or_else(|| Some(LETS_ENCRYPT.to_owned()));
    let email = raw.email.as_ref().map(|text| {
        at.key("Email").parse(text, "an address such as ops@media.example", |text| {
            let (user, host) = text.split_once('@')?;
            let is_plain = text.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b',' | b'?'));
            (is_plain && !user.is_empty() && !host.is_empty() && !host.contains('@')).then(|| text.to_owned())
        })
    });
    let storage = raw.storage.as_ref().map(|text| at.key("Storage").text(text).map(PathBuf::from));
    let storage = storage.unwrap_or_else(|| Some(PathBuf::from("./data/acme")));
    let authorities = raw.authorities.as_ref().map(|text| {
        at.key("Authorities").text(text).map(PathBuf::from).filter(|path| {
            let read = CertificateDer::pem_file_iter(path).and_then(|mut found| found.next().transpose());
            check_pem(&at.key("Authorities"), path, read.map(|found| found.is_some()), "a certificate")
        })
    });
    let challenge = match raw.challenge {
        file::AcmeChallenge::Http => AcmeChallengeType::Http,
        file::AcmeChallenge::TlsAlpn => AcmeChallengeType::TlsAlpn,
    };
    let directory = directory?;
    Some(AcmeSettings {
        folder: storage?.join(folder_name(&directory)),
        directory,
        email: email.map_or(Some(None), |email| email.map(Some))?,
        challenge,
        authorities: authorities.map_or(Some(None), |path| path.map(Some))?,
    })
}

/// Returns the folder's name for a directory: an account and its certificates belong to one authority, so that a change
/// from its staging directory to the one for use begins anew.
fn folder_name(directory: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let name: String = directory.trim_start_matches("https://").chars().map(plain).collect();
    Path::new(name.trim_start_matches('.')).to_owned()
}

/// Resolves `Tls.AcmeNames`; empty where there are none.
pub fn names(
    at: &ConfigLocation<'_>,
    raw: Option<&[ConfigText]>,
    acme: ResolvedAcme<'_>,
    asks_for_certificates: bool,
) -> Option<Vec<String>> {
    let Some(raw) = raw else { return Some(Vec::new()) };
    if raw.is_empty() || raw.len() > MAX_NAMES {
        at.report(ConfigProblem::new("the certificate has no names or too many").expected("1 to 100 host names"));
        return None;
    }
    let expected = "a host name such as media.example; wildcards and addresses cannot be verified by a challenge";
    let names = at.each(raw, |at, text| at.parse(text, expected, host_name))?;
    let Some(acme) = acme? else {
        let problem = ConfigProblem::new("nobody is named who would issue the certificate");
        at.report(problem.help("add `Acme: { AcceptTerms: true }` to `Server`"));
        return None;
    };
    if asks_for_certificates && acme.challenge == AcmeChallengeType::TlsAlpn {
        let problem = ConfigProblem::new("the authority shows no certificate, and `ClientCertificates` wants one");
        at.report(problem.help("set `Server.Acme.Challenge: Http`, or `Mode: Optional`"));
        return None;
    }
    Some(names)
}

/// Parses a host name with two labels at least, and makes it lower case.
fn host_name(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        let ends = !label.starts_with('-') && !label.ends_with('-');
        ends && (1..=63).contains(&label.len()) && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let last = text.rsplit('.').next().is_some_and(|label| label.bytes().any(|c| c.is_ascii_alphabetic()));
    let is_name = text.len() <= MAX_NAME && last && text.split('.').all(is_label);
    is_name.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{folder_name, host_name};

    #[test]
    fn a_change_of_the_directory_begins_anew() {
        let table = [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org_directory"),
            (
                "https://acme-staging-v02.api.letsencrypt.org/directory",
                "acme-staging-v02.api.letsencrypt.org_directory",
            ),
            ("https://127.0.0.1:14000/dir", "127.0.0.1_14000_dir"),
            ("https://h/../../etc", "h_.._.._etc"),
        ];
        for (directory, folder) in table {
            assert_eq!(folder_name(directory).to_str(), Some(folder));
        }
    }

    #[test]
    fn names_are_hosts_without_wildcards_and_become_lower_case() {
        assert_eq!(host_name("Media.Example").as_deref(), Some("media.example"));
        for bad in
            ["", "*.media.example", "127.0.0.1", "a..b", "-a.example", "a-.example", "a/b.example", "::1", "a.example."]
        {
            assert_eq!(host_name(bad), None, "{bad}");
        }
    }
}
