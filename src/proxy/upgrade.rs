//! A request that makes something else of its connection (RFC 9110 §7.8): WebSocket to a module. hyper speaks HTTP on
//! the connection from that request on, and a module that agrees gets the connection from it, as axum expects.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tower::ServiceExt;

use super::access_log::RequestLine;
use super::context::RequestContext;
use super::modules::{self, ModulePaths, ModuleService, RequestOrigin};
use super::{Gateway, access_log, traces};
use http_semantics::headers::has_token;
use http_semantics::request_host;
use http_semantics::request_info::REQUEST_ID;
use http_server::ConnectionTakeover;
use http_server::connection_info::ConnectionInfo;
use http_server::connection_limits::MAX_HEADER_LINES;
use server_kit::telemetry::metrics::Metrics;

/// True where `request` asks for a WebSocket (RFC 6455 §4.1).
pub fn is_websocket_request(request: &Parts) -> bool {
    let names = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let is_named = has_token(&request.headers, &header::CONNECTION, "upgrade");
    let bodiless =
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().all(|it| !request.headers.contains_key(it));
    request.method == Method::GET && is_named && bodiless && request.headers.get(header::UPGRADE).is_some_and(names)
}

/// Has the admitted request of `ctx` answered, whose head is at the front of `connection`. The connection ends with it,
/// unless a module takes it over: it then lives, and is counted, until the module drops it.
pub async fn serve(gateway: &Gateway, ctx: RequestContext, connection: ConnectionTakeover) {
    let (modules, records) = (gateway.modules.clone(), (Arc::clone(&gateway.metrics), gateway.paths.clone()));
    let info = connection.info().clone();
    let (admitted, target) = (Mutex::new(Some(ctx)), connection.target().clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        *request.uri_mut() = target.clone();
        // Read anew from the connection: as it was admitted, so it goes on.
        request_host::normalize_header(request.headers_mut());
        answer(admitted.lock().take(), request, info.clone(), modules.clone(), records.clone())
    });
    let mut http = http1::Builder::new();
    http.max_headers(MAX_HEADER_LINES);
    // The answer was noted when it was made; a client that is gone by then misses nothing.
    let _ = http.serve_connection(TokioIo::new(connection), service).with_upgrades().await;
}

async fn answer(
    ctx: Option<RequestContext>,
    request: Request<Incoming>,
    connection: ConnectionInfo,
    modules: ModuleService,
    (metrics, paths): (Arc<Metrics>, ModulePaths),
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    let Some(mut ctx) = ctx else {
        // One request was admitted, and no other may pass.
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let origin =
        RequestOrigin { host: host.as_deref(), peer_address: Some(connection.peer), is_tls: connection.is_tls };
    modules::add_request_info(&mut request, &ctx, &origin);
    let (parts, body) = request.into_parts();
    let noted = parts.clone();
    let timer = ctx.attempt_stats.trace.start_detail();
    let Ok(mut response) = modules.oneshot(Request::from_parts(parts, body)).await;
    traces::module_answered(&ctx, timer, (noted.uri.path(), &paths), response.status());
    if let Ok(id) = HeaderValue::from_str(&ctx.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(hsts) = connection.missing_hsts(response.headers()) {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What comes next on it would not have been looked at.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    ctx.record_first_byte();
    access_log::record(&RequestLine::of(&noted), (Some(response.status()), 0), &ctx, (&metrics, &paths));
    Ok(response)
}
