//! Spans of the attempts at a plain route's servers.

use http::StatusCode;

use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::traces::known_method;
use http_server::Downstream;
use request_traces::{Span, SpanTimer, TraceContext};

/// An attempt that is under way.
pub struct TracedAttempt {
    timer: SpanTimer,
    /// Context for the server, at the span of the attempt; `None` where the request is not traced.
    pub context: Option<TraceContext>,
}

impl TracedAttempt {
    /// Begins the attempt that was just counted.
    pub fn begin(ctx: &RequestContext) -> Self {
        let trace = &ctx.attempt_stats.trace;
        Self { timer: trace.start(), context: trace.child_context() }
    }

    /// Ends it at the head of the server's answer.
    pub fn answered(self, downstream: &impl Downstream, ctx: &RequestContext, status: StatusCode) {
        ctx.attempt_stats.trace.end(self.timer, || self.span(downstream, ctx).answered(status));
    }

    /// Ends it without an answer.
    pub fn failed(self, downstream: &impl Downstream, ctx: &RequestContext, failure: &ProxyFailure) {
        ctx.attempt_stats.trace.end(self.timer, || self.span(downstream, ctx).failed(failure.code()));
    }

    fn span(&self, downstream: &impl Downstream, ctx: &RequestContext) -> Span {
        let method = known_method(&downstream.request().method);
        let id = self.context.as_ref().map(|context| context.span_id);
        Span { id, ..ctx.attempt_stats.attempt_span(method) }
    }
}
