//! What authentication is told (`AuthSettings`).

use std::time::Duration;

use url::Url;

use super::keys::{KeyError, VerificationKey};
use super::path_token;
use primitives::secret::Secret;

/// How tokens are found and verified (`AuthSettings.Jwt`).
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Whose tokens are accepted; empty means that no token can be valid.
    pub issuers: Vec<Issuer>,
    /// Where a token is looked for, in this order; the first that has one decides.
    pub token_from: Vec<TokenSource>,
    /// Clock difference allowed for `exp` and `nbf`.
    pub leeway: Duration,
    /// Tokens in paths, where streaming URLs are given out.
    pub path_token: Option<path_token::Settings>,
    /// Whether a logout ends the user's live streams.
    pub end_revoked_streams: bool,
}

/// One issuer of tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What `iss` must be; `None` accepts a token without looking at `iss`.
    pub issuer: Option<String>,
    /// What `aud` must contain one of; empty accepts any.
    pub audiences: Vec<String>,
    /// The keys that sign.
    pub keys: KeySource,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A shared secret: HS256 only.
    Secret(Secret),
    /// One public key in PEM: RS256, ES256 or EdDSA, by its kind.
    PublicKey(Vec<u8>),
    /// A JWKS document, fetched and rotated.
    Jwks(Url),
}

impl KeySource {
    /// Whether the key can be used, as far as can be told without fetching anything.
    pub fn check(&self) -> Result<(), KeyError> {
        match self {
            Self::Secret(secret) => VerificationKey::from_secret(secret).map(drop),
            Self::PublicKey(pem) => VerificationKey::from_pem(pem).map(drop),
            Self::Jwks(url) => {
                let is_plain = url.username().is_empty() && url.password().is_none();
                let is_web = matches!(url.scheme(), "http" | "https");
                if is_plain && is_web { Ok(()) } else { Err(KeyError::InvalidJwksUrl) }
            }
        }
    }
}

/// Where a token is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`.
    Header,
    /// The cookie of that name.
    Cookie(String),
    /// The query parameter of that name.
    Query(String),
}
