//! Answers of every shape, asked of the server directly and through the gate, by curl: the two must be the same.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::curl::{self, Transfer, Version};
use crate::support::raw::Raw;
use crate::support::tools::TempFolder;
use crate::support::{Gate, LIMIT, config};

/// End of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The connection goes on.
    Keep,
    /// It ends.
    Close,
    /// It breaks.
    Reset,
}

/// Answers by path, in pieces that leave one after the other.
const ANSWERS: [(&str, &[&str], Then); 17] = [
    ("length", &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Mine: yes\r\n\r\n", "whole"], Then::Keep),
    ("empty", &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], Then::Keep),
    (
        "chunked",
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nwho\r\n", "2\r\nle\r\n0\r\n\r\n"],
        Then::Keep,
    ),
    ("chunked-empty", &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], Then::Keep),
    ("until-close", &["HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "whole"], Then::Close),
    ("old", &["HTTP/1.0 200 OK\r\n\r\nwhole"], Then::Close),
    (
        "slow",
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nwho\r\n", "2\r\nle\r\n0\r\n\r\n"],
        Then::Keep,
    ),
    ("204", &["HTTP/1.1 204 No Content\r\nX-Mine: yes\r\n\r\n"], Then::Keep),
    ("304", &["HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"], Then::Keep),
    (
        "103",
        &[
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
        ],
        Then::Keep,
    ),
    (
        "trailers",
        &[
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nwhole\r\n0\r\nX-Sum: 42\r\n\r\n",
        ],
        Then::Keep,
    ),
    ("500", &["HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno"], Then::Keep),
    ("alt-svc", &["HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":1\"\r\nContent-Length: 5\r\n\r\nwhole"], Then::Keep),
    ("cut-length", &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "part"], Then::Close),
    ("cut-chunked", &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\npart\r\n"], Then::Close),
    ("reset-length", &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "part"], Then::Reset),
    ("reset-chunked", &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\npart\r\n"], Then::Reset),
];

/// A server that writes [`ANSWERS`] as they stand.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).expect("open");
    let mut read = Vec::new();
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
        }
        let head = String::from_utf8_lossy(&read).into_owned();
        read.clear();
        let name = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let (_, pieces, then) = ANSWERS.iter().find(|(known, ..)| *known == name).expect("a known answer");
        for piece in *pieces {
            if stream.write_all(piece.as_bytes()).await.is_err() {
                return;
            }
            // Each piece is a packet of its own.
            if name == "slow" {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            tokio::task::yield_now().await;
        }
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => {
                stream.set_zero_linger().expect("open");
                return;
            }
        }
    }
}

async fn gate(server: SocketAddr) -> (Gate, TempFolder) {
    let folder = TempFolder::new("certificate");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("gate.pem"), folder.path().join("gate.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let mut config = config::empty();
    config["Server"]["Listeners"] = json!([
        { "Address": "127.0.0.1:0", "H2c": true },
        { "Address": "127.0.0.1:0", "Tls": { "Certificate": certificate, "Key": key } },
    ]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[format!("http://{server}")]);
    (Gate::start(&config).await, folder)
}

/// The transfer as it must be however it came: without what is the connection's, or the gate's own.
fn comparable(mut transfer: Transfer) -> Transfer {
    const OWN: [&str; 7] =
        ["connection", "transfer-encoding", "content-length", "date", "x-request-id", "alt-svc", "keep-alive"];
    for head in &mut transfer.heads {
        head.fields.retain(|(name, _)| !OWN.contains(&name.as_str()));
    }
    // Each version has its own word for an answer that is not whole.
    transfer.exit = i32::from(transfer.exit != 0);
    transfer
}

#[tokio::test]
async fn every_shape_of_answer_comes_through_as_it_is() {
    if curl::find().is_none() {
        return;
    }
    let server = server().await;
    let (gate, _folder) = gate(server).await;
    let [plain, tls] = [gate.listeners()[0], gate.listeners()[1]];
    let ways = [
        (plain, "http", Version::Http1),
        (plain, "http", Version::Http2),
        (tls, "https", Version::Http1),
        (tls, "https", Version::Http2),
    ];
    for (name, ..) in ANSWERS {
        let direct = comparable(curl::get(&format!("http://{server}/{name}"), Version::Http1, &[]).await);
        for (address, scheme, version) in ways {
            let way = format!("{name} over {scheme}, {version:?}");
            let through = curl::get(&format!("{scheme}://{address}/plain/{name}"), version, &[]).await;
            if direct.exit != 0 {
                // What the client had of it before the break depends on the moment; it must never look whole.
                let refused = through.heads.last().is_some_and(|head| head.status == 502);
                assert!(through.exit != 0 || refused, "{way}: {through:?}");
                assert!(refused || direct.body.starts_with(&through.body), "{way}: {through:?}");
                continue;
            }
            let last = through.heads.last().unwrap_or_else(|| panic!("{way}: no head: {through:?}"));
            assert_eq!(last.field("alt-svc"), None, "{way}");
            if version == Version::Http1 && !matches!(last.status, 204 | 304) {
                let framed = last.field("content-length").or(last.field("transfer-encoding"));
                assert!(framed.is_some(), "{way}: nothing says where the body ends: {through:?}");
            }
            assert_eq!(comparable(through), direct, "{way}");
        }
    }
}

#[tokio::test]
async fn a_connection_goes_on_behind_every_whole_answer() {
    let (gate, _folder) = gate(server().await).await;
    let mut raw = gate.raw().await;
    for method in ["GET", "HEAD"] {
        for (name, ..) in
            ANSWERS.iter().filter(|(name, ..)| !name.starts_with("cut") && !name.starts_with("reset") && *name != "103")
        {
            raw.send(format!("{method} /plain/{name} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
            let reply = raw.response(method, LIMIT).await.unwrap_or_else(|error| panic!("{method} {name}: {error}"));
            assert_eq!(reply.header("connection"), Some("keep-alive"), "{method} {name}");
        }
    }
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks_and_sees_a_break() {
    let (gate, _folder) = gate(server().await).await;
    let ask = async |name: &str| {
        let mut raw: Raw = gate.raw().await;
        raw.send(format!("GET /plain/{name} HTTP/1.0\r\n\r\n").as_bytes()).await;
        raw.rest(LIMIT).await
    };
    let whole = ask("chunked").await.expect("the connection ends in order");
    let text = String::from_utf8_lossy(&whole);
    assert!(text.ends_with("\r\n\r\nwhole") && !text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    let broken = ask("cut-chunked").await.expect_err("only a reset tells that it is not whole");
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
}
