//! Connection of a listener's WebSocket. Messages of the listener are read by tungstenite; those to it go from the
//! session's one copy straight to the connection. A general WebSocket copies each message into a buffer and keeps that:
//! with thousands of listeners most of what they take up. RFC 6455 §5.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Result};

use super::MAX_TEXT;

/// Bytes of the buffer for reading: there may be thousands of listeners, and they say little.
const READ_BUFFER: usize = 1024;
/// Bytes before a message at most (§5.2).
const HEADER: usize = 10;

/// Message to a listener.
pub enum OutgoingMessage {
    /// Text in JSON.
    Text(Arc<str>),
    /// Frame of audio.
    Audio(Bytes),
}

impl OutgoingMessage {
    /// Returns the message's opcode and payload (§5.2).
    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::Text(text) => (0x1, text.as_bytes()),
            Self::Audio(bytes) => (0x2, bytes),
        }
    }
}

/// Connection of a listener after the handshake.
pub struct ListenerSocket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
}

impl ListenerSocket {
    /// Speaks WebSocket on `connection` from here on.
    pub async fn new(connection: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_TEXT))
            .max_frame_size(Some(MAX_TEXT));
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
        Self { stream }
    }

    /// Returns the listener's next message; `None` when it is gone.
    pub async fn recv(&mut self) -> Option<Result<Message>> {
        self.stream.next().await
    }

    /// Sends `messages` in one write, as far as the connection takes them at once. Dropped halfway, it leaves the
    /// connection to be dropped too.
    pub async fn send(&mut self, messages: &[OutgoingMessage]) -> Result<()> {
        // All but the last are small: they are copied into one buffer, and the last goes as it is.
        let Some((last, before)) = messages.split_last() else { return Ok(()) };
        // An answer to a ping may be on its way.
        self.stream.flush().await?;
        let mut head =
            Vec::with_capacity(before.iter().map(|told| HEADER + told.parts().1.len()).sum::<usize>() + HEADER);
        for told in before {
            write_header(&mut head, told);
            head.extend_from_slice(told.parts().1);
        }
        write_header(&mut head, last);
        self.stream.get_mut().write_all_buf(&mut Buf::chain(&head[..], last.parts().1)).await?;
        Ok(())
    }

    /// Closes with a code and a reason.
    pub async fn close(&mut self, code: u16, reason: &'static str) -> Result<()> {
        self.stream.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await
    }
}

/// Writes the header of a whole message that is not masked (§5.2).
fn write_header(head: &mut Vec<u8>, told: &OutgoingMessage) {
    let (opcode, payload) = told.parts();
    head.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => head.push(length),
        (_, Ok(length)) => {
            head.push(126);
            head.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_standard() {
        // RFC 6455 §5.7 has these lengths among its examples.
        for (length, expected) in [
            (5, &b"\x82\x05"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (256, b"\x82\x7e\x01\x00"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            let mut head = Vec::new();
            write_header(&mut head, &OutgoingMessage::Audio(vec![0; length].into()));
            assert_eq!(head, expected, "{length}");
        }
        let mut head = Vec::new();
        write_header(&mut head, &OutgoingMessage::Text("Hello".into()));
        assert_eq!(head, b"\x81\x05");
    }
}
