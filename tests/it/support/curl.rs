//! curl as a client that is not ours: over HTTP/1.1 and HTTP/2, in the clear and over TLS.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::eventually::in_time;
use super::tools::{self, TempFolder};

/// A way to speak to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by prior knowledge in the clear, by ALPN over TLS.
    Http2,
}

/// Outcome of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// curl's exit code: 0 for a whole answer.
    pub exit: i32,
    /// The heads that came, interim ones first, each with its fields in lower case.
    pub heads: Vec<Head>,
    /// The trailers.
    pub trailers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The fields, sorted.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// The program; `None` after saying that it is missing.
pub fn find() -> Option<PathBuf> {
    tools::find("curl")
}

/// GETs `url` with further arguments.
pub async fn get(url: &str, version: Version, arguments: &[&str]) -> Transfer {
    let folder = TempFolder::new("curl");
    let file = |name: &str| folder.path().join(name);
    let way: &[&str] = match (version, url.starts_with("https:")) {
        (Version::Http1, _) => &["--http1.1"],
        (Version::Http2, false) => &["--http2-prior-knowledge"],
        (Version::Http2, true) => &["--http2"],
    };
    let mut command = Command::new(find().expect("curl was there"));
    command.args(["-sS", "-k", "--max-time", "20"]).args(way).args(arguments);
    command.arg("-D").arg(file("heads")).arg("-o").arg(file("body")).arg(url);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = in_time("curl ends", output).await.expect("curl starts");
    let read = |name: &str| std::fs::read(file(name)).unwrap_or_default();
    let (heads, trailers) = heads(&String::from_utf8_lossy(&read("heads")));
    Transfer { exit: output.status.code().unwrap_or(-1), heads, trailers, body: read("body") }
}

/// curl writes heads, each behind its status line, and then the trailers.
fn heads(text: &str) -> (Vec<Head>, Vec<(String, String)>) {
    let mut heads = Vec::new();
    let mut trailers = Vec::new();
    for block in text.split("\r\n\r\n").filter(|block| !block.trim().is_empty()) {
        let mut lines = block.trim_start().lines().peekable();
        let status = lines.peek().and_then(|line| line.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok());
        if status.is_some() {
            lines.next();
        }
        let pair = |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
        let mut fields: Vec<_> = lines.filter_map(pair).collect();
        fields.sort();
        match status {
            Some(status) => heads.push(Head { status, fields }),
            None => trailers.extend(fields),
        }
    }
    (heads, trailers)
}
