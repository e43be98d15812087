//! Operator's paths of the configuration: reload it, and what the last reload did. The work is done behind
//! [`ConfigReload`].

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::error::Error;
use super::router::RouterState;

/// Most bytes of a configuration.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

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

    /// Tells what putting `text` in force would change; fails with a report where it is no valid configuration.
    fn compare(&self, text: String) -> BoxFuture<'_, Result<Value, String>>;

    /// Tells what a reload of the file would change; fails with a report where it is no valid configuration.
    fn compare_file(&self) -> BoxFuture<'_, Result<Value, String>>;

    /// Tells what is in force, key by key. Fails while the process is ending.
    fn in_force(&self) -> BoxFuture<'_, Result<Value, String>>;
}

/// `POST /config/diff`, with a configuration as the body: what putting it in force would change. Nothing is changed.
pub async fn compare(
    State(shared): State<RouterState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    let configuration = shared.configuration.as_ref().ok_or_else(no_file)?;
    let text = String::from_utf8(body?.into()).map_err(|_| Error::bad_request("a configuration is text in UTF-8"))?;
    let difference = configuration.compare(text).await.map_err(Error::unprocessable)?;
    Ok(Json(difference).into_response())
}

/// `GET /config/diff`: what a reload of the file would change.
pub async fn compare_file(State(shared): State<RouterState>) -> Result<Response, Error> {
    let configuration = shared.configuration.as_ref().ok_or_else(no_file)?;
    let difference = configuration.compare_file().await.map_err(Error::unprocessable)?;
    Ok(Json(difference).into_response())
}

/// `GET /config`: what is in force, without secrets.
pub async fn in_force(State(shared): State<RouterState>) -> Result<Response, Error> {
    let configuration = shared.configuration.as_ref().ok_or_else(no_file)?;
    Ok(Json(configuration.in_force().await.map_err(Error::unprocessable)?).into_response())
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
