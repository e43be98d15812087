//! Responses to the challenges of an ACME server, by which it verifies that the names of a certificate lead here. They are
//! there only while an order is under way.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// Protocol that the ACME server selects by ALPN to see a challenge's certificate (RFC 8737 §6.2).
pub const ACME_TLS_PROTOCOL: &[u8] = b"acme-tls/1";
/// Beginning of the path at which the ACME server asks for a key authorization (RFC 8555 §8.3).
const HTTP_CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// Pending challenges of both kinds. Clones share them.
#[derive(Clone, Default)]
pub struct AcmeChallenges {
    pending: Arc<RwLock<PendingChallenges>>,
}

#[derive(Default)]
struct PendingChallenges {
    /// Key authorizations of HTTP-01, by the token in the path.
    key_authorizations: HashMap<String, String>,
    /// Certificates of TLS-ALPN-01, by the name that is verified.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl AcmeChallenges {
    /// Adds an HTTP-01 challenge; it is answered until the guard is dropped.
    pub fn add_http(&self, token: String, key_authorization: String) -> PendingChallenge {
        self.pending.write().key_authorizations.insert(token.clone(), key_authorization);
        PendingChallenge { challenges: self.clone(), key: ChallengeKey::Token(token) }
    }

    /// Adds a TLS-ALPN-01 challenge for `name`, in lower case; it is answered until the guard is dropped.
    pub fn add_tls_alpn(&self, name: String, certificate: Arc<CertifiedKey>) -> PendingChallenge {
        self.pending.write().certificates.insert(name.clone(), certificate);
        PendingChallenge { challenges: self.clone(), key: ChallengeKey::Name(name) }
    }

    /// Returns the key authorization that `path` asks for; `None` where it asks for none that is pending.
    pub fn key_authorization(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP_CHALLENGE_PATH)?;
        self.pending.read().key_authorizations.get(token).cloned()
    }

    /// Returns the certificate of the challenge that `hello` asks for, by a name and this one protocol alone.
    pub(crate) fn certificate(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        self.pending.read().certificates.get(&name).cloned()
    }
}

/// Returns true where a client offers only the protocol of TLS-ALPN-01, as an ACME server does (RFC 8737 §3).
pub(crate) fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(ACME_TLS_PROTOCOL) && offered.next().is_none())
}

enum ChallengeKey {
    Token(String),
    Name(String),
}

/// A challenge that is answered for as long as this lives.
#[must_use = "the challenge is answered only while this lives"]
pub struct PendingChallenge {
    challenges: AcmeChallenges,
    key: ChallengeKey,
}

impl Drop for PendingChallenge {
    fn drop(&mut self) {
        let mut pending = self.challenges.pending.write();
        match &self.key {
            ChallengeKey::Token(token) => drop(pending.key_authorizations.remove(token)),
            ChallengeKey::Name(name) => drop(pending.certificates.remove(name)),
        }
    }
}

impl fmt::Debug for AcmeChallenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.pending.read();
        write!(f, "{} pending challenges", pending.key_authorizations.len() + pending.certificates.len())
    }
}
