//! The one router: what the process itself answers on the players' listeners, and on the operator's.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::{StatusCode, header};
use utoipa_axum::router::OpenApiRouter;

use super::cache::{self, Operations};
use super::description;
use super::error::{self, Error};
use super::health::{Checkup, Health, Part};
use crate::auth::Authenticator;
use crate::limit::Limits;
use crate::telemetry::metrics::Metrics;
use primitives::clock::Clock;
use primitives::secret::Secret;

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

/// The modules' paths, as one router and with one description.
pub struct Modules {
    /// Their paths.
    pub routes: Router,
    /// The whole API's description.
    pub description: Arc<utoipa::openapi::OpenApi>,
}

/// Puts the modules together.
pub fn modules(of: impl IntoIterator<Item = OpenApiRouter>) -> Modules {
    let all = of.into_iter().fold(OpenApiRouter::with_openapi(description::base()), OpenApiRouter::merge);
    let (routes, described) = all.split_for_parts();
    Modules { routes, description: Arc::new(description::complete(described)) }
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
    let paths = Router::new().route("/health", get(health)).route("/openapi.json", get(openapi)).with_state(shared);
    #[cfg(feature = "docs-ui")]
    let paths = paths.merge(super::docs::routes());
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
    let open = Router::new().route("/livez", get(alive)).route("/readyz", get(ready));
    refusing(open.merge(guarded).with_state(shared), &clock)
}

/// With errors in the envelope, those for what `router` does not serve among them.
fn refusing(router: Router, clock: &Clock) -> Router {
    router
        .fallback(|| async { Error::no_route() })
        .layer(middleware::from_fn_with_state(clock.clone(), error::envelope))
}

/// State of the process and its parts; on the operator's listener with uptime and memory.
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Everything that is configured works", body = Health),
    (status = 503, description = "A part does not work", body = Health)))]
pub async fn health(State(shared): State<Shared>) -> Response {
    tell(shared.checkup.now())
}

async fn detailed_health(State(shared): State<Shared>) -> Response {
    tell(shared.checkup.detailed())
}

fn tell(health: Health) -> Response {
    let status = if health.status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(health)).into_response()
}

async fn openapi(State(shared): State<Shared>) -> Response {
    Json(shared.description.as_ref()).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, Error> {
    let text = shared.metrics.render().map_err(|_| Error::internal())?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn alive(State(shared): State<Shared>) -> Response {
    if shared.checkup.is_alive() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "a worker is stuck: see the log\n").into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.checkup.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    if shared.checkup.has_lost_file() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the file of the database is gone\n").into_response();
    }
    match shared.checkup.now().s3 {
        Part::Unavailable => {
            let faults = shared.checkup.store_faults().join("\n");
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{faults}\n")).into_response()
        }
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
