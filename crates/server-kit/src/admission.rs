//! Gate of every request, the same for routes of the proxy and for paths of the API: the token that it shows is
//! verified, and an invalid one is counted against its network. What a route or a path asks of the caller beyond that
//! (a policy, a role, a rate limit) is its own to check.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::auth::{AuthenticationError, Authenticator, Claims};
use crate::limit::InvalidTokenCounter;
use http_semantics::rate_limit::ExceededLimit;

/// Parts of a request that say whose it is.
#[derive(Clone, Copy, Debug)]
pub struct RequestCredentials<'a> {
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// Query of the request, without `?`.
    pub query: Option<&'a str>,
    /// Address of the client; unknown addresses count as one.
    pub address: Option<IpAddr>,
    /// True where a page of another site sent it, which a browser does with the cookies of the user.
    pub is_from_foreign_page: bool,
}

/// Refusal of a request before anything was done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmissionRefusal {
    /// The token is missing, invalid, or cannot be verified now.
    Unauthenticated(AuthenticationError),
    /// A limit is exceeded; the time is when to try again.
    Limited(ExceededLimit, Duration),
}

/// Returns the claims of the request's token. Fails where there is none, where it is not valid, where its keys cannot
/// be had, where a page of another site uses a cookie, and with [`ExceededLimit::BadTokens`] where the client's network
/// has shown too many invalid ones.
pub async fn authenticate(
    authenticator: &Authenticator,
    invalid_tokens: Option<&InvalidTokenCounter>,
    request: RequestCredentials<'_>,
) -> Result<Arc<Claims>, AdmissionRefusal> {
    let RequestCredentials { headers, query, address, is_from_foreign_page } = request;
    if is_from_foreign_page && authenticator.is_in_cookie(headers, query) {
        return Err(AdmissionRefusal::Unauthenticated(AuthenticationError::CrossSite));
    }
    authenticator.authenticate(headers, query).await.map_err(|error| refuse(error, invalid_tokens, address))
}

/// Returns the refusal of a request whose token is not accepted. Invalid tokens are counted by network, those of unknown
/// addresses together; beyond a number the refusal says to wait. A valid token is accepted regardless.
pub fn refuse(
    error: AuthenticationError,
    invalid_tokens: Option<&InvalidTokenCounter>,
    address: Option<IpAddr>,
) -> AdmissionRefusal {
    match invalid_tokens.filter(|_| error.is_invalid_token()).and_then(|counter| counter.record(address)) {
        Some(wait) => AdmissionRefusal::Limited(ExceededLimit::BadTokens, wait),
        None => AdmissionRefusal::Unauthenticated(error),
    }
}
