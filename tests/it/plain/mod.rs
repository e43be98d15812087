//! Plain routes under strain: bodies that are too large, servers that are silent or answer early, and what the log says.

mod abuse;
mod answers;
mod requests;
pub mod upgrade;
mod versions;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::fault::{End, Step};
use crate::support::origin_http::Answer;
use crate::support::{Gate, LIMIT, ScriptedOrigin, config, eventually};
use primitives::clock::monotonic_now;

/// A gate with the plain route `/plain/{**rest}` before `address`.
async fn gate(address: &str, change: impl FnOnce(&mut Value)) -> Gate {
    let mut config = config::empty();
    let mut route = config::plain_route("/plain/{**rest}", "back");
    change(&mut route);
    config["Policies"]["Timeout"]["quick"] = json!({ "Connect": "1s", "FirstByte": "300ms", "Idle": "1s" });
    config["ReverseProxy"]["Routes"]["plain"] = route;
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[address.to_owned()]);
    Gate::start(&config).await
}

async fn origin() -> ScriptedOrigin {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    origin
}

async fn line(gate: &Gate, number: usize) -> Value {
    let lines = eventually("the access lines", async || Some(gate.access_lines()).filter(|it| it.len() > number)).await;
    lines[number].clone()
}

#[tokio::test]
async fn a_request_body_over_the_limit_is_413_however_it_is_sent() {
    let origin = origin().await;
    let gate = gate(&origin.url(), |route| route["MaxRequestBodySize"] = json!(10)).await;
    let announced = async |body: &'static str| {
        let sent = gate.client().request(Method::POST, "/plain/x").body(body).send().await;
        sent.expect("an answer").status().as_u16()
    };
    assert_eq!((announced("0123456789").await, announced("0123456789a").await), (200, 413));
    assert_eq!(origin.take_seen().len(), 1, "a body that is announced too large is not begun");
    for (chunks, status) in
        [("4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n", 200), ("6\r\n012345\r\n6\r\n6789ab\r\n0\r\n\r\n", 413)]
    {
        let mut raw = gate.raw().await;
        raw.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        raw.send(chunks.as_bytes()).await;
        let reply = raw.response("POST", LIMIT).await.expect("an answer");
        assert_eq!(reply.status, status, "{chunks:?}");
        if status == 413 {
            assert!(String::from_utf8_lossy(&reply.body).contains("body_too_large"));
            raw.rest(LIMIT).await.expect("the connection is closed");
        }
    }
    line(&gate, 3).await;
    // Each connection has its thread: their lines come in any order.
    let refused = gate.access_lines().iter().filter(|line| line["failure"] == "body_too_large").count();
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn an_object_route_takes_no_large_body_either() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["MaxRequestBodySize"] = json!(10);
    let gate = Gate::start(&config).await;
    let request = gate.client().request(Method::GET, "/stream/track.mp3").body("0123456789a");
    assert_eq!(request.send().await.expect("an answer").status().as_u16(), 413);
}

#[tokio::test]
async fn a_server_that_keeps_silent_is_504_after_first_byte() {
    let origin = origin().await;
    origin.always(Step::Silence(End::Stall));
    let gate = gate(&origin.url(), |route| route["TimeoutPolicy"] = json!("quick")).await;
    let begun = monotonic_now();
    assert_eq!(gate.client().get("/plain/x", &[]).await.problem(504)["code"], "gateway_timeout");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_access_line_of_a_plain_route_has_bytes_and_tries() {
    let origin = origin().await;
    let gate = gate(&origin.url(), |_| {}).await;
    gate.client().get("/plain/x", &[]).await.is(200);
    let line = line(&gate, 0).await;
    assert_eq!((&line["sent"], &line["attempts"]), (&json!(4), &json!(1)), "{line}");
}

#[tokio::test]
async fn an_answer_before_the_whole_body_is_logged_as_it_was() {
    for refusal in [
        &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"[..],
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut read = [0; 1024];
            let begun = stream.read(&mut read).await.expect("a request");
            assert!(begun > 0);
            stream.write_all(refusal).await.expect("the gate reads");
            while stream.read(&mut read).await.is_ok_and(|read| read > 0) {}
        });
        let gate = gate(&address, |_| {}).await;
        let mut raw = gate.raw().await;
        raw.send(b"PUT /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 1000000\r\n\r\n0123456789").await;
        let head = raw.head().await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        drop(raw);
        let line = line(&gate, 0).await;
        assert_eq!((&line["status"], &line["failure"]), (&json!(400), &Value::Null), "{line}");
    }
}
