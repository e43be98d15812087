//! What a player heard of one answer, and how it ended for it: whole, visibly broken, or in the one way that must not be.

use http::HeaderMap;

use super::Gate;
use super::h2::H2;

/// The protocol between player and gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 without TLS.
    H2,
}

/// An answer as far as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The bytes of the body that came.
    pub body: Vec<u8>,
    /// How it ended.
    pub end: Ending,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its last announced byte, cleanly.
    Whole,
    /// Before it, as an error that the player cannot overlook: a connection closed short, a stream reset.
    Broken(String),
    /// In any other way: cleanly but short, too long, or not at all.
    Wrong(String),
}

impl Heard {
    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header is text"))
    }

    /// The announced length.
    pub fn announced(&self) -> Option<usize> {
        self.header("content-length").parse().ok()
    }

    /// Fails unless it is whole and exactly this.
    #[track_caller]
    pub fn is(&self, status: u16, body: &[u8]) {
        assert_eq!((self.status, &self.end), (status, &Ending::Whole), "{} bytes", self.body.len());
        assert!(self.body == body, "{} bytes that differ from the {} expected", self.body.len(), body.len());
    }
}

/// GET of `path` over a connection of its own, heard to its end.
pub async fn get(gate: &Gate, protocol: Protocol, path: &str, headers: &[(&str, &str)]) -> Heard {
    match protocol {
        Protocol::H1 => get_h1(gate, path, headers).await,
        Protocol::H2 => H2::connect(gate.address()).await.get(path, headers).await,
    }
}

async fn get_h1(gate: &Gate, path: &str, headers: &[(&str, &str)]) -> Heard {
    let mut raw = gate.raw().await;
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate\r\n{lines}\r\n").as_bytes()).await;
    let head = raw.head().await.expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
    let fields = lines.filter_map(|line| line.split_once(':'));
    let headers = fields.map(|(name, value)| (name.parse().expect("a name"), value.trim().parse().expect("a value")));
    let mut heard = Heard { status, headers: headers.collect(), body: Vec::new(), end: Ending::Whole };
    let announced = heard.announced().expect("every answer of the gate says its length");
    let (body, _) = raw.up_to(announced).await;
    if body.len() != announced {
        heard.end = Ending::Broken("closed short of Content-Length".to_owned());
    }
    heard.body = body;
    heard
}
