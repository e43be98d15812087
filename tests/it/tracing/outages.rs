//! A collector that is away, slow, full or wrong: requests go on, what is lost is counted, and nothing holds up a stop.

use std::sync::Arc;

use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::collector::{Collector, Reception};
use super::{PROTOCOLS, TRACK, dropped, gate, traced};
use crate::support::{Gate, ScriptedOrigin, config, eventually};
use crate::tls::{Certificates, FIRST};

const EXPORTED: &str = "tidegate_trace_spans_exported_total";
const DROPPED: &str = "tidegate_trace_spans_dropped_total";

/// GETs of the track, one after the other.
async fn get(gate: &Gate, count: usize) {
    let client = gate.client();
    for _ in 0..count {
        client.get(TRACK, &[]).await.is(200);
    }
}

#[tokio::test]
async fn a_batch_is_tried_again_when_the_collector_asks_for_it_and_sent_once() {
    for protocol in PROTOCOLS {
        let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
        let gate = gate(&origin.url(), &collector, protocol).await;
        collector.script([Reception::Refuse(503, Some("0")), Reception::Refuse(503, None)]);
        get(&gate, 3).await;
        let spans = collector.traces_of(TRACK, 3).await.iter().map(Vec::len).sum::<usize>();
        assert!(collector.tries() >= 3, "two tries were refused");
        eventually("all are counted", async || (gate.metric(EXPORTED, "").await == spans as f64).then_some(())).await;
        assert_eq!((collector.spans().len(), gate.metric(DROPPED, "").await), (spans, 0.0));
    }
}

#[tokio::test]
async fn what_the_collector_refuses_is_counted_and_not_sent_again() {
    for protocol in PROTOCOLS {
        let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
        let gate = gate(&origin.url(), &collector, protocol).await;
        collector.script([Reception::Refuse(400, Some("0"))]);
        get(&gate, 1).await;
        let refused = dropped(&gate, "refused").await;
        let told = eventually("it is in the log", async || {
            let lines = gate.log_lines().into_iter();
            lines
                .filter_map(|line| line["message"].as_str().map(str::to_owned))
                .find(|it| it.contains("Telemetry.Otlp"))
        });
        let told = told.await;
        assert!(told.contains(if protocol == "http" { "status 400" } else { "InvalidArgument: never" }), "{told}");
        collector.script([Reception::RejectSpans(2)]);
        get(&gate, 1).await;
        let spans = collector.trace_of(TRACK).await.len();
        eventually("the rest is counted", async || {
            (gate.metric(EXPORTED, "").await == (spans - 2) as f64).then_some(())
        })
        .await;
        assert_eq!(gate.metric(DROPPED, "refused").await, refused + 2.0);
        assert_eq!(collector.tries(), 2);
    }
}

#[tokio::test]
async fn a_collector_that_stalls_costs_no_request_and_no_more_memory_than_its_queue() {
    const REQUESTS: usize = 1500;
    let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
    let mut config = traced(config::objects_both_ways(&origin.url(), "audio"), &collector, "http");
    config["Telemetry"]["Otlp"]["Timeout"] = json!("1min");
    let gate = Gate::start(&config).await;
    collector.always(Reception::Stall);
    let client = gate.client();
    client.get("/cached/track.mp3", &[]).await.is(200);
    eventually("a batch is on its way", async || (collector.tries() > 0).then_some(())).await;
    for _ in 0..REQUESTS {
        client.get("/cached/track.mp3", &[]).await.is(200);
    }
    let lost = dropped(&gate, "queue_full").await;
    collector.always(Reception::Accept);
    collector.release();
    // What waited is sent: as many traces as the queue takes, beside the batch that was on its way.
    let kept = eventually("all that waited has come", async || {
        let (exported, lost) = (gate.metric(EXPORTED, "").await, gate.metric(DROPPED, "").await);
        let roots = collector.spans().iter().filter(|span| span.parent.is_empty()).count();
        let all = exported + lost;
        // Three spans each: the answer, its admission and the cache's part; the first has the store's too.
        (all >= (3 * REQUESTS) as f64 + 3.0).then_some((roots, exported))
    })
    .await;
    assert_eq!(kept.1 as usize, collector.spans().len());
    assert!((1024..1024 + 60).contains(&kept.0), "{kept:?} of {REQUESTS}, {lost} spans lost");
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_holds_up_no_stop() {
    for protocol in PROTOCOLS {
        let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
        collector.always(Reception::Stall);
        let mut gate = gate(&origin.url(), &collector, protocol).await;
        get(&gate, 2).await;
        assert!(gate.stop().await.success(), "with a collector that stalls");
        let mut config = config::objects(&origin.url(), "audio");
        config["Telemetry"]["Otlp"] =
            json!({ "Endpoint": "http://127.0.0.1:1", "Protocol": protocol, "SampleRate": 1 });
        let mut gate = Gate::start(&config).await;
        get(&gate, 2).await;
        eventually("the failure is told", async || gate.log().contains("the collector").then_some(())).await;
        assert!(gate.stop().await.success(), "without a collector");
    }
}

#[tokio::test]
async fn what_waits_at_a_stop_is_sent_first() {
    for protocol in PROTOCOLS {
        let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
        let mut gate = gate(&origin.url(), &collector, protocol).await;
        get(&gate, 5).await;
        assert!(gate.stop().await.success());
        assert_eq!(collector.spans().iter().filter(|span| span.parent.is_empty()).count(), 5);
    }
}

#[tokio::test]
async fn a_collector_over_tls_must_have_a_certificate_that_the_system_trusts() {
    let certificates = Certificates::make();
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&certificates)));
    let accept = move |stream| {
        let acceptor = acceptor.clone();
        let accepted = async move { acceptor.accept(stream).await.ok() };
        Box::pin(accepted) as futures::future::BoxFuture<'static, _>
    };
    let origin = ScriptedOrigin::with_track("music").await;
    let trusted = certificates.folder().join("localhost.pem").display().to_string();
    for protocol in PROTOCOLS {
        let collector = Collector::start_with(Arc::new(accept.clone())).await;
        let mut config = traced(config::objects(&origin.url(), "audio"), &collector, protocol);
        config["Telemetry"]["Otlp"]["Endpoint"] = json!(format!("https://localhost:{}", collector.port()));
        let gate = Gate::start_with(&config, &[("SSL_CERT_FILE", &trusted)]).await;
        get(&gate, 1).await;
        collector.trace_of(TRACK).await;
        let other = certificates.folder().join(format!("{FIRST}.pem")).display().to_string();
        let gate = Gate::start_with(&config, &[("SSL_CERT_FILE", &other)]).await;
        get(&gate, 1).await;
        eventually("the failure is told", async || gate.log().contains("the collector").then_some(())).await;
        assert_eq!((collector.tries(), gate.metric(EXPORTED, "").await), (1, 0.0));
    }
}

/// The settings of a server named `localhost`, whose certificate is put beside the others.
fn server_config(certificates: &Certificates) -> rustls::ServerConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(certificates.folder().join("localhost.pem"), made.cert.pem()).expect("a file");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("it has them").with_no_client_auth();
    let mut config = builder.with_single_cert(vec![made.cert.der().clone()], key).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
