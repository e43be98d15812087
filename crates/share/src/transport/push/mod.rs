//! WebSockets: text frames in JSON beside the binary frames of [`crate::audio::frame`].

mod host;
mod listener;
mod socket;

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use serde_json::{Value, json};
use tokio::time::timeout;

pub use host::serve_host;
pub use listener::{event_message, serve_listener};
pub use socket::ListenerSocket;

use super::MicrosClock;
use crate::audio::frame::Codec;
use crate::refusal::Refusal;
use crate::session::StreamGreeting;
use crate::session::id::SessionId;
use primitives::unix_time::UnixMicros;

/// Time in which a client must take a message.
const MAX_WRITE_TIME: Duration = Duration::from_secs(10);
/// Bytes of a client's text at most: a longer one is no message of ours.
pub const MAX_TEXT: usize = 4 * 1024;

/// Closing codes: RFC 6455 §7.4.1, and our own from 4000.
mod code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const POLICY: u16 = 1008;
    pub const UNAUTHORIZED: u16 = 4001;
    pub const TOO_SLOW: u16 = 4008;
    pub const REPLACED: u16 = 4009;
}

/// Returns the greeting at the beginning of an epoch.
fn hello_message(id: SessionId, codec: Codec, hello: &StreamGreeting) -> String {
    let format = hello.epoch.format;
    let song = hello.metadata.as_ref().map(|song| serde_json::from_str::<Value>(&song.push_text).unwrap_or_default());
    let mut message = json!({
        "type": "hello",
        "session": id,
        "codec": codec,
        "rate": format.map(|format| format.sample_rate),
        "channels": format.map(|format| format.channels),
        "epoch": hello.epoch.number,
        "seq": hello.sequence,
        "target_ms": u64::try_from(hello.target.as_millis()).unwrap_or(u64::MAX),
        "cadence_ms": u64::try_from(hello.cadence.as_millis()).unwrap_or(u64::MAX),
        "listeners": hello.listeners,
        "host": hello.host,
        "meta": song,
        "chat": hello.chat.to_json(),
    });
    // Pages show the switch where the member is there, and none where this node cannot record.
    if let Some(on) = hello.recording {
        message["recording"] = json!(on);
    }
    message.to_string()
}

/// Returns the message that a client's wish is refused.
fn error_message(refused: &Refusal) -> String {
    json!({ "type": "error", "error": refused.to_string() }).to_string()
}

/// Answers a client that compares clocks, as NTP does: its own time, ours when the question came, ours now.
fn time_message(asked: &Value, came: UnixMicros, now: UnixMicros) -> String {
    json!({ "type": "time", "t0": asked["t0"], "t1": came, "t2": now }).to_string()
}

/// Sends a message; returns false where the client is gone, or does not take it in time.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(MAX_WRITE_TIME, socket.send(message)).await, Ok(Ok(())))
}

/// Closes with a code and a reason; a client that is gone hears nothing.
async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    send(socket, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}
