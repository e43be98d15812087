//! Who calls: extractors that answer 401 and 403 by themselves.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde_json::Value;

use super::error::Error;
use super::id;
use crate::auth::{Authenticator, Claims};
use crate::limit::Limits;
use http_semantics::caller::Caller;
use http_semantics::rate_limit::Exceeded;

/// A caller with a valid token (api.md: U).
#[derive(Clone, Debug)]
pub struct User {
    /// What the token says; `sub` names the user.
    pub claims: Arc<Claims>,
}

/// What a user is, by the claim `role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Anybody with a token.
    User,
    /// `vip`.
    Vip,
    /// `admin`.
    Admin,
}

/// A caller whose token has the role `admin` (api.md: A).
#[derive(Clone, Debug)]
pub struct Admin(pub User);

impl User {
    /// The user's id: `sub`, never empty.
    pub fn id(&self) -> &str {
        &self.claims.subject
    }

    /// The user's role.
    pub fn role(&self) -> Role {
        match self.claims.map.get("role").and_then(Value::as_str) {
            Some("admin") => Role::Admin,
            Some("vip") => Role::Vip,
            _ => Role::User,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        if let Some(user) = parts.extensions.get::<Self>() {
            return Ok(user.clone());
        }
        let authenticator = parts.extensions.get::<Arc<Authenticator>>().cloned().ok_or_else(Error::internal)?;
        let claims = authenticate(&authenticator, parts).await?;
        if !id::is_id(&claims.subject) {
            // Such a user may stream, but nothing can be kept under the name.
            return Err(Error::forbidden("the token's `sub` has more than 256 bytes or control characters: not here"));
        }
        let user = Self { claims };
        parts.extensions.insert(user.clone());
        Ok(user)
    }
}

/// As on the proxy's routes: an address that has shown many bad tokens is not listened to for a while.
async fn authenticate(authenticator: &Authenticator, parts: &Parts) -> Result<Arc<Claims>, Error> {
    let address = parts.extensions.get::<Caller>().and_then(|caller| caller.address);
    let guesses = parts.extensions.get::<Arc<Limits>>().map(|limits| limits.guesses());
    if let Some(wait) = guesses.and_then(|guesses| guesses.refusal(address)) {
        let refused = || Error::exceeded(Exceeded::BadTokens, wait);
        let known = authenticator.known(&parts.headers, parts.uri.query()).map_err(Error::refused)?;
        return known.ok_or_else(refused);
    }
    let claims = authenticator.authenticate(&parts.headers, parts.uri.query()).await;
    claims.map_err(|refusal| {
        if let Some(guesses) = guesses.filter(|_| refusal.is_guess()) {
            guesses.count(address);
        }
        Error::refused(refusal)
    })
}

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let user = User::from_request_parts(parts, state).await?;
        match user.role() {
            Role::Admin => Ok(Self(user)),
            Role::User | Role::Vip => Err(Error::forbidden("this needs a token whose claim `role` is `admin`")),
        }
    }
}
