//! WebSocket of a host: Opus in binary frames, `{"type":"meta",…}` with the document's metadata, `{"type":"stop"}`; the
//! host is told how many listen. The session outlives the socket, and a host that connects again goes on with it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::{MicrosClock, close, code, error_message, event_message, time_message};
use crate::refusal::Refusal;
use crate::session::chat::{self, ChatPost, ChatSender};
use crate::session::event::{EndReason, SessionEvent};
use crate::session::{HostConnection, Session};
use crate::token_bucket::TokenBucket;

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
    let mut lines = chat::sender_limit(now() / 1000);
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
            session.receive_frame(bytes, came / 1000)?;
            Ok(None)
        }
        Message::Text(text) => {
            let said: Value = serde_json::from_str(&text).unwrap_or_default();
            match said["type"].as_str() {
                Some("meta") => session.set_metadata(text.as_bytes(), came / 1000).map(|_| None),
                Some("stop") => {
                    session.end(EndReason::Stopped, came / 1000);
                    Ok(None)
                }
                Some("chat") => match said["on"].as_bool() {
                    Some(on) => session.switch_chat(on, came / 1000).map(|()| None),
                    None => {
                        let said = ChatPost::from_json(said)?;
                        session.post_chat(&said, ChatSender::Socket(lines), true, came / 1000).map(|_| None)
                    }
                },
                Some("record") => session.switch_recording(said["on"] == true, came / 1000).map(|_| None),
                Some("time") => Ok(Some(time_message(&said, came, now()))),
                _ => Ok(None),
            }
        }
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
    }
}
