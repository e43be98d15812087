//! W3C Trace Context: from a proxy in front, and on to servers of plain routes.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use super::collector::Collector;
use super::traced;
use crate::support::fault::Step;
use crate::support::origin_http::{Answer, Seen};
use crate::support::{Gate, ScriptedOrigin, config};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// `traceparent` of the proxy in front, with these flags.
fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

async fn server() -> ScriptedOrigin {
    let server = ScriptedOrigin::start().await;
    server.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    server
}

/// A plain route before `server`, as `change` has it, and with its client as a trusted proxy.
async fn gate(server: &ScriptedOrigin, change: impl FnOnce(Value) -> Value) -> Gate {
    let mut config = config::empty();
    config["Server"]["TrustedProxies"] = json!(["127.0.0.1"]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[server.url()]);
    Gate::start(&change(config)).await
}

/// Trace, span and flags of the `traceparent` that the server got.
fn passed_on(seen: &Seen) -> Vec<&str> {
    seen.header("traceparent").map(|value| value.split('-').skip(1).collect()).unwrap_or_default()
}

#[tokio::test]
async fn a_trace_goes_on_from_the_proxy_in_front_to_the_server_behind() {
    let (server, collector) = (server().await, Collector::start().await);
    let gate = gate(&server, |config| {
        let mut config = traced(config, &collector, "http");
        config["Telemetry"]["Otlp"]["SampleRate"] = json!(0);
        config
    })
    .await;
    let headers = [("traceparent", parent("01")), ("tracestate", "rojo=1,congo=2".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    gate.client().get("/plain/x", &headers).await.is(200);
    let trace = collector.trace_of("/plain/x").await;
    let root = &trace[0];
    assert_eq!((root.trace.as_str(), root.parent.as_str(), root.state.as_str()), (TRACE, PARENT, "rojo=1,congo=2"));
    assert_eq!(root.flags & 0x300, 0x300, "its parent is of another process");
    let attempt = trace.iter().find(|span| span.kind == SpanKind::Client).expect("one attempt");
    assert_eq!((attempt.parent.as_str(), attempt.attribute("tidegate.destination")), (root.id.as_str(), "d0"));
    let seen = server.take_seen();
    assert_eq!(passed_on(&seen[0]), [TRACE, attempt.id.as_str(), "01"]);
    assert_eq!(seen[0].header("tracestate"), Some("rojo=1,congo=2"));
}

#[tokio::test]
async fn a_trace_that_nobody_began_begins_here() {
    let (server, collector) = (server().await, Collector::start().await);
    let gate = gate(&server, |config| traced(config, &collector, "grpc")).await;
    for (path, headers) in
        [("/plain/none", &[][..]), ("/plain/odd", &[("traceparent", "00-nonsense"), ("tracestate", "a=1")])]
    {
        gate.client().get(path, headers).await.is(200);
        let trace = collector.trace_of(path).await;
        let attempt = trace.iter().find(|span| span.kind == SpanKind::Client).expect("one attempt");
        assert_eq!((trace[0].parent.as_str(), trace[0].flags & 0x200), ("", 0));
        let seen = server.take_seen();
        assert_eq!(passed_on(&seen[0]), [trace[0].trace.as_str(), attempt.id.as_str(), "03"]);
        assert_eq!(seen[0].header("tracestate"), None);
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_trace_decides_that_and_a_stranger_decides_nothing() {
    let (server, collector) = (server().await, Collector::start().await);
    for (trusts, rate, flags) in [(true, 1, "00"), (false, 0, "01"), (false, 1, "00")] {
        let mut gate = gate(&server, |config| {
            let mut config = traced(config, &collector, "http");
            config["Telemetry"]["Otlp"]["SampleRate"] = json!(rate);
            if !trusts {
                config["Server"]["TrustedProxies"] = json!([]);
            }
            config
        })
        .await;
        let sent = parent(flags);
        gate.client().get("/plain/x", &[("traceparent", &sent), ("tracestate", "rojo=1")]).await.is(200);
        let seen = server.take_seen();
        let told = passed_on(&seen[0]);
        let what = format!("{trusts} {rate} {flags}: {told:?}");
        // A stranger's trace is another one behind the gate, and not sampled because the stranger says so.
        assert_eq!(told[0] == TRACE, trusts, "{what}");
        assert_eq!(
            told[2],
            if !trusts && rate == 1 {
                "03"
            } else if trusts {
                "00"
            } else {
                "02"
            },
            "{what}"
        );
        assert_eq!(seen[0].header("tracestate").is_some(), trusts, "{what}");
        // What it has is sent by then.
        assert!(gate.stop().await.success());
    }
    let spans = collector.traces_of("/plain/x", 1).await;
    assert_eq!(spans.len(), 1, "only the last one was chosen");
    assert_ne!(spans[0][0].trace, TRACE);
}

#[tokio::test]
async fn the_context_passes_as_it_came_where_nothing_is_traced() {
    let server = server().await;
    let gate = gate(&server, |config| config).await;
    let sent = parent("01");
    gate.client().get("/plain/x", &[("traceparent", &sent), ("tracestate", "rojo=1")]).await.is(200);
    gate.client().get("/plain/x", &[]).await.is(200);
    let seen = server.take_seen();
    assert_eq!((seen[0].header("traceparent"), seen[0].header("tracestate")), (Some(sent.as_str()), Some("rojo=1")));
    assert_eq!(seen[1].header("traceparent"), None);
    assert!(gate.access_lines().iter().all(|line| line["trace_id"].is_null()));
}
