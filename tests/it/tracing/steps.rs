//! The spans of a request, step by step.

use http::Method;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use super::collector::{Collector, text};
use super::{PROTOCOLS, TRACK, gate, names, span, traced};
use crate::support::fault::{self, End, Step};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, LIMIT, ScriptedOrigin, config, eventually, token};
use crate::tls::{Certificates, FIRST};

#[tokio::test]
async fn a_request_that_is_tried_again_and_continued_has_a_span_for_each_step() {
    for protocol in PROTOCOLS {
        let (origin, collector) = (ScriptedOrigin::with_track(pattern(1000)).await, Collector::start().await);
        let gate = gate(&origin.url(), &collector, protocol).await;
        origin.script([fault::INTERNAL_ERROR, Step::Body { send: 500, end: End::Close }]);
        assert_eq!(gate.client().get(TRACK, &[]).await.is(200).body, pattern(1000));
        let trace = collector.trace_of(TRACK).await;
        assert_eq!(names(&trace), ["admission", "sign", "GET", "GET", "resume", "GET"], "{trace:#?}");
        let root = &trace[0];
        assert_eq!((root.name.as_str(), root.parent.as_str()), ("GET /stream/{**key}", ""));
        for (name, expected) in [
            ("http.request.method", "GET"),
            ("http.route", "/stream/{**key}"),
            ("http.response.status_code", "200"),
            ("http.response.body.size", "1000"),
            ("network.protocol.version", "1.1"),
            ("client.address", "127.0.0.1"),
            ("tidegate.route", "stream"),
            ("tidegate.attempts", "3"),
            ("tidegate.resumes", "1"),
            ("error.type", ""),
            ("url.query", ""),
        ] {
            assert_eq!(root.attribute(name), expected, "{name} of {root:#?}");
        }
        let mut attempts: Vec<_> = trace.iter().filter(|span| span.kind == SpanKind::Client).collect();
        attempts.sort_by_key(|span| span.times);
        let told = |name: &str| attempts.iter().map(|span| span.attribute(name).to_owned()).collect::<Vec<_>>();
        assert_eq!(told("http.response.status_code"), ["500", "200", "206"]);
        assert_eq!(told("error.type"), ["500", "", ""]);
        assert_eq!(told("tidegate.cluster"), ["main", "main", "main"]);
        assert_eq!(told("tidegate.attempt"), ["1", "2", "1"], "a continuation counts anew");
        let resume = span(&trace, "resume");
        assert_eq!((resume.attribute("tidegate.cause"), resume.attribute("tidegate.byte")), ("cut", "500"));
        for below in &trace[1..] {
            assert_eq!((&below.trace, &below.parent), (&root.trace, &root.id));
            assert!(root.times.0 <= below.times.0 && below.times.0 <= below.times.1, "{below:#?}");
            assert!(below.times.1 <= root.times.1, "{below:#?}");
        }
        let line = eventually("the access line", async || gate.access_lines().into_iter().next()).await;
        assert_eq!(line["trace_id"], json!(root.trace));
        assert_eq!(root.attribute("tidegate.request_id"), line["request_id"]);
        // Stores need no context, and what is signed stays as it is.
        assert!(origin.seen().iter().all(|seen| seen.header("traceparent").is_none()));
    }
}

#[tokio::test]
async fn what_sends_traces_is_named_to_the_collector() {
    for protocol in PROTOCOLS {
        let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
        let mut config = traced(config::objects(&origin.url(), "audio"), &collector, protocol);
        config["Telemetry"]["Otlp"]["ServiceName"] = json!("gate-of-a-test");
        config["Telemetry"]["Otlp"]["Headers"] = json!({ "X-Api-Key": "env:COLLECTOR_KEY" });
        let gate = Gate::start_with(&config, &[("COLLECTOR_KEY", "canary-of-the-collector")]).await;
        gate.client().get(TRACK, &[]).await.is(200);
        collector.trace_of(TRACK).await;
        let batches = collector.batches();
        let resource = batches[0].resource_spans[0].resource.clone().expect("there is one");
        let told: Vec<_> = resource.attributes.iter().map(|it| (it.key.as_str(), text(it))).collect();
        assert!(told.contains(&("service.name", "gate-of-a-test".to_owned())), "{told:?}");
        let headers = collector.headers();
        assert_eq!(headers[0].get("x-api-key").map(http::HeaderValue::as_bytes), Some(&b"canary-of-the-collector"[..]));
        assert!(!gate.log().contains("canary-of-the-collector"));
    }
}

