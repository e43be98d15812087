//! Operator's question what a request would meet. The work is done behind [`ExplainRequest`].

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;

use super::error::Error;
use super::router::RouterState;

/// Explains the request of this method, URL and headers; fails, in words for the operator, where no client could send it.
pub type ExplainRequest = Arc<
    dyn Fn(&Method, &str, Vec<(HeaderName, HeaderValue)>) -> BoxFuture<'static, Result<Value, String>> + Send + Sync,
>;

/// The body: a request, which is not sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainBody {
    method: String,
    url: String,
    /// As curl takes them: `Name: value`.
    #[serde(default)]
    headers: Vec<String>,
}

/// Reads a header as curl takes it, `Name: value`.
pub fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` is no header; expected `Name: value`"))?;
    let name = name.trim().parse().map_err(|_| format!("`{}` is no name of a header", name.trim()))?;
    let value = value.trim().parse().map_err(|_| format!("the value of `{name}` holds what no header can hold"))?;
    Ok((name, value))
}

/// `POST /explain`.
pub async fn explain(
    State(shared): State<RouterState>,
    body: Result<Json<ExplainBody>, JsonRejection>,
) -> Result<Json<Value>, Error> {
    let Json(asked) = body?;
    let method = asked.method.parse().map_err(|_| Error::unprocessable(format!("`{}` is no method", asked.method)))?;
    let headers = asked.headers.iter().map(|header| parse_header(header)).collect::<Result<Vec<_>, _>>();
    let headers = headers.map_err(Error::unprocessable)?;
    (shared.explain)(&method, &asked.url, headers).await.map(Json).map_err(Error::unprocessable)
}
