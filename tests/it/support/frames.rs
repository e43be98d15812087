//! HTTP/2 as bytes: sends any frame, in any order, however wrong (RFC 9113 §4.1).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::in_time;

/// Types of frames (RFC 9113 §6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// The flag END_STREAM.
pub const END_STREAM: u8 = 1;
/// The flag END_HEADERS.
pub const END_HEADERS: u8 = 4;

/// The error code ENHANCE_YOUR_CALM (RFC 9113 §7).
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A connection after its preface, without TLS.
pub struct Frames {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0: the connection.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Returns a frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small payload").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Returns the HEADERS frame of a request for `path`, without a dynamic table.
pub fn request(method: &str, path: &str, stream: u32, flags: u8) -> Vec<u8> {
    let literal = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).expect("a short value");
        assert!(length < 127, "{value}");
        [&[name, length], value.as_bytes()].concat()
    };
    // Names of the static table (RFC 7541, Appendix A): `:scheme: http` whole, the others with a value.
    let block = [literal(0x02, method), vec![0x86], literal(0x04, path), literal(0x01, "gate")].concat();
    frame(HEADERS, flags, stream, &block)
}

impl Frames {
    /// Connects and sends the preface with empty settings.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    /// Connects and sends the preface with these settings, each an identifier and a value (RFC 9113 §6.5.1).
    pub async fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gate accepts");
        let (read, write) = stream.into_split();
        let mut frames = Self { read, write };
        frames.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let parameter = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        frames.send(&frame(SETTINGS, 0, 0, &settings.iter().flat_map(parameter).collect::<Vec<u8>>())).await;
        frames
    }

    /// Sends these bytes; false where the other side takes nothing any more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok()
    }

    /// Reads the next frame; `None` where the connection ends.
    pub async fn next(&mut self) -> Option<Frame> {
        next(&mut self.read).await
    }

    /// Sends `flood` over and over, up to `most` times, while it reads what comes. Returns how often it was sent, and
    /// the error code of the GOAWAY that ended the connection; `None`: it was not ended by one, but survived the flood
    /// or was cut.
    pub async fn flood(self, most: usize, mut flood: impl FnMut(usize) -> Vec<u8>) -> (usize, Option<u32>) {
        let Self { mut read, mut write } = self;
        let reading = tokio::spawn(async move {
            let mut code = None;
            while let Some(frame) = next(&mut read).await {
                if frame.kind == GOAWAY {
                    code = frame.payload[4..8].try_into().ok().map(u32::from_be_bytes);
                }
            }
            code
        });
        let mut sent = 0;
        while sent < most && !reading.is_finished() && write.write_all(&flood(sent)).await.is_ok() {
            sent += 1;
        }
        // A connection that survives is ended by us, so that the reader sees its end.
        let _ = write.shutdown().await;
        let code = in_time("the connection ends", reading).await;
        (sent, code.expect("the reader does not panic"))
    }
}

async fn next(read: &mut OwnedReadHalf) -> Option<Frame> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    read.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
}
