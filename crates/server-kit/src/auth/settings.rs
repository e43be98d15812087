//! Settings of authentication (`AuthSettings`).

use std::time::Duration;

use url::Url;

use super::keys::{KeyError, VerificationKey};
use super::path_token;
use primitives::secret::Secret;

/// Settings of finding and verifying tokens (`AuthSettings.Jwt`).
#[derive(Clone, Debug, PartialEq)]
pub struct AuthSettings {
    /// Accepted issuers; empty means that no token can be valid.
    pub issuers: Vec<Issuer>,
    /// Places where a token is looked for, in this order; the first that has one decides.
    pub token_from: Vec<TokenSource>,
    /// Clock difference allowed for `exp` and `nbf`.
    pub leeway: Duration,
    /// Tokens in paths, where streaming URLs are given out.
    pub path_token: Option<path_token::Settings>,
    /// Ends the user's live streams at a logout.
    pub end_revoked_streams: bool,
}

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// Required `iss`; `None` accepts a token with any `iss`.
    pub issuer: Option<String>,
    /// Accepted audiences, one of which `aud` must contain; empty accepts any.
    pub audiences: Vec<String>,
    /// The keys that sign.
    pub keys: KeySource,
}

/// Source of an issuer's keys.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// A shared secret: HS256 only.
    Secret(Secret),
    /// One public key in PEM: RS256, ES256 or EdDSA, by its kind.
    PublicKey(Vec<u8>),
    /// A JWKS document, fetched and rotated.
    Jwks(Url),
}

impl KeySource {
    /// Checks that the key can be used, as far as possible without fetching anything.
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

/// Place where a token is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`.
    Header,
    /// The cookie of that name.
    Cookie(String),
    /// The query parameter of that name.
    Query(String),
}
