//! Traces of requests: which requests are traced, the spans of each, their context on the wire (W3C Trace Context), and
//! their way to a collector by OTLP. Knows no route and no store: whoever does the work names its spans.
//!
//! Texts: <https://www.w3.org/TR/trace-context-2/>, <https://opentelemetry.io/docs/specs/otlp/>.

#![cfg_attr(not(any(test, feature = "otlp")), expect(dead_code, reason = "without the feature nothing is recorded"))]

mod context;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod request_trace;
pub mod settings;
mod span;
mod tracer;

pub use context::{SpanId, TRACE_PARENT, TRACE_STATE, TraceContext, TraceId, TraceState};
pub use metrics::TraceMetrics;
pub use request_trace::{RequestTrace, SpanTimer};
pub use span::{AttributeValue, Span, SpanKind};
pub use tracer::{ExporterServices, Tracer, TracerError};