#[tokio::test]
async fn a_hit_of_the_cache_asks_nobody_and_its_miss_shows_who_was_asked() {
    let (origin, collector) = (ScriptedOrigin::with_track(pattern(1000)).await, Collector::start().await);
    let config = traced(config::objects_both_ways(&origin.url(), "audio"), &collector, "http");
    let gate = Gate::start(&config).await;
    let path = "/cached/track.mp3";
    gate.client().get(path, &[]).await.is(200);
    let miss = collector.trace_of(path).await;
    // The line comes when the object is kept.
    gate.client().get(path, &[]).await.is(200);
    let traces = collector.traces_of(path, 2).await;
    let hit = traces.iter().find(|trace| trace[0].trace != miss[0].trace).expect("another one");
    assert_eq!(names(&miss), ["admission", "cache", "sign", "GET"], "{miss:#?}");
    assert_eq!(names(hit), ["admission", "cache"], "{hit:#?}");
    for (trace, state) in [(&miss, "miss"), (hit, "hit")] {
        assert_eq!(span(trace, "cache").attribute("tidegate.cache"), state);
        assert_eq!(trace[0].attribute("tidegate.cache"), state);
    }
}

#[tokio::test]
async fn a_fill_that_breaks_is_in_the_trace_of_the_request_that_began_it() {
    let (origin, collector) = (ScriptedOrigin::with_track(pattern(1000)).await, Collector::start().await);
    let config = traced(config::objects_both_ways(&origin.url(), "audio"), &collector, "grpc");
    let gate = Gate::start(&config).await;
    origin.script([fault::INTERNAL_ERROR, Step::Body { send: 400, end: End::Reset }]);
    assert_eq!(gate.client().get("/cached/track.mp3", &[]).await.is(200).body, pattern(1000));
    let trace = collector.trace_of("/cached/track.mp3").await;
    let count = |name: &str| names(&trace).into_iter().filter(|it| *it == name).count();
    assert_eq!((count("GET"), count("resume"), count("cache")), (3, 1, 1), "{trace:#?}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_span_of_its_admission_and_is_no_error() {
    let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
    let config = traced(config::private_objects(&origin.url(), "audio"), &collector, "http");
    let gate = Gate::start(&config).await;
    gate.client().get(TRACK, &[]).await.problem(401);
    let refused = collector.trace_of(TRACK).await;
    assert_eq!(names(&refused), ["admission"]);
    for told in &refused {
        assert_eq!((told.attribute("error.type"), told.is_error), ("unauthorized", false), "{told:#?}");
    }
    assert_eq!(refused[0].attribute("http.response.status_code"), "401");
    let alice = format!("Bearer {}", token::of("alice"));
    gate.client().get(TRACK, &[("authorization", &alice)]).await.is(200);
    let traces = collector.traces_of(TRACK, 2).await;
    let hashed = |trace: &[super::ReceivedSpan]| trace[0].attribute("user.hash").len();
    assert_eq!(traces.iter().map(|trace| hashed(trace)).collect::<Vec<_>>(), [0, 16]);
}

#[tokio::test]
async fn requests_of_the_api_have_a_span_of_the_module_at_the_path_that_it_takes() {
    let (folder, collector) = (TempFolder::new("traces"), Collector::start().await);
    let mut config = traced(config::objects("http://127.0.0.1:1", "audio"), &collector, "http");
    config["Auth"] = config::jwt();
    config["Database"]["Url"] = json!(format!("sqlite://{}", folder.path().join("tidegate.db").display()));
    let gate = Gate::start(&config).await;
    let (user, path) = (ApiUser::new(&gate, "alice"), "/api/v1/tracks/a-secret-track/position");
    user.send(Method::GET, path, None).await;
    let trace = collector.trace_of(path).await;
    let template = "/api/v1/tracks/{id}/position";
    assert_eq!(
        (trace[0].name.as_str(), trace[0].attribute("tidegate.module")),
        ("GET /api/v1/tracks/{id}/position", "positions")
    );
    assert_eq!(trace[0].attribute("http.route"), template);
    assert_eq!(names(&trace), ["admission", "positions"]);
    assert_eq!(span(&trace, "positions").attribute("http.route"), template);
}

#[tokio::test]
async fn every_kind_of_listener_is_traced() {
    let (origin, collector) = (ScriptedOrigin::with_track(pattern(1000)).await, Collector::start().await);
    let certificates = Certificates::make();
    let mut config = traced(config::objects(&origin.url(), "audio"), &collector, "grpc");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }, certificates.listener()]);
    let gate = Gate::start(&config).await;
    H2::connect(gate.address()).await.get("/stream/track.mp3?a", &[]).await;
    let secure = gate.listeners()[1];
    H2::over(certificates.connect_to(secure, FIRST, true, &["h2"]).await).await.expect("HTTP/2").get(TRACK, &[]).await;
    let mut stream = certificates.connect_to(secure, FIRST, true, &["http/1.1"]).await;
    over_tls(&mut stream).await;
    let traces = collector.traces_of(TRACK, 3).await;
    let mut versions: Vec<_> = traces.iter().map(|trace| trace[0].attribute("network.protocol.version")).collect();
    versions.sort_unstable();
    assert_eq!(versions, ["1.1", "2", "2"]);
    assert!(traces.iter().all(|trace| names(trace).ends_with(&["GET"])), "{traces:#?}");
}

