//! Limits of a client's connection, which hold on every path and between its requests, and refusals of what is no request.

use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::TcpSocket;

use crate::support::fault::Step;
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::origin_http::Answer;
use crate::support::raw::Raw;
use crate::support::{Client, Gate, LIMIT, ScriptedOrigin, config, eventually, in_time};
use primitives::clock::monotonic_now;

/// An object route, a plain route and the modules, with these settings of the server.
async fn gate(origin: &ScriptedOrigin, server: Value) -> Gate {
    let mut config = config::objects(&origin.url(), "audio");
    for (name, value) in server.as_object().expect("settings") {
        config["Server"][name] = value.clone();
    }
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    Gate::start(&config).await
}

/// Beginnings of connections that the proxy once gave away, each with the answers that they get.
const BEGINNINGS: [(&str, usize); 5] = [
    ("", 0),
    ("\r\n\r\n", 0),
    ("GET /nothing HTTP/1.1\r\nHost: gate\r\n\r\n", 1),
    ("GET /plain/x HTTP/1.1\r\nHost: gate\r\n\r\n", 1),
    ("GET /health HTTP/1.1\r\nHost: gate\r\n\r\n", 1),
];

#[tokio::test]
async fn a_head_that_comes_too_slowly_ends_every_connection() {
    let origin = ScriptedOrigin::with_track("music").await;
    origin.put("/plain/x", crate::support::Object::new("plain"));
    let gate = gate(&origin, json!({ "HeaderTimeout": "1s" })).await;
    for (beginning, answers) in BEGINNINGS {
        let begun = monotonic_now();
        let mut raw = gate.raw().await;
        raw.send(beginning.as_bytes()).await;
        for _ in 0..answers {
            raw.response("GET", LIMIT).await.expect("an answer");
        }
        let mut drops = tokio::time::interval(Duration::from_millis(200));
        let mut head =
            "GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes();
        loop {
            drops.tick().await;
            let drop = head.next().expect("the connection ends within the time for a head");
            if !raw.try_send(&[drop]).await || raw.has_ended().await {
                break;
            }
        }
        assert!(begun.elapsed() >= Duration::from_secs(1), "after {beginning:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_on_every_connection() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, json!({})).await;
    let long = format!("GET /nothing HTTP/1.1\r\nHost: gate\r\nX-Long: {}\r\n\r\n", "a".repeat(900_000));
    let many = format!("GET /nothing HTTP/1.1\r\nHost: gate\r\n{}\r\n", "X-Many: 1\r\n".repeat(300));
    for (beginning, answers) in BEGINNINGS {
        for head in [&long, &many] {
            let mut raw = gate.raw().await;
            raw.send(beginning.as_bytes()).await;
            for _ in 0..answers {
                raw.response("GET", LIMIT).await.expect("an answer");
            }
            raw.send(head.as_bytes()).await;
            let reply = raw.response("GET", LIMIT).await.unwrap_or_else(|error| panic!("after {beginning:?}: {error}"));
            assert_eq!(reply.status, 431, "after {beginning:?}");
            assert!(String::from_utf8_lossy(&reply.body).contains("head_too_large"), "after {beginning:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answer_is_cut() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, json!({ "WriteTimeout": "2s" })).await;
    for request in ["HEAD /stream/track.mp3", "GET /nothing", "GET /stream/none.mp3"] {
        let mut raw = gate.raw().await;
        let request = format!("{request} HTTP/1.1\r\nHost: gate\r\n\r\n");
        // More answers than both kernels keep: sending ends when the gate reads no more.
        let begun = monotonic_now();
        let requests = request.repeat(1000);
        let sending = async { while raw.try_send(requests.as_bytes()).await {} };
        in_time("the connection ends", sending).await;
        assert!(begun.elapsed() >= Duration::from_secs(2), "{request:?}: {:?}", begun.elapsed());
    }
    // One answer of each connection stalls, and nothing is answered behind it.
    eventually("each cut is logged", async || {
        let stalled = gate.access_lines().iter().filter(|line| line["failure"] == "client_stalled").count();
        (stalled == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_before_a_half_close_are_all_answered() {
    let origin = ScriptedOrigin::with_track(pattern(10_000)).await;
    let gate = gate(&origin, json!({})).await;
    let mut raw = gate.raw().await;
    let requests: String = ["/stream/track.mp3", "/nothing", "/health", "/stream/track.mp3"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: gate\r\n\r\n"))
        .concat();
    raw.send(requests.as_bytes()).await;
    raw.half_close().await;
    for status in [200, 404, 200, 200] {
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, status);
    }
    assert!(raw.rest(LIMIT).await.expect("then it ends").is_empty());
}

#[tokio::test]
async fn a_connection_beyond_the_most_is_closed_without_an_answer() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, json!({ "MaxConnections": 2 })).await;
    let request = b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut raw = gate.raw().await;
        raw.send(request).await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        open.push(raw);
    }
    let mut third = gate.raw().await;
    third.send(request).await;
    // Closed, or reset where the request was on its way.
    match third.rest(LIMIT).await {
        Ok(bytes) => assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert_eq!(gate.metric("tidegate_connections_refused_total", "").await, 1.0);
    for raw in &mut open {
        raw.send(request).await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("those that are in stay").status, 200);
    }
    open.pop();
    eventually("the place is free", async || {
        let mut raw = gate.raw().await;
        raw.send(request).await;
        raw.response("GET", LIMIT).await.ok().filter(|reply| reply.status == 200)
    })
    .await;
}

#[tokio::test]
async fn a_player_at_45_kilobytes_a_second_is_not_cut() {
    const RATE: usize = 45_000;
    let origin = ScriptedOrigin::with_track(pattern(8 << 20)).await;
    let gate = gate(&origin, json!({ "WriteTimeout": "2s" })).await;
    // With a small buffer and packets as on a network its system says at once what it has taken; else only in large steps.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("a size");
    SockRef::from(&socket).set_tcp_mss(1400).expect("a size");
    let mut raw = Raw::over(socket.connect(gate.address()).await.expect("the gate accepts"));
    raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    raw.head().await.expect("a head");
    // What stands in the kernels first: the gate then waits for this player alone.
    raw.exactly(3 << 20).await.expect("the first bytes");
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..80 {
        pace.tick().await;
        raw.exactly(RATE / 10).await.expect("more of the body");
    }
    let rest = (8 << 20) - (3 << 20) - 80 * (RATE / 10);
    raw.exactly(rest).await.expect("the rest of the body");
}

/// Heads that are no request, or one that two servers could read differently.
const MALFORMED: [&str; 14] = [
    "GET /a b HTTP/1.1\r\nHost: gate\r\n\r\n",
    "GET  /x HTTP/1.1\r\nHost: gate\r\n\r\n",
    "GET /x\r\nHost: gate\r\n\r\n",
    "GET /x HTTP/2.0\r\nHost: gate\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET ftp://gate/x HTTP/1.1\r\nHost: gate\r\n\r\n",
    "GET http://other/x HTTP/1.1\r\nHost: gate\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: u@x\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a,b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: gate\r\nX: a\r\n b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: gate\r\nX y: a\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: gate\nX: a\r\n\r\n",
];

#[tokio::test]
async fn malformed_heads_are_refused_in_one_form_before_anything_else_sees_them() {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "seen")));
    let gate = gate(&origin, json!({})).await;
    for head in MALFORMED {
        let mut raw = gate.raw().await;
        raw.send(head.as_bytes()).await;
        let reply = raw.response("GET", LIMIT).await.unwrap_or_else(|error| panic!("{head:?}: {error}"));
        assert_eq!(reply.status, 400, "{head:?}");
        assert_eq!(reply.header("server"), None, "{head:?}");
        let id = reply.header("x-request-id").unwrap_or_else(|| panic!("{head:?}: no id"));
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{head:?}: no envelope"));
        assert_eq!((&body["code"], &body["request_id"]), (&json!("bad_request"), &json!(id)), "{head:?}: {body}");
        assert!(raw.rest(LIMIT).await.expect("it ends").is_empty(), "{head:?}");
    }
    let mut raw = gate.raw().await;
    raw.send(b"CONNECT gate:443 HTTP/1.1\r\nHost: gate:443\r\n\r\n").await;
    let reply = raw.response("GET", LIMIT).await.expect("an answer");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    eventually("each has its access line", async || (gate.access_lines().len() == MALFORMED.len() + 1).then_some(()))
        .await;
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[tokio::test]
async fn a_get_with_a_malformed_body_is_refused_and_closed_on_object_routes_too() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, json!({})).await;
    for (body, status) in [("\r\n0\r\n\r\n", 400), ("1;\n\r\nx\r\n0\r\n\r\n", 400), ("1\r\nx\r\n0\r\n\r\n", 200)] {
        let mut raw = gate.raw().await;
        let head = "GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw.send(format!("{head}{body}").as_bytes()).await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, status, "{body:?}");
        if status == 200 {
            raw.send(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
            assert_eq!(raw.response("GET", LIMIT).await.expect("the connection goes on").status, 200);
        } else {
            assert!(raw.rest(LIMIT).await.expect("it ends").is_empty(), "{body:?}");
        }
    }
}

#[tokio::test]
async fn a_trusted_ipv4_proxy_is_trusted_on_an_ipv6_listener() {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    let mut config = config::empty();
    config["Server"]["Listeners"] = json!([{ "Address": "[::]:0" }]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    for network in ["127.0.0.0/8", "127.0.0.1", "::ffff:127.0.0.0/104", "::ffff:127.0.0.1"] {
        config["Server"]["TrustedProxies"] = json!([network]);
        let gate = Gate::start(&config).await;
        let client = Client::new(format!("http://127.0.0.1:{}", gate.address().port()));
        client.get("/plain/x", &[("x-forwarded-for", "203.0.113.7")]).await.is(200);
        assert_eq!(origin.take_seen().remove(0).header("x-forwarded-for"), Some("203.0.113.7"), "{network}");
        let line = eventually("its access line", async || gate.access_lines().pop()).await;
        assert_eq!(line["client"], "203.0.113.7", "{network}");
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_kept_for_its_time_and_no_longer() {
    const IDLE: Duration = Duration::from_secs(2);
    let origin = ScriptedOrigin::with_track(pattern(20 << 20)).await;
    let listener = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    // A first request has the time of a head.
    let times = json!({ "KeepAliveTimeout": "2s", "HeaderTimeout": "1m", "Listeners": listener });
    let gate = gate(&origin, times).await;
    let mut raw = gate.raw().await;
    for _ in 0..2 {
        raw.send(b"GET /health HTTP/1.1\r\nHost: gate\r\n\r\n").await;
        raw.response("GET", LIMIT).await.expect("an answer");
    }
    let begun = monotonic_now();
    assert!(raw.rest(LIMIT).await.expect("it ends in order").is_empty());
    assert!(begun.elapsed() >= IDLE - Duration::from_millis(100), "{:?}", begun.elapsed());
    let mut h2 = H2::connect(gate.address()).await;
    // A stream under way is no silence, however long it takes.
    let held = h2.open("/stream/track.mp3", &[]).await;
    let begun = monotonic_now();
    let mut pulse = tokio::time::interval(IDLE * 2);
    for _ in 0..2 {
        pulse.tick().await;
    }
    h2.get("/health", &[]).await;
    drop(held);
    let begun_silence = monotonic_now();
    h2.ended().await.expect("it ends in order");
    assert!(begun.elapsed() >= IDLE * 3 - Duration::from_millis(100), "{:?}", begun.elapsed());
    assert!(begun_silence.elapsed() >= IDLE - Duration::from_millis(100), "{:?}", begun_silence.elapsed());
}

#[tokio::test]
async fn a_client_that_sends_nothing_of_a_body_is_cut_and_a_slow_one_is_not() {
    let origin = ScriptedOrigin::with_track("music").await;
    origin.put("/plain/x", crate::support::Object::new("plain"));
    let listener = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    let gate = gate(&origin, json!({ "BodyTimeout": "1s", "Listeners": listener })).await;
    let stalled = async |number: usize| {
        eventually("it is cut", async || {
            let stalled = gate.access_lines().iter().filter(|line| line["failure"] == "client_stalled").count();
            (stalled == number).then_some(())
        })
        .await;
    };
    let mut raw = gate.raw().await;
    raw.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 10\r\n\r\nabc").await;
    stalled(1).await;
    let h2 = H2::connect(gate.address()).await;
    let (_answer, mut body) = h2.begin(http::Method::POST, "/plain/x", &[], false).await;
    body.send_data("abc".into(), false).expect("the stream is open");
    stalled(2).await;
    // A byte each 300 ms is no stall, though the whole takes three times as long as a pause may.
    let mut slow = gate.raw().await;
    slow.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 10\r\n\r\n").await;
    let mut pace = tokio::time::interval(Duration::from_millis(300));
    for _ in 0..10 {
        pace.tick().await;
        slow.send(b"a").await;
    }
    let status = slow.response("POST", LIMIT).await.expect("an answer").status;
    assert!(status < 500, "{status}");
    stalled(2).await;
}
