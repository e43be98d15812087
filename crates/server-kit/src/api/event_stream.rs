//! Server-sent events as bytes, made once for all who listen (HTML, "Server-sent events").

use axum::body::Bytes;
use serde::Serialize;

/// Returns an event as the stream has it; `json` is one line.
pub fn event_frame(name: &str, json: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

/// Returns the JSON of an event's data: one line, since it has no line ends outside its texts, and none within them.
pub fn event_json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("texts and numbers have a JSON form")
}
