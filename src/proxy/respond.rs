//! Small answers of our own: refusals, failures, preflights. Every one carries the request's id and the route's CORS
//! headers, errors too, or a browser shows an opaque failure.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::admission::{OBJECT_METHODS, rate_limit, request_host};
use super::context::RequestContext;
use super::error_pages;
use super::failure::ProxyFailure;
use super::films::FilmCredential;
use http_semantics::cors;
use http_semantics::problem::{self, Problem};
use http_semantics::rate_limit::whole_seconds;
use http_semantics::request_info::REQUEST_ID;
use http_server::{Downstream, DownstreamError};
use server_kit::auth::path_token::PathToken;

/// The header with the operator's token by which a request asks how it is answered; never passed on.
pub const DEBUG: HeaderName = HeaderName::from_static("x-tidegate-debug");
const CACHE: HeaderName = HeaderName::from_static("x-tidegate-cache");
const RETRY_URL: HeaderName = HeaderName::from_static("x-retry-url");

/// Writes a response head with `headers` and what every answer carries.
pub async fn head(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    status: StatusCode,
    mut headers: HeaderMap,
    end: bool,
) -> Result<(), DownstreamError> {
    decorate(downstream, ctx, &mut headers);
    ctx.record_first_byte();
    downstream.write_head(status, headers).await?;
    if end { downstream.end(None).await } else { Ok(()) }
}

/// Adds the request's id and the CORS headers of the route or the API.
pub fn decorate(downstream: &impl Downstream, ctx: &RequestContext, headers: &mut HeaderMap) {
    headers.insert(REQUEST_ID, request_id(ctx));
    let extensions = &downstream.request().extensions;
    if extensions.get::<PathToken>().is_some() || extensions.get::<FilmCredential>().is_some() {
        // What is linked from here must not learn the token.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    if let Some(state) = ctx.attempt_stats.cache.filter(|_| ctx.is_debugged) {
        headers.insert(CACHE, HeaderValue::from_static(state.name()));
    }
    for (name, value) in rate_limit::rate_limit_headers(ctx) {
        headers.insert(name, value.into());
    }
    if let Some(policy) = ctx.cors() {
        policy.add_response_headers(downstream.request().headers.get(header::ORIGIN), headers);
    }
}

fn request_id(ctx: &RequestContext) -> HeaderValue {
    HeaderValue::from_str(&ctx.id).expect("an id is letters, digits and hyphens")
}

/// Returns true where the request carries the operator's debug token, and so learns its cache status. A wrong one counts
/// as an invalid token, so it is judged once for each request. A network that has shown too many of them learns nothing;
/// its requests are served all the same.
pub fn has_debug_token(downstream: &impl Downstream, ctx: &RequestContext) -> bool {
    let Some(given) = downstream.request().headers.get(DEBUG) else { return false };
    let Some(token) = &ctx.runtime.debug_token else { return false };
    let invalid_tokens = ctx.runtime.process.limiters.invalid_tokens();
    // Not even a right one: nothing else would tell a guesser from the operator.
    if invalid_tokens.is_exhausted(ctx.client_address) {
        return false;
    }
    let is_right = token.matches(given.as_bytes());
    if !is_right {
        // The next request is told; this one is answered as any other.
        let _ = invalid_tokens.record(ctx.client_address);
    }
    is_right
}

/// Answers a preflight.
pub async fn preflight(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    policy: Arc<cors::CorsPolicy>,
) -> Result<(), DownstreamError> {
    let mut headers = HeaderMap::new();
    policy.add_preflight_headers(&downstream.request().headers, &mut headers);
    headers.insert(REQUEST_ID, request_id(ctx));
    ctx.record_first_byte();
    downstream.write_head(StatusCode::NO_CONTENT, headers).await?;
    downstream.end(None).await
}

/// Answers an ACME server with the key authorization that it asks for (RFC 8555 §8.3).
pub async fn acme_challenge(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    key_authorization: String,
) -> Result<(), DownstreamError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, key_authorization.len().into());
    let head_only = downstream.request().method == Method::HEAD;
    head(downstream, ctx, StatusCode::OK, headers, head_only).await?;
    if !head_only {
        downstream.write(key_authorization.as_bytes()).await?;
        downstream.end(None).await?;
    }
    Ok(())
}

