//! HTTP of the relay: the document's paths under `/api/share`, the same under `/api/v1/share`, ours beside the latter,
//! and the pages. Nothing else in this member knows HTTP.

mod authorization;
mod body;
mod chat;
mod live;
mod pages;
mod poll;
pub mod push;
mod recording;
mod streams;
#[cfg(test)]
mod tests;
mod tickets;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use utoipa::OpenApi as _;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Relay;
use http_semantics::cors::{self, AllowList, CorsPolicy};
use primitives::clock::monotonic_now;
use primitives::unix_time::UnixMicros;
use server_kit::api::rate_limit_layer::RateLimitClass;

/// Bytes of a body with audio.
const AUDIO_BODY: usize = 1 << 20;
/// Bytes of a body with metadata.
const METADATA_BODY: usize = 5 << 20;
/// Bytes of any other body.
const SMALL_BODY: usize = 4 * 1024;

/// Limits of requests that come again and again: chunks, metadata, status.
const POLLS: RateLimitClass = RateLimitClass::without_users("share-poll");
/// Limits of all other requests but those for pages.
const SHARE: RateLimitClass = RateLimitClass::without_users("share");

/// Clock that goes to the microsecond, for connections that outlive their request.
type MicrosClock = Arc<dyn Fn() -> UnixMicros + Send + Sync>;

/// Returns the paths of `relay`; `limited` puts the limits of a class around some of them.
pub fn routes(
    relay: Arc<Relay>,
    limited: impl Fn(OpenApiRouter<Arc<Relay>>, RateLimitClass) -> OpenApiRouter<Arc<Relay>>,
) -> OpenApiRouter {
    // Described once: the alias would be every path twice in the description.
    let (alias, _) = document_routes(&limited).split_for_parts();
    let ours = OpenApiRouter::new()
        .routes(routes!(live::socket))
        .routes(routes!(live::events))
        .routes(routes!(streams::ogg))
        .routes(routes!(streams::wav))
        .routes(routes!(live::thumb))
        .routes(routes!(tickets::issue))
        .routes(routes!(chat::say))
        .routes(routes!(chat::statistics))
        .routes(routes!(recording::record, recording::recording))
        .layer(DefaultBodyLimit::max(SMALL_BODY));
    let ours = limited(ours, SHARE);
    let mut router = OpenApiRouter::new();
    let components = router.get_openapi_mut().components.get_or_insert_default();
    components.add_security_scheme("share", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme("ticket", SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("ticket"))));
    router
        .nest("/api/share", document_routes(&limited))
        .nest("/api/v1/share", ours.merge(OpenApiRouter::from(alias)))
        .layer(middleware::from_fn_with_state(Arc::clone(&relay), authorization::require_credentials))
        .layer(middleware::from_fn_with_state(Arc::clone(&relay), allow_localhost))
        .layer(middleware::from_fn_with_state(Arc::clone(&relay), record_request))
        .with_state(relay)
        .merge(
            OpenApiRouter::with_openapi(pages::PageDescriptions::openapi()).merge(OpenApiRouter::from(pages::routes())),
        )
}

/// Returns the second path of one of the document's, which is not described.
pub fn second_path(template: &str) -> Option<String> {
    template.strip_prefix("/api/share/").map(|rest| format!("/api/v1/share/{rest}"))
}

/// Returns the document's paths.
fn document_routes(
    limited: impl Fn(OpenApiRouter<Arc<Relay>>, RateLimitClass) -> OpenApiRouter<Arc<Relay>>,
) -> OpenApiRouter<Arc<Relay>> {
    let small = OpenApiRouter::new()
        .routes(routes!(poll::start))
        .routes(routes!(poll::stop))
        .layer(DefaultBodyLimit::max(SMALL_BODY));
    let audio = OpenApiRouter::new().routes(routes!(poll::send_audio)).layer(DefaultBodyLimit::max(AUDIO_BODY));
    let metadata =
        OpenApiRouter::new().routes(routes!(poll::send_metadata)).layer(DefaultBodyLimit::max(METADATA_BODY));
    let polls = OpenApiRouter::new()
        .routes(routes!(poll::poll_audio))
        .routes(routes!(poll::poll_metadata))
        .routes(routes!(poll::status))
        .layer(DefaultBodyLimit::max(SMALL_BODY));
    limited(small.merge(audio).merge(metadata), SHARE).merge(limited(polls, POLLS))
}

/// Returns the label of a request in the metrics; a closed set.
fn operation(method: &Method, path: &str) -> &'static str {
    match (method.as_str(), path.rsplit('/').next().unwrap_or_default()) {
        ("POST", "start") => "start",
        ("POST", "stop") => "stop",
        ("POST", "audio") => "send_audio",
        ("POST", "metadata") => "send_metadata",
        ("POST", "tickets") => "tickets",
        ("POST", "recording") => "record",
        ("POST", "chat") => "chat",
        (_, "recording") => "recording",
        (_, "statistics") => "statistics",
        (_, "audio") => "poll_audio",
        (_, "metadata") => "poll_metadata",
        (_, "status") => "status",
        (_, "ws") => "ws",
        (_, "events") => "events",
        (_, "stream.ogg") => "ogg",
        (_, "stream.wav") => "wav",
        (_, "thumb") => "thumb",
        _ => "other",
    }
}

async fn record_request(State(relay): State<Arc<Relay>>, path: MatchedPath, request: Request, next: Next) -> Response {
    let (operation, began) = (operation(request.method(), path.as_str()), monotonic_now());
    let response = next.run(request).await;
    // A label for each status would be a set that nobody bounds.
    let class = match response.status().as_u16() {
        ..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    relay.metrics.requests.with_label_values(&[operation, class]).inc();
    relay.metrics.request_seconds.with_label_values(&[operation]).observe(began.elapsed().as_secs_f64());
    response
}

/// Allows pages of this machine to call, where the operator wants it: for developers of players.
async fn allow_localhost(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
    if !relay.settings.allow_localhost {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.iter().filter(|origin| cors::is_local(origin)).filter_map(|origin| origin.to_str().ok());
    let policy = CorsPolicy {
        origins: AllowList::Only(allowed.map(str::to_owned).collect()),
        methods: AllowList::Only(Vec::new()),
        headers: AllowList::Any,
        exposed_headers: AllowList::Only(vec![header::ETAG, header::RETRY_AFTER]),
        allow_credentials: false,
        max_age: None,
    };
    if cors::is_preflight(request.method(), request.headers()) {
        let mut response = (StatusCode::NO_CONTENT, Body::empty()).into_response();
        policy.add_preflight_headers(request.headers(), response.headers_mut());
        return response;
    }
    let mut response = next.run(request).await;
    policy.add_response_headers(origin.as_ref(), response.headers_mut());
    response
}
