//! The trace of one request while it is answered: nothing where it is not traced, else its spans so far.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;

use crate::span::TimedSpan;
use crate::{Span, SpanId, TraceContext, TraceId, Tracer};
use primitives::clock::monotonic_now;

/// Most spans of one request beside that of its answer; further ones are counted and left out.
const MAX_SPANS: usize = 64;

/// The trace of one request; clones are the same trace. The default is that of a request which is not traced, and costs
/// nothing.
#[derive(Clone, Default)]
pub struct RequestTrace(Option<Arc<TraceRecord>>);

struct TraceRecord {
    /// True where every span is wanted, false where only those of a request that fails are.
    is_sampled: bool,
    /// Position at the span of whoever sent the request.
    parent: Option<TraceContext>,
    /// Position at the span of the answer; its ids are drawn when they are needed, which most are not.
    context: OnceLock<TraceContext>,
    spans: Mutex<RecordedSpans>,
}

#[derive(Default)]
struct RecordedSpans {
    spans: Vec<TimedSpan>,
    left_out: u32,
    /// True once the request is over: work that goes on for others is not its own.
    is_over: bool,
}

/// Begin of a span; without a time where none is recorded.
#[derive(Clone, Copy)]
pub struct SpanTimer(Option<Instant>);

/// A trace on its way to the collector.
pub struct FinishedTrace {
    /// Position at the span of the answer.
    pub context: TraceContext,
    /// Span of whoever sent the request.
    pub parent: Option<SpanId>,
    /// Span of the answer.
    pub root: TimedSpan,
    /// Spans below it.
    pub spans: Vec<TimedSpan>,
    /// Spans below it that were left out.
    pub left_out: u32,
    /// A moment by both clocks, which tells the others' times.
    pub moment: (Instant, SystemTime),
}

impl FinishedTrace {
    /// Returns the number of its spans.
    pub fn span_count(&self) -> usize {
        self.spans.len() + 1
    }
}

impl RequestTrace {
    pub(crate) fn new(is_sampled: bool, parent: Option<TraceContext>) -> Self {
        let (context, spans) = (OnceLock::new(), Mutex::default());
        Self(Some(Arc::new(TraceRecord { is_sampled, parent, context, spans })))
    }

    /// Returns this trace, or `other` where there is none.
    pub fn or(self, other: Self) -> Self {
        Self(self.0.or(other.0))
    }

    /// Returns true where every span of the request is wanted; false also where only those of requests that fail are.
    pub fn is_sampled(&self) -> bool {
        self.0.as_ref().is_some_and(|record| record.is_sampled)
    }

    /// Begins a span that a request which fails has too.
    pub fn start(&self) -> SpanTimer {
        SpanTimer(self.0.as_ref().map(|_| monotonic_now()))
    }

    /// Begins a span that only a request has which was chosen at its begin.
    pub fn start_detail(&self) -> SpanTimer {
        SpanTimer(self.is_sampled().then(monotonic_now))
    }

    /// Begins such a span at a time that has passed.
    pub fn start_detail_at(&self, started: Instant) -> SpanTimer {
        SpanTimer(self.is_sampled().then_some(started))
    }

    /// Records the span that began with `timer` and ends now; `span` is asked for where it is recorded.
    pub fn end(&self, timer: SpanTimer, span: impl FnOnce() -> Span) {
        let (Some(record), SpanTimer(Some(started))) = (&self.0, timer) else { return };
        let mut recorded = record.spans.lock();
        if recorded.is_over {
            return;
        }
        if recorded.spans.len() == MAX_SPANS {
            recorded.left_out += 1;
            return;
        }
        recorded.spans.push(TimedSpan { span: span(), started, ended: monotonic_now() });
    }

    /// Returns the context at a new span below that of the answer, for the request to a server that the span is of; `None`
    /// where the request is not traced.
    pub fn child_context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|record| record.context().at(SpanId::random()))
    }

    /// Returns the trace's id where it is kept: because it was chosen, or because the request failed (`is_error`).
    pub fn kept_id(&self, is_error: bool) -> Option<TraceId> {
        self.0.as_ref().filter(|record| record.is_sampled || is_error).map(|record| record.context().trace_id)
    }

    /// Ends the trace of a request that arrived at `started`; it goes to the collector where it is kept, with `span` as that
    /// of the answer. `tracer` is that which began it. Never waits.
    pub fn finish(&self, tracer: &Tracer, started: Instant, is_error: bool, span: impl FnOnce() -> Span) {
        let Some(record) = self.0.as_ref().filter(|record| record.is_sampled || is_error) else { return };
        let recorded = {
            let mut spans = record.spans.lock();
            std::mem::replace(&mut *spans, RecordedSpans { is_over: true, ..RecordedSpans::default() })
        };
        if recorded.is_over {
            return;
        }
        let ended = monotonic_now();
        tracer.export(FinishedTrace {
            context: record.context().clone(),
            parent: record.parent.as_ref().map(|parent| parent.span_id),
            root: TimedSpan { span: span(), started, ended },
            spans: recorded.spans,
            left_out: recorded.left_out,
            moment: (ended, tracer.now()),
        });
    }
}

impl TraceRecord {
    fn context(&self) -> &TraceContext {
        self.context.get_or_init(|| match &self.parent {
            Some(parent) => parent.at(SpanId::random()),
            None => TraceContext::begin(self.is_sampled),
        })
    }
}

impl std::fmt::Debug for RequestTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RequestTrace").field(&self.0.as_ref().map(|record| record.context().trace_id)).finish()
    }
}

/// The same trace, or none on both sides.
impl PartialEq for RequestTrace {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for RequestTrace {}
