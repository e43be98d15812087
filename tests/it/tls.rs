//! Listeners: TLS with several certificates, HTTP/1.1 and HTTP/2 by ALPN, HTTP/2 without TLS by switch. And a store that
//! speaks TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::eventually::{LIMIT, eventually, in_time};
use crate::support::fault::{End, Step};
use crate::support::h2::H2;
use crate::support::heard::{self, Protocol};
use crate::support::minio::Minio;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::tools::TempFolder;
use crate::support::{Gate, ScriptedOrigin, config};

const MIB: usize = 1024 * 1024;
const TRACK: &str = "/stream/track.mp3";
pub const FIRST: &str = "first.test";
const SECOND: &str = "second.test";

/// Two certificates as files, and a client's trust in both.
pub struct Certificates {
    folder: TempFolder,
    ders: Vec<CertificateDer<'static>>,
}

impl Certificates {
    pub fn make() -> Self {
        let folder = TempFolder::new("certificates");
        let ders = [FIRST, SECOND].map(|name| {
            let names = vec![name.to_owned(), format!("*.{name}")];
            let CertifiedKey::<KeyPair> { cert, signing_key } =
                generate_simple_self_signed(names).expect("a certificate");
            for (ending, text) in [("pem", cert.pem()), ("key", signing_key.serialize_pem())] {
                std::fs::write(folder.path().join(format!("{name}.{ending}")), text).expect("a file");
            }
            cert.der().clone()
        });
        Self { folder, ders: ders.to_vec() }
    }

    /// The folder of the files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A listener with both, the first one first.
    pub fn listener(&self) -> Value {
        let file = |name: &str, ending| self.folder.path().join(format!("{name}.{ending}"));
        let pair = |name| json!({ "Certificate": file(name, "pem"), "Key": file(name, "key") });
        json!({ "Address": "127.0.0.1:0", "Tls": { "Certificates": [pair(FIRST), pair(SECOND)] } })
    }

    /// Connects as a client that asks for `name` (SNI, where `sni`) and trusts both certificates.
    pub async fn connect(&self, gate: &Gate, name: &str, sni: bool, alpn: &[&str]) -> TlsStream<TcpStream> {
        self.connect_to(gate.address(), name, sni, alpn).await
    }

    /// As [`Certificates::connect`], to the listener at `address`.
    pub async fn connect_to(&self, address: SocketAddr, name: &str, sni: bool, alpn: &[&str]) -> TlsStream<TcpStream> {
        self.connect_as(address, (name, sni), alpn, None).await
    }