/// A request over a connection with TLS, answered to its end.
async fn over_tls(stream: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let request = format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = Vec::new();
    crate::support::in_time("an answer", stream.read_to_end(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn only_requests_that_fail_are_traced_where_the_rate_is_zero() {
    let (origin, collector) = (ScriptedOrigin::with_track(pattern(1000)).await, Collector::start().await);
    let mut config = traced(config::objects(&origin.url(), "audio"), &collector, "http");
    config["Telemetry"]["Otlp"]["SampleRate"] = json!(0);
    let gate = Gate::start(&config).await;
    gate.client().get(TRACK, &[]).await.is(200);
    gate.client().get("/stream/none.mp3", &[]).await.problem(404);
    origin.always(fault::INTERNAL_ERROR);
    gate.client().get("/stream/broken.mp3", &[]).await.problem(502);
    let trace = collector.trace_of("/stream/broken.mp3").await;
    assert_eq!(names(&trace), ["GET", "GET"], "the attempts, and no other span: {trace:#?}");
    assert!(trace[0].is_error && trace[0].attribute("error.type") == "store_failed", "{trace:#?}");
    origin.reset();
    origin.script([Step::Body { send: 500, end: End::Close }, fault::OVERWRITTEN]);
    let mut raw: Raw = gate.raw().await;
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    assert!(raw.response("GET", LIMIT).await.is_err(), "the body breaks off");
    let broken = collector.trace_of(TRACK).await;
    assert_eq!(names(&broken), ["GET", "resume", "GET"], "{broken:#?}");
    assert_eq!((broken[0].attribute("http.response.status_code"), broken[0].is_error), ("200", true));
    let lines = eventually("four lines", async || Some(gate.access_lines()).filter(|lines| lines.len() == 4)).await;
    let traced: Vec<Value> = lines.iter().map(|line| line["trace_id"].clone()).collect();
    assert_eq!(traced, [json!(null), json!(null), json!(trace[0].trace), json!(broken[0].trace)]);
    assert_eq!(collector.spans().iter().filter(|span| span.kind == SpanKind::Server).count(), 2);
}
