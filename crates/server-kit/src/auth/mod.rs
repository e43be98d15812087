//! Authentication: tokens (JWT), the keys that verify them, and the rules over their claims.
//!
//! Owns the places of a token in a request, its verification, and its rights. Knows nothing of routes, statuses or
//! Pingora: the caller turns an [`AuthenticationError`] into a response. RFC 7515, 7517, 7519, 8725 (good practice),
//! 6750 (bearer tokens).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foyer::Cache;
use futures::future::join_all;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub mod claims_policy;
mod error;
#[cfg(test)]
mod fuzz;
mod jwks;
mod jwt;
mod keys;
pub mod path_token;
pub mod revocation;
pub mod settings;
#[cfg(test)]
mod tests;
mod token_issuer;
pub mod token_right;
mod token_source;

pub use error::AuthenticationError;
pub use jwks::TaskSpawner;
pub use keys::KeyError;
pub use token_issuer::TokenIssuer;
pub use token_source::{strip_headers, strip_query};

use jwks::JwksCache;
use jwt::{ClaimRequirements, UnverifiedToken};
use keys::VerificationKey;
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use settings::{AuthSettings, Issuer, KeySource, TokenSource};

/// Claim that holds what is known of a client by its TLS certificate. It is never taken from a token, nor is one whose name
/// begins with it and a dot, which rules would take for a part of it.
pub const CERTIFICATE_CLAIM: &str = "client_certificate";
/// Parts of that claim.
pub const CERTIFICATE_CLAIM_PARTS: [&str; 7] = ["cn", "dns", "uri", "email", "ip", "serial", "sha256"];

/// Memory for cached tokens, in bytes of their text: some ten thousand of usual length.
const TOKEN_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Claims of a genuine token.
#[derive(Clone, PartialEq)]
pub struct Claims {
    /// Subject (`sub`): the user's id.
    pub subject: UserId,
    /// All claims, `sub` among them.
    pub map: Map<String, Value>,
}

/// Value of [`CERTIFICATE_CLAIM`] for the client of a request, where it has shown a certificate.
#[derive(Clone, Debug)]
pub struct CertificateClaim(pub Value);

impl Claims {
    /// Returns the claims with that of the client's certificate.
    pub fn with_certificate(self: Arc<Self>, certificate: CertificateClaim) -> Arc<Self> {
        let mut claims = Arc::unwrap_or_clone(self);
        claims.map.insert(CERTIFICATE_CLAIM.to_owned(), certificate.0);
        Arc::new(claims)
    }
}

impl fmt::Debug for Claims {
    /// Hides the claims: they are personal, and must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(***)")
    }
}

/// An issuer's key that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("Auth.Jwt.Issuers[{index}]: {cause}")]
pub struct InvalidIssuerKey {
    /// Issuer, counted from 0.
    pub index: usize,
    /// Reason for which its key cannot be used.
    pub cause: KeyError,
}

/// Finds and verifies tokens.
pub struct Authenticator {
    sources: Vec<TokenSource>,
    issuers: Vec<TrustedIssuer>,
    leeway: u64,
    clock: Clock,
    /// Verified tokens, by the SHA-256 of their text, so that a stream of range requests costs one verification.
    /// Refusals are never cached: they cost their sender, not us.
    verified: Cache<[u8; 32], VerifiedToken>,
}

struct TrustedIssuer {
    name: Option<String>,
    audiences: Vec<String>,
    keys: IssuerKeys,
}

enum IssuerKeys {
    Fixed(VerificationKey),
    Published(Arc<JwksCache>),
}

#[derive(Clone)]
struct VerifiedToken {
    claims: Arc<Claims>,
    /// Unix seconds.
    until: u64,
    /// Issuer whose keys verified it, and their generation: after a rotation the token must be verified anew.
    issuer: usize,
    generation: u64,
    text_bytes: usize,
}

impl Authenticator {
    /// Creates it with the issuers' keys. Published keys are fetched by `client` when first needed; `spawner` runs
    /// their renewal.
    pub fn new(
        settings: &AuthSettings,
        client: reqwest::Client,
        clock: Clock,
        spawner: TaskSpawner,
    ) -> Result<Self, InvalidIssuerKey> {
        let trust = |(index, issuer): (usize, &Issuer)| {
            let keys = match &issuer.keys {
                KeySource::Secret(secret) => VerificationKey::from_secret(secret).map(IssuerKeys::Fixed),
                KeySource::PublicKey(pem) => VerificationKey::from_pem(pem).map(IssuerKeys::Fixed),
                KeySource::Jwks(url) => issuer.keys.check().map(|()| {
                    let name = issuer.issuer.clone().unwrap_or_else(|| format!("Issuers[{index}]"));
                    IssuerKeys::Published(JwksCache::new(
                        url.clone(),
                        name,
                        client.clone(),
                        clock.clone(),
                        spawner.clone(),
                    ))
                }),
            };
            let keys = keys.map_err(|cause| InvalidIssuerKey { index, cause })?;
            Ok(TrustedIssuer { name: issuer.issuer.clone(), audiences: issuer.audiences.clone(), keys })
        };
        Ok(Self {
            sources: settings.token_from.clone(),
            issuers: settings.issuers.iter().enumerate().map(trust).collect::<Result<_, _>>()?,
            leeway: settings.leeway.as_secs(),
            verified: Cache::builder(TOKEN_CACHE_BYTES)
                .with_name("auth")
                .with_weighter(|_, verified: &VerifiedToken| verified.text_bytes)
                .build(),
            clock,
        })
    }

