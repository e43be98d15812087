//! A host's WebSocket: Opus in binary frames, `{"type":"meta",…}` with the document's metadata, `{"type":"stop"}`; it is
//! told how many listen. The session outlives the socket, and a host that connects again goes on with it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::{Micros, close, code, error, time, told};
use crate::bucket::Bucket;
use crate::chat::{self, Said, Sender};
use crate::event::{Event, Reason};
use crate::refused::Refused;
use crate::session::{Hosting, Session};

/// A host that says nothing for so long is taken for gone; its session goes on.
const SILENCE: Duration = Duration::from_secs(60);

/// Serves a host to its end.
pub async fn host(mut socket: WebSocket, session: Arc<Session>, mut hosting: Hosting, resume: String, now: Micros) {
    let mut welcome =
        json!({ "type": "welcome", "session": session.id(), "codec": "opus", "rate": 48_000, "resume": resume });
    welcome["chat"] = session.chat().json();
    if let Some(on) = session.is_recorded() {
        welcome["recording"] = json!(on);
    }
    if socket.send(Message::Text(welcome.to_string().into())).await.is_err() {
        return;
    }
    let (code, reason) = run(&mut socket, &session, &mut hosting, &now).await;
    let _ = timeout(SILENCE, close(&mut socket, code, reason)).await;
}

async fn run(
    socket: &mut WebSocket,
    session: &Arc<Session>,
    hosting: &mut Hosting,
    now: &Micros,
) -> (u16, &'static str) {
    let mut lines = chat::sender(now() / 1000);
    loop {
        tokio::select! {
            event = hosting.events.recv() => {
                let event = match event {
                    Ok(Event::Stopping) => return (code::GOING_AWAY, "stopping"),
                    // Its own audio and words come back too, and it knows whether it is here.
                    Ok(Event::HostReplaced) if !session.is_host(hosting) => return (code::REPLACED, "replaced"),
                    Ok(Event::Frame(_) | Event::Metadata | Event::Host(_) | Event::HostReplaced) => continue,
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) if !session.is_host(hosting) => return (code::REPLACED, "replaced"),
                    Err(RecvError::Lagged(_)) => Event::ChatAnew,
                    Err(RecvError::Closed) => return (code::NORMAL, "ended"),
                };
                let ended = match &event {
                    Event::Ended(Reason::Replaced) => Some((code::REPLACED, "replaced")),
                    Event::Ended(Reason::Stopped | Reason::Timeout) => Some((code::NORMAL, "ended")),
                    _ => None,
                };
                if let Some(text) = told(&event, session) && socket.send(Message::Text(text)).await.is_err() {
                    return (code::NORMAL, "gone");
                }
                if let Some(closed) = ended {
                    return closed;
                }
            }
            message = timeout(SILENCE, socket.recv()) => {
                let Ok(Some(Ok(message))) = message else {
                    if !matches!(message, Ok(None)) {
                        tracing::info!(session = %session.id(), "the connection of a host broke");
                    }
                    return (code::NORMAL, "gone");
                };
                if !session.is_host(hosting) {
                    return (code::REPLACED, "replaced");
                }
                let answer = match heard(session, message, &mut lines, now) {
                    Ok(answer) => answer,
                    Err(Refused::UnknownSession) => return (code::NORMAL, "ended"),
                    Err(Refused::Frame(_)) => return (code::POLICY, "not a frame of Opus"),
                    Err(refused) => Some(error(&refused)),
                };
                if let Some(text) = answer && socket.send(Message::Text(text.into())).await.is_err() {
                    return (code::NORMAL, "gone");
                }
            }
        }
    }
}

/// Does what a host's message asks for; returns what it is answered.
fn heard(
    session: &Arc<Session>,
    message: Message,
    lines: &mut Bucket,
    now: &Micros,
) -> Result<Option<String>, Refused> {
    let came = now();
    match message {
        Message::Binary(bytes) => {
            session.frame(bytes, came / 1000)?;
            Ok(None)
        }
        Message::Text(text) => {
            let said: Value = serde_json::from_str(&text).unwrap_or_default();
            match said["type"].as_str() {
                Some("meta") => session.set_metadata(text.as_bytes(), came / 1000).map(|_| None),
                Some("stop") => {
                    session.end(Reason::Stopped, came / 1000);
                    Ok(None)
                }
                Some("chat") => match said["on"].as_bool() {
                    Some(on) => session.switch_chat(on, came / 1000).map(|()| None),
                    None => {
                        let said = Said::from_json(said)?;
                        session.say(&said, Sender::Socket(lines), true, came / 1000).map(|_| None)
                    }
                },
                Some("record") => session.record(said["on"] == true, came / 1000).map(|_| None),
                Some("time") => Ok(Some(time(&said, came, now()))),
                _ => Ok(None),
            }
        }
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
    }
}
