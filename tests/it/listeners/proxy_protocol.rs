//! The PROXY protocol, from HAProxy and curl as they send it, and from senders that get it wrong.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::config;
use crate::support::curl::{self, Version};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::origin::ScriptedOrigin;
use crate::support::raw::Raw;
use crate::support::service::{Service, free_port};
use crate::support::tools::{self, TempFolder};
use crate::tls::Certificates;

const TRACK: &str = "/stream/track.mp3";
const LIMIT: Duration = Duration::from_secs(5);
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn configuration(origin: &ScriptedOrigin, trusted: Value) -> Value {
    let mut config = config::objects(&origin.url(), "audio");
    let protocol = json!({ "TrustedSources": trusted });
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "ProxyProtocol": protocol }]);
    config
}

/// HAProxy, which sends the protocol as `option` says to `server`.
fn haproxy(server: SocketAddr, option: &str) -> Option<(Service, SocketAddr)> {
    let program = tools::find("haproxy")?;
    let (folder, port) = (TempFolder::new("haproxy"), free_port());
    let file = folder.path().join("haproxy.cfg");
    let lines = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen tidegate\n  bind 127.0.0.1:{port}\n  server tidegate {server} {option}\n"
    );
    std::fs::write(&file, lines).expect("the file can be written");
    let command = [program.into_os_string(), OsString::from("-db"), OsString::from("-f"), file.into()];
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let is_ready = move || std::net::TcpStream::connect(address).is_ok();
    Some((Service::start(folder, command.to_vec(), is_ready), address))
}

/// Client of the latest access line, once there are `count`.
async fn client_of(gate: &Gate, count: usize) -> Value {
    let lines = eventually("the access line", async || Some(gate.access_lines()).filter(|it| it.len() == count)).await;
    lines[count - 1]["client"].clone()
}

async fn refusals(gate: &Gate, reason: &str) -> f64 {
    gate.metric("tidegate_proxy_protocol_errors_total", &format!("reason=\"{reason}\"")).await
}

#[tokio::test]
async fn haproxy_says_whose_connection_it_is_in_either_version_and_before_tls() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let certificates = Certificates::make();
    for tls in [false, true] {
        let mut config = configuration(&origin, json!(["127.0.0.1"]));
        if tls {
            config["Server"]["Listeners"][0]["Tls"] = certificates.listener()["Tls"].clone();
        }
        let gate = Gate::start(&config).await;
        let extensions = "send-proxy-v2 proxy-v2-options ssl,cert-cn,crc32c";
        for (number, option) in ["send-proxy", "send-proxy-v2", extensions].into_iter().enumerate() {
            let Some((_haproxy, address)) = haproxy(gate.address(), option) else { return };
            let version = if tls { Version::Http2 } else { Version::Http1 };
            let url = format!("{}://{address}{TRACK}", if tls { "https" } else { "http" });
            let answer = curl::get(&url, version, &["--interface", "127.0.0.5"]).await;
            assert_eq!((answer.exit, answer.body), (0, b"music".to_vec()), "{option}, TLS {tls}");
            assert_eq!(client_of(&gate, number + 1).await, "127.0.0.5", "{option}, TLS {tls}");
        }
    }
}

#[tokio::test]
async fn curl_names_a_client_and_the_limits_count_by_it() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = configuration(&origin, json!(["127.0.0.0/8"]));
    let one = json!({ "FixedWindow": { "PermitLimit": 1, "Window": "1h" }, "PartitionBy": "Address" });
    config["Policies"]["RateLimiter"]["one"] = one;
    config["ReverseProxy"]["Routes"]["stream"]["RateLimiterPolicy"] = json!("one");
    let gate = Gate::start(&config).await;
    let clients = [("203.0.113.1", 200), ("203.0.113.1", 429), ("203.0.113.2", 200), ("2001:db8::7", 200)];
    for (number, (client, status)) in clients.into_iter().enumerate() {
        let mut raw = gate.raw().await;
        let family = if client.contains(':') { "TCP6" } else { "TCP4" };
        let server = if client.contains(':') { "::1" } else { "127.0.0.1" };
        raw.send(format!("PROXY {family} {client} {server} 4711 80\r\n").as_bytes()).await;
        raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await;
        let answer = raw.response("GET", LIMIT).await.expect("an answer");
        assert_eq!(answer.status, status, "{client}");
        assert_eq!(client_of(&gate, number + 1).await, client);
    }
    // curl's own header has its own address.
    let answer = curl::get(&format!("{}{TRACK}", gate.url()), Version::Http1, &["--haproxy-protocol"]).await;
    assert_eq!((answer.exit, answer.heads[0].status), (0, 200));
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte_and_with_extensions() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&configuration(&origin, json!(["127.0.0.1"]))).await;
    let addresses = [203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0x01, 0xbb];
    let extensions = [&[0x02, 0, 4][..], b"host", &[0xe0, 7, 208], &[0; 2000]].concat();
    let length = u16::try_from(addresses.len() + extensions.len()).expect("a length that fits");
    let header = [VERSION_2, &[0x21, 0x11], &length.to_be_bytes(), &addresses, &extensions].concat();
    let mut raw = gate.raw().await;
    for byte in &header[..40] {
        raw.send(std::slice::from_ref(byte)).await;
    }
    raw.send(&header[40..]).await;
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
    assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").body, b"music");
    assert_eq!(client_of(&gate, 1).await, "203.0.113.9");
    // The header belongs to the connection, not to a request.
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
    assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").body, b"music");
    assert_eq!(client_of(&gate, 2).await, "203.0.113.9");
    // A health check of the balancer's has no client: it is the balancer itself.
    let mut raw = gate.raw().await;
    raw.send(&[VERSION_2, &[0x20, 0x00, 0, 0]].concat()).await;
    raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
    assert_eq!(raw.response("GET", LIMIT).await.expect("an answer").body, b"music");
    assert_eq!(client_of(&gate, 3).await, "127.0.0.1");
}

