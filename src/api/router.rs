//! The one router: what the process itself answers on the players' listeners, and on the operator's.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::{HeaderValue, StatusCode, header};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::cache::{self, Operations};
use super::error::{self, Error};
use super::health::{Checkup, Health, Part};
use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::limit::Limits;
use crate::secret::Secret;
use crate::telemetry::metrics::Metrics;

/// What the routers answer from.
#[derive(Clone)]
pub struct Shared {
    /// How the process is.
    pub checkup: Checkup,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// What the operator's requests must carry.
    pub admin_token: Option<Secret>,
    /// The cache, where a route uses it.
    pub cache: Option<Arc<dyn Operations>>,
    /// The description of the API, the modules' paths included.
    pub description: Arc<utoipa::openapi::OpenApi>,
}

/// The description of the API; every module adds its paths here.
#[derive(OpenApi)]
#[openapi(
    info(title = "Tidegate", description = "A reverse proxy for object storage and the services beside it.", license(name = "Apache-2.0")),
    paths(health, stream),
    components(schemas(Health, Part)),
    tags((name = "streaming", description = "Objects through the proxy"), (name = "operations", description = "State of the process"))
)]
struct Description;

/// The modules' paths, as one router and with one description.
pub struct Modules {
    /// Their paths.
    pub routes: Router,
    /// The whole API's description.
    pub description: Arc<utoipa::openapi::OpenApi>,
}

/// Puts the modules together.
pub fn modules(of: impl IntoIterator<Item = OpenApiRouter>) -> Modules {
    let all = of.into_iter().fold(OpenApiRouter::with_openapi(Description::openapi()), OpenApiRouter::merge);
    let (routes, description) = all.split_for_parts();
    Modules { routes, description: Arc::new(description) }
}

/// The paths on the players' listeners: ours, the modules', and `extra` (the demo's page). Whoever extracts a
/// [`User`](super::caller::User) has it from `authenticator`, and counts bad tokens in `limits`.
pub fn public(
    shared: Shared,
    authenticator: Arc<Authenticator>,
    limits: Arc<Limits>,
    modules: Router,
    extra: Router,
) -> Router {
    let clock = shared.clock.clone();
    let paths = Router::new()
        .route("/health", get(health))
        .route("/openapi.json", get(openapi))
        .route("/docs", get(docs))
        .with_state(shared);
    refusing(paths.merge(modules).merge(extra), &clock).layer(Extension(authenticator)).layer(Extension(limits))
}

/// The paths on the operator's listener.
pub fn admin(shared: Shared) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(detailed_health))
        .route("/cache/purge", post(cache::purge))
        .route("/cache/refresh", post(cache::refresh))
        .route_layer(middleware::from_fn_with_state(shared.clone(), operator_only));
    let clock = shared.clock.clone();
    let open = Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(ready));
    refusing(open.merge(guarded).with_state(shared), &clock)
}

/// With errors in the envelope, those for what `router` does not serve among them.
fn refusing(router: Router, clock: &Clock) -> Router {
    router
        .fallback(|| async { Error::no_route() })
        .method_not_allowed_fallback(|| async { Error::method_not_allowed() })
        .layer(middleware::from_fn_with_state(clock.clone(), error::envelope))
}

/// State of the process and its parts; on the operator's listener with uptime and memory.
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Everything that is configured works", body = Health),
    (status = 503, description = "A part does not work", body = Health)))]
async fn health(State(shared): State<Shared>) -> Response {
    tell(shared.checkup.now())
}

async fn detailed_health(State(shared): State<Shared>) -> Response {
    tell(shared.checkup.detailed())
}

fn tell(health: Health) -> Response {
    let status = if health.status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(health)).into_response()
}

/// Streams a track. Range, If-Range and the other conditionals of RFC 9110 are honoured whatever the store does.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/stream", tag = "streaming",
    params(("id" = String, Path, description = "The track"), ("Range" = Option<String>, Header, description = "One byte range, such as `bytes=0-1023`")),
    responses(
        (status = 200, description = "The whole track"), (status = 206, description = "The range asked for"),
        (status = 304, description = "Not modified"), (status = 401, description = "No valid token"),
        (status = 403, description = "The token does not allow it"), (status = 404, description = "No such track"),
        (status = 410, description = "Removed for good"), (status = 412, description = "A precondition does not hold"),
        (status = 416, description = "The range begins past the end"),
        (status = 503, description = "Not available at the moment; see Retry-After and X-Retry-Url")))]
#[expect(dead_code, reason = "answered by the proxy; stands here for its description")]
fn stream() {}

async fn openapi(State(shared): State<Shared>) -> Response {
    Json(shared.description.as_ref()).into_response()
}

/// The description for people: a list made from it, without anything from elsewhere.
async fn docs(State(shared): State<Shared>) -> Response {
    let described = serde_json::to_value(shared.description.as_ref()).unwrap_or_default();
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tidegate API</title><h1>Tidegate API</h1><p>The whole description: <a href=\"/openapi.json\">openapi.json</a></p><dl>",
    );
    for (path, methods) in described["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let summary = operation["summary"].as_str().or(operation["description"].as_str()).unwrap_or_default();
            page.push_str(&format!("<dt><code>{} {path}</code></dt><dd>{summary}</dd>", method.to_uppercase()));
        }
    }
    page.push_str("</dl></html>");
    let policy = HeaderValue::from_static("default-src 'none'");
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, Error> {
    let text = shared.metrics.render().map_err(|_| Error::internal())?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.checkup.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match shared.checkup.now().s3 {
        Part::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "an object store cannot be used\n").into_response(),
        Part::Ok | Part::Disabled => "ready\n".into_response(),
    }
}

async fn operator_only(State(shared): State<Shared>, request: Request, next: Next) -> Result<Response, Error> {
    let given =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match (&shared.admin_token, given) {
        (None, _) => Ok(next.run(request).await),
        (Some(token), Some(given)) if token.matches(given) => Ok(next.run(request).await),
        (Some(_), _) => Err(Error::unauthorized("send Authorization: Bearer with the token of Server.Admin.Token")),
    }
}
