//! Traces of requests: their spans as a collector decodes them over HTTP and gRPC, their context from and to others, what is
//! in none of them, and a collector that is away, slow or full.

mod collector;
mod context;
mod outages;
mod reloads;
mod secrets;
mod steps;

use serde_json::{Value, json};

use self::collector::{Collector, ReceivedSpan};
use crate::support::{Gate, config, eventually};

const TRACK: &str = "/stream/track.mp3";
const PROTOCOLS: [&str; 2] = ["http", "grpc"];

/// `config` with traces of all requests, sent to `collector`.
fn traced(mut config: Value, collector: &Collector, protocol: &str) -> Value {
    config["Telemetry"]["Otlp"] = json!({ "Endpoint": collector.url(), "Protocol": protocol, "SampleRate": 1 });
    config
}

/// A gate before the store at `endpoint`, all of whose requests are traced.
async fn gate(endpoint: &str, collector: &Collector, protocol: &str) -> Gate {
    Gate::start(&traced(config::objects(endpoint, "audio"), collector, protocol)).await
}

/// The one span of that name below the answer.
#[track_caller]
fn span<'a>(trace: &'a [ReceivedSpan], name: &str) -> &'a ReceivedSpan {
    let found: Vec<_> = trace[1..].iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "spans `{name}` of {trace:#?}");
    found[0]
}

/// The names of the spans below the answer, in the order in which they began.
fn names(trace: &[ReceivedSpan]) -> Vec<&str> {
    let mut below: Vec<_> = trace[1..].iter().collect();
    below.sort_by_key(|span| span.times);
    below.into_iter().map(|span| span.name.as_str()).collect()
}

/// Waits until spans were counted as dropped for this reason; returns how many.
async fn dropped(gate: &Gate, reason: &str) -> f64 {
    let labels = format!("reason=\"{reason}\"");
    eventually(&format!("spans dropped as {reason}"), async || {
        Some(gate.metric("tidegate_trace_spans_dropped_total", &labels).await).filter(|count| *count > 0.0)
    })
    .await
}
