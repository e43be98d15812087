//! The one router: what the process itself answers on the players' listeners, and on the operator's.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
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
use crate::limit::{Guesses, Limits};
use crate::telemetry::metrics::Metrics;
use http_semantics::rate_limit::ExceededLimit;
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
    /// The token that the operator's requests must carry.
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
    /// The same as templates, such as `/api/v1/tracks/{id}/position`.
    pub paths: Vec<String>,
    /// The whole API's description.
    pub description: Arc<utoipa::openapi::OpenApi>,
}

/// Puts the modules together.
pub fn modules(of: impl IntoIterator<Item = OpenApiRouter>) -> Modules {
    let of: Vec<OpenApiRouter> = of.into_iter().collect();
    let templates = of.iter().flat_map(|router| router.get_openapi().paths.paths.keys());
    // What else is described is answered by routes.
    let paths = templates
        .filter(|template| ["/api/", "/listen/"].iter().any(|start| template.starts_with(start)))
        .cloned()
        .collect();
    let all = of.into_iter().fold(OpenApiRouter::with_openapi(description::base()), OpenApiRouter::merge);
    let (routes, described) = all.split_for_parts();
    Modules { routes, paths, description: Arc::new(description::complete(described)) }
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

/// The operator's token, and the count of wrong ones.
#[derive(Clone)]
struct OperatorAccess {
    token: Option<Secret>,
    wrong: Arc<Guesses>,
}

/// The paths on the operator's listener; connections say where they came from.
pub fn admin(shared: Shared) -> Router {
    let access =
        OperatorAccess { token: shared.admin_token.clone(), wrong: Arc::new(Guesses::new(shared.clock.clone())) };
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(detailed_health))
        .route("/cache/purge", post(cache::purge))
        .route("/cache/refresh", post(cache::refresh))
        .route_layer(middleware::from_fn_with_state(access, operator_only));
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

async fn operator_only(State(access): State<OperatorAccess>, request: Request, next: Next) -> Result<Response, Error> {
    let given = request.headers().get(header::AUTHORIZATION);
    let shown = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if access.token.as_ref().is_none_or(|token| shown.is_some_and(|shown| token.matches(shown))) {
        return Ok(next.run(request).await);
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    // A valid one is let in whatever else came from its address.
    match given.and_then(|_| access.wrong.record(address)) {
        Some(wait) => Err(Error::exceeded(ExceededLimit::BadTokens, wait)),
        None => Err(Error::unauthorized("send Authorization: Bearer with the token of Server.Admin.Token")),
    }
}
