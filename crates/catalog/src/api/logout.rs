//! Logout everywhere: what was given to a user before, streaming URLs and films among it, is worth nothing any more.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use server_kit::api::error::Error;
use server_kit::api::user::User;
use server_kit::auth::revocation::TokenRevocations;

/// Logs the caller out everywhere: every streaming URL and every film of theirs is refused from now on, by other nodes within
/// seconds.
#[utoipa::path(post, path = "/api/v1/logout", tag = "streaming", security(("bearer" = [])), responses(
    (status = 204, description = "Logged out"), (status = 401, description = "No valid token"),
    (status = 503, description = "The shared state is away: perhaps nothing is revoked, so repeat the request")))]
pub async fn log_out(State(revocations): State<Arc<TokenRevocations>>, user: User) -> Result<StatusCode, Error> {
    if revocations.revoke(user.id().as_str()).await {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(user_state_unavailable())
    }
}

/// Returns the error of state that does not answer.
pub fn user_state_unavailable() -> Error {
    Error::unavailable("the state of users cannot be reached at the moment")
}
