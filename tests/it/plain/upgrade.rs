//! Connections that become something else: WebSocket by a real browser and a library, and 101s that nobody asked for.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::gate;
use crate::support::chromium::Chromium;
use crate::support::{Gate, LIMIT, config, eventually, in_time};
use crate::tls::{self, Certificates};
use primitives::clock::monotonic_now;

/// A WebSocket server of a library that is not ours: it sends back every frame.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A server that answers every request with these bytes.
async fn raw_server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                while stream.read(&mut read).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn frames_of_every_size_come_back_both_ways() {
    let gate = gate(&format!("http://{}", echo().await), |_| {}).await;
    let url = format!("ws://{}/plain/echo", gate.address());
    let (mut socket, response) = tokio_tungstenite::connect_async(&url).await.expect("the upgrade succeeds");
    assert_eq!(response.headers()["upgrade"], "websocket");
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let sent = Message::binary(vec![7; size]);
        socket.send(sent.clone()).await.expect("open");
        assert_eq!(
            in_time("a frame comes", socket.next()).await.expect("open").expect("a frame"),
            sent,
            "{size} bytes"
        );
    }
    socket.close(None).await.expect("open");
    let line = super::line(&gate, 0).await;
    assert_eq!((&line["status"], &line["failure"]), (&json!(101), &serde_json::Value::Null), "{line}");
    assert!(line["sent"].as_u64().is_some_and(|sent| sent > 1_131_000), "{line}");
}

#[tokio::test]
async fn frames_pass_over_tls_too() {
    let certificates = Certificates::make();
    let mut config = config::empty();
    config["Server"]["Listeners"] = json!([certificates.listener()]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[format!("http://{}", echo().await)]);
    let gate = Gate::start(&config).await;
    let stream = certificates.connect(&gate, tls::FIRST, true, &["http/1.1"]).await;
    let url = format!("ws://{}/plain/echo", tls::FIRST);
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("the upgrade succeeds");
    let sent = Message::binary(vec![7; 100_000]);
    socket.send(sent.clone()).await.expect("open");
    assert_eq!(in_time("a frame comes", socket.next()).await.expect("open").expect("a frame"), sent);
}

#[tokio::test]
async fn a_browser_opens_a_websocket_through_a_plain_route() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate(&format!("http://{}", echo().await), |_| {}).await;
    browser.open(&format!("{}/health", gate.url())).await;
    let script = r#"
        return await new Promise((done, fail) => {
            const socket = new WebSocket(`ws://${location.host}/plain/echo`);
            const heard = [];
            socket.onopen = () => { socket.send("one"); socket.send("two"); };
            socket.onmessage = event => { heard.push(event.data); if (heard.length === 2) socket.close(1000); };
            socket.onclose = event => done({ heard, code: event.code, clean: event.wasClean });
            setTimeout(() => fail("nothing heard: " + socket.readyState), 10000);
        });
    "#;
    let result = browser.run(script).await;
    assert_eq!(result, json!({ "heard": ["one", "two"], "code": 1000, "clean": true }));
    browser.close().await;
}

#[tokio::test]
async fn a_websocket_lives_on_pings_and_ends_without_them() {
    let gate = gate(&format!("http://{}", echo().await), |route| {
        route["TimeoutPolicy"] = json!("quick");
    })
    .await;
    let url = format!("ws://{}/plain/echo", gate.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.expect("the upgrade succeeds");
    // `quick` has one second for silence.
    let mut pings = tokio::time::interval(Duration::from_millis(250));
    for _ in 0..12 {
        pings.tick().await;
        socket.send(Message::Ping(vec![1].into())).await.expect("open");
        assert!(in_time("a frame comes", socket.next()).await.expect("open").expect("a frame").is_pong());
    }
    let end = in_time("it ends without pings", socket.next()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    let line = super::line(&gate, 0).await;
    assert_eq!(line["failure"], "gateway_timeout", "{line}");
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let gate = gate(&format!("http://{}", raw_server(switching).await), |_| {}).await;
    for headers in [
        "",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
    ] {
        let mut raw = gate.raw().await;
        raw.send(format!("GET /plain/x HTTP/1.1\r\nHost: gate\r\n{headers}\r\n").as_bytes()).await;
        let reply = raw.response("GET", LIMIT).await.expect("an answer");
        assert_eq!(reply.status, 502, "{headers:?}: {}", reply.head);
    }
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let refusing = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let gate = gate(&format!("http://{}", raw_server(refusing).await), |_| {}).await;
    let mut raw = gate.raw().await;
    for _ in 0..2 {
        raw.send(b"GET /plain/x HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        let reply = raw.response("GET", LIMIT).await.expect("an answer");
        assert_eq!((reply.status, reply.body.as_slice()), (403, &b"no"[..]));
    }
    eventually("two access lines", async || (gate.access_lines().len() == 2).then_some(())).await;
}

#[tokio::test]
async fn bytes_of_a_tunnel_count_and_are_paced_as_an_answers_are() {
    const SIZE: usize = 60_000;
    let mut config = config::empty();
    config["Policies"]["RateLimiter"] = json!({
        "quota": { "EgressQuota": { "Bytes": 100_000 }, "PartitionBy": "Address" },
        "speed": { "Bandwidth": { "BytesPerSecond": 40_000, "Burst": 10_000 }, "PartitionBy": "Address" },
    });
    for name in ["quota", "speed"] {
        let mut route = config::plain_route(&format!("/{name}/{{**rest}}"), "back");
        route["RateLimiterPolicy"] = json!(name);
        config["ReverseProxy"]["Routes"][name] = route;
    }
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[format!("http://{}", echo().await)]);
    let gate = Gate::start(&config).await;
    let echoed = async |name: &str| {
        let url = format!("ws://{}/{name}/echo", gate.address());
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await?;
        let begun = monotonic_now();
        socket.send(Message::binary(vec![7; SIZE])).await?;
        in_time("a frame comes", socket.next()).await.expect("open")?;
        Ok::<_, tokio_tungstenite::tungstenite::Error>(begun.elapsed())
    };
    echoed("quota").await.expect("60,000 of 100,000 bytes");
    echoed("quota").await.expect("what is under way goes on");
    eventually("the quota is used up", async || (gate.client().get("/quota/x", &[]).await.status == 429).then_some(()))
        .await;
    let took = echoed("speed").await.expect("it is slowed down, not cut");
    assert!(took >= Duration::from_millis(1200), "{took:?}");
}
