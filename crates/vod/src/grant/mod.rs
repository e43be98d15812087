//! Grants: tokens in a path, `/v/{token}/movies/{id}/…`, that open one film for one session. A player needs no header and no
//! cookie for them, and relative URIs of a manifest inherit them.
//!
//! A token names its session, and is worth nothing without it: it is good as long as the session lives, and at most for the
//! session's longest lifetime. Content: version, key id, rules, expiry, the user's generation, the session's id, a digest
//! of the prefix; HMAC-SHA256 over all of it, truncated to 128 bits (RFC 2104 §5); base64url without padding.
//!
//! Must not know requests: what shows a token, and what is answered, is the proxy's.

mod carriers;
mod verifier;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::session::{FilmSession, GrantPolicy, SessionId};
use crate::settings::GrantSettings;
use primitives::clock::Clock;
use server_kit::auth::AuthenticationError;

pub use carriers::{GRANT_COOKIE, GRANT_HEADER, path_without_token, set_cookie};
pub use verifier::{GrantRefusal, GrantVerifier, JudgeSession};

const VERSION: u8 = 3;
/// Version, key id, rules, expiry, generation, session.
const HEADER_BYTES: usize = 1 + 1 + 1 + 4 + 4 + 16;
/// Bytes of the digest of the prefix. It is keyed, so it can only be guessed by asking.
const DIGEST_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = HEADER_BYTES + DIGEST_BYTES + TAG_BYTES;
/// Characters of a token: all have the same length.
pub const TOKEN_CHARACTERS: usize = TOKEN_BYTES / 3 * 4;

/// Keys that sign and verify grants.
pub struct GrantKeys {
    /// The first signs, all verify.
    keys: Vec<GrantKey>,
    max_ttl: Duration,
    clock: Clock,
}

struct GrantKey {
    id: u8,
    mac: Hmac<Sha256>,
}

/// A genuine token that has not expired. Its prefix is still to be compared ([`GrantKeys::opens`]), and its session to be
/// judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The session.
    pub session: SessionId,
    /// The viewer's token generation when it was issued.
    pub generation: u32,
    /// Rules of the grant.
    pub policy: GrantPolicy,
    /// Unix second at which it ends, whatever its session does.
    pub expires: u64,
    /// Digest of the prefix, by the key with that id.
    digest: [u8; DIGEST_BYTES],
    key: u8,
}

impl GrantKeys {
    /// Creates the keys of `settings`; without any, one that lives as long as the process.
    pub fn new(settings: &GrantSettings, clock: Clock) -> Self {
        let keys = match settings.keys.as_slice() {
            // A key of its own rather than none: a single node works without configuration.
            [] => {
                tracing::warn!(
                    "Vod.Grant has no Keys: films stop when this process ends, and no other node serves them"
                );
                vec![GrantKey::new(0, &rand::random::<[u8; 32]>())]
            }
            keys => keys.iter().map(|key| GrantKey::new(key.id, key.key.expose().as_bytes())).collect(),
        };
        Self { keys, max_ttl: settings.max_ttl, clock }
    }

    /// Issues the token of a session. It ends with the session, and when the session's longest lifetime is over.
    pub fn issue(&self, session: &FilmSession) -> String {
        let opened = u64::try_from(session.opened_at.as_millis()).unwrap_or_default() / 1000;
        let expires = opened.saturating_add(self.max_ttl.as_secs());
        let signer = &self.keys[0];
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.extend([VERSION, signer.id, session.policy.0]);
        // Seconds in 32 bits last until 2106.
        bytes.extend(u32::try_from(expires).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(session.generation.to_be_bytes());
        bytes.extend(session.id.0);
        bytes.extend(&signer.digest_mac(&session.prefix).finalize().into_bytes()[..DIGEST_BYTES]);
        let tag = signer.mac(&bytes).finalize().into_bytes();
        bytes.extend(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Returns the grant of a token if it is genuine and has not expired.
    pub fn verify(&self, token: &str) -> Result<Grant, AuthenticationError> {
        if token.len() != TOKEN_CHARACTERS {
            return Err(AuthenticationError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| AuthenticationError::Malformed)?;
        let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(AuthenticationError::Malformed)?;
        let (&[version, key, policy, e0, e1, e2, e3, g0, g1, g2, g3, ref session @ ..], digest) =
            signed.split_first_chunk::<HEADER_BYTES>().ok_or(AuthenticationError::Malformed)?;
        if version != VERSION {
            return Err(AuthenticationError::Malformed);
        }
        let signer = self.keys.iter().find(|known| known.id == key).ok_or(AuthenticationError::UnknownKey)?;
        // Compared in constant time by the `hmac` crate.
        signer.mac(signed).verify_truncated_left(tag).map_err(|_| AuthenticationError::BadSignature)?;
        let expires = u64::from(u32::from_be_bytes([e0, e1, e2, e3]));
        // After the signature: the time of a forged token means nothing.
        if self.clock.unix() >= expires {
            return Err(AuthenticationError::Expired);
        }
        Ok(Grant {
            session: SessionId(*session),
            generation: u32::from_be_bytes([g0, g1, g2, g3]),
            policy: GrantPolicy(policy),
            expires,
            digest: digest.try_into().map_err(|_| AuthenticationError::Malformed)?,
            key,
        })
    }

    /// Returns true if a grant, which these keys verified, opens what lies below `prefix`.
    pub fn opens(&self, grant: &Grant, prefix: &str) -> bool {
        let signer = self.keys.iter().find(|known| known.id == grant.key);
        signer.is_some_and(|signer| signer.digest_mac(prefix).verify_truncated_left(&grant.digest).is_ok())
    }
}

impl GrantKey {
    fn new(id: u8, secret: &[u8]) -> Self {
        Self { id, mac: Hmac::new_from_slice(secret).expect("HMAC takes keys of any length") }
    }

    /// The MAC of a token, whose signed part always has the same length.
    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        self.mac.clone().chain_update(b"film grant").chain_update(signed)
    }

    fn digest_mac(&self, prefix: &str) -> Hmac<Sha256> {
        self.mac.clone().chain_update(b"prefix of a film grant").chain_update(prefix)
    }
}

/// Token of a request; kept beside the request, never shown.
#[derive(Clone)]
pub struct GrantToken(String);

impl GrantToken {
    /// The token that a text is, good or not.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, to be verified, and for addresses that go back to whoever showed it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for GrantToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantToken(***)")
    }
}

/// Returns true if a text may contain a grant: a run of base64url, at least as long as a token, that begins with the version.
/// For callers that must show no token.
pub fn may_hold_grant(text: &str) -> bool {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let first = |run: &str| run.get(..4).and_then(|start| URL_SAFE_NO_PAD.decode(start).ok()?.first().copied());
    text.split(|c| !is_of_token(c)).any(|run| run.len() >= TOKEN_CHARACTERS && first(run) == Some(VERSION))
}

#[cfg(test)]
mod tests;
