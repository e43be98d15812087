//! Keys of session tickets in files (RFC 5077, RFC 8446 §4.6.1), which the nodes of a service share: a session that began at
//! one of them is resumed at another, and after a restart. The files are those of nginx's `ssl_session_ticket_key`; the
//! tickets themselves are our own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use primitives::regular_file;
use rustls::server::ProducesTickets;
use sha2::{Digest as _, Sha256};

use crate::tls::{CertificateError, unix_now};

/// Lengths of a file that nginx takes, in bytes: the name of the key, then the secrets for AES of 128 or 256 bits.
const FILE_LENGTHS: [usize; 2] = [48, 80];
/// Bytes of the name.
const NAME_BYTES: usize = 16;
/// Bytes of a nonce, long enough to be drawn at random by all nodes without ever repeating (draft-irtf-cfrg-xchacha §2).
const NONCE_BYTES: usize = 24;
/// Bytes of a time in Unix seconds.
const TIME_BYTES: usize = 8;
/// Separates this use of the secrets from any other.
const PURPOSE: &[u8] = b"tidegate session tickets 1\0";
/// Time for which a ticket is good, in seconds. rustls' own tickets are taken for up to as long.
const TICKET_LIFETIME: u32 = 12 * 60 * 60;
/// Most seconds by which another node's clock may be ahead.
const MAX_CLOCK_DIFFERENCE: i64 = 5 * 60;

/// Reason why a file is no key.
#[derive(Debug, thiserror::Error)]
pub enum TicketKeyError {
    /// It cannot be read.
    #[error(transparent)]
    File(std::io::Error),
    /// Its length is another one.
    #[error("it has {0} bytes; expected 80, as `openssl rand 80` writes them, or 48")]
    Length(usize),
}

/// Tickets by the keys of files: the first encrypts, all decrypt.
pub struct SharedTickets {
    keys: Vec<TicketKey>,
}

struct TicketKey {
    name: [u8; NAME_BYTES],
    cipher: XChaCha20Poly1305,
}

impl TicketKey {
    fn read(path: &Path) -> Result<Self, TicketKeyError> {
        // One byte more would do to see that it is too long, but not to say how long it is.
        let content = regular_file::read(path, 1 << 20).map_err(TicketKeyError::File)?;
        let name = content.first_chunk::<NAME_BYTES>().copied().filter(|_| FILE_LENGTHS.contains(&content.len()));
        let name = name.ok_or(TicketKeyError::Length(content.len()))?;
        let secret: [u8; 32] = Sha256::new().chain_update(PURPOSE).chain_update(&content).finalize().into();
        Ok(Self { name, cipher: XChaCha20Poly1305::new(&secret.into()) })
    }

    fn seal(&self, plain: &[u8], now: i64) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let dated = [&now.to_be_bytes()[..], plain].concat();
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), Payload { msg: &dated, aad: &self.name }).ok()?;
        Some([&self.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, nonce: [u8; NONCE_BYTES], sealed: &[u8], now: i64) -> Option<Vec<u8>> {
        let dated = self.cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &self.name }).ok()?;
        let (issued, plain) = dated.split_first_chunk::<TIME_BYTES>()?;
        let age = now.checked_sub(i64::from_be_bytes(*issued))?;
        (-MAX_CLOCK_DIFFERENCE..=i64::from(TICKET_LIFETIME)).contains(&age).then(|| plain.to_vec())
    }
}

impl SharedTickets {
    /// Reads the keys, at least one, which blocks. Fails where a file cannot be read, or has another length than a key.
    pub fn read(paths: &[PathBuf]) -> Result<Self, CertificateError> {
        let read = |path: &PathBuf| {
            TicketKey::read(path).map_err(|source| CertificateError::TicketKey { path: path.clone(), source })
        };
        Ok(Self { keys: paths.iter().map(read).collect::<Result<_, _>>()? })
    }