    /// As [`Self::connect_to`], with a certificate of the client's own and its key.
    pub async fn connect_as(
        &self,
        address: SocketAddr,
        (name, sni): (&str, bool),
        alpn: &[&str],
        client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        for der in &self.ders {
            roots.add(der.clone()).expect("a good certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let with_roots = versions.expect("ring has them").with_root_certificates(roots);
        let mut config = match client {
            Some((chain, key)) => with_roots.with_client_auth_cert(chain, key).expect("a certificate and its key"),
            None => with_roots.with_no_client_auth(),
        };
        config.enable_sni = sni;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tcp = TcpStream::connect(address).await.expect("the gate accepts");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("the handshake succeeds")
    }
}

fn configuration(origin: &ScriptedOrigin, listener: Value) -> Value {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([listener]);
    config
}

fn alpn(stream: &TlsStream<TcpStream>) -> Option<&str> {
    stream.get_ref().1.alpn_protocol().map(|name| std::str::from_utf8(name).expect("text"))
}

#[tokio::test]
async fn alpn_chooses_between_http_1_and_2_and_http_2_is_preferred() {
    let origin = ScriptedOrigin::with_track("music").await;
    let certificates = Certificates::make();
    let gate = Gate::start(&configuration(&origin, certificates.listener())).await;
    let rows: [(&[&str], Option<&str>); 4] = [
        (&["h2", "http/1.1"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ];
    for (offered, chosen) in rows {
        let mut stream = certificates.connect(&gate, FIRST, true, offered).await;
        assert_eq!(alpn(&stream), chosen, "of {offered:?}");
        if chosen == Some("h2") {
            let connection = H2::over(stream).await.expect("the gate speaks HTTP/2");
            connection.get(TRACK, &[]).await.is(200, b"music");
            continue;
        }
        let request = format!("GET {TRACK} HTTP/1.1\r\nHost: {FIRST}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it can be sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an end with close_notify");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nmusic"), "{answer}");
    }
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate_and_without_one_it_is_the_first() {
    let origin = ScriptedOrigin::with_track("music").await;
    let certificates = Certificates::make();
    let gate = Gate::start(&configuration(&origin, certificates.listener())).await;
    for (name, sni, expected) in [(FIRST, true, 0), (SECOND, true, 1), ("cdn.second.test", true, 1), (FIRST, false, 0)]
    {
        let stream = certificates.connect(&gate, name, sni, &["h2"]).await;
        let shown = stream.get_ref().1.peer_certificates().expect("a certificate");
        assert_eq!(shown[0], certificates.ders[expected], "{name}, SNI {sni}");
        H2::over(stream).await.expect("HTTP/2").get(TRACK, &[]).await.is(200, b"music");
    }
}

#[tokio::test]
async fn ranges_and_heads_over_tls_and_http_2_are_exact() {
    let body = pattern(3 * MIB);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let certificates = Certificates::make();
    let gate = Gate::start(&configuration(&origin, certificates.listener())).await;
    let connection = H2::over(certificates.connect(&gate, FIRST, true, &["h2"]).await).await.expect("HTTP/2");
    connection.get(TRACK, &[]).await.is(200, &body);
    let part = connection.get(TRACK, &[("range", "bytes=1000001-2500000")]).await;
    part.is(206, &body[1_000_001..=2_500_000]);
    assert_eq!(part.header("content-range"), format!("bytes 1000001-2500000/{}", body.len()));
    let head = connection.request(Method::HEAD, TRACK, &[]).await;
    assert_eq!((head.status, head.announced(), head.body.len()), (200, Some(body.len()), 0));
}

#[tokio::test]
async fn http_2_without_tls_is_a_switch_and_http_1_stays() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&configuration(&origin, json!({ "Address": "127.0.0.1:0", "H2c": true }))).await;
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H1] {
        heard::get(&gate, protocol, TRACK, &[]).await.is(200, b"music");
    }
    // Shorter than HTTP/2's first bytes, and whole all the same.
    let mut raw = gate.raw().await;
    raw.send(b"GET / HTTP/1.0\r\n\r\n").await;
    let answer = raw.response("GET", LIMIT).await.expect("an answer");
    assert_eq!(answer.status, 404);
    let off = Gate::start(&configuration(&origin, json!({ "Address": "127.0.0.1:0" }))).await;
    heard::get(&off, Protocol::H1, TRACK, &[]).await.is(200, b"music");
    let stream = TcpStream::connect(off.address()).await.expect("the gate accepts");
    if let Ok(mut connection) = H2::over(stream).await {
        connection.ended().await.expect_err("no HTTP/2 where it is off");
    }
}

#[tokio::test]
async fn errors_and_preflights_over_http_2_carry_cors() {
    const ORIGIN: (&str, &str) = ("origin", "https://app.test");
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = configuration(&origin, json!({ "Address": "127.0.0.1:0", "H2c": true }));
    config["Policies"]["Cors"]["app"] = json!({ "Origins": ["https://app.test"], "Headers": ["Range"] });
    config["ReverseProxy"]["Routes"]["stream"]["CorsPolicy"] = json!("app");
    let gate = Gate::start(&config).await;
    let connection = H2::connect(gate.address()).await;
    for (path, range, status) in [(TRACK, "", 200), ("/stream/none.mp3", "", 404), (TRACK, "bytes=99-", 416)] {
        let headers = [ORIGIN, ("range", range)];
        let answer = connection.get(path, if range.is_empty() { &headers[..1] } else { &headers }).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, ORIGIN.1), "{path} {range}");
        assert_eq!(answer.header("content-type") == "application/problem+json", status >= 400);
        assert_eq!(answer.announced(), Some(answer.body.len()));
    }
    let asked = [ORIGIN, ("access-control-request-method", "GET"), ("access-control-request-headers", "range")];
    let preflight = connection.request(Method::OPTIONS, TRACK, &asked).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, ORIGIN.1));
}

#[tokio::test]
async fn fifty_streams_share_a_connection() {
    let body = pattern(2 * MIB);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = Gate::start(&configuration(&origin, json!({ "Address": "127.0.0.1:0", "H2c": true }))).await;
    let connection = H2::connect(gate.address()).await;
    let streams = (0..50_usize).map(|number| {
        let (connection, body) = (&connection, &body);
        async move {
            let first = number * 30_011;
            let range = format!("bytes={first}-{}", first + 262_143);
            let part = connection.get(TRACK, &[("range", &range)]).await;
            part.is(206, &body[first..first + 262_144]);
        }
    });
    futures::future::join_all(streams).await;
    assert_eq!(origin.seen().len(), 50);
    assert_eq!(gate.metric("tidegate_connections_open", "").await, 1.0);
}

#[tokio::test]
async fn a_stream_that_the_client_resets_frees_the_store_and_no_other_stream() {
    let body = pattern(8 * MIB);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let mut config = configuration(&origin, json!({ "Address": "127.0.0.1:0", "H2c": true }));
    // No timeout frees the store: only that the stream is reset.
    config["Policies"]["Timeout"]["patient"] = config::patient();
    config["ReverseProxy"]["Routes"]["stream"]["TimeoutPolicy"] = json!("patient");
    let gate = Gate::start(&config).await;
    let connection = H2::connect(gate.address()).await;
    for step in [Step::Serve, Step::Body { send: MIB, end: End::Stall }] {
        origin.script([step.clone()]);
        let mut stream = connection.open(TRACK, &[]).await;
        let begun = stream.take(1024).await;
        assert!(body.starts_with(begun), "other bytes than the object's");
        eventually("the store is asked", async || (origin.open_connections() == 1).then_some(())).await;
        // Dropping a stream that has not ended is a reset: CANCEL.
        drop(stream);
        eventually(&format!("the store is free again after {step:?}"), async || {
            (origin.open_connections() == 0).then_some(())
        })
        .await;
    }
    connection.get(TRACK, &[("range", "bytes=0-99999")]).await.is(206, &body[..100_000]);
    let lines = eventually("three access lines", async || Some(gate.access_lines()).filter(|l| l.len() == 3)).await;
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_u64().unwrap_or(0)).collect();
    assert_eq!(statuses, [499, 499, 206]);
    assert_eq!(gate.metric("novatune_stream_errors_total", "").await, 0.0);
}

