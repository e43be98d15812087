//! curl as a listener: a client of server-sent events that is not ours.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::path;
use crate::support::{Gate, curl, in_time, token};

/// A stream of events.
pub struct Listener {
    lines: Lines<BufReader<ChildStdout>>,
    _curl: Child,
}

impl Listener {
    /// Opens the stream of `user`, which must be one, with this query; returns `None` where curl is missing and not
    /// required.
    pub async fn open(gate: &Gate, user: &str, query: &str) -> Option<Self> {
        Self::open_with(gate, &token::of(user), query).await
    }

    /// As [`Self::open`], with a token.
    pub async fn open_with(gate: &Gate, token: &str, query: &str) -> Option<Self> {
        Self::open_at(gate, token, &format!("{}{query}", path("events"))).await
    }

    /// Opens the stream of this path.
    pub async fn open_at(gate: &Gate, token: &str, path: &str) -> Option<Self> {
        let mut command = Command::new(curl::find()?);
        let url = format!("{}{path}", gate.url());
        command.args(["-sS", "-i", "-N", "-H", &format!("Authorization: Bearer {token}"), &url]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("curl starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut this = Self { lines, _curl: child };
        let mut head = Vec::new();
        while let Some(line) = this.line().await.filter(|line| !line.is_empty()) {
            head.push(line.to_lowercase());
        }
        assert!(head[0].contains(" 200"), "{head:?}");
        for field in ["content-type: text/event-stream", "cache-control: no-store"] {
            assert!(head.iter().any(|line| line == field), "no {field} in {head:?}");
        }
        Some(this)
    }

    async fn line(&mut self) -> Option<String> {
        in_time("a line of events", self.lines.next_line()).await.expect("curl writes text")
    }

    /// The next event's name and data; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let line = self.line().await?;
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).expect("JSON")));
            } else {
                assert!(line.is_empty() || line.starts_with(':') || line == "retry: 1000", "{line:?}");
            }
        }
    }

    /// The data of the next event of this name; others are passed over.
    pub async fn event(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
            if found == name {
                return data;
            }
        }
    }

    /// The reason for which the stream ends.
    pub async fn end(&mut self) -> String {
        let reason = self.event("end").await["reason"].as_str().expect("a reason").to_owned();
        assert_eq!(self.next().await, None, "nothing comes after the end");
        reason
    }
}
