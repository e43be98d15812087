//! Parsing of a token and check of its claims (RFC 7515 §3.1, 7519 §4, 8725). Pure; signatures are verified by
//! [`super::keys`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::AuthenticationError;
use super::{CERTIFICATE_CLAIM, Claims};
use primitives::ids::UserId;

/// Longest token in bytes; a longer one is refused unread, and few servers accept a longer header line.
pub(super) const MAX_BYTES: usize = 8 * 1024;

/// Token as its sender wrote it: nothing in it may be believed before a key has verified it.
pub(super) struct UnverifiedToken<'a> {
    /// Algorithm that it names; one of the accepted ones.
    pub(super) algorithm: Algorithm,
    /// Key that it names (`kid`).
    pub(super) key_id: Option<String>,
    /// Signed bytes.
    pub(super) message: &'a [u8],
    /// The signature, in base64url.
    pub(super) signature: &'a str,
    /// Its claims.
    pub(super) claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> UnverifiedToken<'a> {
    /// Parses a token in the compact form, `header.claims.signature`, of at most [`MAX_BYTES`], which the caller has
    /// checked. Fails where it is malformed, its algorithm is none that is accepted, or it has `crit`.
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
            // RFC 8725 §3.1: a closed list, in which `none` is not.
            _ => return Err(AuthenticationError::UnsupportedAlgorithm),
        };
        Ok(Self { algorithm, key_id: header.kid, message: message.as_bytes(), signature, claims: decode(claims)? })
    }

    /// Returns the issuer that it names (`iss`).
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

/// Requirements on the claims.
pub(super) struct ClaimRequirements<'a> {
    /// One of these must be in `aud`; empty accepts any.
    pub(super) audiences: &'a [String],
    /// Unix seconds.
    pub(super) now: u64,
    /// Clock difference allowed, in seconds.
    pub(super) leeway: u64,
}

/// Checks the claims of a token whose signature was verified; returns them, and the Unix second until which they hold.
pub(super) fn check_claims(
    mut claims: Map<String, Value>,
    expected: &ClaimRequirements,
) -> Result<(Claims, u64), AuthenticationError> {
    claims.retain(|name, _| !is_certificate_claim(name));
    // RFC 7519 makes `exp` optional; here a token without an end is refused, since it could not be taken back.
    let until = valid_until(&claims, expected.leeway)?;
    let from = numeric_date(&claims, "nbf")?.unwrap_or(0);
    // RFC 7519 §4.1.4: not accepted on or after the expiry.
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
        Some(Value::String(subject)) if !subject.is_empty() => {
            // The id goes into keys, rows and URLs, wherever a route leads.
            let subject = UserId::parse(subject.as_str()).ok_or(AuthenticationError::UnusableSubject)?;
            Ok((Claims { subject, map: claims }, until))
        }
        _ => Err(AuthenticationError::NoSubject),
    }
}

/// Returns the Unix second until which claims hold, with the clock difference allowed, in seconds.
pub(super) fn valid_until(claims: &Map<String, Value>, leeway: u64) -> Result<u64, AuthenticationError> {
    Ok(numeric_date(claims, "exp")?.ok_or(AuthenticationError::Malformed)?.saturating_add(leeway))
}

/// Returns true where rules would take the claim for one of a client's certificate.
fn is_certificate_claim(name: &str) -> bool {
    name.strip_prefix(CERTIFICATE_CLAIM).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Parses a NumericDate (RFC 7519 §2): seconds, perhaps with a fraction, which is dropped.
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, AuthenticationError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value.as_u64();
    // A float's conversion saturates: a date before 1970 is 1970, one after the end of time is the end of time.
    let seconds = whole.or_else(|| value.as_f64().map(|seconds| seconds as u64));
    seconds.map(Some).ok_or(AuthenticationError::Malformed)
}

/// Returns true if `aud`, a string or an array of strings (RFC 7519 §4.1.3), names one of ours.
fn names_one_of(audience: Option<&Value>, ours: &[String]) -> bool {
    let is_ours = |value: &Value| value.as_str().is_some_and(|name| ours.iter().any(|our| our == name));
    match audience {
        Some(Value::Array(names)) => names.iter().any(is_ours),
        Some(name) => is_ours(name),
        None => false,
    }
}
