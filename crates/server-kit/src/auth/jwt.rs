//! A token's text: parted, decoded, and its claims judged (RFC 7515 §3.1, 7519 §4, 8725). Pure; signatures are verified
//! by [`super::keys`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Claims;
use super::error::AuthenticationError;
use primitives::ids::is_id;

/// Longer tokens are refused unread; an HTTP header line is seldom allowed more.
pub(super) const MAX_BYTES: usize = 8 * 1024;

/// A token as its sender wrote it: nothing in it is to be believed before a key verified it.
pub(super) struct UnverifiedToken<'a> {
    /// How it says it is signed: one of the accepted ones.
    pub(super) algorithm: Algorithm,
    /// Which key it says signed it.
    pub(super) key_id: Option<String>,
    /// What is signed.
    pub(super) message: &'a [u8],
    /// The signature, in base64url.
    pub(super) signature: &'a str,
    /// What it claims.
    pub(super) claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> UnverifiedToken<'a> {
    /// Reads a token in the compact form, `header.claims.signature`.
    pub(super) fn parse(text: &'a str) -> Result<Self, AuthenticationError> {
        let (message, signature) = text.rsplit_once('.').ok_or(AuthenticationError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(AuthenticationError::Malformed)?;
        let header: JoseHeader = decode(header)?;
        // RFC 7515 §4.1.11: an extension that must be understood, and none is.
        if header.crit.is_some() {
            return Err(AuthenticationError::Malformed);
        }
        let algorithm = match header.alg.as_str() {
            "HS256" => Algorithm::HS256,
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            _ => return Err(AuthenticationError::UnsupportedAlgorithm),
        };
        Ok(Self { algorithm, key_id: header.kid, message: message.as_bytes(), signature, claims: decode(claims)? })
    }

    /// Who it says made it.
    pub(super) fn issuer(&self) -> Result<Option<&str>, AuthenticationError> {
        match self.claims.get("iss") {
            None => Ok(None),
            Some(Value::String(issuer)) => Ok(Some(issuer)),
            Some(_) => Err(AuthenticationError::Malformed),
        }
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, AuthenticationError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthenticationError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| AuthenticationError::Malformed)
}

/// What the claims are judged by.
pub(super) struct ClaimRequirements<'a> {
    /// One of these must be in `aud`; empty accepts any.
    pub(super) audiences: &'a [String],
    /// Unix seconds.
    pub(super) now: u64,
    /// Clock difference allowed, in seconds.
    pub(super) leeway: u64,
}

/// Judges the claims of a token whose signature was verified; gives them, and until when they hold.
pub(super) fn check_claims(
    claims: Map<String, Value>,
    expected: &ClaimRequirements,
) -> Result<(Claims, u64), AuthenticationError> {
    let until = numeric_date(&claims, "exp")?.ok_or(AuthenticationError::Malformed)?.saturating_add(expected.leeway);
    let from = numeric_date(&claims, "nbf")?.unwrap_or(0);
    if expected.now >= until {
        return Err(AuthenticationError::Expired);
    }
    if expected.now.saturating_add(expected.leeway) < from {
        return Err(AuthenticationError::NotYetValid);
    }
    if !expected.audiences.is_empty() && !names_one_of(claims.get("aud"), expected.audiences) {
        return Err(AuthenticationError::WrongAudience);
    }
    match claims.get("sub") {
        Some(Value::String(subject)) if is_id(subject) => Ok((Claims { subject: subject.clone(), map: claims }, until)),
        // It goes into keys, rows and URLs, wherever a route leads.
        Some(Value::String(subject)) if !subject.is_empty() => Err(AuthenticationError::UnusableSubject),
        _ => Err(AuthenticationError::NoSubject),
    }
}

/// A NumericDate: seconds, perhaps with a fraction, which is dropped.
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, AuthenticationError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value.as_u64();
    // A float's conversion saturates: a date before 1970 is 1970, one after the end of time is the end of time.
    let seconds = whole.or_else(|| value.as_f64().map(|seconds| seconds as u64));
    seconds.map(Some).ok_or(AuthenticationError::Malformed)
}

/// `aud` is a text or an array of texts (RFC 7519 §4.1.3).
fn names_one_of(audience: Option<&Value>, ours: &[String]) -> bool {
    let is_ours = |value: &Value| value.as_str().is_some_and(|name| ours.iter().any(|our| our == name));
    match audience {
        Some(Value::Array(names)) => names.iter().any(is_ours),
        Some(name) => is_ours(name),
        None => false,
    }
}
