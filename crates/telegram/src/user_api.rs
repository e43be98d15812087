//! The API of this server, as the bot calls it for a user: the same paths, bodies, limits and refusals as for the user's own
//! programs. What answers is outside this member.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use primitives::ids::UserId;
use server_kit::api::user::UserRole;

/// User on whose behalf the bot acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedUser {
    /// The user.
    pub id: UserId,
    /// Role of the token by which the account was linked.
    pub role: UserRole,
}

/// Request of the API.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// Method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub path: String,
    /// Body.
    pub body: ApiBody,
}

/// Body of a request.
#[derive(Clone, Debug)]
pub enum ApiBody {
    /// None.
    Empty,
    /// JSON.
    Json(Value),
    /// A file, as the field `file` of a form.
    File(Bytes),
}

/// Answer of the API.
#[derive(Clone, Debug)]
pub struct ApiAnswer {
    /// Status.
    pub status: StatusCode,
    /// Body of an answer that is no error.
    pub body: Bytes,
    /// What is wrong, in English; `None` where no module has said it.
    pub detail: Option<String>,
    /// Time after which to try again.
    pub retry_after: Option<Duration>,
}

/// Refusal of a request, or an answer that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRefusal {
    /// There is no such path: the module is switched off.
    NotOffered,
    /// The user may not.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// Too many requests; seconds to wait.
    Limited(u64),
    /// What was asked for is not possible as things stand: the reason in English.
    Conflict(String),
    /// What was asked for is not possible: the reason in English.
    Refused(String),
    /// Something does not answer.
    Unavailable,
}

/// The API.
pub trait UserApi: Send + Sync {
    /// Answers a request as if a token of `user` had come with it.
    fn send<'a>(&'a self, user: &'a LinkedUser, request: ApiRequest) -> BoxFuture<'a, ApiAnswer>;
}

impl ApiRequest {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: ApiBody::Empty }
    }

    /// A request with a JSON body.
    pub fn json(method: Method, path: impl Into<String>, body: Value) -> Self {
        Self { method, path: path.into(), body: ApiBody::Json(body) }
    }
}

impl ApiAnswer {
    /// Returns the body as `T`, or why there is none.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, ApiRefusal> {
        let body = self.accepted()?;
        serde_json::from_slice(&body).map_err(|error| {
            tracing::error!(%error, "the bot cannot read an answer of the API");
            ApiRefusal::Unavailable
        })
    }

    /// Returns the body of an answer that is no error.
    pub fn accepted(self) -> Result<Bytes, ApiRefusal> {
        let Self { status, body, detail, retry_after } = self;
        match status.as_u16() {
            200..=299 => Ok(body),
            401 | 403 => Err(ApiRefusal::Forbidden),
            404 if detail.is_none() => Err(ApiRefusal::NotOffered),
            404 | 410 => Err(ApiRefusal::NotFound),
            409 => Err(ApiRefusal::Conflict(detail.unwrap_or_default())),
            429 => Err(ApiRefusal::Limited(
                retry_after.map_or(1, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            )),
            400..=499 => Err(ApiRefusal::Refused(detail.unwrap_or_default())),
            _ => Err(ApiRefusal::Unavailable),
        }
    }
}
