//! A listener's WebSocket. It holds an index into the session's ring and no queue: who falls behind goes on at the live
//! edge, and who does so again and again is closed.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::socket::{Socket, Told};
use super::{Micros, code, error, hello, time};
use crate::bucket::Bucket;
use crate::chat::{self, Said, Sender};
use crate::event::Event;
use crate::lane::Frame;
use crate::refused::Refused;
use crate::session::{Joined, Session};

/// How long a listener may take to take what it is sent.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// So many gaps ...
const GAPS: usize = 5;
/// ... in so many microseconds are too many.
const GAPS_IN: i64 = 30_000_000;

/// Why a listener's socket ends.
enum End {
    /// The client is gone, or takes nothing.
    Gone,
    /// It is closed, with this code and these words.
    Close(u16, &'static str),
}

struct Listener {
    socket: Socket,
    joined: Joined,
    now: Micros,
    epoch: u32,
    /// The number of the next packet.
    next: u32,
    gaps: VecDeque<i64>,
    questions: Bucket,
    lines: Bucket,
}

/// Serves a listener to its end; returns why it was closed, in a word.
pub async fn listen(socket: Socket, joined: Joined, now: Micros) -> &'static str {
    let (questions, lines) = (Bucket::new(5.0, 20.0, now() / 1000), chat::sender(now() / 1000));
    let mut listener = Listener { socket, joined, now, epoch: 0, next: 0, gaps: VecDeque::new(), questions, lines };
    let end = match listener.begin(None).await {
        Ok(()) => listener.run().await,
        Err(end) => end,
    };
    match end {
        End::Gone => "gone",
        End::Close(code, reason) => {
            let _ = timeout(WRITE_TIME, listener.socket.close(code, reason)).await;
            reason
        }
    }
}

/// The text of an event of `session`; `None` for audio and for what has none.
pub fn told(event: &Event, session: &Session) -> Option<Utf8Bytes> {
    match event {
        Event::Metadata => session.song(),
        Event::Chat(text) => Some(text.clone()),
        Event::ChatAnew => Some(session.chat().text()),
        Event::Recording(on) => Some(json!({ "type": "recording", "on": on }).to_string().into()),
        Event::Count(listeners) => Some(json!({ "type": "count", "listeners": listeners }).to_string().into()),
        Event::Host(here) => Some(json!({ "type": "host", "here": here }).to_string().into()),
        Event::Ended(reason) => Some(json!({ "type": "ended", "reason": reason }).to_string().into()),
        Event::Frame(_) | Event::Stopping | Event::HostReplaced => None,
    }
}

impl Listener {
    async fn run(&mut self) -> End {
        loop {
            let done = tokio::select! {
                event = self.joined.events.recv() => match event {
                    Ok(event) => self.event(event).await,
                    Err(RecvError::Lagged(_)) => self.fell_behind().await,
                    Err(RecvError::Closed) => Err(End::Close(code::NORMAL, "ended")),
                },
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.message(message).await,
                    Some(Err(error)) => {
                        let session = self.joined.session().id();
                        tracing::info!(%session, %error, "the connection of a listener broke");
                        Err(End::Gone)
                    }
                    None => Err(End::Gone),
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Says where the listener stands, with the last of the audio, in one write; `before` goes out first.
    async fn begin(&mut self, before: Option<u32>) -> Result<(), End> {
        let (greeting, snapshot) = self.joined.begin((self.now)() / 1000);
        let mut messages = Vec::with_capacity(4);
        if let Some(from) = before {
            let to = greeting.sequence;
            messages.push(Told::Text(json!({ "type": "gap", "from": from, "to": to }).to_string().into()));
            // Lines may be in the gap too.
            messages.push(Told::Text(greeting.chat.text()));
        }
        if before.is_none() || greeting.epoch.number != self.epoch {
            let text = hello(self.joined.session().id(), self.joined.codec(), &greeting);
            messages.push(Told::Text(text.into()));
        }
        (self.epoch, self.next) = (greeting.epoch.number, greeting.sequence);
        if let Some(frame) = snapshot {
            self.next = frame.end;
            self.joined.sent(&frame.bytes);
            messages.push(Told::Audio(frame.bytes.clone()));
        }
        self.send(&messages).await
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        if let Event::Frame(frame) = &event {
            return self.frame(frame).await;
        }
        if let Some(text) = told(&event, self.joined.session()) {
            self.say(text).await?;
        }
        match event {
            Event::Ended(_) => Err(End::Close(code::NORMAL, "ended")),
            Event::Stopping => Err(End::Close(code::GOING_AWAY, "stopping")),
            _ => Ok(()),
        }
    }

    async fn frame(&mut self, frame: &Frame) -> Result<(), End> {
        if frame.codec != self.joined.codec() {
            return Ok(());
        }
        let mut messages = Vec::with_capacity(2);
        if frame.epoch.number != self.epoch {
            let greeting = self.joined.greet(frame, (self.now)() / 1000);
            let text = hello(self.joined.session().id(), self.joined.codec(), &greeting);
            self.epoch = frame.epoch.number;
            messages.push(Told::Text(text.into()));
        }
        self.next = frame.end;
        self.joined.sent(&frame.bytes);
        messages.push(Told::Audio(frame.bytes.clone()));
        self.send(&messages).await
    }

    async fn fell_behind(&mut self) -> Result<(), End> {
        let now = (self.now)();
        self.joined.fell_behind();
        self.gaps.push_back(now);
        self.gaps.retain(|gap| now - gap < GAPS_IN);
        if self.gaps.len() >= GAPS {
            return Err(End::Close(code::TOO_SLOW, "slow"));
        }
        let from = self.next;
        self.begin(Some(from)).await
    }

    async fn message(&mut self, message: Message) -> Result<(), End> {
        let came = (self.now)();
        match message {
            Message::Text(text) => {
                if self.questions.take(1.0, came / 1000).is_err() {
                    return Err(End::Close(code::POLICY, "flood"));
                }
                let asked: Value = serde_json::from_str(&text).unwrap_or_default();
                match asked["type"].as_str() {
                    Some("time") => {
                        let answer = time(&asked, came, (self.now)());
                        self.say(answer.into()).await
                    }
                    Some("chat") => match self.heard(asked, came / 1000) {
                        Ok(()) => Ok(()),
                        Err(refused) => self.say(error(&refused).into()).await,
                    },
                    // A newer client may say more than we know.
                    _ => Ok(()),
                }
            }
            Message::Close(_) => Err(End::Gone),
            Message::Binary(_) => Err(End::Close(code::POLICY, "binary")),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn heard(&mut self, said: Value, now: i64) -> Result<(), Refused> {
        let said = Said::from_json(said)?;
        self.joined.session().say(&said, Sender::Socket(&mut self.lines), false, now).map(drop)
    }

    async fn say(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.send(&[Told::Text(text)]).await
    }

    async fn send(&mut self, messages: &[Told]) -> Result<(), End> {
        match timeout(WRITE_TIME, self.socket.send(messages)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}
