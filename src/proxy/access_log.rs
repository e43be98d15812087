//! One line per request, with documented fields (`docs/operations.md`); and one for a failure that an operator should
//! look at. They name servers, stores, buckets and keys, which no client sees, and never a query, token or signature.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, StatusCode, Version, header};
use percent_encoding::percent_decode_str;
use tracing::{error, info, warn};

use super::admission;
use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::films::FilmCredential;
use super::modules::{ModulePaths, module_name};
use super::{Gateway, traces};
use http_semantics::error_codes::ErrorLevel;
use http_server::Downstream;
use object_engine::cache::CacheStatus;
use request_traces::TraceId;
use server_kit::auth::path_token::{PathToken, may_hold_token};
use server_kit::telemetry::log;
use server_kit::telemetry::metrics::Metrics;
use server_kit::telemetry::recent_failures::FailureRecord;
use server_kit::telemetry::settings::{AccessField as Field, AccessLines};
use vod::grant::may_hold_grant;

/// Longest path in a line, in bytes.
const MAX_PATH: usize = 2048;
/// Longest host and `User-Agent` in a line, in bytes.
const MAX_VALUE: usize = 256;

/// The part of a request that its lines tell.
pub struct RequestLine<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Version of HTTP.
    pub version: Version,
    /// Its path, without what is a token.
    pub path: Cow<'a, str>,
    host: Option<&'a str>,
    user_agent: Option<&'a str>,
}

impl<'a> RequestLine<'a> {
    /// The lines' part of `request`.
    pub fn of(request: &'a Parts) -> Self {
        let user_agent = request.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let mask = if request.extensions.get::<PathToken>().is_some() {
            Some("/t/***")
        } else {
            request.extensions.get::<FilmCredential>().map(|_| "/v/***")
        };
        Self {
            method: &request.method,
            version: request.version,
            path: path(request.uri.path(), mask),
            host: admission::request_host(request).map(|host| bounded(host, MAX_VALUE)),
            user_agent: user_agent.map(|value| bounded(value, MAX_VALUE)),
        }
    }
}

/// The path for the log: tokens that stand in it are masked, and `mask` is put in place of the one that stood in front.
fn path<'a>(path: &'a str, mask: Option<&str>) -> Cow<'a, str> {
    let path = match masked(path) {
        Cow::Borrowed(path) => Cow::Borrowed(bounded(path, MAX_PATH)),
        Cow::Owned(path) => Cow::Owned(bounded(&path, MAX_PATH).to_owned()),
    };
    match mask {
        Some(mask) => format!("{mask}{path}").into(),
        None => path,
    }
}

/// A path or key without tokens: what has the place of one, behind a first segment `t` in whatever spelling, and what has
/// the form of one, wherever it stands.
fn masked(path: &str) -> Cow<'_, str> {
    let decoded = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
    let is_start = |segment: &str| matches!(decoded(segment).as_str(), "t" | "T");
    let mut segments: Vec<&str> = path.split('/').collect();
    let first = segments.iter().position(|segment| !segment.is_empty());
    let place = first.filter(|first| path.starts_with('/') && is_start(segments[*first])).map(|first| first + 1);
    let mut is_masked = false;
    for (at, segment) in segments.iter_mut().enumerate() {
        // `%2F` may part it from others: then the whole is masked.
        let may_hold = |text: &str| may_hold_token(text) || may_hold_grant(text);
        if Some(at) == place || may_hold(segment) || segment.contains('%') && may_hold(&decoded(segment)) {
            (*segment, is_masked) = ("***", true);
        }
    }
    if is_masked { segments.join("/").into() } else { path.into() }
}

