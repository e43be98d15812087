//! WebSocket of a host: Opus in binary frames, `{"type":"meta",…}` with the document's metadata, `{"type":"stop"}`; the
//! host is told how many listen. The session outlives the socket, and a host that connects again goes on with it.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, interval_at, sleep};

use super::{MicrosClock, close, code, error_message, event_message, send, time_message};
use crate::refusal::Refusal;
use crate::session::chat::{self, ChatPost, ChatSender};
use crate::session::event::{EndReason, SessionEvent};
use crate::session::{HostConnection, MAX_SMALL_TEXT, Session};
use crate::token_bucket::TokenBucket;
use primitives::unix_time::UnixMicros;

/// Time after which a host that says nothing is taken for gone; its session goes on.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// Interval of pings, which a host that has nothing to send answers all the same (RFC 6455 §5.5.2).
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Code and reason by which a socket is closed.
type SocketClose = (u16, &'static str);

/// The close of a socket whose host is gone, or takes nothing.
const GONE: SocketClose = (code::NORMAL, "gone");

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
    if !send(&mut socket, Message::Text(welcome.to_string().into())).await {
        return;
    }
    let (code, reason) = run(&mut socket, &session, &mut connection, &now).await;
    close(&mut socket, code, reason).await;
}

async fn run(
    socket: &mut WebSocket,
    session: &Arc<Session>,
    connection: &mut HostConnection,
    now: &MicrosClock,
) -> SocketClose {
    let mut lines = chat::sender_limit(now().to_millis());
    // Outside the loop: only what the host sends moves it, and not what it is sent.
    let mut silence = pin!(sleep(MAX_SILENCE));
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    loop {
        let (answer, ended) = tokio::select! {
            event = connection.events.recv() => match event_answer(event, session, connection) {
                Ok(answer) => answer,
                Err(closed) => return closed,
            },
            message = socket.recv() => {
                let Some(Ok(message)) = message else {
                    if message.is_some() {
                        log_break(session);
                    }
                    return GONE;
                };
                silence.as_mut().reset(Instant::now() + MAX_SILENCE);
                // Its messages must not mix with those of the socket that took its place.
                if !session.is_host(connection) {
                    return (code::REPLACED, "replaced");
                }
                match handle_message(session, message, &mut lines, now) {
                    Ok(answer) => (answer.map(|text| Message::Text(text.into())), None),
                    Err(Refusal::UnknownSession) => return (code::NORMAL, "ended"),
                    Err(Refusal::Frame(_)) => return (code::POLICY, "not a frame of Opus"),
                    Err(Refusal::TextFlood) => return (code::POLICY, "flood"),
                    Err(refused) => (Some(Message::Text(error_message(&refused).into())), None),
                }
            }
            _ = pings.tick() => (Some(Message::Ping(Bytes::new())), None),
            () = &mut silence => {
                log_break(session);
                return GONE;
            }
        };
        if let Some(answer) = answer
            && !send(socket, answer).await
        {
            return GONE;
        }
        if let Some(closed) = ended {
            return closed;
        }
    }
}

fn log_break(session: &Session) {
    tracing::info!(session = %session.id(), "the connection of a host broke");
}

/// Returns the message about an event, and the close that follows it; an error closes at once.
fn event_answer(
    event: Result<SessionEvent, RecvError>,
    session: &Session,
    connection: &HostConnection,
) -> Result<(Option<Message>, Option<SocketClose>), SocketClose> {
    let event = match event {
        Ok(SessionEvent::NodeStopping) => return Err((code::GOING_AWAY, "stopping")),
        // Its own audio and words come back too, and it knows whether it is here.
        Ok(SessionEvent::HostReplaced) if !session.is_host(connection) => return Err((code::REPLACED, "replaced")),
        Ok(
            SessionEvent::Frame(_)
            | SessionEvent::MetadataChanged
            | SessionEvent::HostPresence(_)
            | SessionEvent::HostReplaced,
        ) => return Ok((None, None)),
        Ok(event) => event,
        // The event that replaced it may be among those that were missed.
        Err(RecvError::Lagged(_)) if !session.is_host(connection) => return Err((code::REPLACED, "replaced")),
        Err(RecvError::Lagged(_)) => SessionEvent::ChatReset,
        Err(RecvError::Closed) => return Err((code::NORMAL, "ended")),
    };
    let ended = match &event {
        SessionEvent::Ended(EndReason::Replaced) => Some((code::REPLACED, "replaced")),
        SessionEvent::Ended(EndReason::Stopped | EndReason::Timeout) => Some((code::NORMAL, "ended")),
        _ => None,
    };
    Ok((event_message(&event, session).map(|text| Message::Text((&*text).into())), ended))
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