#[tokio::test]
async fn a_stream_lives_longer_than_a_request_header_may_take() {
    let body = pattern(MIB);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let mut config = configuration(&origin, json!({ "Address": "127.0.0.1:0", "H2c": true }));
    config["Server"]["HeaderTimeout"] = json!("300ms");
    let gate = Gate::start(&config).await;
    let connection = H2::connect(gate.address()).await;
    let mut stream = connection.open(TRACK, &[]).await;
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for taken in (1..=8).map(|eighth| eighth * MIB / 8) {
        pace.tick().await;
        stream.take(taken).await;
    }
    stream.finish().await.is(200, &body);
    connection.get(TRACK, &[]).await.is(200, &body);
}

#[tokio::test]
async fn a_stop_lets_http_2_streams_under_way_end() {
    let body = pattern(4 * MIB);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let mut gate = Gate::start(&configuration(&origin, json!({ "Address": "127.0.0.1:0", "H2c": true }))).await;
    let connection = H2::connect(gate.address()).await;
    let mut stream = connection.open(TRACK, &[]).await;
    stream.take(1024).await;
    gate.signal("TERM").await;
    eventually("it is stopping", async || gate.log().contains("stopping").then_some(())).await;
    let reader = tokio::spawn(stream.finish());
    assert!(gate.ended().await.success());
    reader.await.expect("a stop breaks no stream").is(200, &body);
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed_when_a_header_is_overdue() {
    let origin = ScriptedOrigin::with_track("music").await;
    let certificates = Certificates::make();
    let mut config = configuration(&origin, certificates.listener());
    config["Server"]["HeaderTimeout"] = json!("300ms");
    let plain = json!({ "Address": "127.0.0.1:0", "H2c": true });
    config["Server"]["Listeners"] = json!([certificates.listener(), plain]);
    let gate = Gate::start(&config).await;
    // One that never says that it speaks HTTP/2, and one that says no more than that.
    let mut silent = certificates.connect(&gate, FIRST, true, &["h2"]).await;
    let mut idle = H2::over(certificates.connect(&gate, FIRST, true, &["h2"]).await).await.expect("HTTP/2");
    let mut rest = Vec::new();
    let _ = in_time("it is closed", silent.read_to_end(&mut rest)).await;
    let _ = idle.ended().await;
    let mut idle = H2::connect(gate.listeners()[1]).await;
    let _ = idle.ended().await;
    for begun in ["", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nS", "GET /stream"] {
        let mut raw = Raw::connect(gate.listeners()[1]).await;
        raw.send(begun.as_bytes()).await;
        raw.rest(LIMIT).await.unwrap_or_else(|error| panic!("not closed after {begun:?}: {error}"));
    }
}

/// A way to `server` over TLS as `https://localhost:…`, with a certificate that is written to `trusted`; offers the protocols `alpn`.
pub async fn behind_tls(server: SocketAddr, trusted: &Path, alpn: &[&str]) -> String {
    let CertifiedKey::<KeyPair> { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(trusted, cert.pem()).expect("a file");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let with_key = versions.expect("ring has them").with_no_client_auth();
    let mut config = with_key.with_single_cert(vec![cert.der().clone()], key.into()).expect("a key that fits");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await.expect("the gate trusts it");
                let mut server = TcpStream::connect(server).await.expect("the server accepts");
                // Whoever ends it ends it.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn a_store_is_spoken_to_over_tls_and_a_stranger_is_not() {
    let body = pattern(3 * MIB);
    let Some(minio) = Minio::bucket().await else { return };
    minio.put("track.mp3", body.clone()).await;
    let folder = TempFolder::new("certificates");
    let trusted = folder.path().join("store.pem");
    let store = behind_tls(minio.address(), &trusted, &[]).await;
    let config = config::objects(&store, minio.name());
    let gate = Gate::start_with(&config, &[("SSL_CERT_FILE", &trusted.display().to_string())]).await;
    for _ in 0..3 {
        heard::get(&gate, Protocol::H1, TRACK, &[]).await.is(200, &body);
        heard::get(&gate, Protocol::H1, TRACK, &[("range", "bytes=1000001-2500000")])
            .await
            .is(206, &body[1_000_001..=2_500_000]);
    }
    let wary = Gate::start(&config).await;
    assert_eq!(heard::get(&wary, Protocol::H1, TRACK, &[]).await.status, 502);
    eventually("the log has TLS's own words", async || {
        wary.log().contains("the TLS handshake failed: invalid peer certificate").then_some(())
    })
    .await;
}
