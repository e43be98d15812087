//! HTTP/2 frame by frame where it once did harm: requests that end in trailers, readers that do not read, idle ends.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::support::fault::{End, Step};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::{Gate, ScriptedOrigin, config, eventually, in_time};
use crate::tls::{self, Certificates};

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::header::HeaderName::from_static("x-end"), "1".parse().expect("a value"))])
}

/// A gate with one worker, so that what holds it up holds up everybody: in the clear, and with TLS.
async fn gates(origin: &ScriptedOrigin, certificates: &Certificates) -> [Gate; 2] {
    let gate = async |listener: Value| {
        let mut config = config::objects(&origin.url(), "audio");
        config["Server"]["Threads"] = json!(1);
        config["Server"]["Listeners"] = json!([listener, { "Address": "127.0.0.1:0" }]);
        Gate::start(&config).await
    };
    [gate(json!({ "Address": "127.0.0.1:0", "H2c": true })).await, gate(certificates.listener()).await]
}

/// Seconds of processor time that the gate has used.
fn processor_seconds(gate: &Gate) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.process())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("a number")).sum();
    ticks / 100.0
}

#[tokio::test]
async fn a_request_that_ends_in_trailers_costs_nothing_while_its_answer_waits() {
    let origin = ScriptedOrigin::with_track(pattern(20 << 20)).await;
    let certificates = Certificates::make();
    for (gate, is_tls) in gates(&origin, &certificates).await.into_iter().zip([false, true]) {
        for with_data in [false, true] {
            for (store, step) in [("stalled", Step::Silence(End::Stall)), ("long", Step::Serve)] {
                let h2 = if is_tls {
                    H2::over(certificates.connect(&gate, tls::FIRST, true, &["h2"]).await).await.expect("HTTP/2")
                } else {
                    H2::connect(gate.address()).await
                };
                origin.script([step]);
                waits_quietly(&gate, &origin, &h2, with_data, store).await;
            }
        }
        gate.admin().get("/livez", &[]).await.is(200);
    }
}

/// Asks with a body that ends in trailers, and sees that the gate has nothing to do until it is answered.
async fn waits_quietly(gate: &Gate, origin: &ScriptedOrigin, h2: &H2, with_data: bool, store: &str) {
    let asked = origin.seen().len();
    let (answer, mut body) = h2.begin(Method::GET, "/stream/track.mp3", &[], false).await;
    if with_data {
        body.send_data(Bytes::from_static(b"data"), false).expect("open");
    }
    body.send_trailers(trailers()).expect("open");
    // The long body is not read: its window fills, and the gate has nothing to do.
    let held = if store == "long" { Some(answer.await.expect("a head")) } else { None };
    eventually("the store is asked", async || (origin.seen().len() > asked).then_some(())).await;
    let before = processor_seconds(gate);
    let other = crate::support::Client::new(format!("http://{}", gate.listeners()[1]));
    let mut pulse = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..10 {
        pulse.tick().await;
        in_time(&format!("{store}, data {with_data}: the worker serves others"), other.get("/health", &[])).await;
    }
    let used = processor_seconds(gate) - before;
    assert!(used < 0.3, "{store}, data {with_data}: {used} s of processor time for a request that waits");
    drop(held);
}

#[tokio::test]
async fn a_connection_whose_client_reads_nothing_is_cut() {
    let origin = ScriptedOrigin::with_track(pattern(20 << 20)).await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["WriteTimeout"] = json!("1s");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    let gate = Gate::start(&config).await;
    let h2 = H2::connect(gate.address()).await;
    let stream = h2.open("/stream/track.mp3", &[]).await;
    let line = eventually("the stream is given up", async || gate.access_lines().pop()).await;
    assert_eq!((&line["status"], &line["failure"]), (&json!(499), &json!("client_stalled")), "{line}");
    drop(stream);
}