#[tokio::test]
async fn a_connection_without_a_good_header_is_closed_and_counted() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = configuration(&origin, json!(["127.0.0.1"]));
    config["Telemetry"]["LogLevel"] = json!("debug");
    config["Server"]["HeaderTimeout"] = json!("1s");
    let gate = Gate::start(&config).await;
    let good = b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 443\r\n";
    let announced = [VERSION_2, &[0x21, 0x11, 0xff, 0xff]].concat();
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let request = format!("GET {TRACK} HTTP/1.1\r\nHost: a\r\n\r\n");
    let rows: [(&[u8], bool, &str); 8] = [
        (request.as_bytes(), false, "malformed"),
        (b"PROXY TCP9 1 2 3 4\r\n", false, "malformed"),
        (&announced, false, "too_long"),
        (&long, false, "too_long"),
        (&good[..20], true, "incomplete"),
        (&announced[..14], true, "incomplete"),
        (b"", false, "timed_out"),
        (&good[..20], false, "timed_out"),
    ];
    for (bytes, half_close, reason) in rows {
        let before = refusals(&gate, reason).await;
        let mut raw = gate.raw().await;
        raw.send(bytes).await;
        if half_close {
            raw.half_close().await;
        }
        // Closing on bytes that were not read resets the connection.
        let rest = raw.rest(LIMIT).await.unwrap_or_default();
        assert_eq!(rest, b"", "{}", String::from_utf8_lossy(bytes));
        eventually("it is counted", async || (refusals(&gate, reason).await == before + 1.0).then_some(())).await;
    }
    assert!(gate.log().contains("the header of the PROXY protocol is too long"), "{}", gate.log());
    let mut raw = gate.raw().await;
    raw.send(good).await;
    raw.send(request.as_bytes()).await;
    assert_eq!(raw.response("GET", LIMIT).await.expect("what runs goes on").body, b"music");
    eventually("only this connection is open", async || {
        (gate.metric("tidegate_connections_open", "").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_refused_with_a_header_and_without() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&configuration(&origin, json!(["10.0.0.0/8", "unix"]))).await;
    let request = format!("GET {TRACK} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (number, header) in ["PROXY TCP4 10.0.0.9 10.0.0.1 8080 443\r\n", ""].into_iter().enumerate() {
        let mut raw = Raw::connect(gate.address()).await;
        raw.send(header.as_bytes()).await;
        raw.send(request.as_bytes()).await;
        assert_eq!(raw.rest(LIMIT).await.unwrap_or_default(), b"", "{header}");
        assert_eq!(refusals(&gate, "untrusted").await, (number + 1) as f64);
    }
    assert!(gate.access_lines().is_empty() && origin.seen().is_empty());
}

#[tokio::test]
async fn a_unix_socket_takes_the_protocol_from_whoever_can_connect() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("socket");
    let socket = folder.path().join("tidegate.sock").display().to_string();
    let mut config = configuration(&origin, json!(["unix"]));
    config["Server"]["Listeners"][0]["Address"] = json!(format!("unix:{socket}"));
    let gate = Gate::start(&config).await;
    let stream = tokio::net::UnixStream::connect(&socket).await.expect("the gate accepts");
    let (mut stream, mut answer) = (stream, Vec::new());
    let request = format!(
        "PROXY TCP4 203.0.113.9 10.0.0.1 8080 443\r\nGET {TRACK} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("it can be sent");
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.expect("an answer");
    assert!(answer.ends_with(b"music"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(client_of(&gate, 1).await, "203.0.113.9");
}
