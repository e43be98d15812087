//! What a server behind a plain route gets of a request, over each version.

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{gate, origin};
use crate::support::h2::H2;
use crate::support::{Gate, LIMIT, config, eventually, in_time};

/// A server that tells every request as it came, and answers 200.
async fn recorder() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                while matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                    if !is_whole(&read) {
                        continue;
                    }
                    let told = sender.send(String::from_utf8_lossy(&std::mem::take(&mut read)).into_owned());
                    if told.is_err() || stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

/// Whether a request has come to its end, by its own framing.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => body.len() >= length.parse().expect("a number"),
        None if head.contains("transfer-encoding: chunked") => {
            body.rfind("0\r\n").is_some_and(|last| body[last..].ends_with("\r\n\r\n"))
        }
        None => true,
    }
}

async fn h2c_gate(address: &str) -> Gate {
    let mut config = config::empty();
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[address.to_owned()]);
    Gate::start(&config).await
}

#[tokio::test]
async fn the_request_id_that_goes_up_is_the_one_that_comes_back() {
    let origin = origin().await;
    let gate = gate(&origin.url(), |_| {}).await;
    let reply = gate.client().get("/plain/x", &[("x-request-id", "forged")]).await;
    let seen = origin.seen().remove(0);
    assert_eq!(seen.header("x-request-id"), Some(reply.header("x-request-id")));
    assert_ne!(seen.header("x-request-id"), Some("forged"));
    assert_eq!(seen.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-request-id")).count(), 1);
}

#[tokio::test]
async fn cookie_crumbs_of_http_2_go_up_as_one_field() {
    let origin = origin().await;
    let gate = h2c_gate(&origin.url()).await;
    let h2 = H2::connect(gate.address()).await;
    h2.get("/plain/x", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]).await.is(200, b"well");
    let cookies: Vec<String> = origin
        .seen()
        .remove(0)
        .headers
        .into_iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        .map(|it| it.1)
        .collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn bodies_and_trailers_of_http_1_go_up_as_they_came() {
    let (address, mut requests) = recorder().await;
    let gate = gate(&address, |_| {}).await;
    for (sent, expected) in [
        ("Content-Length: 4\r\n\r\nbody", "\r\n\r\nbody"),
        ("Content-Length: 0\r\n\r\n", "\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n",
            "\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n",
        ),
        ("\r\n", "\r\n\r\n"),
    ] {
        let mut raw = gate.raw().await;
        raw.send(format!("POST /plain/x HTTP/1.1\r\nHost: gate\r\n{sent}").as_bytes()).await;
        assert_eq!(raw.response("POST", LIMIT).await.expect("an answer").status, 200, "{sent:?}");
        let request = in_time("a request", requests.recv()).await.expect("it goes on").to_ascii_lowercase();
        let (head, body) = request.split_once("\r\n\r\n").expect("a head");
        for framing in ["transfer-encoding: chunked", "content-length: 4", "content-length: 0"] {
            assert_eq!(head.contains(framing), sent.to_ascii_lowercase().contains(framing), "{sent:?}: {head}");
        }
        assert!(format!("{head}\r\n\r\n{body}").ends_with(expected), "{sent:?}: {request:?}");
    }
}

#[tokio::test]
async fn bodies_and_trailers_of_http_2_go_up_too() {
    let (address, mut requests) = recorder().await;
    let gate = h2c_gate(&address).await;
    let h2 = H2::connect(gate.address()).await;
    let (answer, mut body) = h2.begin(Method::POST, "/plain/x", &[("trailer", "x-sum")], false).await;
    body.send_data(Bytes::from_static(b"body"), false).expect("open");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().expect("a value"));
    body.send_trailers(trailers).expect("open");
    assert_eq!(answer.await.expect("an answer").status(), 200);
    let request = in_time("a request", requests.recv()).await.expect("it goes on").to_ascii_lowercase();
    assert!(request.ends_with("\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"), "{request:?}");
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_gets_it_from_the_server_or_its_refusal() {
    // The first server gives leave, the second refuses without having seen the body.
    for (interim, status) in [("HTTP/1.1 100 Continue\r\n\r\n", 200), ("", 413)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut read).await.expect("a head");
            }
            let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
            stream.write_all(interim.as_bytes()).await.expect("open");
            if status == 200 {
                read.clear();
                while read.len() < 4 {
                    stream.read_buf(&mut read).await.expect("the body");
                }
            }
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("open");
            (head, read, stream)
        });
        let gate = gate(&address, |_| {}).await;
        let mut raw = gate.raw().await;
        raw.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").await;
        let first = raw.head().await.expect("a head");
        if status == 200 {
            assert!(first.starts_with("HTTP/1.1 100 "), "{first}");
            raw.send(b"body").await;
            assert_eq!(raw.response("POST", LIMIT).await.expect("an answer").status, 200);
        } else {
            assert!(first.starts_with("HTTP/1.1 413 "), "{first}");
        }
        let (head, _, _stream) = server.await.expect("it ends");
        assert!(head.contains("expect: 100-continue"), "{head}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_whole_to_the_server() {
    let (address, mut requests) = recorder().await;
    let gate = gate(&address, |_| {}).await;
    for sent in ["Content-Length: 9\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"] {
        let mut raw = gate.raw().await;
        raw.send(format!("POST /plain/x HTTP/1.1\r\nHost: gate\r\n{sent}").as_bytes()).await;
        raw.reset();
    }
    eventually("both are logged", async || (gate.access_lines().len() == 2).then_some(())).await;
    assert!(requests.try_recv().is_err(), "a request that was broken off came whole");
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_end_the_connection() {
    let origin = origin().await;
    let gate = gate(&origin.url(), |_| {}).await;
    for body in
        ["\r\n0\r\n\r\n", "4;a\nb\r\nbody\r\n0\r\n\r\n", "4\r\nbodyX\r\n0\r\n\r\n", "g\r\n\r\n", "0\r\nbroken\r\n\r\n"]
    {
        let mut raw = gate.raw().await;
        raw.send(
            format!("POST /plain/x HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes(),
        )
        .await;
        let reply = raw.response("POST", LIMIT).await.expect("an answer");
        assert_eq!(reply.status, 400, "{body:?}");
        raw.rest(LIMIT).await.expect("the connection ends");
    }
}
