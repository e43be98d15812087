//! Hosts that send Opus over a WebSocket, and listeners that are pushed to.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes as Binary, Message};

use super::{Beats, Heard, Relay};
use primitives::clock::monotonic_now;

/// Packets of 20 ms that a host puts into a frame, and bytes of one: 96 kbit/s.
const PACKETS: u16 = 5;
const PACKET: usize = 240;
/// What a packet begins with: CELT, 20 ms, stereo (RFC 6716 §3.1).
const HEADER: u8 = 0xfc;
/// The head of a binary frame (docs/share.md).
const HEAD: usize = 20;

/// What hosts and listeners of pushed audio share.
#[derive(Clone)]
pub struct Pushed {
    pub relay: Relay,
    pub end: Instant,
}

type Socket = WebSocketStream<TcpStream>;

impl Pushed {
    /// A host.
    pub async fn host(self, id: u32, share: f64) -> Result<Heard> {
        let mut socket = self.open(&format!("{id:06}/ws?role=host")).await?;
        let (mut heard, mut number) = (Heard::default(), 0_u32);
        let mut beats = Beats::new(Duration::from_millis(20) * u32::from(PACKETS), share, self.end);
        loop {
            tokio::select! {
                more = beats.beat() => {
                    if !more {
                        return Ok(heard);
                    }
                    socket.send(Message::Binary(frame(number))).await?;
                    heard.answers += 1;
                    number = number.wrapping_add(PACKETS.into());
                }
                message = socket.next() => {
                    if let Message::Close(why) = message.context("the host was closed")?? {
                        bail!("the host was closed: {why:?}");
                    }
                }
            }
        }
    }

    /// A listener that is connected.
    pub async fn join(&self, id: u32) -> Result<Listener> {
        Ok(Listener { socket: self.open(&format!("{id:06}/ws")).await?, expected: None, epoch_begins: true })
    }

    async fn open(&self, path: &str) -> Result<Socket> {
        let mut request = format!("ws://{}/api/v1/share/{path}", self.relay.address).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", self.relay.token).parse()?);
        let stream = TcpStream::connect(self.relay.address).await?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        Ok(socket)
    }
}

/// A listener.
pub struct Listener {
    socket: Socket,
    /// The number that comes next.
    expected: Option<u32>,
    epoch_begins: bool,
}

impl Listener {
    /// Listens until `end`; what comes before `from` is not sampled.
    pub async fn listen(mut self, from: Instant, end: Instant) -> Result<Heard> {
        let mut heard = Heard::default();
        loop {
            let message = match tokio::time::timeout_at(end.into(), self.socket.next()).await {
                Err(_) => break,
                Ok(message) => message.context("a listener was closed")??,
            };
            match message {
                Message::Binary(frame) => self.frame(&frame, monotonic_now() >= from, &mut heard)?,
                Message::Text(text) => {
                    heard.gaps += u64::from(text.contains("\"type\":\"gap\""));
                    self.epoch_begins |= text.contains("\"type\":\"hello\"");
                }
                Message::Close(why) => bail!("a listener was closed: {why:?}"),
                _ => {}
            }
        }
        ensure!(heard.answers > 0, "a listener heard nothing");
        Ok(heard)
    }

    fn frame(&mut self, frame: &Binary, sampled: bool, heard: &mut Heard) -> Result<()> {
        let number =
            |from: usize| frame.get(from..from + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let count = frame.get(2..4).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
        let (count, first) = count.zip(number(4)).context("a short frame")?;
        let time = frame
            .get(8..16)
            .and_then(|bytes| bytes.try_into().ok())
            .map(i64::from_be_bytes)
            .context("a short frame")?;
        heard.gaps += u64::from(!self.epoch_begins && self.expected.is_some_and(|expected| expected != first));
        (self.expected, self.epoch_begins) = (Some(first.wrapping_add(count.into())), false);
        let packets = frame.get(HEAD + 2 * usize::from(count)..).context("a short frame")?;
        let right =
            packets.len() == usize::from(count) * PACKET && packets.chunks(PACKET).all(|packet| packet[0] == HEADER);
        heard.wrong += u64::from(!right);
        heard.answers += 1;
        heard.bytes += packets.len() as u64;
        if sampled {
            heard.delays.push(Duration::from_micros(u64::try_from(now() - time).unwrap_or(0)));
        }
        Ok(())
    }
}

/// Microseconds since the Unix epoch: the relay's clock, for it is the same machine.
#[expect(clippy::disallowed_methods, reason = "the load test compares with the relay's time")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A host's frame that begins with packet `number`.
fn frame(number: u32) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + usize::from(PACKETS) * (PACKET + 2));
    frame.put_u8(1);
    frame.put_u8(0);
    frame.put_u16(PACKETS);
    frame.put_u32(number);
    frame.put_i64(0);
    frame.put_u32(number.wrapping_mul(960));
    (0..PACKETS).for_each(|_| frame.put_u16(PACKET as u16));
    for packet in 0..u32::from(PACKETS) {
        frame.put_u8(HEADER);
        frame.put_bytes(number.wrapping_add(packet) as u8, PACKET - 1);
    }
    frame.freeze()
}
