//! Router of the process's own paths on the players' listeners, and on the operator's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;

use super::cache_admin::{self, CacheOperations};
use super::config_reload::{self, ConfigReload};
use super::error::{self, Error};
use super::explain::{self, ExplainRequest};
use super::health::{ComponentStatus, HealthReport, HealthService};
use super::openapi_document;
use super::status_admin::{self, RuntimeStatus};
use super::streams_admin;
use crate::limit::{InvalidTokenCounter, RateLimiters};
use crate::live_streams::LiveStreams;
use crate::telemetry::metrics::Metrics;
use http_semantics::rate_limit::ExceededLimit;
use primitives::clock::Clock;
use primitives::secret::Secret;

/// Site of the page that a browser asks for (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Source of the token in force that the operator's requests must carry, if there is one.
pub type AdminTokenSource = Arc<dyn Fn() -> Option<Secret> + Send + Sync>;

/// State of the routers.
#[derive(Clone)]
pub struct RouterState {
    /// Health of the process.
    pub health: HealthService,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// Clock.
    pub clock: Clock,
    /// The token that the operator's requests must carry.
    pub admin_token: AdminTokenSource,
    /// Cache, if a route uses it.
    pub cache: Option<Arc<dyn CacheOperations>>,
    /// The configuration file, if there is one.
    pub configuration: Option<Arc<dyn ConfigReload>>,
    /// Explains requests.
    pub explain: ExplainRequest,
    /// Answers that are being sent.
    pub streams: Arc<LiveStreams>,
    /// What runs.
    pub status: Arc<dyn RuntimeStatus>,
    /// The description of the API, the modules' paths included.
    pub description: Arc<utoipa::openapi::OpenApi>,
}

/// Paths of all modules, as one router and with one description.
pub struct ModuleRoutes {
    /// Their paths.
    pub routes: Router,
    /// The same as templates, such as `/api/v1/tracks/{id}/position`.
    pub paths: Vec<String>,
    /// The whole API's description.
    pub description: Arc<utoipa::openapi::OpenApi>,
}

/// Joins the modules.
pub fn modules(of: impl IntoIterator<Item = OpenApiRouter>) -> ModuleRoutes {
    let of: Vec<OpenApiRouter> = of.into_iter().collect();
    let templates = of.iter().flat_map(|router| router.get_openapi().paths.paths.keys());
    // Other described paths are answered by proxy routes.
    let paths = templates
        .filter(|template| ["/api/", "/listen/", "/watch/", "/player/"].iter().any(|start| template.starts_with(start)))
        .cloned()
        .collect();
    let all = of.into_iter().fold(OpenApiRouter::with_openapi(openapi_document::base()), OpenApiRouter::merge);
    let (routes, described) = all.split_for_parts();
    ModuleRoutes { routes, paths, description: Arc::new(openapi_document::complete(described)) }
}

/// Returns the paths on the players' listeners: ours, the modules', and `extra` (the demo's page). The extractor
/// [`User`](super::user::User) uses the `Arc<Authenticator>` that each request must carry among its extensions, and counts
/// bad tokens in `limits`.
pub fn public(shared: RouterState, limits: Arc<RateLimiters>, modules: Router, extra: Router) -> Router {
    let clock = shared.clock.clone();
    let paths = Router::new().route("/health", get(health)).route("/openapi.json", get(openapi)).with_state(shared);
    #[cfg(feature = "docs-ui")]
    let paths = paths.merge(super::swagger_ui::routes());
    let modules = modules.layer(middleware::map_response(keep_private));
    with_error_envelope(paths.merge(modules).merge(extra), &clock).layer(Extension(limits))
}