    fn encrypt_at(&self, plain: &[u8], now: i64) -> Option<Vec<u8>> {
        self.keys.first()?.seal(plain, now)
    }

    fn decrypt_at(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        self.keys.iter().filter(|key| key.name == *name).find_map(|key| key.open(*nonce, sealed, now))
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys of session tickets", self.keys.len())
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        !self.keys.is_empty()
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, unix_now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(cipher, unix_now())
    }
}

/// Checks that the file at `path` is a key of session tickets.
pub fn check(path: &Path) -> Result<(), CertificateError> {
    let paths = [path.to_owned()];
    SharedTickets::read(&paths).map(|_| ())
}

/// Reads the keys at `paths`, where there are any; `own` makes tickets where there are none.
pub fn tickets_by(
    paths: &[PathBuf],
    own: Option<&Arc<dyn ProducesTickets>>,
) -> Result<Option<Arc<dyn ProducesTickets>>, CertificateError> {
    match (paths, own) {
        // Tickets are switched off, or there are none because of clients' certificates.
        (_, None) => Ok(None),
        ([], Some(own)) => Ok(Some(Arc::clone(own))),
        (paths, Some(_)) => Ok(Some(Arc::new(SharedTickets::read(paths)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn tickets(contents: &[&[u8]]) -> Result<SharedTickets, CertificateError> {
        let id = rand::random::<u64>();
        let folder = std::env::temp_dir().join(format!("ticket-keys-{id}"));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |(number, content): (usize, &&[u8])| {
            let path = folder.join(number.to_string());
            std::fs::write(&path, content).unwrap();
            path
        };
        let paths: Vec<_> = contents.iter().enumerate().map(file).collect();
        let read = SharedTickets::read(&paths);
        std::fs::remove_dir_all(folder).unwrap();
        read
    }

    #[test]
    fn the_first_key_encrypts_and_all_decrypt_for_as_long_as_a_ticket_is_good() {
        let (old, new) = ([1; 80], [2; 48]);
        let before = tickets(&[&old]).unwrap();
        let both = tickets(&[&new, &old]).unwrap();
        let after = tickets(&[&new]).unwrap();
        let ticket = before.encrypt_at(b"session", NOW).unwrap();
        assert_eq!(both.decrypt_at(&ticket, NOW).as_deref(), Some(&b"session"[..]));
        assert_eq!(after.decrypt_at(&ticket, NOW), None);
        let ticket = both.encrypt_at(b"session", NOW).unwrap();
        assert_eq!(before.decrypt_at(&ticket, NOW), None);
        let end = NOW + i64::from(TICKET_LIFETIME);
        for (at, is_good) in [
            (NOW - MAX_CLOCK_DIFFERENCE - 1, false),
            (NOW - MAX_CLOCK_DIFFERENCE, true),
            (end, true),
            (end + 1, false),
            (i64::MAX, false),
        ] {
            assert_eq!(after.decrypt_at(&ticket, at).is_some(), is_good, "{at}");
        }
    }

    #[test]
    fn a_ticket_that_was_changed_or_cut_is_none() {
        // Two keys of one name: each is tried.
        let mut other = [1; 80];
        other[NAME_BYTES..].fill(2);
        let all = tickets(&[&[1; 80], &other]).unwrap();
        let ticket = all.encrypt_at(b"session", NOW).unwrap();
        assert!(all.decrypt_at(&ticket, NOW).is_some());
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(all.decrypt_at(&changed, NOW), None, "{at}");
            assert_eq!(all.decrypt_at(&ticket[..at], NOW), None, "{at}");
        }
    }

    #[test]
    fn a_file_of_another_length_is_no_key() {
        for length in [0, 15, 16, 47, 49, 79, 81, 1000] {
            let error = tickets(&[&[1; 80], &vec![7; length]]).unwrap_err().to_string();
            assert!(error.contains(&format!("it has {length} bytes; expected 80")), "{error}");
        }
    }
}