/// Sends the client to the same target by HTTPS at `port`. 308 keeps the method (RFC 9110 §15.4.9).
pub async fn https_redirect(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    port: u16,
) -> Result<(), DownstreamError> {
    let Some(location) = https_location(downstream.request(), port) else {
        let refused = ProxyFailure::BadRequest("the request names no host to be redirected to".into());
        return failure(downstream, ctx, refused).await;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    head(downstream, ctx, StatusCode::PERMANENT_REDIRECT, headers, true).await
}

/// Returns the URL of the request's own target by HTTPS, a token in its path included: the client knows it.
fn https_location(request: &Parts, port: u16) -> Option<HeaderValue> {
    let authority: Authority = request_host(request)?.parse().ok()?;
    let host = authority.host();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = requested_path(request);
    let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    HeaderValue::try_from(format!("https://{host}{port}{path}{query}")).ok().filter(|_| !host.is_empty())
}

/// Returns the path as the client wrote it, a token in it included: for whoever has sent it.
fn requested_path(request: &Parts) -> Cow<'_, str> {
    let path = request.uri.path();
    let extensions = &request.extensions;
    let token = extensions.get::<PathToken>().map(|token| token.full_path(path));
    let full = token.or_else(|| extensions.get::<FilmCredential>().map(|credential| credential.full_path(path)));
    full.map_or(Cow::Borrowed(path), Cow::Owned)
}

/// Says which methods an object route takes.
pub async fn options(downstream: &mut impl Downstream, ctx: &mut RequestContext) -> Result<(), DownstreamError> {
    let allow = ProxyFailure::MethodNotAllowed(OBJECT_METHODS.to_vec()).headers().into_iter().collect();
    head(downstream, ctx, StatusCode::NO_CONTENT, allow, true).await
}

/// Answers with a failure; where an answer has begun, or the client is gone, nothing more can be said.
pub async fn failure(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    failure: ProxyFailure,
) -> Result<(), DownstreamError> {
    let status = failure.status();
    let gone = status.as_u16() == 499 || downstream.status().is_some();
    if gone || failure.closes() {
        downstream.close_after();
    }
    let (mut headers, mut body) = envelope(downstream, ctx, &failure);
    if let Some(route) = &ctx.route {
        if !gone && !route.error_answers.is_empty() {
            // Boxed: whoever may fail keeps no room for it.
            let page: BoxFuture<'_, ()> = Box::pin(error_pages::put_page(ctx, route, status, &mut headers, &mut body));
            page.await;
        }
        route.response_headers.apply(status, None, &mut headers);
    }
    let too_large = failure == ProxyFailure::BodyTooLarge;
    ctx.failure = Some(failure);
    if gone {
        return Ok(());
    }
    let head_only = downstream.request().method == Method::HEAD;
    head(downstream, ctx, status, headers, head_only).await?;
    if !head_only {
        downstream.write(&body).await?;
        downstream.end(None).await?;
    }
    if too_large {
        // Closing on bytes that nobody has read would reset the connection, and the answer with it.
        downstream.drain().await;
    }
    Ok(())
}

fn envelope(downstream: &impl Downstream, ctx: &RequestContext, failure: &ProxyFailure) -> (HeaderMap, Vec<u8>) {
    let detail = failure.detail();
    let now = ctx.runtime.process.clock.unix_millis().as_millis();
    let mut problem = Problem::new(failure.status(), failure.code(), &detail, &ctx.id, now);
    let wait = failure.retry_after().map(|wait| whole_seconds(wait).max(1));
    if let ProxyFailure::Limited(..) = failure {
        problem.reset_after = wait.map(|wait| (now / 1000).cast_unsigned().saturating_add(wait));
    }
    let body = problem.to_json();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in failure.headers() {
        headers.insert(name, value);
    }
    if let Some(wait) = wait {
        headers.insert(header::RETRY_AFTER, wait.into());
        // Only the path: a query may carry a token.
        let objects = ctx.route.as_ref().is_some_and(|route| route.serves_objects());
        let path = HeaderValue::try_from(&*requested_path(downstream.request()));
        if let (true, Ok(path)) = (objects, path) {
            headers.insert(RETRY_URL, path);
        }
    }
    (headers, body)
}
