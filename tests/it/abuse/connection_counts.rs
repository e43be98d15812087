//! Connections at once from one client.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};

use crate::support::curl::{self, Version};
use crate::support::raw::Raw;
use crate::support::tools::TempFolder;
use crate::support::{Gate, LIMIT, ScriptedOrigin, config, eventually, in_time};

const REQUEST: &[u8] = b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n";
/// Exit codes of curl: the server sent nothing, and the connection was reset.
const CLOSED: [i32; 2] = [52, 56];

async fn gate(origin: &ScriptedOrigin, address: &str, limits: Value) -> Gate {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": address }]);
    config["Server"]["TrustedProxies"] = json!(["127.0.0.3"]);
    config["Server"]["Limits"] = limits;
    Gate::start(&config).await
}

/// Opens `count` connections that are kept.
async fn open(gate: &Gate, count: usize) -> Vec<Raw> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut raw = gate.raw().await;
        raw.send(REQUEST).await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        open.push(raw);
    }
    open
}

#[tokio::test]
async fn an_address_with_too_many_connections_is_refused_and_others_are_not() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, "127.0.0.1:0", json!({ "MaxConnectionsPerAddress": 3 })).await;
    let mut kept = open(&gate, 3).await;
    let url = format!("{}/stream/track.mp3", gate.url());
    let refused = curl::get(&url, Version::Http1, &[]).await;
    assert!(CLOSED.contains(&refused.exit) && refused.heads.is_empty(), "{refused:?}");
    for reason in ["total", "address", "network"] {
        let expected = if reason == "address" { 1.0 } else { 0.0 };
        let labels = format!("reason=\"{reason}\"");
        assert_eq!(gate.metric("tidegate_connections_refused_total", &labels).await, expected, "{reason}");
    }
    // Another address, and a proxy that speaks for many, however many connections it has.
    for address in ["127.0.0.2", "127.0.0.3", "127.0.0.3"] {
        let answer = curl::get(&url, Version::Http1, &["--interface", address]).await;
        assert_eq!((answer.exit, answer.body.as_slice()), (0, &b"music"[..]), "{address}");
    }
    kept.pop();
    eventually("the place is free", async || (curl::get(&url, Version::Http1, &[]).await.exit == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn a_proxy_that_is_trusted_may_have_any_number_of_connections() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, "127.0.0.1:0", json!({ "MaxConnectionsPerAddress": 1 })).await;
    let url = format!("{}/stream/track.mp3", gate.url());
    // Several at once, each kept for a while by its slow reader.
    let one = async || curl::get(&url, Version::Http1, &["--interface", "127.0.0.3", "--limit-rate", "5"]).await;
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert_eq!([a.exit, b.exit, c.exit], [0; 3]);
    assert_eq!(gate.metric("tidegate_connections_refused_total", "").await, 0.0);
}

#[tokio::test]
async fn an_ipv6_network_with_too_many_connections_is_refused() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = gate(&origin, "[::]:0", json!({ "MaxConnectionsPerNetwork": 2 })).await;
    let port = gate.address().port();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).await;
        raw.send(REQUEST).await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        kept.push(raw);
    }
    let refused = curl::get(&format!("http://[::1]:{port}/stream/track.mp3"), Version::Http1, &[]).await;
    assert!(CLOSED.contains(&refused.exit), "{refused:?}");
    assert_eq!(gate.metric("tidegate_connections_refused_total", "reason=\"network\"").await, 1.0);
    // IPv4 has no such networks.
    for _ in 0..3 {
        let mut raw = Raw::connect(([127, 0, 0, 1], port).into()).await;
        raw.send(REQUEST).await;
        assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").status, 200);
        kept.push(raw);
    }
}

async fn refused(gate: &Gate, reason: &str) -> f64 {
    gate.metric("tidegate_connections_refused_total", &format!("reason=\"{reason}\"")).await
}

/// Connects to `address` from the loopback address `from`.
async fn connect_from(from: [u8; 4], address: SocketAddr) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of loopback");
    Raw::over(socket.connect(address).await.expect("the gate accepts"))
}

/// Sends `header` and a request; the status, or an error where the connection is closed without an answer.
async fn ask(raw: &mut Raw, header: &[u8]) -> io::Result<u16> {
    raw.send(&[header, REQUEST].concat()).await;
    raw.response("GET", LIMIT).await.map(|response| response.status)
}

