//! State of a session for the player that opened it: a player with minutes in its buffer learns here, not by a segment
//! that is refused, that its session has ended, and why.

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::movie_id::movie_id;
use crate::session::{FilmSessions, SessionEnd, SessionId, SessionVerdict};
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Json, Path, Query};
use server_kit::api::user::User;

/// Longest wait for the end of a session, in seconds: below the minute after which proxies on the way give up.
const MAX_WAIT_SECONDS: u64 = 30;
/// Interval at which a session is looked at meanwhile: its end is told well within five seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Sessions as their players may see them.
#[derive(Clone)]
struct SessionStates {
    sessions: FilmSessions,
    tasks: BackgroundTasks,
}

/// Returns the path of a session's state; requests that wait are answered when `tasks` stop or are
/// left to another process.
pub fn session_routes(sessions: FilmSessions, tasks: BackgroundTasks) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(session_state)).with_state(SessionStates { sessions, tasks })
}

/// Session and time.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SessionStateQuery {
    /// The session, as the start named it.
    session_id: String,
    /// Seconds to wait for its end, up to 30; the answer comes at the end or after that time. Default: 0.
    #[param(minimum = 0, maximum = 30)]
    wait: Option<u64>,
}

/// State of a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "live": false, "ended": "revoked" }))]
struct SessionStateResponse {
    /// True while the film can be fetched.
    live: bool,
    /// Reason for its end; null while it lives.
    ended: Option<SessionEndReason>,
}

/// Reason for which a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SessionEndReason {
    /// The viewer stopped it.
    Stopped,
    /// Nothing was reported or fetched in time, or it had lasted for as long as one may.
    Expired,
    /// An operator ended it, or the user has logged out everywhere.
    Revoked,
    /// Another session of the user took its place.
    Displaced,
    /// The subscription has ended.
    Unsubscribed,
}

impl From<SessionEnd> for SessionEndReason {
    fn from(end: SessionEnd) -> Self {
        match end {
            SessionEnd::Stopped => Self::Stopped,
            SessionEnd::Expired => Self::Expired,
            SessionEnd::Revoked => Self::Revoked,
            SessionEnd::Displaced => Self::Displaced,
            SessionEnd::Unsubscribed => Self::Unsubscribed,
        }
    }
}

/// Return whether a session lives, and why it has ended; waits for that if asked to. It does not extend the session.
#[utoipa::path(get, path = "/api/v1/stream/{movie_id}/session", tag = "films", security(("bearer" = [])),
    params(("movie_id" = String, Path, description = "The film", example = "dune"), SessionStateQuery),
    responses(
        (status = 200, description = "The state", body = SessionStateResponse),
        (status = 400, description = "An id or a parameter that cannot be"), (status = 401, description = "No valid token"),
        (status = 404, description = "No such session of the caller for this film"),
        (status = 422, description = "session_id is no id of a session, or a wait of more than 30 seconds"),
        (status = 503, description = "Sessions cannot be read at the moment; see Retry-After")))]
async fn session_state(
    State(states): State<SessionStates>,
    user: User,
    Path(movie): Path<String>,
    Query(query): Query<SessionStateQuery>,
) -> Result<Json<SessionStateResponse>, Error> {
    let movie = movie_id(&movie)?;
    let id =
        SessionId::parse(&query.session_id).ok_or_else(|| Error::unprocessable("session_id is no id of a session"))?;
    let wait = query.wait.unwrap_or(0);
    if wait > MAX_WAIT_SECONDS {
        return Err(Error::unprocessable(format!("wait is {wait}; expected 0 to {MAX_WAIT_SECONDS}")));
    }
    let deadline = tokio::time::sleep(Duration::from_secs(wait));
    tokio::pin!(deadline);
    loop {
        let verdict = states.sessions.state(id, user.id(), &movie).await;
        match verdict.map_err(|error| Error::unavailable(error.to_string()))? {
            Some(SessionVerdict::Live(_)) => {}
            Some(SessionVerdict::Ended(end)) => {
                return Ok(Json(SessionStateResponse { live: false, ended: Some(end.into()) }));
            }
            None => return Err(Error::not_found("no such session of yours for this film")),
        }
        tokio::select! {
            () = &mut deadline => break,
            // The player asks the process that takes over.
            () = states.tasks.closing() => break,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
    Ok(Json(SessionStateResponse { live: true, ended: None }))
}
