//! Nothing secret is in a trace: tokens, tickets, queries, signatures, keys of stores and of the collector.

use http::Method;
use prost::Message;
use serde_json::json;

use super::collector::Collector;
use super::traced;
use crate::streaming_urls::{KEYS, url, urls};
use crate::support::fault::{self, End, Step};
use crate::support::{Gate, ScriptedOrigin, config, token};

const SECRETS: [&str; 8] = [
    "canarykeyid",
    "canarysecret",
    "canarycollector",
    "canaryquery",
    "canaryticket",
    "canaryupstream",
    "canarycookie",
    "X-Amz-Signature",
];

#[tokio::test]
async fn nothing_secret_is_in_a_trace() {
    let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
    let mut config = traced(urls(&origin.url(), "audio", &["env:OLD_KEY"]), &collector, "grpc");
    config["Telemetry"]["Otlp"]["Headers"] = json!({ "authorization": "env:COLLECTOR_KEY" });
    config["ReverseProxy"]["Routes"]["open"] = config::object_route("/stream/{**key}", "main", "audio", "{**key}");
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    let environment = [
        KEYS[0],
        ("S3_ACCESS_KEY", "canarykeyid"),
        ("S3_SECRET_KEY", "canarysecret"),
        ("COLLECTOR_KEY", "canarycollector"),
    ];
    let gate = Gate::start_with(&config, &environment).await;
    let ticket = url(&gate, "track", "alice").await;
    let alice = token::of("alice");
    let bearer = format!("Bearer {alice}");
    let denied = fault::refuse(500, "InternalError", "canaryupstream has a mood of its own");
    let headers =
        [("authorization", bearer.as_str()), ("cookie", "session=canarycookie"), ("referer", "/?canaryquery")];
    for (path, script) in [
        ("/stream/track.mp3?token=canaryquery&X-Other=canaryquery", vec![]),
        ("/stream/track.mp3", vec![Step::Body { send: 2, end: End::Close }, denied.clone(), denied.clone()]),
        ("/stream/other.mp3", vec![fault::REDIRECT]),
        (ticket.as_str(), vec![]),
        ("/t/canaryticket.canaryticket/api/v1/tracks/track/stream", vec![]),
        ("/plain/x?canaryquery", vec![]),
        ("/nowhere?canaryquery", vec![]),
    ] {
        origin.script(script);
        gate.client().send(Method::GET, path, &headers).await;
        origin.reset();
    }
    let (mut gate, requests) = (gate, 8);
    assert!(gate.stop().await.success());
    assert_eq!(collector.spans().iter().filter(|span| span.parent.is_empty()).count(), requests);
    let secrets = SECRETS.into_iter().chain(alice.split('.')).chain(ticket.split('/').filter(|part| part.len() > 30));
    let sent: Vec<u8> = collector.batches().iter().flat_map(Message::encode_to_vec).collect();
    let sent = String::from_utf8_lossy(&sent);
    for secret in secrets {
        assert!(!sent.contains(secret), "{secret:?} is in {:#?}", collector.spans());
    }
    for shown in ["/t/***/api/v1/tracks/track/stream", "audio/x", "alice"] {
        assert_eq!(sent.contains(shown), shown.starts_with("/t/"), "{shown}");
    }
}

#[tokio::test]
async fn what_the_access_log_leaves_out_is_in_no_span() {
    let (origin, collector) = (ScriptedOrigin::with_track("music").await, Collector::start().await);
    let mut config = traced(config::private_objects(&origin.url(), "audio"), &collector, "http");
    config["Telemetry"]["AccessLog"]["Fields"] = json!(["status", "duration_ms"]);
    let mut gate = Gate::start(&config).await;
    let alice = format!("Bearer {}", token::of("alice"));
    gate.client().get("/stream/track.mp3", &[("authorization", &alice)]).await.is(200);
    assert!(gate.stop().await.success());
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.attribute("http.route") == "/stream/{**key}"), "{spans:#?}");
    for left_out in ["url.path", "client.address", "user.hash", "tidegate.request_id"] {
        assert!(spans.iter().all(|span| span.attribute(left_out).is_empty()), "{left_out} is in {spans:#?}");
    }
}
