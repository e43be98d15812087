//! Operator's paths of the configuration: reload it, and what the last reload did. The work is done behind
//! [`ConfigReload`].

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde::Serialize;

use super::error::Error;
use super::router::RouterState;

/// Outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadOutcome {
    /// The file is in force.
    Reloaded,
    /// The file, or something that it names, cannot be used: what was in force stays.
    Refused,
}

/// Report of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// Outcome.
    pub outcome: ReloadOutcome,
    /// Time, as RFC 3339 has it.
    pub at: String,
    /// Cause: a signal, a change of the file, or a request.
    pub cause: &'static str,
    /// For people: what is in force now, or all problems, as `tidegate check` prints them.
    pub report: String,
}

/// Reloads the configuration.
pub trait ConfigReload: Send + Sync {
    /// Reloads the file, for this cause; reloads wait for each other.
    fn reload(&self, cause: &'static str) -> BoxFuture<'_, ReloadReport>;

    /// Returns the report of the last reload, if there was one.
    fn last(&self) -> Option<ReloadReport>;
}

/// `POST /reload`.
pub async fn reload(State(shared): State<RouterState>) -> Result<Response, Error> {
    let configuration = shared.configuration.as_ref().ok_or_else(no_file)?;
    let report = configuration.reload("a request").await;
    match report.outcome {
        ReloadOutcome::Reloaded => Ok(Json(report).into_response()),
        ReloadOutcome::Refused => Err(Error::unprocessable(report.report)),
    }
}

/// `GET /reload`.
pub async fn last_reload(State(shared): State<RouterState>) -> Result<Response, Error> {
    let configuration = shared.configuration.as_ref().ok_or_else(no_file)?;
    Ok(Json(configuration.last()).into_response())
}

fn no_file() -> Error {
    Error::not_found("this Tidegate was started without a configuration file")
}
