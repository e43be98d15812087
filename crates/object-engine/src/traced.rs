//! Spans of the engine's work: signatures that are made, attempts, continuations, and the cache's part.

use http::StatusCode;

use super::{AttemptStats, ObjectBody, ObjectError, ObjectOrigin, ObjectResponse, ResumeCause};
use request_traces::{RequestTrace, Span, SpanTimer};
use s3::signed_request_cache::UnsignedRequest;
use s3::signer::{SignError, SigningOutcome};

/// Signs a request; a signature that is made has a span, one that is there has none.
pub fn sign(
    origin: &ObjectOrigin,
    object: &UnsignedRequest<'_>,
    trace: &RequestTrace,
) -> Result<SigningOutcome, SignError> {
    let timer = trace.start_detail();
    let signed = origin.signer.sign(object)?;
    if !signed.is_cached {
        trace.end(timer, || Span::internal("sign"));
    }
    Ok(signed)
}

/// An attempt that is under way.
pub struct TracedAttempt {
    timer: SpanTimer,
    is_head: bool,
}

impl TracedAttempt {
    /// Begins the attempt that `tally` has just counted.
    pub fn begin(tally: &AttemptStats, is_head: bool) -> Self {
        Self { timer: tally.trace.start(), is_head }
    }

    /// Ends it at the head of the server's answer.
    pub fn answered(self, tally: &AttemptStats, status: StatusCode) {
        tally.trace.end(self.timer, || self.span(tally).answered(status));
    }

    /// Ends it without an answer.
    pub fn failed(self, tally: &AttemptStats, code: &'static str) {
        tally.trace.end(self.timer, || self.span(tally).failed(code));
    }

    fn span(&self, tally: &AttemptStats) -> Span {
        let method = if self.is_head { "HEAD" } else { "GET" };
        tally.attempt_span(method)
    }
}

impl AttemptStats {
    /// Returns the span of the last attempt, whose method is this.
    pub fn attempt_span(&self, method: &'static str) -> Span {
        let server = self.server.as_ref();
        Span::client(method)
            .with("http.request.method", method)
            .with("tidegate.attempt", self.attempts)
            .with_some("tidegate.cluster", server.map(|server| &server.cluster))
            .with_some("tidegate.destination", server.map(|server| &server.destination))
    }
}

/// Records that a body was continued at this byte of the object, or could not be.
pub fn resume(trace: &RequestTrace, timer: SpanTimer, (cause, byte): (ResumeCause, u64), failure: Option<ObjectError>) {
    trace.end(timer, || {
        let span = Span::internal("resume").with("tidegate.cause", cause.name()).with("tidegate.byte", byte);
        if failure.is_some() { span.failed("body_broken") } else { span }
    });
}

/// Makes the continuations of an answer's body part of this trace.
pub fn with_traced_body(mut answer: ObjectResponse, trace: &RequestTrace) -> ObjectResponse {
    if let Some(ObjectBody::Direct(download)) = &mut answer.body {
        download.trace(trace);
    }
    answer
}

/// Records what the cache did up to the first bytes.
pub fn cache(tally: &AttemptStats, timer: SpanTimer) {
    tally.trace.end(timer, || Span::internal("cache").with_some("tidegate.cache", tally.cache.map(|it| it.name())));
}
