//! WebSocket of a listener. It holds a position in the session's ring of events and no queue: one that falls behind
//! goes on at the live edge, and one that does so again and again is closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::socket::{ListenerSocket, OutgoingMessage};
use super::{MAX_WRITE_TIME, MicrosClock, code, error_message, hello_message, time_message};
use crate::audio::packet_queue::AudioFrame;
use crate::listening_right::{ListeningRight, end_name};
use crate::refusal::Refusal;
use crate::session::chat::{self, ChatPost, ChatSender};
use crate::session::event::SessionEvent;
use crate::session::{ConnectedListener, Session};
use crate::token_bucket::TokenBucket;
use primitives::unix_time::{UnixMicros, UnixMillis};

/// Gaps that close a listener's socket, ...
const MAX_GAPS: usize = 5;
/// ... where they come within this time.
const GAP_WINDOW: Duration = Duration::from_secs(30);

/// End of a listener's socket.
enum SocketEnd {
    /// The client is gone, or takes nothing.
    Gone,
    /// It is closed, with this code and this reason.
    Close(u16, &'static str),
}

struct ListenerConnection {
    socket: ListenerSocket,
    listener: ConnectedListener,
    right: ListeningRight,
    now: MicrosClock,
    epoch: u32,
    /// Number of the next packet.
    next_packet: u32,
    gaps: VecDeque<UnixMicros>,
    message_limit: TokenBucket,
    chat_limit: TokenBucket,
}

/// Serves a listener to its end, which is that of its right at the latest; returns the reason for the metrics.
pub async fn serve_listener(
    socket: ListenerSocket,
    listener: ConnectedListener,
    right: ListeningRight,
    now: MicrosClock,
) -> &'static str {
    let (questions, lines) = (TokenBucket::new(5.0, 20.0, now().to_millis()), chat::sender_limit(now().to_millis()));
    let mut listener = ListenerConnection {
        socket,
        listener,
        right,
        now,
        epoch: 0,
        next_packet: 0,
        gaps: VecDeque::new(),
        message_limit: questions,
        chat_limit: lines,
    };
    let end = match listener.restart_at_live_edge(None).await {
        Ok(()) => listener.run().await,
        Err(end) => end,
    };
    match end {
        SocketEnd::Gone => "gone",
        SocketEnd::Close(code, reason) => {
            let _ = timeout(MAX_WRITE_TIME, listener.socket.close(code, reason)).await;
            reason
        }
    }
}

/// Returns the message about an event of `session`; `None` for audio and for events without one.
pub fn event_message(event: &SessionEvent, session: &Session) -> Option<Arc<str>> {
    match event {
        SessionEvent::MetadataChanged => session.latest_metadata().map(|metadata| Arc::clone(&metadata.push_text)),
        SessionEvent::ChatMessage(text) => Some(Arc::clone(text)),
        SessionEvent::ChatReset => Some(session.chat_snapshot().to_message()),
        SessionEvent::RecordingChanged(on) => Some(json!({ "type": "recording", "on": on }).to_string().into()),
        SessionEvent::ListenerCount(listeners) => {
            Some(json!({ "type": "count", "listeners": listeners }).to_string().into())
        }
        SessionEvent::HostPresence(here) => Some(json!({ "type": "host", "here": here }).to_string().into()),
        SessionEvent::Ended(reason) => Some(json!({ "type": "ended", "reason": reason }).to_string().into()),
        SessionEvent::Frame(_) | SessionEvent::NodeStopping | SessionEvent::HostReplaced => None,
    }
}