/// Keeps what is said to one user out of every cache, unless the response says otherwise: a shared cache may not know that
/// a cookie or a query has told who asks.
async fn keep_private(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

/// Operator's token, and the count of wrong ones.
#[derive(Clone)]
struct OperatorAccess {
    token: AdminTokenSource,
    invalid_tokens: Arc<InvalidTokenCounter>,
}

/// Returns the paths on the operator's listener, with those of `page`, which want no token; connections carry their client
/// address.
pub fn admin(shared: RouterState, page: Router) -> Router {
    let access = OperatorAccess {
        token: Arc::clone(&shared.admin_token),
        invalid_tokens: Arc::new(InvalidTokenCounter::new(shared.clock.clone())),
    };
    let compare = get(config_reload::compare_file)
        .post(config_reload::compare)
        .layer(DefaultBodyLimit::max(config_reload::MAX_CONFIG_BYTES));
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(detailed_health))
        .route("/cache/purge", post(cache_admin::purge))
        .route("/cache/refresh", post(cache_admin::refresh))
        .route("/explain", post(explain::explain))
        .route("/status", get(status_admin::status))
        .route("/clusters", get(status_admin::clusters))
        .route("/routes", get(status_admin::routes))
        .route("/errors", get(status_admin::failures))
        .route("/streams", get(streams_admin::list))
        .route("/streams/{id}", delete(streams_admin::end))
        .route("/config", get(config_reload::in_force))
        .route("/config/diff", compare)
        .route("/reload", get(config_reload::last_reload).post(config_reload::reload))
        .route_layer(middleware::from_fn_with_state(access, operator_only))
        .layer(middleware::map_response(keep_private));
    let clock = shared.clock.clone();
    // Probes of an orchestrator carry no token.
    let open = Router::new().route("/livez", get(alive)).route("/readyz", get(ready));
    with_error_envelope(open.merge(guarded).with_state(shared).merge(page), &clock)
}

/// Adds the error envelope, also for paths that `router` does not serve.
fn with_error_envelope(router: Router, clock: &Clock) -> Router {
    router
        .fallback(|| async { Error::no_route() })
        .layer(middleware::from_fn_with_state(clock.clone(), error::envelope))
}

/// State of the process and its parts; on the operator's listener with uptime and memory.
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Everything that is configured works", body = HealthReport),
    (status = 503, description = "A part does not work", body = HealthReport)))]
pub async fn health(State(shared): State<RouterState>) -> Response {
    health_response(shared.health.report())
}

async fn detailed_health(State(shared): State<RouterState>) -> Response {
    health_response(shared.health.detailed_report())
}

fn health_response(health: HealthReport) -> Response {
    let status = if health.status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(health)).into_response()
}

async fn openapi(State(shared): State<RouterState>) -> Response {
    Json(shared.description.as_ref()).into_response()
}

async fn metrics(State(shared): State<RouterState>) -> Result<Response, Error> {
    let text = shared.metrics.render().map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written as text");
        Error::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn alive(State(shared): State<RouterState>) -> Response {
    if shared.health.is_alive() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "a worker is stuck: see the log\n").into_response()
}

async fn ready(State(shared): State<RouterState>) -> Response {
    if shared.health.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    if shared.health.has_lost_file() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the file of the database is gone\n").into_response();
    }
    // Only the stores decide: streams go on without Redis, Kafka and the shared limits.
    match shared.health.report().s3 {
        ComponentStatus::Unavailable => {
            let faults = shared.health.store_faults().join("\n");
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{faults}\n")).into_response()
        }
        ComponentStatus::Ok | ComponentStatus::Enabled | ComponentStatus::Disabled => "ready\n".into_response(),
    }
}

/// Returns true where a browser has sent the request for a page of another site: by its `Origin` or `Sec-Fetch-Site`, or, where
/// the page's own name was made to lead to this machine (DNS rebinding), by a `Host` that is no name of it.
fn is_of_page(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_ours = |authority: &str| {
        let host = authority.parse::<Authority>().map(|authority| authority.host().to_owned()).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
    };
    let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, authority)| authority));
    text(header::HOST).is_some_and(|host| !is_ours(host))
        || origin.is_some_and(|origin| Some(origin) != text(header::HOST))
        || text(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

async fn operator_only(State(access): State<OperatorAccess>, request: Request, next: Next) -> Result<Response, Error> {
    let given = request.headers().get(header::AUTHORIZATION);
    let shown = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let Some(token) = (access.token)() else {
        if is_of_page(request.headers()) {
            return Err(Error::forbidden(
                "without Server.Admin.Token pages and other names than this machine's are refused",
            ));
        }
        return Ok(next.run(request).await);
    };
    if shown.is_some_and(|shown| token.matches(shown)) {
        return Ok(next.run(request).await);
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    // A valid token is accepted whatever else came from its address.
    // A request without any token is no guess, so it is not counted.
    match given.and_then(|_| access.invalid_tokens.record(address)) {
        Some(wait) => Err(Error::exceeded(ExceededLimit::BadTokens, wait)),
        None => Err(Error::unauthorized("send Authorization: Bearer with the token of Server.Admin.Token")),
    }
}
