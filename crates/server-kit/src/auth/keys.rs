//! Keys that verify signatures, each bound to the one algorithm it is for, so that a token can never choose how it is
//! verified (RFC 8725 §3.1). JSON Web Keys: RFC 7517, 7518 §6, 8037.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use thiserror::Error;

use super::error::AuthenticationError;
use super::jwt::UnverifiedToken;
use primitives::secret::Secret;

/// RFC 7518 §3.2: a key of the size of the hash output or larger.
const MIN_SECRET_BYTES: usize = 32;
/// RFC 7518 §3.3: 2048 bits or larger.
const MIN_RSA_BYTES: usize = 256;
/// More keys than any issuer publishes; bounds what a token without `kid` can cost.
const MAX_KEYS_PER_SET: usize = 64;
/// A P-256 key's SubjectPublicKeyInfo up to the point, which is 65 bytes (RFC 5480 §2).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_POINT_BYTES: usize = 65;
const ED25519_BYTES: usize = 32;

/// Reason for which a key cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// A secret that could be guessed.
    #[error("the secret is too short: HS256 needs at least 32 bytes (RFC 7518 §3.2)")]
    ShortSecret,
    /// Not a public key in PEM.
    #[error("not a public key in PEM: expected one `-----BEGIN PUBLIC KEY-----` block")]
    NotPublicPem,
    /// A kind of key that no accepted algorithm uses.
    #[error("a key of another kind: expected RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)")]
    UnsupportedKind,
    /// An RSA key that could be factored.
    #[error("the RSA key is too short: expected at least 2048 bits")]
    ShortRsa,
    /// A JWKS address that is no plain web address.
    #[error("not an address that keys can be fetched from: expected http:// or https:// without user and password")]
    InvalidJwksUrl,
}

/// Key with its id and its algorithm.
#[derive(Debug)]
pub(super) struct VerificationKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// Creates a key from a shared secret (HS256).
    pub(super) fn from_secret(secret: &Secret) -> Result<Self, KeyError> {
        let secret = secret.expose().as_bytes();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret);
        }
        Ok(Self { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) })
    }

    /// Creates a key from a public key in PEM; its kind gives the algorithm.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let is_pkcs1 = std::str::from_utf8(pem).is_ok_and(|pem| pem.contains("-----BEGIN RSA PUBLIC KEY-----"));
        match SubjectPublicKeyInfoDer::from_pem_slice(pem) {
            Ok(spki) => {
                if let Some(point) = spki.strip_prefix(&P256_SPKI)
                    && point.len() == P256_POINT_BYTES
                {
                    return Ok(Self { id: None, algorithm: Algorithm::ES256, key: DecodingKey::from_ec_der(point) });
                }
                if let Ok(key) = DecodingKey::from_ed_pem(pem) {
                    return Ok(Self { id: None, algorithm: Algorithm::EdDSA, key });
                }
            }
            Err(_) if is_pkcs1 => {}
            Err(_) => return Err(KeyError::NotPublicPem),
        }
        let der = DecodingKey::from_rsa_pem(pem).map_err(|_| KeyError::UnsupportedKind)?;
        // Converted to modulus and exponent, which also shows that the key can be read at all.
        let jwk = Jwk::from_decoding_key(&der, Some(Algorithm::RS256)).map_err(|_| KeyError::UnsupportedKind)?;
        Self::from_jwk(jwk)
    }

    /// Creates a key from one key of a set. The kind decides the algorithm; its other members must agree.
    fn from_jwk(jwk: Jwk) -> Result<Self, KeyError> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return Err(KeyError::UnsupportedKind),
        };
        let common = &jwk.common;
        // RFC 7517 §4.2, §4.3: a key meant for encryption must not verify signatures.
        let verifies = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|listed| listed.contains(&KeyOperations::Verify))
            && common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
        if !verifies {
            return Err(KeyError::UnsupportedKind);
        }
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| KeyError::UnsupportedKind)?;
        match (key.kind(), algorithm) {
            (DecodingKeyKind::RsaModulusExponent { n, .. }, _) if significant_bytes(n) < MIN_RSA_BYTES => {
                Err(KeyError::ShortRsa)
            }
            (DecodingKeyKind::SecretOrDer(point), Algorithm::ES256) if point.len() != P256_POINT_BYTES => {
                Err(KeyError::UnsupportedKind)
            }
            (DecodingKeyKind::SecretOrDer(point), Algorithm::EdDSA) if point.len() != ED25519_BYTES => {
                Err(KeyError::UnsupportedKind)
            }
            _ => Ok(Self { id: jwk.common.key_id, algorithm, key }),
        }
    }

    /// Verifies the token's signature by this key. A key without an id verifies tokens with any `kid`.
    pub(super) fn verify(&self, token: &UnverifiedToken) -> Result<(), AuthenticationError> {
        if token.algorithm != self.algorithm {
            return Err(AuthenticationError::UnsupportedAlgorithm);
        }
        let verified = jsonwebtoken::crypto::verify(token.signature, token.message, &self.key, self.algorithm);
        // An error is a signature that cannot even be decoded: as wrong as any other.
        if verified.unwrap_or(false) { Ok(()) } else { Err(AuthenticationError::BadSignature) }
    }
}

fn significant_bytes(number: &[u8]) -> usize {
    // Leading zeros would make a short modulus look long enough.
    number.iter().skip_while(|byte| **byte == 0).count()
}

/// JWKS document; members of `keys` are read one by one, since unknown kinds are to be ignored (RFC 7517 §5).
#[derive(Deserialize)]
struct JwksDocument {
    keys: Vec<serde_json::Value>,
}

/// Returns the usable keys of a JWKS document. None of them is symmetric: a published secret would be no secret.
pub(super) fn parse_set(document: &[u8]) -> Option<Vec<VerificationKey>> {
    let document: JwksDocument = serde_json::from_slice(document).ok()?;
    let jwks = document.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Some(jwks.filter_map(|jwk| VerificationKey::from_jwk(jwk).ok()).take(MAX_KEYS_PER_SET).collect())
}

/// Verifies the token's signature by one of these keys: the one that `kid` names, or any if it names none.
pub(super) fn verify_with(keys: &[VerificationKey], token: &UnverifiedToken) -> Result<(), AuthenticationError> {
    let named = keys.iter().filter(|key| token.key_id.is_none() || key.id == token.key_id);
    let mut verdict = Err(AuthenticationError::UnknownKey);
    for key in named {
        verdict = key.verify(token);
        if verdict.is_ok() {
            break;
        }
    }
    // Without a name, a wrong signature may as well be the right one of a key that is not in the set yet.
    if token.key_id.is_none() { verdict.map_err(|_| AuthenticationError::UnknownKey) } else { verdict }
}
