//! Whom a continuation asks, for what, and what it costs others.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{SIZE, Shape, TRACK, access_line, impatient};
use crate::support::fault::{self, End, Step};
use crate::support::heard::{Ending, Protocol};
use crate::support::origin::pattern;
use crate::support::{Gate, Object, ScriptedOrigin, config};

#[tokio::test]
async fn a_continuation_asks_for_the_rest_of_that_version_only() {
    let origin = ScriptedOrigin::with_track(pattern(SIZE)).await;
    let gate = Gate::start(&impatient(&origin.url())).await;
    for (shape, resumed) in [(Shape::Whole, "bytes=100000-299999"), (Shape::Range, "bytes=110000-289999")] {
        origin.reset();
        origin.script([Step::Body { send: 100_000, end: End::Close }]);
        shape.get(&gate, Protocol::H1).await;
        let seen = origin.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].header("if-match"), seen[1].header("range")), (None, Some(resumed)), "{shape:?}");
        let tag = Object::new(pattern(SIZE)).etag;
        assert_eq!(seen[1].header("if-match"), Some(tag.as_str()));
        assert_ne!(seen[0].connection, seen[1].connection, "the broken connection was used again");
    }
}

/// Somebody who listens and speaks neither TLS nor HTTP.
async fn babbler() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"220 mail.test ESMTP\r\n").await;
        }
    });
    format!("https://{address}")
}

#[tokio::test]
async fn a_stream_goes_on_from_a_healthy_destination_whatever_another_one_does() {
    let gone = ScriptedOrigin::start().await.url();
    let (first, second, third) =
        (ScriptedOrigin::with_track(pattern(SIZE)).await, ScriptedOrigin::start().await, ScriptedOrigin::start().await);
    third.put("/audio/track.mp3", Object::new(pattern(SIZE)));
    second.put("/audio/track.mp3", Object::new(pattern(SIZE)));
    let rows = [
        ("refused", gone, Step::Serve, 1),
        ("not TLS", babbler().await, Step::Serve, 1),
        ("silent", second.url(), Step::Silence(End::Stall), 1),
        ("busy", second.url(), fault::SLOW_DOWN, 1),
        ("failing", second.url(), fault::INTERNAL_ERROR, 1),
        ("a web server", second.url(), fault::REDIRECT, 1),
        ("not HTTP", second.url(), fault::GARBAGE, 1),
        ("another version", second.url(), fault::CHANGED_ETAG, 2),
        ("another part", second.url(), fault::WRONG_CONTENT_RANGE, 2),
        ("cutting", second.url(), Step::Body { send: 10, end: End::Close }, 2),
    ];
    for (name, address, step, resumes) in rows {
        let mut config = impatient(&first.url());
        config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[first.url(), address, third.url()]);
        config["ReverseProxy"]["Clusters"]["store"]["LoadBalancingPolicy"] = json!("FirstAlphabetical");
        config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
        let gate = Gate::start(&config).await;
        second.always(step);
        for (protocol, shape) in [(Protocol::H1, Shape::Whole), (Protocol::H2, Shape::Range)] {
            first.script([Step::Body { send: 100_000, end: End::Close }]);
            first.always(fault::INTERNAL_ERROR);
            let heard = shape.get(&gate, protocol).await;
            let (from, end) = shape.span();
            assert_eq!(
                (name, heard.status, &heard.end),
                (name, shape.status(), &Ending::Whole),
                "{}",
                heard.body.len()
            );
            assert!(heard.body == pattern(SIZE)[from..end], "{name}: the bytes differ");
            assert_eq!(access_line(&gate, &heard).await["resumes"], resumes, "{name}");
        }
    }
}

#[tokio::test]
async fn every_destination_is_asked_for_the_rest_however_long_another_one_took() {
    let first = ScriptedOrigin::with_track(pattern(SIZE)).await;
    let second = ScriptedOrigin::start().await;
    second.always(Step::Silence(End::Stall));
    let mut config = impatient(&first.url());
    // Waiting for the one takes all the time there is.
    config["Policies"]["Timeout"]["impatient"] = json!({ "FirstByte": "400ms", "Idle": "400ms" });
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[first.url(), second.url()]);
    config["ReverseProxy"]["Clusters"]["store"]["LoadBalancingPolicy"] = json!("FirstAlphabetical");
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
    let gate = Gate::start(&config).await;
    for protocol in [Protocol::H1, Protocol::H2] {
        first.script([Step::Body { send: 100_000, end: End::Reset }]);
        Shape::Whole.get(&gate, protocol).await.is(200, &pattern(SIZE));
    }
    assert_eq!((first.seen().len(), second.seen().len()), (4, 2));
}

#[tokio::test]
async fn a_broken_stream_costs_no_other_of_its_connection() {
    let body = pattern(SIZE);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = Gate::start(&impatient(&origin.url())).await;
    let connection = crate::support::h2::H2::connect(gate.address()).await;
    origin.script([Step::Trickle { pieces: 5, pause: Duration::from_millis(100) }]);
    let slow = connection.open(TRACK, &[]).await;
    origin.script([Step::Body { send: 100_000, end: End::Close }, fault::OVERWRITTEN]);
    let lost = connection.get(TRACK, &[]).await;
    assert!(matches!(lost.end, Ending::Broken(_)), "{:?}", lost.end);
    slow.finish().await.is(200, &body);
    connection.get(TRACK, &[]).await.is(200, &body);
}
