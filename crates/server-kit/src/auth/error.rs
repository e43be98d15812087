//! Reasons for which a token was not accepted, and the challenge for the client (RFC 6750 §3).

use http::HeaderValue;
use thiserror::Error;

use http_semantics::error_codes::ErrorCode;

/// Reason for which there are no claims, ordered by how far the token came: where several issuers could have signed a
/// token, the greatest refusal says most.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthenticationError {
    /// No source has a token.
    #[error("the request has no token")]
    Missing,
    /// No issuer of that name is known.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// An algorithm that is never accepted (`none`), or another one than the issuer's key is for.
    #[error("the token's algorithm is not accepted")]
    UnsupportedAlgorithm,
    /// The issuer has no such key.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// The key exists, and did not make this signature.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// The issuer's keys have never been fetched, so nothing can be said about the token: 503, not 401.
    #[error("the issuer's keys cannot be fetched")]
    KeysUnavailable,
    /// Not a signed JWT, too long, or a claim that every token needs is missing or of the wrong type.
    #[error("the token is malformed")]
    Malformed,
    /// `sub` is missing or empty.
    #[error("the token names no subject")]
    NoSubject,
    /// `sub` is longer than an id, or no id at all.
    #[error("the token's subject cannot be a user's id")]
    UnusableSubject,
    /// `aud` names none of ours.
    #[error("the token is for another audience")]
    WrongAudience,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// It stands in a path, and is leave for another route than this one.
    #[error("the token is for another path")]
    WrongPath,
    /// It came in a cookie that a page of another site had sent along.
    #[error("the token came in a cookie, from a page of another site")]
    CrossSite,
    /// The user logged out everywhere after it was made.
    #[error("the token was revoked")]
    Revoked,
}

impl AuthenticationError {
    /// Returns its name in the log.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::WrongIssuer => "wrong_issuer",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Malformed => "malformed",
            Self::NoSubject => "no_subject",
            Self::UnusableSubject => "unusable_subject",
            Self::WrongAudience => "wrong_audience",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::WrongPath => "wrong_path",
            Self::CrossSite => "cross_site",
            Self::Revoked => "revoked",
        }
    }

    /// Returns its error code: a token that could not be verified is no fault of its sender.
    pub fn error_code(self) -> ErrorCode {
        match self {
            Self::KeysUnavailable => ErrorCode::KeysUnavailable,
            Self::Missing
            | Self::WrongIssuer
            | Self::UnsupportedAlgorithm
            | Self::UnknownKey
            | Self::BadSignature
            | Self::Malformed
            | Self::NoSubject
            | Self::UnusableSubject
            | Self::WrongAudience
            | Self::NotYetValid
            | Self::Expired
            | Self::WrongPath
            | Self::CrossSite
            | Self::Revoked => ErrorCode::Unauthorized,
        }
    }

    /// Returns true if somebody may be guessing tokens: no issuer of ours has signed this one.
    pub fn is_invalid_token(self) -> bool {
        match self {
            Self::WrongIssuer
            | Self::UnsupportedAlgorithm
            | Self::UnknownKey
            | Self::BadSignature
            | Self::Malformed => true,
            Self::Missing
            | Self::KeysUnavailable
            | Self::NoSubject
            | Self::UnusableSubject
            | Self::WrongAudience
            | Self::NotYetValid
            | Self::WrongPath
            | Self::CrossSite
            | Self::Revoked
            | Self::Expired => false,
        }
    }

    /// Returns the value of `WWW-Authenticate`. A request without a token gets the scheme only (RFC 6750 §3.1), and so
    /// does one whose token could not be verified.
    pub fn challenge(self) -> HeaderValue {
        macro_rules! invalid {
            ($why:literal) => {
                concat!(r#"Bearer realm="tidegate", error="invalid_token", error_description=""#, $why, "\"")
            };
        }
        HeaderValue::from_static(match self {
            Self::Missing | Self::KeysUnavailable => r#"Bearer realm="tidegate""#,
            Self::Malformed => invalid!("the token is malformed"),
            Self::WrongIssuer => invalid!("the token is from another issuer"),
            Self::UnsupportedAlgorithm => invalid!("the algorithm is not accepted"),
            Self::UnknownKey => invalid!("the key is unknown"),
            Self::BadSignature => invalid!("the signature is wrong"),
            Self::NoSubject => invalid!("the token names no subject"),
            Self::UnusableSubject => invalid!("the token's subject cannot be a user's id"),
            Self::WrongAudience => invalid!("the token is for another audience"),
            Self::NotYetValid => invalid!("the token is not valid yet"),
            Self::Expired => invalid!("the token has expired"),
            Self::WrongPath => invalid!("the token is for another path"),
            Self::CrossSite => invalid!("the token came in a cookie, from a page of another site"),
            Self::Revoked => invalid!("the token was revoked"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::AuthenticationError;

    #[test]
    fn a_request_without_a_token_is_told_the_scheme_only() {
        assert_eq!(AuthenticationError::Missing.challenge(), r#"Bearer realm="tidegate""#);
    }

    #[test]
    fn a_token_that_could_not_be_judged_is_not_called_invalid() {
        assert_eq!(AuthenticationError::KeysUnavailable.challenge(), r#"Bearer realm="tidegate""#);
    }

    #[test]
    fn a_bad_token_is_called_invalid_with_the_reason() {
        assert_eq!(
            AuthenticationError::Expired.challenge(),
            r#"Bearer realm="tidegate", error="invalid_token", error_description="the token has expired""#
        );
    }
}
