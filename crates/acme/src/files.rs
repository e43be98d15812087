//! The files: account, certificates and their keys, and the lock that one process at a time orders with.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::settings::{AcmeSettings, OrderedCertificate};

/// Mode of the folder, which holds private keys.
const FOLDER_MODE: u32 = 0o700;
/// Mode of its files.
const FILE_MODE: u32 = 0o600;

/// Failure of the folder or of one of its files.
#[derive(Debug, thiserror::Error)]
#[error("{path}, where certificates by ACME are kept, cannot be used: {source}")]
pub struct AcmeFileError {
    path: PathBuf,
    source: io::Error,
}

impl AcmeFileError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), source }
    }
}

/// Makes the folder, and a self-signed certificate for each of `certificates` that has no files yet: the listeners start
/// with it, and clients refuse it until the ordered one is there.
pub fn prepare(settings: &AcmeSettings, certificates: &[OrderedCertificate]) -> Result<(), AcmeFileError> {
    let folder = &settings.folder;
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(AcmeFileError::at(folder))?;
    for certificate in certificates.iter().filter(|it| !it.paths.certificate.exists() || !it.paths.key.exists()) {
        let (chain, key) = placeholder(certificate).map_err(AcmeFileError::at(&certificate.paths.certificate))?;
        write_pair(certificate, &chain, &key)?;
    }
    Ok(())
}

/// Makes a certificate that has ended, so that it is replaced at once.
fn placeholder(certificate: &OrderedCertificate) -> io::Result<(String, String)> {
    let mut params = CertificateParams::new(certificate.names.clone()).map_err(io::Error::other)?;
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2000, 1, 2);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let signed = params.self_signed(&key).map_err(io::Error::other)?;
    Ok((signed.pem(), key.serialize_pem()))
}

/// Writes a certificate's chain and key, each whole or not at all.
pub fn write_pair(certificate: &OrderedCertificate, chain: &str, key: &str) -> Result<(), AcmeFileError> {
    write(&certificate.paths.key, key)?;
    write(&certificate.paths.certificate, chain)
}

/// Returns the path of the account's file.
pub fn account_path(settings: &AcmeSettings) -> PathBuf {
    settings.folder.join("account.json")
}

/// Writes `text` to `path`, whole or not at all; only this user can read it.
pub fn write(path: &Path, text: &str) -> Result<(), AcmeFileError> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || {
        // One that a process left when it ended is replaced: its mode may be another.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(AcmeFileError::at(path))
}

/// Takes the lock of the folder; `None` where another process has it. It is given back when the file is dropped.
pub fn lock(settings: &AcmeSettings) -> Result<Option<File>, AcmeFileError> {
    let path = settings.folder.join("lock");
    let open = || {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    };
    open().map_err(AcmeFileError::at(&path))
}

/// Times of a certificate, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateTimes {
    /// First second at which it is valid.
    pub not_before: i64,
    /// Last second at which it is valid.
    pub not_after: i64,
}

impl CertificateTimes {
    /// Returns the time from which it is to be renewed: a third of its validity before the end, which is what authorities
    /// ask for and leaves time for tries that fail.
    pub fn renewal(self) -> i64 {
        self.not_after - (self.not_after - self.not_before) / 3
    }
}

/// Reads the times of a certificate; `None` where it cannot be read or is not for exactly the names.
pub fn read_times(certificate: &OrderedCertificate) -> Option<CertificateTimes> {
    let leaf = CertificateDer::from_pem_file(&certificate.paths.certificate).ok()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).ok()?;
    let names = leaf.subject_alternative_name().ok()??.value.general_names.iter().filter_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let mut names: Vec<_> = names.collect();
    let mut wanted = certificate.names.clone();
    names.sort();
    wanted.sort();
    let validity = leaf.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    (names == wanted).then_some(CertificateTimes { not_before, not_after })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{CertificateTimes, lock, prepare, read_times};
    use crate::settings::{AcmeChallengeType, AcmeSettings, OrderedCertificate};

    fn settings(folder: &tempfile::TempDir) -> (AcmeSettings, OrderedCertificate) {
        let settings = AcmeSettings {
            directory: "https://acme.test/directory".into(),
            email: None,
            folder: folder.path().join("acme.test"),
            challenge: AcmeChallengeType::Http,
            authorities: None,
        };
        let names = vec!["b.test".to_owned(), "a.test".to_owned()];
        let paths = settings.certificate_paths(&names);
        (settings, OrderedCertificate { names, paths })
    }

    #[test]
    fn a_certificate_is_due_when_a_third_of_its_time_is_left() {
        for (not_before, not_after, due) in [(0, 90, 60), (1000, 1001, 1001), (0, 0, 0), (-90, 0, -30)] {
            assert_eq!(CertificateTimes { not_before, not_after }.renewal(), due, "{not_before} to {not_after}");
        }
    }

    #[test]
    fn a_missing_certificate_begins_with_one_that_is_due_and_another_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let (settings, certificate) = settings(&folder);
        prepare(&settings, std::slice::from_ref(&certificate)).expect("it is written");
        let times = read_times(&certificate).expect("it is for the names, in any order");
        assert!(times.renewal() < 1_000_000_000, "{times:?}");
        let mode = fs::metadata(&settings.folder).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let first = fs::read(&certificate.paths.certificate).expect("it is there");
        prepare(&settings, std::slice::from_ref(&certificate)).expect("it is there");
        assert_eq!(fs::read(&certificate.paths.certificate).expect("it is there"), first);
        let more = OrderedCertificate { names: vec!["b.test".into()], ..certificate };
        assert_eq!(read_times(&more), None, "it is for other names");
    }

    #[test]
    fn one_process_at_a_time_has_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let (settings, _) = settings(&folder);
        prepare(&settings, &[]).expect("the folder is made");
        let first = lock(&settings).expect("the file can be opened");
        assert!(first.is_some());
        assert!(lock(&settings).expect("the file can be opened").is_none());
        drop(first);
        assert!(lock(&settings).expect("the file can be opened").is_some());
    }
}
