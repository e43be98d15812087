use http::HeaderValue;
use prometheus::Registry;
use std::time::Duration;

use super::*;
use crate::settings::{OtlpProtocol, SampleRate};
use crate::{Span, TRACE_PARENT, TRACE_STATE};
use primitives::clock::monotonic_now;

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// A tracer, its traces, and the registry of its metrics.
struct Rig {
    tracer: Arc<Tracer>,
    traces: mpsc::Receiver<FinishedTrace>,
    registry: Registry,
}

fn rig(rate: f64, sample_errors: bool) -> Rig {
    let registry = Registry::new();
    let settings = Settings {
        endpoint: "http://collector:4318/v1/traces".parse().unwrap(),
        protocol: OtlpProtocol::Http,
        headers: Vec::new(),
        sample_rate: SampleRate::new(rate).unwrap(),
        sample_errors,
        service_name: "tidegate".to_owned(),
        timeout: Duration::from_secs(10),
    };
    let services = ExporterServices {
        metrics: TraceMetrics::register(&registry).unwrap(),
        tasks: BackgroundTasks::default(),
        clock: Clock::system(),
    };
    let (tracer, traces) = Tracer::new(&settings, &services);
    Rig { tracer, traces, registry }
}

impl Rig {
    fn dropped(&self) -> Vec<(String, u64)> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "tidegate_trace_spans_dropped_total");
        let series = family.into_iter().flat_map(|family| family.get_metric());
        series.map(|it| (it.get_label()[0].value().to_owned(), it.get_counter().get_value() as u64)).collect()
    }
}

fn headers(parent: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(parent) = parent {
        headers.insert(TRACE_PARENT, HeaderValue::from_static(parent));
    }
    headers
}

fn finish(tracer: &Tracer, trace: &RequestTrace, is_error: bool) {
    trace.finish(tracer, monotonic_now(), is_error, || Span::server("GET /"));
}

#[test]
fn the_rate_decides_unless_a_trusted_proxy_has_decided() {
    for (rate, sample_errors, parent, is_trusted, (is_kept, is_kept_as_error)) in [
        (1.0, false, None, false, (true, true)),
        (0.0, false, None, false, (false, false)),
        (0.0, true, None, false, (false, true)),
        (0.0, false, Some(SAMPLED), true, (true, true)),
        (0.0, false, Some(SAMPLED), false, (false, false)),
        (1.0, false, Some(NOT_SAMPLED), true, (false, false)),
        (1.0, true, Some(NOT_SAMPLED), true, (false, true)),
        (1.0, false, Some(NOT_SAMPLED), false, (true, true)),
        (1.0, false, Some("nonsense"), true, (true, true)),
    ] {
        let what = format!("{rate} {sample_errors} {parent:?} {is_trusted}");
        for (is_error, expected) in [(false, is_kept), (true, is_kept_as_error)] {
            let mut rig = rig(rate, sample_errors);
            let trace = rig.tracer.begin(&headers(parent), is_trusted);
            assert_eq!(trace.kept_id(is_error).is_some(), expected, "{what}");
            finish(&rig.tracer, &trace, is_error);
            assert_eq!(rig.traces.try_recv().is_ok(), expected, "{what}");
        }
    }
}

#[test]
fn a_trace_that_is_joined_goes_on_below_the_span_of_the_proxy() {
    let mut rig = rig(0.0, false);
    let trace = rig.tracer.begin(&headers(Some(SAMPLED)), true);
    let child = trace.child_context().unwrap();
    trace.end(trace.start(), || Span { id: Some(child.span_id), ..Span::client("GET") });
    finish(&rig.tracer, &trace, false);
    let sent = rig.traces.try_recv().unwrap();
    assert_eq!(sent.context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(sent.parent.map(|parent| parent.to_string()).as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(child.trace_id, sent.context.trace_id);
    assert!(child.is_sampled && child.span_id != sent.context.span_id);
    assert_eq!(sent.spans[0].span.id, Some(child.span_id));
}

#[test]
fn a_request_that_was_not_chosen_has_only_the_spans_of_a_failure() {
    let mut rig = rig(0.0, true);
    let trace = rig.tracer.begin(&HeaderMap::new(), false);
    trace.end(trace.start_detail(), || panic!("nobody asked for it"));
    trace.end(trace.start(), || Span::client("GET"));
    finish(&rig.tracer, &trace, true);
    let sent = rig.traces.try_recv().unwrap();
    assert_eq!(sent.spans.iter().map(|span| &*span.span.name).collect::<Vec<_>>(), ["GET"]);
    assert!(sent.spans[0].started <= sent.spans[0].ended && sent.root.started <= sent.root.ended);
}

#[test]
fn spans_of_a_request_and_traces_that_wait_are_bounded() {
    let mut rig = rig(1.0, false);
    let trace = rig.tracer.begin(&HeaderMap::new(), false);
    for _ in 0..100 {
        trace.end(trace.start(), || Span::client("GET"));
    }
    finish(&rig.tracer, &trace, false);
    finish(&rig.tracer, &trace, false);
    trace.end(trace.start(), || panic!("it is over"));
    let sent = rig.traces.try_recv().unwrap();
    assert_eq!((sent.spans.len(), sent.left_out), (64, 36));
    assert!(rig.traces.try_recv().is_err(), "a trace is sent once");
    for _ in 0..MAX_WAITING + 3 {
        finish(&rig.tracer, &rig.tracer.begin(&HeaderMap::new(), false), false);
    }
    assert_eq!(rig.dropped(), [("queue_full".to_owned(), 3)]);
    drop(rig.traces);
    rig.traces = mpsc::channel(1).1;
    finish(&rig.tracer, &rig.tracer.begin(&HeaderMap::new(), false), false);
    assert!(rig.dropped().contains(&("stopped".to_owned(), 1)), "{:?}", rig.dropped());
}

#[test]
fn the_context_of_a_stranger_does_not_go_on() {
    for (parent, is_trusted, goes_on) in [
        (Some(SAMPLED), true, true),
        (Some(NOT_SAMPLED), true, true),
        (Some(SAMPLED), false, false),
        (Some("nonsense"), true, false),
        (None, true, false),
    ] {
        let mut sent = headers(parent);
        sent.insert(TRACE_STATE, HeaderValue::from_static("rojo=1"));
        Tracer::write_untraced(&mut sent, is_trusted);
        let context = TraceContext::from_headers(&sent).unwrap();
        let is_same = sent.get(TRACE_PARENT).map(HeaderValue::as_bytes) == parent.map(str::as_bytes);
        assert_eq!(is_same, goes_on, "{parent:?} {is_trusted}");
        assert_eq!(context.state.is_some(), goes_on, "{parent:?} {is_trusted}");
        assert!(goes_on || !context.is_sampled, "{parent:?} {is_trusted}");
    }
}