/// A gate that one client has one connection to. Its first listener takes the PROXY protocol from 127.0.0.1, its second
/// does not.
async fn behind_a_balancer(origin: &ScriptedOrigin) -> Gate {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([
        { "Address": "127.0.0.1:0", "ProxyProtocol": { "TrustedSources": ["127.0.0.1"] } },
        { "Address": "127.0.0.1:0" },
    ]);
    config["Server"]["Limits"] = json!({ "MaxConnectionsPerAddress": 1, "MaxConnectionsPerNetwork": 1 });
    Gate::start(&config).await
}

const FIRST: &[u8] = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n";
const OTHERS: [&[u8]; 3] = [
    b"PROXY TCP4 203.0.113.2 127.0.0.1 4711 80\r\n",
    b"PROXY TCP6 2001:db8:0:1::1 ::1 4711 80\r\n",
    b"PROXY TCP6 2001:db8:0:2::1 ::1 4711 80\r\n",
];

#[tokio::test]
async fn clients_that_a_balancer_names_by_the_proxy_protocol_are_counted_each_by_its_own_address() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = behind_a_balancer(&origin).await;
    let mut first = gate.raw().await;
    assert_eq!(ask(&mut first, FIRST).await.ok(), Some(200));
    let mut kept = Vec::new();
    for header in OTHERS {
        let mut raw = gate.raw().await;
        assert_eq!(ask(&mut raw, header).await.ok(), Some(200), "{}", String::from_utf8_lossy(header));
        kept.push(raw);
    }
    let neighbour = b"PROXY TCP6 2001:db8:0:1::2 ::1 4711 80\r\n";
    for (header, reason) in [(FIRST, "address"), (neighbour, "network")] {
        assert!(ask(&mut gate.raw().await, header).await.is_err(), "{reason}");
        assert_eq!(refused(&gate, reason).await, 1.0, "{reason}");
    }
    // The balancer's own connections, such as its health checks, are nobody's.
    for _ in 0..2 {
        let mut raw = gate.raw().await;
        assert_eq!(ask(&mut raw, b"PROXY UNKNOWN\r\n").await.ok(), Some(200));
        kept.push(raw);
    }
    drop(first);
    eventually("the place is free", async || ask(&mut gate.raw().await, FIRST).await.ok()).await;
}

#[tokio::test]
async fn a_stranger_who_names_others_by_the_proxy_protocol_is_counted_by_its_own_address() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = behind_a_balancer(&origin).await;
    let (trusting, plain) = (gate.listeners()[0], gate.listeners()[1]);
    let stranger = [127, 0, 0, 2];
    let mut kept = connect_from(stranger, plain).await;
    assert_eq!(ask(&mut kept, b"").await.ok(), Some(200));
    for (number, header) in OTHERS.into_iter().enumerate() {
        assert!(ask(&mut connect_from(stranger, plain).await, header).await.is_err());
        assert_eq!(refused(&gate, "address").await, (number + 1) as f64);
    }
    // Where the protocol is spoken, it is not from the stranger; and those whom it names lose no place.
    for header in OTHERS {
        assert!(ask(&mut connect_from(stranger, trusting).await, header).await.is_err());
        assert_eq!(ask(&mut gate.raw().await, header).await.ok(), Some(200));
    }
    assert_eq!(gate.metric("tidegate_proxy_protocol_errors_total", "reason=\"untrusted\"").await, 3.0);
    // One whose connection is the first gets the answer to what it sent: no request.
    assert_eq!(ask(&mut connect_from([127, 0, 0, 4], plain).await, FIRST).await.ok(), Some(400));
}

#[tokio::test]
async fn connections_of_a_unix_socket_have_no_address_to_be_counted_by() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("socket");
    let socket = folder.path().join("tidegate.sock").display().to_string();
    let gate = gate(&origin, &format!("unix:{socket}"), json!({ "MaxConnectionsPerAddress": 1 })).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&socket).await.expect("the gate accepts");
        stream.write_all(REQUEST).await.expect("it can be sent");
        let mut answer = [0; 12];
        in_time("an answer", stream.read_exact(&mut answer)).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        kept.push(stream);
    }
    assert_eq!(gate.metric("tidegate_connections_refused_total", "").await, 0.0);
}
