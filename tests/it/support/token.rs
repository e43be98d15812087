//! Tokens as an issuer would make them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

/// The HS256 secret that every gate of these tests is given in `JWT_SECRET_KEY`.
pub const SECRET: &str = "a secret of the integration tests, 32 bytes or more";

/// Now, in seconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_secs()).expect("the time fits")
}

/// Claims of `subject` that are valid for an hour.
pub fn claims(subject: &str) -> Value {
    json!({ "sub": subject, "iss": "https://issuer.test", "aud": "tidegate", "exp": now() + 3600 })
}

/// A valid HS256 token of `subject`.
pub fn of(subject: &str) -> String {
    with(&claims(subject))
}

/// A token with these claims, signed by [`SECRET`].
pub fn with(claims: &Value) -> String {
    signed(claims, SECRET)
}

/// A token with these claims, signed by HS256 with `secret`.
pub fn signed(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("claims can be encoded")
}
