//! WebSocket of a host: Opus in binary frames, `{"type":"meta",…}` with the document's metadata, `{"type":"stop"}`; the
//! host is told how many listen. The session outlives the socket, and a host that connects again goes on with it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::{MicrosClock, close, code, error_message, event_message, time_message};
use crate::refusal::Refusal;
use crate::session::chat::{self, ChatPost, ChatSender};
use crate::session::event::{EndReason, SessionEvent};
use crate::session::{HostConnection, MAX_SMALL_TEXT, Session};
use crate::token_bucket::TokenBucket;
use primitives::unix_time::UnixMicros;

/// Time after which a host that says nothing is taken for gone; its session goes on.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// Serves a host to its end.
pub async fn serve_host(
    mut socket: WebSocket,
    session: Arc<Session>,
    mut connection: HostConnection,
    resume: String,
    now: MicrosClock,
) {
    let mut welcome =
        json!({ "type": "welcome", "session": session.id(), "codec": "opus", "rate": 48_000, "resume": resume });
    welcome["chat"] = session.chat_snapshot().to_json();
    if let Some(on) = session.is_recorded() {
        welcome["recording"] = json!(on);
    }
    if socket.send(Message::Text(welcome.to_string().into())).await.is_err() {
        return;
    }
    let (code, reason) = run(&mut socket, &session, &mut connection, &now).await;
    let _ = timeout(MAX_SILENCE, close(&mut socket, code, reason)).await;
}

async fn run(
    socket: &mut WebSocket,
    session: &Arc<Session>,
    connection: &mut HostConnection,
    now: &MicrosClock,
) -> (u16, &'static str) {
    let mut lines = chat::sender_limit(now().to_millis());
    loop {
        tokio::select! {
            event = connection.events.recv() => {
                let event = match event {
                    Ok(SessionEvent::NodeStopping) => return (code::GOING_AWAY, "stopping"),
                    // Its own audio and words come back too, and it knows whether it is here.
                    Ok(SessionEvent::HostReplaced) if !session.is_host(connection) => return (code::REPLACED, "replaced"),
                    Ok(SessionEvent::Frame(_) | SessionEvent::MetadataChanged | SessionEvent::HostPresence(_) | SessionEvent::HostReplaced) => continue,
                    Ok(event) => event,
                    // The event that replaced it may be among those that were missed.
                    Err(RecvError::Lagged(_)) if !session.is_host(connection) => return (code::REPLACED, "replaced"),
                    Err(RecvError::Lagged(_)) => SessionEvent::ChatReset,
                    Err(RecvError::Closed) => return (code::NORMAL, "ended"),
                };
                let ended = match &event {
                    SessionEvent::Ended(EndReason::Replaced) => Some((code::REPLACED, "replaced")),
                    SessionEvent::Ended(EndReason::Stopped | EndReason::Timeout) => Some((code::NORMAL, "ended")),
                    _ => None,
                };
                if let Some(text) = event_message(&event, session) && socket.send(Message::Text((&*text).into())).await.is_err() {
                    return (code::NORMAL, "gone");
                }
                if let Some(closed) = ended {
                    return closed;
                }
            }
            message = timeout(MAX_SILENCE, socket.recv()) => {
                let Ok(Some(Ok(message))) = message else {
                    if !matches!(message, Ok(None)) {
                        tracing::info!(session = %session.id(), "the connection of a host broke");
                    }
                    return (code::NORMAL, "gone");
                };
                // Its messages must not mix with those of the socket that took its place.
                if !session.is_host(connection) {
                    return (code::REPLACED, "replaced");
                }
                let answer = match handle_message(session, message, &mut lines, now) {
                    Ok(answer) => answer,
                    Err(Refusal::UnknownSession) => return (code::NORMAL, "ended"),
                    Err(Refusal::Frame(_)) => return (code::POLICY, "not a frame of Opus"),
                    Err(Refusal::TextFlood) => return (code::POLICY, "flood"),
                    Err(refused) => Some(error_message(&refused)),
                };
                if let Some(text) = answer && socket.send(Message::Text(text.into())).await.is_err() {
                    return (code::NORMAL, "gone");
                }
            }
        }
    }
}

/// Does as a host's message asks; returns the answer.
fn handle_message(
    session: &Arc<Session>,
    message: Message,
    lines: &mut TokenBucket,
    now: &MicrosClock,
) -> Result<Option<String>, Refusal> {
    let came = now();
    match message {
        Message::Binary(bytes) => {
            session.receive_frame(bytes, came.to_millis())?;
            Ok(None)
        }
        Message::Text(text) => handle_text(session, &text, lines, came, now),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
    }
}

/// Type of a text, without the rest of it.
#[derive(Default, Deserialize)]
struct TextType<'a> {
    #[serde(borrow, rename = "type")]
    name: Cow<'a, str>,
}

/// Does as a host's text asks; returns the answer.
fn handle_text(
    session: &Arc<Session>,
    text: &str,
    lines: &mut TokenBucket,
    came: UnixMicros,
    now: &MicrosClock,
) -> Result<Option<String>, Refusal> {
    session.count_text(text.len(), came.to_millis())?;
    let name = text_type(text);
    if name == "meta" {
        return session.set_metadata(text.as_bytes(), came.to_millis()).map(|_| None);
    }
    // All of it is kept from here on, in many times as many bytes.
    if text.len() > MAX_SMALL_TEXT {
        return Err(Refusal::TextTooLong);
    }
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    match &*name {
        "stop" => {
            session.end(EndReason::Stopped, came.to_millis());
            Ok(None)
        }
        "chat" => match said["on"].as_bool() {
            Some(on) => session.switch_chat(on, came.to_millis()).map(|()| None),
            None => {
                let said = ChatPost::from_json(said)?;
                session.post_chat(&said, ChatSender::Socket(lines), true, came.to_millis()).map(|_| None)
            }
        },
        "record" => session.switch_recording(said["on"] == true, came.to_millis()).map(|_| None),
        "time" => Ok(Some(time_message(&said, came, now()))),
        // A newer client may say more than we know.
        _ => Ok(None),
    }
}

/// Returns the type of a text; nothing of it is copied, however long it is. Empty for what is no object with one.
fn text_type(text: &str) -> Cow<'_, str> {
    // An array would be read as an object's values.
    let object = Some(text).filter(|text| text.trim_start().starts_with('{'));
    object.and_then(|text| serde_json::from_str::<TextType<'_>>(text).ok()).unwrap_or_default().name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_text_is_read_without_the_rest() {
        let long =
            format!(r#" {{"lyrics": "{}", "deep": [[{{"type": "stop"}}]], "type": "meta"}}"#, "a".repeat(300_000));
        for (text, expected) in [
            (r#"{"type": "stop"}"#, "stop"),
            (r#"{"type": "st\u006fp"}"#, "stop"),
            (&*long, "meta"),
            (r#"["stop"]"#, ""),
            (r#"{"type": 5}"#, ""),
            (r#"{"on": true}"#, ""),
            ("stop", ""),
            ("", ""),
        ] {
            assert_eq!(text_type(text), expected, "{:.40}", text);
        }
    }
}
