//! Clients that mean harm to a plain route, or to the server behind it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::{gate, line, origin};
use crate::support::fault::{End, Step};
use crate::support::h2::H2;
use crate::support::raw::Raw;
use crate::support::{Gate, LIMIT, ScriptedOrigin, config, eventually, in_time};

/// A server that answers each request with these bytes, and tells what it got.
async fn server(answer: &'static str) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                while matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                    // An empty line ends each of the requests here.
                    if read.ends_with(b"\r\n\r\n") {
                        let _ = sender.send(String::from_utf8_lossy(&std::mem::take(&mut read)).into_owned());
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test]
async fn a_client_that_does_not_send_its_body_is_no_fault_of_the_server() {
    let origin = origin().await;
    let gate = gate(&origin.url(), |route| route["TimeoutPolicy"] = json!("quick")).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        let mut raw = gate.raw().await;
        raw.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nContent-Length: 10\r\n\r\n").await;
        silent.push(raw);
    }
    // Longer than the 300 ms that the server has for its first byte.
    let mut pulse = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..12 {
        pulse.tick().await;
        gate.client().get("/plain/x", &[]).await.is(200);
    }
    assert_eq!(gate.metric("tidegate_breaker_open_total", "").await, 0.0);
}

#[tokio::test]
async fn framing_that_costs_more_than_its_body_is_refused() {
    let origin = origin().await;
    let gate = gate(&origin.url(), |_| {}).await;
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(8000));
    let mut raw = gate.raw().await;
    raw.send(b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let sending = async { while raw.try_send(chunk.as_bytes()).await {} };
    in_time("the gate reads no more of it", sending).await;
    assert_eq!(line(&gate, 0).await["status"], 400);
}

#[tokio::test]
async fn uploads_leave_the_connection_open() {
    let origin = origin().await;
    let gate = gate(&origin.url(), |_| {}).await;
    let mut raw = gate.raw().await;
    for body in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "\r\n"] {
        raw.send(format!("POST /plain/x HTTP/1.1\r\nHost: gate\r\n{body}").as_bytes()).await;
        let reply = raw.response("POST", LIMIT).await.unwrap_or_else(|error| panic!("{body:?}: {error}"));
        assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")), "{body:?}");
    }
}

#[tokio::test]
async fn trailers_are_no_way_to_forge_a_head() {
    let (address, mut requests) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gate = gate(&address, |route| {
        route["Transforms"] = json!([{ "RequestHeader": "X-Role", "Set": "guest" }]);
    })
    .await;
    let mut raw = gate.raw().await;
    raw.send(
        b"POST /plain/x HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\
          Trailer: X-Sum, X-Forwarded-For, Connection, Cookie, Authorization, X-Role, X-Request-Id, X-Tidegate-Debug, \
          X_Role, X_Forwarded_For, X.Role\r\n\r\n\
          0\r\nX-Sum: 42\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: x\r\nCookie: a=b\r\nAuthorization: Bearer x\r\n\
          X-Role: admin\r\nX-Request-Id: forged\r\nX-Tidegate-Debug: token\r\nX_Role: admin\r\nX_Forwarded_For: 6.6.6.6\r\n\
          X.Role: admin\r\n\r\n",
    )
    .await;
    assert_eq!(raw.response("POST", LIMIT).await.expect("an answer").status, 200);
    let request = in_time("a request", requests.recv()).await.expect("it goes on").to_ascii_lowercase();
    assert!(request.ends_with("\r\n\r\n0\r\nx-sum: 42\r\n\r\n"), "{request:?}");
}

#[tokio::test]
async fn interim_answers_carry_links_and_nothing_else() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nServer: inside\r\nSet-Cookie: a=b\r\nAlt-Svc: h3=\":1\"\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (address, _requests) = server(answer).await;
    let gate = gate(&address, |_| {}).await;
    let mut raw = gate.raw().await;
    raw.send(b"GET /plain/x HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    let interim = raw.head().await.expect("an interim answer");
    assert_eq!(interim, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn an_answer_in_another_transfer_coding_is_502() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let (address, _requests) = server(answer).await;
    let gate = gate(&address, |_| {}).await;
    assert_eq!(gate.client().get("/plain/x", &[]).await.problem(502)["code"], "bad_gateway");
}

#[tokio::test]
async fn no_other_version_of_http_is_asked_for_past_the_proxy() {
    let (address, mut requests) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gate = gate(&address, |_| {}).await;
    for protocol in ["h2c", "HTTP/2.0", "websocket, h2c", "h2"] {
        let mut raw = gate.raw().await;
        let head = format!("GET /plain/x HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        raw.send(head.as_bytes()).await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        let request = in_time("a request", requests.recv()).await.expect("it goes on").to_ascii_lowercase();
        assert!(!request.contains("upgrade"), "{protocol}: {request}");
    }
}

#[tokio::test]
async fn a_client_that_has_closed_is_not_waited_for() {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Silence(End::Stall));
    let gate = gate(&origin.url(), |_| {}).await;
    let mut raw = gate.raw().await;
    raw.send(b"GET /plain/x HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    eventually("the server is asked", async || (origin.open_connections() == 1).then_some(())).await;
    // An end in order, as of a program that was stopped.
    drop(raw);
    eventually("the server's connection is closed", async || (origin.open_connections() == 0).then_some(())).await;
    assert_eq!(line(&gate, 0).await["status"], 499);
}

#[tokio::test]
async fn streams_that_are_reset_do_not_pile_up_behind_a_server_that_cannot_be_reached() {
    // A listener that accepts nothing, with its queue full: connecting to it hangs.
    let listener = TcpSocket::new_v4().expect("a socket");
    listener.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = listener.listen(1).expect("it listens");
    let address = listener.local_addr().expect("bound");
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let connecting = tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address));
        waiting.extend(connecting.await.ok().and_then(Result::ok));
    }
    let mut config = config::empty();
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    // No timeout gives the connections up: only that the streams are reset.
    config["Policies"]["Timeout"]["patient"] = config::patient();
    config["ReverseProxy"]["Routes"]["plain"]["TimeoutPolicy"] = json!("patient");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[format!("http://{address}")]);
    let gate = Gate::start(&config).await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        let h2 = H2::connect(gate.address()).await;
        // Not more of a connection: a flood of them ends it, which is another defence.
        for _ in 0..100 {
            let (answer, mut stream) = h2.begin(Method::GET, "/plain/x", &[], true).await;
            h2.get("/nothing", &[]).await;
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
        }
        connections.push(h2);
    }
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gate.process())).expect("it runs").count();
    eventually("what was reset is given up", async || (descriptors() < 100).then_some(())).await;
}

#[tokio::test]
async fn a_request_for_a_websocket_is_held_to_the_write_timeout_too() {
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["Server"]["WriteTimeout"] = json!("1s");
    let gate = Gate::start(&config).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2048).expect("a size");
    let mut raw = Raw::over(socket.connect(gate.address()).await.expect("the gate accepts"));
    raw.send(
        b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    let open = async || gate.metric("tidegate_connections_open", "").await;
    eventually("it is connected", async || (open().await > 0.0).then_some(())).await;
    eventually("it is cut", async || (open().await == 0.0).then_some(())).await;
    let _: Value = line(&gate, 0).await;
}