/// The beginning of `text`, of `limit` bytes at most.
fn bounded(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// Writes the lines and counts the request.
pub fn finish(downstream: &impl Downstream, ctx: &RequestContext, gateway: &Gateway) {
    let line = RequestLine::of(downstream.request());
    record(&line, (downstream.status(), downstream.body_sent()), ctx, (&gateway.metrics, &gateway.paths));
}

/// As [`finish`], for a request whose client is no longer at hand.
pub fn record(
    line: &RequestLine<'_>,
    (answered, sent): (Option<StatusCode>, u64),
    ctx: &RequestContext,
    (metrics, paths): (&Metrics, &ModulePaths),
) {
    let written = answered.map_or(0, |status| status.as_u16());
    let status = match &ctx.failure {
        Some(failure) if failure.status().as_u16() == 499 => 499,
        _ => written,
    };
    metrics.request_answered(ctx.route_id(), status);
    if let Some(first_byte) = ctx.first_byte {
        metrics.first_byte(ctx.route_id(), first_byte);
    }
    if let Some(state) = ctx.attempt_stats.cache {
        metrics.cache_request(state.name());
    }
    metrics.record_retries(ctx.attempt_stats.expired, ctx.attempt_stats.retries);
    for (cause, count) in ctx.attempt_stats.resumes.by_cause() {
        metrics.body_resumed(cause.name(), count);
    }
    if ctx.bytes_sent > 0 {
        metrics.stream_ended(ctx.started.elapsed());
    }
    if let Some(failure) = &ctx.failure {
        log_failure(line, ctx, failure);
        remember_failure(ctx, failure);
        if failure.status().as_u16() != 499 && ctx.route.is_some() {
            metrics.stream_failed(failure.code());
        }
    }
    let trace_id = traces::finish(line, (status, sent), ctx, paths);
    log_access(line, (status, sent), trace_id, ctx);
}

/// Keeps a failure for the operator. Clients that leave are none, nor is what the operator has ended.
fn remember_failure(ctx: &RequestContext, failure: &ProxyFailure) {
    let process = &ctx.runtime.process;
    if failure.status().as_u16() != 499 && !matches!(failure, ProxyFailure::StreamEnded) {
        process.recent_failures.record(FailureRecord {
            at: process.clock.unix_millis(),
            code: failure.error_code(),
            route: ctx.route.as_ref().map(|route| Arc::clone(&route.id)),
            request_id: ctx.id.as_str().into(),
        });
    }
}

fn log_access(line: &RequestLine<'_>, (status, sent): (u16, u64), trace_id: Option<TraceId>, ctx: &RequestContext) {
    let AccessLines { fields, successes } = ctx.runtime.access_lines;
    let (stats, failure) = (&ctx.attempt_stats, ctx.failure.as_ref());
    let went_well = failure.is_none() && (100..400).contains(&status);
    if went_well && !successes.is_all() && !successes.includes(rand::random()) {
        return;
    }
    let server = stats.server.as_ref();
    let object = ctx.failed_object.as_deref().and_then(|object| fields.value_if_enabled(Field::Object, object));
    let key = object.map(|object| path(&object.key, None));
    info!(
        target: log::ACCESS,
        request_id = fields.value_if_enabled(Field::RequestId, ctx.id.as_str()),
        trace_id = fields.value_if_enabled(Field::TraceId, trace_id.map(tracing::field::display)).flatten(),
        route = fields.value_if_enabled(Field::Route, ctx.route_id()).filter(|_| !ctx.is_module_request),
        module = fields.value_if_enabled(Field::Route, module_name(&line.path)).filter(|_| ctx.is_module_request),
        method = fields.value_if_enabled(Field::Method, line.method.as_str()),
        path = fields.value_if_enabled(Field::Path, &*line.path),
        host = fields.value_if_enabled(Field::Host, line.host).flatten(),
        protocol = fields.value_if_enabled(Field::Protocol, tracing::field::debug(line.version)),
        status = fields.value_if_enabled(Field::Status, status),
        sent = fields.value_if_enabled(Field::Sent, sent),
        first_byte_ms = fields.value_if_enabled(Field::FirstByteMs, ctx.first_byte.map(millis)).flatten(),
        duration_ms = fields.value_if_enabled(Field::DurationMs, millis(ctx.started.elapsed())),
        user_agent = fields.value_if_enabled(Field::UserAgent, line.user_agent).flatten(),
        client = fields.value_if_enabled(Field::Client, ctx.client_address.map(tracing::field::display)).flatten(),
        user = fields.value_if_enabled(Field::User, ctx.claims.as_ref().map(|claims| claims.subject.as_str())).flatten(),
        cluster = fields.value_if_enabled(Field::Cluster, server.map(|server| &*server.cluster)).flatten(),
        destination = fields.value_if_enabled(Field::Destination, server.map(|server| &*server.destination)).flatten(),
        attempts = fields.value_if_enabled(Field::Attempts, stats.attempts),
        resumes = fields.value_if_enabled(Field::Resumes, stats.resumes.total()),
        cache = fields.value_if_enabled(Field::Cache, stats.cache.map(CacheStatus::name)).flatten(),
        store = object.map(|object| &*object.store),
        bucket = object.map(|object| &*object.bucket),
        key = key.as_deref(),
        failure = fields.value_if_enabled(Field::Failure, failure.map(ProxyFailure::code)).flatten(),
        cause = fields.value_if_enabled(Field::Failure, failure.and_then(ProxyFailure::cause)).flatten(),
        error = fields.value_if_enabled(Field::Failure, stats.error.as_ref().map(tracing::field::display)).flatten(),
        "request"
    );
}

fn log_failure(line: &RequestLine<'_>, ctx: &RequestContext, failure: &ProxyFailure) {
    let reason = match failure {
        ProxyFailure::Object(failure) => failure.to_string().into(),
        ProxyFailure::Manifest(refusal) => refusal.to_string().into(),
        other => other.detail(),
    };
    let error = ctx.attempt_stats.error.as_ref();
    let because = error.map_or_else(String::new, |error| format!(": {error}"));
    let object = ctx.failed_object.as_deref();
    let key = object.map(|object| path(&object.key, None));
    macro_rules! failed {
        ($level:ident) => {
            $level!(
                request_id = ctx.id.as_str(),
                route = Some(ctx.route_id()).filter(|_| !ctx.is_module_request),
                module = Some(module_name(&line.path)).filter(|_| ctx.is_module_request),
                code = failure.code(),
                method = line.method.as_str(),
                path = &*line.path,
                cluster = ctx.attempt_stats.server.as_ref().map(|server| &*server.cluster),
                destination = ctx.attempt_stats.server.as_ref().map(|server| &*server.destination),
                store = object.map(|object| &*object.store),
                bucket = object.map(|object| &*object.bucket),
                key = key.as_deref(),
                "request failed: {reason}{because}"
            )
        };
    }
    match failure.level() {
        ErrorLevel::Info => {}
        ErrorLevel::Warn => failed!(warn),
        ErrorLevel::Error => failed!(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_path_is_masked_however_it_stands_there() {
        for (given, had_token, logged) in [
            ("/stream/a.mp3", false, "/stream/a.mp3"),
            ("/api/v1/tracks/t/stream", true, "/t/***/api/v1/tracks/t/stream"),
            ("/t/abc.def/stream/a", false, "/t/***/stream/a"),
            ("/t/abc.def", false, "/t/***"),
            ("/%74/abc/x", false, "/%74/***/x"),
            ("//t/abc/x", false, "//t/***/x"),
            ("/T/abc/x", false, "/T/***/x"),
            ("/music/t/abc", false, "/music/t/abc"),
            ("/t/x/t/AgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/y", false, "/t/***/t/***/y"),
            ("/x/AgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.mp3", false, "/x/***"),
            ("/x%2F%41gEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false, "/***"),
            ("/x/AgEAAAAAAAAA", false, "/x/AgEAAAAAAAAA"),
            (
                "/x/aec070645fe53ee3b3763059376134f058cc337247c978add178b6ccdfb0019f.mp3",
                false,
                "/x/aec070645fe53ee3b3763059376134f058cc337247c978add178b6ccdfb0019f.mp3",
            ),
            ("/tracks/abc", false, "/tracks/abc"),
            ("/", false, "/"),
        ] {
            assert_eq!(path(given, had_token.then_some("/t/***")), logged, "{given}");
        }
    }

    #[test]
    fn durations_are_told_to_the_microsecond() {
        assert_eq!(millis(Duration::from_nanos(1_234_567)).to_string(), "1.234");
        assert_eq!(millis(Duration::from_nanos(900)).to_string(), "0");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(bounded("aäb", 2), "a");
        assert_eq!(bounded("aäb", 9), "aäb");
    }
}
