//! The trace of a request: where it begins, the span of its answer, and its context on the way to a server. Says no more than
//! the access log: what `Telemetry.AccessLog.Fields` leaves out is in no span, and no query, token or signature.

use std::borrow::Cow;

use http::{HeaderMap, Method, StatusCode, Version};

use super::access_log::RequestLine;
use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::modules::{ModulePaths, module_name};
use super::route::Route;
use super::runtime::Runtime;
use http_server::Downstream;
use object_engine::cache::CacheStatus;
use request_traces::{RequestTrace, Span, SpanTimer, TraceContext, TraceId, Tracer};
use server_kit::telemetry::settings::AccessField as Field;

/// Begins the trace of a request that has just arrived.
pub fn begin(runtime: &Runtime, downstream: &impl Downstream) -> RequestTrace {
    match &runtime.tracer {
        Some(tracer) => tracer.begin(&downstream.request().headers, runtime.trusts(downstream.peer())),
        None => RequestTrace::default(),
    }
}

/// Records that the request was admitted, or why it was not.
pub fn admitted(ctx: &RequestContext, refusal: Option<&ProxyFailure>) {
    let trace = &ctx.attempt_stats.trace;
    trace.end(trace.start_detail_at(ctx.started), || {
        let span = Span::internal("admission");
        match refusal {
            Some(failure) if failure.status().is_server_error() => span.failed(failure.code()),
            // A client that is refused is no error of this server.
            failure => span.with_some("error.type", failure.map(ProxyFailure::code)),
        }
    });
}

/// Records the answer of a module, at the path that it takes.
pub fn module_answered(
    ctx: &RequestContext,
    timer: SpanTimer,
    (path, paths): (&str, &ModulePaths),
    status: StatusCode,
) {
    ctx.attempt_stats.trace.end(timer, || {
        let span = Span::internal(module_name(path))
            .with_some("http.route", paths.template(path))
            .with("http.response.status_code", status.as_u16());
        if status.is_server_error() { span.failed(status.as_u16().to_string()) } else { span }
    });
}

/// Writes the context of the request into what goes on to a server: `child` where it is traced, else as the tracer has it. The
/// client's own stays where there is no tracer.
pub fn write_context(
    runtime: &Runtime,
    downstream: &impl Downstream,
    child: Option<&TraceContext>,
    headers: &mut HeaderMap,
) {
    match child {
        Some(child) => child.write(headers),
        None if runtime.tracer.is_some() => Tracer::write_untraced(headers, runtime.trusts(downstream.peer())),
        None => {}
    }
}

/// Ends the trace of a request that was answered with `status`; returns its id where it is kept.
pub fn finish(
    line: &RequestLine<'_>,
    (status, sent): (u16, u64),
    ctx: &RequestContext,
    paths: &ModulePaths,
) -> Option<TraceId> {
    let (tracer, trace) = (ctx.runtime.tracer.as_ref()?, &ctx.attempt_stats.trace);
    let has_failed = ctx.failure.as_ref().is_some_and(|failure| failure.status().is_server_error());
    let is_error = has_failed || status >= 500;
    trace.finish(tracer, ctx.started, is_error, || {
        let span = answer_span(line, (status, sent), ctx, paths);
        match &ctx.failure {
            Some(failure) if is_error => span.failed(failure.code()),
            None if is_error => span.failed(status.to_string()),
            failure => span.with_some("error.type", failure.as_ref().map(ProxyFailure::code)),
        }
    });
    trace.kept_id(is_error)
}

/// Returns the span of an answer, named by method and route as the conventions of OpenTelemetry want it.
fn answer_span(line: &RequestLine<'_>, (status, sent): (u16, u64), ctx: &RequestContext, paths: &ModulePaths) -> Span {
    let fields = ctx.runtime.access_lines.fields;
    let method = known_method(line.method);
    let template = match &ctx.route {
        Some(route) => route_template(&ctx.runtime, route),
        None => paths.template(&line.path).filter(|_| ctx.is_module_request),
    };
    let module = Some(module_name(&line.path)).filter(|_| ctx.is_module_request);
    let verb = if method == OTHER_METHOD { "HTTP" } else { method };
    let place = template.as_deref().or(module);
    let name = place.map_or(Cow::Borrowed(verb), |place| format!("{verb} {place}").into());
    let stats = &ctx.attempt_stats;
    let user = ctx.claims.as_ref().map(|claims| ctx.runtime.process.live_streams.hash_user(claims.subject.as_str()));
    let user = user.map(|hash| format!("{hash:016x}"));
    let path = (*line.path).to_owned();
    Span::server(name)
        .with("http.request.method", method)
        .with_some("http.route", template)
        .with_some("tidegate.route", ctx.route.as_ref().map(|route| &route.id))
        .with_some("tidegate.module", module)
        .with_some("url.path", fields.value_if_enabled(Field::Path, path))
        .with_some("network.protocol.version", protocol_version(line.version))
        .with_some("http.response.status_code", Some(status).filter(|status| *status > 0))
        .with("http.response.body.size", sent)
        .with_some(
            "client.address",
            fields.value_if_enabled(Field::Client, ctx.client_address).flatten().map(|it| it.to_string()),
        )
        .with_some("user.hash", fields.value_if_enabled(Field::User, user).flatten())
        .with_some("tidegate.request_id", fields.value_if_enabled(Field::RequestId, ctx.id.clone()))
        .with("tidegate.attempts", stats.attempts)
        .with("tidegate.resumes", stats.resumes.total())
        .with_some("tidegate.cache", stats.cache.map(CacheStatus::name))
}

/// Returns the path of a route as the configuration has it; `None` where it takes every path, or is of films.
fn route_template(runtime: &Runtime, route: &Route) -> Option<String> {
    let entry = runtime.routes.entries().find(|entry| entry.id == route.id)?;
    entry.matches.path.as_ref().map(ToString::to_string)
}

/// Method of a request whose own is none of the known ones.
const OTHER_METHOD: &str = "_OTHER";

/// Returns the method's name where it is a known one: clients may write any word.
pub fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER_METHOD)
}

fn protocol_version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}