    /// Takes over the published keys that `previous` has of the same issuers at the same addresses.
    pub fn keep_keys_of(&mut self, previous: &Self) {
        for issuer in &mut self.issuers {
            let IssuerKeys::Published(keys) = &mut issuer.keys else { continue };
            let known = previous.issuers.iter().find_map(|issuer| match &issuer.keys {
                IssuerKeys::Published(known) if known.is_of_same(keys) => Some(known),
                _ => None,
            });
            if let Some(known) = known {
                *keys = Arc::clone(known);
            }
        }
    }

    /// Fetches the published keys of issuers of which there are none yet; a failure is logged.
    pub async fn fetch_missing_keys(&self) {
        let published = self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            IssuerKeys::Published(keys) => Some(keys),
            IssuerKeys::Fixed(_) => None,
        });
        join_all(published.map(|keys| keys.fetch_if_missing())).await;
    }

    /// Fetches the published keys of each issuer that has an address for them; returns its name and the number of keys, or
    /// the reason why there are none, for the operator.
    pub async fn check_published_keys(&self) -> Vec<(String, Result<usize, String>)> {
        let published = self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            IssuerKeys::Published(keys) => Some(keys),
            IssuerKeys::Fixed(_) => None,
        });
        join_all(published.map(|keys| keys.check())).await
    }

    /// Returns the request's token as it was sent, valid or not.
    pub fn token<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        token_source::find(&self.sources, headers, query).ok()
    }

    /// Returns the request headers on which it depends whose token is found, as `Vary` lists them; `None`: on none.
    pub fn vary(&self) -> Option<HeaderValue> {
        token_source::vary(&self.sources)
    }

    /// Returns true if the request's token is in a cookie, which a browser sends for any page.
    pub fn is_in_cookie(&self, headers: &HeaderMap, query: Option<&str>) -> bool {
        token_source::is_in_cookie(&self.sources, headers, query)
    }

    /// Returns the claims of the request's token.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Arc<Claims>, AuthenticationError> {
        let text = token_source::find(&self.sources, headers, query)?;
        if text.len() > jwt::MAX_BYTES {
            return Err(AuthenticationError::Malformed);
        }
        let digest = Sha256::digest(text.as_bytes()).into();
        if let Some(claims) = self.cached_claims(&digest) {
            return Ok(claims);
        }
        let verified = self.verify(&text).await?;
        let claims = verified.claims.clone();
        self.verified.insert(digest, verified);
        Ok(claims)
    }

    /// Returns the time at which a token with these claims, which was accepted, is no longer valid.
    pub fn valid_until(&self, claims: &Claims) -> UnixMillis {
        let until = jwt::valid_until(&claims.map, self.leeway).unwrap_or_default();
        UnixMillis::EPOCH + Duration::from_secs(until)
    }

    /// Returns the claims of a cached token, if it is still valid and its keys are still in use.
    fn cached_claims(&self, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        let entry = self.verified.get(digest)?;
        let verified = entry.value();
        let in_force = self.clock.unix() < verified.until;
        let same_keys = self.issuers[verified.issuer].keys.generation() == Some(verified.generation);
        (in_force && same_keys).then(|| verified.claims.clone())
    }

    /// Verifies a token by each issuer that it may be from: several may have the same name while a static key is
    /// exchanged.
    async fn verify(&self, text: &str) -> Result<VerifiedToken, AuthenticationError> {
        let token = UnverifiedToken::parse(text)?;
        let named = token.issuer()?;
        let is_known = named.is_some() && self.issuers.iter().any(|issuer| issuer.name.as_deref() == named);
        let name = if is_known { named } else { None };
        let mut refusal = AuthenticationError::WrongIssuer;
        for (index, issuer) in self.issuers.iter().enumerate().filter(|(_, issuer)| issuer.name.as_deref() == name) {
            match issuer
                .keys
                .verify(&token)
                .await
                .and_then(|generation| Ok((generation, self.check_claims(issuer, &token)?)))
            {
                Ok((generation, (claims, until))) => {
                    let (claims, text_bytes) = (Arc::new(claims), text.len());
                    return Ok(VerifiedToken { claims, until, issuer: index, generation, text_bytes });
                }
                Err(other) => refusal = refusal.max(other),
            }
        }
        Err(refusal)
    }

    fn check_claims(
        &self,
        issuer: &TrustedIssuer,
        token: &UnverifiedToken<'_>,
    ) -> Result<(Claims, u64), AuthenticationError> {
        let expected = ClaimRequirements { audiences: &issuer.audiences, now: self.clock.unix(), leeway: self.leeway };
        jwt::check_claims(token.claims.clone(), &expected)
    }
}

impl IssuerKeys {
    /// Verifies a token's signature, and returns the generation of the keys.
    async fn verify(&self, token: &UnverifiedToken<'_>) -> Result<u64, AuthenticationError> {
        match self {
            Self::Fixed(key) => key.verify(token).map(|()| 0),
            Self::Published(jwks) => jwks.verify(token).await,
        }
    }

    fn generation(&self) -> Option<u64> {
        match self {
            Self::Fixed(_) => Some(0),
            Self::Published(jwks) => jwks.generation(),
        }
    }
}
