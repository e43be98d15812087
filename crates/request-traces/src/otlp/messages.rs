//! Traces as messages of OTLP.

use std::time::{Instant, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as MessageKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as MessageSpan, Status};

use crate::request_trace::FinishedTrace;
use crate::span::TimedSpan;
use crate::{AttributeValue, SpanId, SpanKind, TraceContext, TraceState};

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Flags of a span that say that it is known whether its parent is of another process, and that it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Returns the message with these traces of the service `service_name`.
pub fn request(service_name: &str, traces: &[FinishedTrace]) -> ExportTraceServiceRequest {
    let attributes = vec![
        attribute("service.name", text(service_name)),
        attribute("service.version", text(VERSION)),
        attribute("telemetry.sdk.language", text("rust")),
    ];
    let resource = Resource { attributes, ..Resource::default() };
    let scope = InstrumentationScope { name: "tidegate".to_owned(), version: VERSION.to_owned(), ..Default::default() };
    let spans = traces.iter().flat_map(spans).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let spans = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

/// Returns how many spans of a batch the collector refused.
pub fn rejected_spans(answer: &ExportTraceServiceResponse) -> usize {
    let rejected = answer.partial_success.as_ref().map_or(0, |partial| partial.rejected_spans);
    usize::try_from(rejected).unwrap_or(0)
}

fn spans(trace: &FinishedTrace) -> impl Iterator<Item = MessageSpan> {
    let context = &trace.context;
    let mut root = message(trace, &trace.root, context.span_id, trace.parent);
    root.flags |= HAS_IS_REMOTE | if trace.parent.is_some() { IS_REMOTE } else { 0 };
    if trace.left_out > 0 {
        root.attributes.push(attribute("tidegate.spans_left_out", Value::IntValue(trace.left_out.into())));
    }
    let below = trace.spans.iter().map(|timed| {
        let id = timed.span.id.unwrap_or_else(SpanId::random);
        let mut span = message(trace, timed, id, Some(context.span_id));
        span.flags |= HAS_IS_REMOTE;
        span
    });
    std::iter::once(root).chain(below)
}

fn message(trace: &FinishedTrace, timed: &TimedSpan, id: SpanId, parent: Option<SpanId>) -> MessageSpan {
    let TimedSpan { span, started, ended } = timed;
    let kind = match span.kind {
        SpanKind::Internal => MessageKind::Internal,
        SpanKind::Server => MessageKind::Server,
        SpanKind::Client => MessageKind::Client,
    };
    let status = Status { code: StatusCode::Error.into(), ..Status::default() };
    MessageSpan {
        trace_id: trace.context.trace_id.bytes().to_vec(),
        span_id: id.bytes().to_vec(),
        trace_state: trace.context.state.as_ref().map(TraceState::as_str).unwrap_or_default().to_owned(),
        parent_span_id: parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
        flags: flags(&trace.context),
        name: span.name.clone().into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(*started, trace.moment),
        end_time_unix_nano: nanos(*ended, trace.moment),
        attributes: span.attributes.iter().map(|(name, value)| attribute(name, value_of(value))).collect(),
        status: span.is_error.then_some(status),
        ..MessageSpan::default()
    }
}

/// Returns the flags of `traceparent`.
fn flags(context: &TraceContext) -> u32 {
    // What is sent is sampled, also where its failure decided it.
    1 | (u32::from(context.is_random) << 1)
}

/// Returns the time of `at` in nanoseconds since the Unix epoch, by a moment of both clocks.
fn nanos(at: Instant, (moment, time): (Instant, SystemTime)) -> u64 {
    let time = time - moment.saturating_duration_since(at);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn value_of(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Text(value) => text(value),
        AttributeValue::Shared(value) => text(value),
        AttributeValue::Number(number) => Value::IntValue(*number),
    }
}
