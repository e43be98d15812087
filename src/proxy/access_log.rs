//! One line per request, with documented fields (`docs/operations.md`); and one for a failure that an operator should
//! look at. Neither holds a key, a token, a signature or anything of the store's.

use http::{Method, StatusCode};
use tracing::{error, info, warn};

use super::ctx::Ctx;
use super::failure::{Failure, Level};
use super::server::Downstream;
use crate::object::cache::State;
use crate::telemetry::metrics::Metrics;

/// Writes the lines and counts the request.
pub fn finish(downstream: &impl Downstream, ctx: &Ctx, metrics: &Metrics) {
    record(&downstream.request().method, downstream.status(), downstream.body_sent(), ctx, metrics);
}

/// As [`finish`], for a request whose client is no longer at hand.
pub fn record(method: &Method, answered: Option<StatusCode>, sent: u64, ctx: &Ctx, metrics: &Metrics) {
    let written = answered.map_or(0, |status| status.as_u16());
    let status = match &ctx.failure {
        Some(failure) if failure.status().as_u16() == 499 => 499,
        _ => written,
    };
    metrics.answered(ctx.route(), status);
    if let Some(first_byte) = ctx.first_byte {
        metrics.first_byte(ctx.route(), first_byte);
    }
    if let Some(state) = ctx.tally.cache {
        metrics.cached(state.name());
    }
    metrics.effort(ctx.tally.expired, ctx.tally.retries);
    for (cause, count) in ctx.tally.resumes.by_cause() {
        metrics.resumed(cause.name(), count);
    }
    if ctx.sent > 0 {
        metrics.stream_ended(ctx.started.elapsed());
    }
    if let Some(failure) = &ctx.failure {
        log_failure(ctx, failure.level());
        if failure.status().as_u16() != 499 && ctx.served.is_some() {
            metrics.failed(failure.code());
        }
    }
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    info!(
        target: "access",
        request_id = ctx.id,
        route = ctx.route(),
        method = method.as_str(),
        status,
        sent,
        first_byte_ms = ctx.first_byte.map(millis),
        duration_ms = millis(ctx.started.elapsed()),
        client = ctx.client.map(tracing::field::display),
        attempts = ctx.tally.attempts,
        resumes = ctx.tally.resumes.total(),
        cache = ctx.tally.cache.map(State::name),
        failure = ctx.failure.as_ref().map(Failure::code),
        cause = ctx.failure.as_ref().and_then(Failure::cause),
        "request"
    );
}

fn log_failure(ctx: &Ctx, level: Level) {
    let Some(failure) = &ctx.failure else { return };
    let (request_id, route, code) = (ctx.id.as_str(), ctx.route(), failure.code());
    let reason = match failure {
        Failure::Object(failure) => failure.to_string(),
        other => other.detail().into_owned(),
    };
    match level {
        Level::Info => {}
        Level::Warn => warn!(request_id, route, code, "request failed: {reason}"),
        Level::Error => error!(request_id, route, code, "request failed: {reason}"),
    }
}
