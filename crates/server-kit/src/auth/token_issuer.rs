//! Issuer of tokens for development, signed as an issuer with a shared secret would.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::keys::{KeyError, VerificationKey};
use super::settings::{Issuer, KeySource};
use primitives::clock::Clock;

/// Signer in the name of one issuer (HS256).
pub struct TokenIssuer {
    name: Option<String>,
    audience: Option<String>,
    key: EncodingKey,
}

impl TokenIssuer {
    /// Creates it for an issuer with a shared secret; `None` for any other, whose private key is not ours.
    pub fn new(issuer: &Issuer) -> Option<Result<Self, KeyError>> {
        let KeySource::Secret(secret) = &issuer.keys else { return None };
        Some(VerificationKey::from_secret(secret).map(|_| Self {
            name: issuer.issuer.clone(),
            audience: issuer.audiences.first().cloned(),
            key: EncodingKey::from_secret(secret.expose().as_bytes()),
        }))
    }

    /// Issues a token for `subject` that is valid from now on for `ttl`. `claims` override its other claims.
    pub fn issue(&self, subject: &str, ttl: Duration, claims: &Map<String, Value>, clock: &Clock) -> String {
        let now = clock.unix();
        let mut all = Map::new();
        all.insert("sub".into(), subject.into());
        all.insert("iat".into(), now.into());
        all.insert("exp".into(), now.saturating_add(ttl.as_secs()).into());
        let issuer = self.name.as_ref().map(|name| ("iss".to_owned(), name.as_str().into()));
        let audience = self.audience.as_ref().map(|name| ("aud".to_owned(), name.as_str().into()));
        all.extend(issuer.into_iter().chain(audience));
        all.extend(claims.clone());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &all, &self.key)
            .expect("a JSON object and an HS256 key of any length can be signed")
    }
}
