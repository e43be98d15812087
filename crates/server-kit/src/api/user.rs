//! Caller of a request: extractors that answer 401 and 403 by themselves.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;
use serde_json::Value;

use super::error::Error;
use super::id;
use crate::admission::{self, RequestCredentials};
use crate::auth::{Authenticator, CertificateClaim, Claims};
use crate::limit::RateLimiters;
use http_semantics::cross_site::ForeignPage;
use http_semantics::request_info::RequestInfo;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;

/// Caller with a valid token (api.md: U).
#[derive(Clone, Debug)]
pub struct User {
    /// Claims of the token, and that of the client's certificate, where it has shown one.
    pub claims: Arc<Claims>,
}

/// Role of a user, by the claim `role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserRole {
    /// Anybody with a token.
    User,
    /// `vip`.
    Vip,
    /// `admin`.
    Admin,
}

impl UserRole {
    const ALL: [Self; 3] = [Self::User, Self::Vip, Self::Admin];

    /// Returns the name: `user`, or that of the claim.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Vip => "vip",
            Self::Admin => "admin",
        }
    }

    /// Returns the role of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Caller whose token has the role `admin` (api.md: A).
#[derive(Clone, Debug)]
pub struct AdminUser(pub User);

impl User {
    /// Returns the user's id: `sub`, without which a token is refused.
    pub fn id(&self) -> &UserId {
        &self.claims.subject
    }

    /// Returns the user's role.
    pub fn role(&self) -> UserRole {
        let named = self.claims.map.get("role").and_then(Value::as_str);
        named.and_then(UserRole::from_name).unwrap_or(UserRole::User)
    }

    /// Returns true for an administrator.
    pub fn is_admin(&self) -> bool {
        self.role() == UserRole::Admin
    }

    /// Returns the user whose `what` (a plural) a list is limited to, by the parameter `user_id`: for an administrator the one that
    /// it names, `None` for all; for others themselves. Fails with 403 where they name somebody else.
    pub fn listed_user(&self, user_id: Option<&str>, what: &str) -> Result<Option<UserId>, Error> {
        let named = user_id.map(|text| id::parse_user("user_id", text)).transpose()?;
        if self.is_admin() {
            return Ok(named);
        }
        match named.is_none_or(|named| named == *self.id()) {
            true => Ok(Some(self.id().clone())),
            false => Err(Error::forbidden(format!("{what} of other users are listed to administrators alone"))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        if let Some(judged) = parts.extensions.get::<CachedAuthentication>() {
            return judged.0.clone();
        }
        let judged = authenticate(parts).await;
        // The rate limit comes before the handler, and a bad token is counted once.
        parts.extensions.insert(CachedAuthentication(judged.clone()));
        judged
    }
}

/// Makes `user` the caller of a request that this process sends itself, for somebody whose token it has seen before.
pub fn insert_user(extensions: &mut Extensions, user: User) {
    extensions.insert(CachedAuthentication(Ok(user)));
}

/// User of a request, or the reason for none.
#[derive(Clone)]
struct CachedAuthentication(Result<User, Error>);

async fn authenticate(parts: &Parts) -> Result<User, Error> {
    let authenticator = parts.extensions.get::<Arc<Authenticator>>().cloned().ok_or_else(Error::internal)?;
    let invalid_tokens = parts.extensions.get::<Arc<RateLimiters>>().map(|limits| limits.invalid_tokens());
    let credentials = RequestCredentials {
        headers: &parts.headers,
        query: parts.uri.query(),
        address: parts.extensions.get::<RequestInfo>().and_then(|caller| caller.client_address),
        is_from_foreign_page: parts.extensions.get::<ForeignPage>().is_some(),
    };
    let claims = admission::authenticate(&authenticator, invalid_tokens, credentials).await?;
    let claims = match parts.extensions.get::<CertificateClaim>() {
        Some(certificate) => claims.with_certificate(certificate.clone()),
        None => claims,
    };
    Ok(User { claims })
}

/// Time at which the token of a request ends, and what it opens with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUntil(pub UnixMillis);

impl<S: Send + Sync> FromRequestParts<S> for TokenUntil {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let user = User::from_request_parts(parts, state).await?;
        let authenticator = parts.extensions.get::<Arc<Authenticator>>().ok_or_else(Error::internal)?;
        Ok(Self(authenticator.valid_until(&user.claims)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AdminUser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let user = User::from_request_parts(parts, state).await?;
        match user.role() {
            UserRole::Admin => Ok(Self(user)),
            UserRole::User | UserRole::Vip => Err(Error::forbidden("this needs a token whose claim `role` is `admin`")),
        }
    }
}