impl ListenerConnection {
    async fn run(&mut self) -> SocketEnd {
        loop {
            let done = tokio::select! {
                event = self.listener.events.recv() => match event {
                    Ok(event) => self.send_event(event).await,
                    Err(RecvError::Lagged(_)) => self.recover_from_gap().await,
                    Err(RecvError::Closed) => Err(SocketEnd::Close(code::NORMAL, "ended")),
                },
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.receive(message).await,
                    Some(Err(error)) => {
                        let session = self.listener.session().id();
                        tracing::info!(%session, %error, "the connection of a listener broke");
                        Err(SocketEnd::Gone)
                    }
                    None => Err(SocketEnd::Gone),
                },
                end = self.right.ended() => Err(SocketEnd::Close(code::UNAUTHORIZED, end_name(end))),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Begins at the live edge: sends the greeting and the last of the audio in one write. `before`: the listener fell
    /// behind at that packet, and is told so first.
    async fn restart_at_live_edge(&mut self, before: Option<u32>) -> Result<(), SocketEnd> {
        let (greeting, snapshot) = self.listener.restart_at_live_edge((self.now)().to_millis());
        let mut messages = Vec::with_capacity(4);
        if let Some(from) = before {
            let to = greeting.sequence;
            messages.push(OutgoingMessage::Text(json!({ "type": "gap", "from": from, "to": to }).to_string().into()));
            // Lines may be in the gap too.
            messages.push(OutgoingMessage::Text(greeting.chat.to_message()));
        }
        if before.is_none() || greeting.epoch.number != self.epoch {
            let text = hello_message(self.listener.session().id(), self.listener.codec(), &greeting);
            messages.push(OutgoingMessage::Text(text.into()));
        }
        (self.epoch, self.next_packet) = (greeting.epoch.number, greeting.sequence);
        if let Some(frame) = snapshot {
            self.next_packet = frame.end_sequence;
            self.listener.count_sent(&frame.bytes);
            messages.push(OutgoingMessage::Audio(frame.bytes.clone()));
        }
        self.send(&messages).await
    }

    async fn send_event(&mut self, event: SessionEvent) -> Result<(), SocketEnd> {
        if let SessionEvent::Frame(frame) = &event {
            return self.send_frame(frame).await;
        }
        if let Some(text) = event_message(&event, self.listener.session()) {
            self.send_text(text).await?;
        }
        match event {
            SessionEvent::Ended(_) => Err(SocketEnd::Close(code::NORMAL, "ended")),
            SessionEvent::NodeStopping => Err(SocketEnd::Close(code::GOING_AWAY, "stopping")),
            _ => Ok(()),
        }
    }

    async fn send_frame(&mut self, frame: &AudioFrame) -> Result<(), SocketEnd> {
        // Both codecs are in the one ring of events.
        if frame.codec != self.listener.codec() {
            return Ok(());
        }
        let mut messages = Vec::with_capacity(2);
        if frame.epoch.number != self.epoch {
            let greeting = self.listener.greet_epoch(frame, (self.now)().to_millis());
            let text = hello_message(self.listener.session().id(), self.listener.codec(), &greeting);
            self.epoch = frame.epoch.number;
            messages.push(OutgoingMessage::Text(text.into()));
        }
        self.next_packet = frame.end_sequence;
        self.listener.count_sent(&frame.bytes);
        messages.push(OutgoingMessage::Audio(frame.bytes.clone()));
        self.send(&messages).await
    }

    async fn recover_from_gap(&mut self) -> Result<(), SocketEnd> {
        let now = (self.now)();
        self.listener.count_gap();
        self.gaps.push_back(now);
        self.gaps.retain(|gap| now - *gap < GAP_WINDOW);
        // It would go on like this, and hear nothing that is worth it.
        if self.gaps.len() >= MAX_GAPS {
            return Err(SocketEnd::Close(code::TOO_SLOW, "slow"));
        }
        let from = self.next_packet;
        self.restart_at_live_edge(Some(from)).await
    }

    async fn receive(&mut self, message: Message) -> Result<(), SocketEnd> {
        let came = (self.now)();
        match message {
            Message::Text(text) => {
                if self.message_limit.take(1.0, came.to_millis()).is_err() {
                    return Err(SocketEnd::Close(code::POLICY, "flood"));
                }
                let asked: Value = serde_json::from_str(&text).unwrap_or_default();
                match asked["type"].as_str() {
                    Some("time") => {
                        let answer = time_message(&asked, came, (self.now)());
                        self.send_text(answer.into()).await
                    }
                    Some("chat") => match self.post_chat(asked, came.to_millis()) {
                        Ok(()) => Ok(()),
                        Err(refused) => self.send_text(error_message(&refused).into()).await,
                    },
                    // A newer client may say more than we know.
                    _ => Ok(()),
                }
            }
            Message::Close(_) => Err(SocketEnd::Gone),
            // Only hosts send audio.
            Message::Binary(_) => Err(SocketEnd::Close(code::POLICY, "binary")),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn post_chat(&mut self, said: Value, now: UnixMillis) -> Result<(), Refusal> {
        let said = ChatPost::from_json(said)?;
        self.listener.session().post_chat(&said, ChatSender::Socket(&mut self.chat_limit), false, now).map(drop)
    }

    async fn send_text(&mut self, text: Arc<str>) -> Result<(), SocketEnd> {
        self.send(&[OutgoingMessage::Text(text)]).await
    }

    async fn send(&mut self, messages: &[OutgoingMessage]) -> Result<(), SocketEnd> {
        match timeout(MAX_WRITE_TIME, self.socket.send(messages)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(SocketEnd::Gone),
        }
    }
}
