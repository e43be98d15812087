//! The relay's paths: the document's under `/api/share`, the same under `/api/v1/share`, and ours beside the latter.

mod body;
mod document;
mod door;
mod live;
mod recording;
mod streams;
mod talk;
#[cfg(test)]
mod tests;
mod tickets;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use utoipa::OpenApi as _;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Relay, page};
use http_semantics::cors::{self, AllowList, CorsPolicy};
use server_kit::api::rate_limit_layer::RateLimitClass;

/// Bytes of a body with audio.
const AUDIO_BODY: usize = 1 << 20;
/// Bytes of a body with metadata.
const METADATA_BODY: usize = 5 << 20;
/// Bytes of any other body.
const SMALL_BODY: usize = 4 * 1024;

/// What is asked for again and again: chunks, the song, how a session is.
const POLLS: RateLimitClass = RateLimitClass::without_users("share-poll");
/// All else but the pages.
const SHARE: RateLimitClass = RateLimitClass::without_users("share");

/// The paths of `relay`; `limited` puts the limits of a class around some of them.
pub fn routes(
    relay: Arc<Relay>,
    limited: impl Fn(OpenApiRouter<Arc<Relay>>, RateLimitClass) -> OpenApiRouter<Arc<Relay>>,
) -> OpenApiRouter {
    let (alias, _) = document(&limited).split_for_parts();
    let ours = OpenApiRouter::new()
        .routes(routes!(live::socket))
        .routes(routes!(live::events))
        .routes(routes!(streams::ogg))
        .routes(routes!(streams::wav))
        .routes(routes!(live::thumb))
        .routes(routes!(tickets::issue))
        .routes(routes!(talk::say))
        .routes(routes!(talk::statistics))
        .routes(routes!(recording::record, recording::recording))
        .layer(DefaultBodyLimit::max(SMALL_BODY));
    let ours = limited(ours, SHARE);
    let mut router = OpenApiRouter::new();
    let components = router.get_openapi_mut().components.get_or_insert_default();
    components.add_security_scheme("share", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme("ticket", SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("ticket"))));
    router
        .nest("/api/share", document(&limited))
        .nest("/api/v1/share", ours.merge(OpenApiRouter::from(alias)))
        .layer(middleware::from_fn_with_state(Arc::clone(&relay), door::judge))
        .layer(middleware::from_fn_with_state(Arc::clone(&relay), local))
        .layer(middleware::from_fn_with_state(Arc::clone(&relay), count))
        .with_state(relay)
        .merge(OpenApiRouter::with_openapi(page::Pages::openapi()).merge(OpenApiRouter::from(page::routes())))
}

/// The second path of each of the document's, which is not described.
pub fn second_path(template: &str) -> Option<String> {
    template.strip_prefix("/api/share/").map(|rest| format!("/api/v1/share/{rest}"))
}

/// The document's paths.
fn document(
    limited: impl Fn(OpenApiRouter<Arc<Relay>>, RateLimitClass) -> OpenApiRouter<Arc<Relay>>,
) -> OpenApiRouter<Arc<Relay>> {
    let small = OpenApiRouter::new()
        .routes(routes!(document::start))
        .routes(routes!(document::stop))
        .layer(DefaultBodyLimit::max(SMALL_BODY));
    let audio = OpenApiRouter::new().routes(routes!(document::send_audio)).layer(DefaultBodyLimit::max(AUDIO_BODY));
    let metadata =
        OpenApiRouter::new().routes(routes!(document::send_metadata)).layer(DefaultBodyLimit::max(METADATA_BODY));
    let polls = OpenApiRouter::new()
        .routes(routes!(document::poll_audio))
        .routes(routes!(document::poll_metadata))
        .routes(routes!(document::status))
        .layer(DefaultBodyLimit::max(SMALL_BODY));
    limited(small.merge(audio).merge(metadata), SHARE).merge(limited(polls, POLLS))
}

/// What is counted as one operation; a closed set.
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

async fn count(State(relay): State<Arc<Relay>>, path: MatchedPath, request: Request, next: Next) -> Response {
    let (operation, began) = (operation(request.method(), path.as_str()), Instant::now());
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        ..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    relay.metrics.requests.with_label_values(&[operation, class]).inc();
    relay.metrics.seconds.with_label_values(&[operation]).observe(began.elapsed().as_secs_f64());
    response
}

/// Leave for pages of this machine, where the operator gives it: for whoever develops a player.
async fn local(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
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
    let (mut response, additions) = if cors::is_preflight(request.method(), request.headers()) {
        ((StatusCode::NO_CONTENT, Body::empty()).into_response(), policy.preflight_headers(request.headers()))
    } else {
        (next.run(request).await, policy.response_headers(origin.as_ref()))
    };
    for (name, value) in additions {
        if name == header::VARY {
            response.headers_mut().append(name, value);
        } else {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
