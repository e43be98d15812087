//! The status line of SHOUTcast v1, `ICY 200 OK`, which is none of HTTP: it is read as `HTTP/1.0 200 OK`, and every byte after
//! it as it came.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Beginning of SHOUTcast's status line.
const ICY: &[u8; 4] = b"ICY ";
/// What stands in its place.
const HTTP: &[u8] = b"HTTP/1.0 ";

/// Stream whose first bytes are looked at.
pub struct StatusLineReader<S> {
    stream: S,
    state: ReaderState,
}

enum ReaderState {
    /// So many of the first bytes are here.
    Beginning([u8; 4], usize),
    /// These are to be given out.
    Held(Vec<u8>),
    Through,
}

impl<S> StatusLineReader<S> {
    /// Creates a reader of `stream`, of which nothing was read.
    pub fn new(stream: S) -> Self {
        Self { stream, state: ReaderState::Beginning([0; 4], 0) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StatusLineReader<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                ReaderState::Beginning(bytes, count) => {
                    let mut rest = ReadBuf::new(&mut bytes[*count..]);
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut rest))?;
                    let read = rest.filled().len();
                    *count += read;
                    if *count == bytes.len() && bytes == ICY {
                        this.state = ReaderState::Held(HTTP.to_vec());
                    } else if *count == bytes.len() || read == 0 {
                        this.state = ReaderState::Held(bytes[..*count].to_vec());
                    }
                }
                ReaderState::Held(held) if held.is_empty() => this.state = ReaderState::Through,
                ReaderState::Held(held) => {
                    let given = held.len().min(buf.remaining());
                    buf.put_slice(&held[..given]);
                    held.drain(..given);
                    return Poll::Ready(Ok(()));
                }
                ReaderState::Through => return Pin::new(&mut this.stream).poll_read(cx, buf),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StatusLineReader<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn only_the_status_line_of_shoutcast_is_rewritten() {
        for (sent, read) in [
            ("ICY 200 OK\r\n\r\nICY sound", "HTTP/1.0 200 OK\r\n\r\nICY sound"),
            ("HTTP/1.1 200 OK\r\n\r\nICY sound", "HTTP/1.1 200 OK\r\n\r\nICY sound"),
            ("ICY", "ICY"),
            ("", ""),
        ] {
            for piece in [1, 3, 100] {
                let (mut server, client) = duplex(1000);
                for bytes in sent.as_bytes().chunks(piece) {
                    server.write_all(bytes).await.expect("room");
                }
                drop(server);
                let mut text = String::new();
                StatusLineReader::new(client).read_to_string(&mut text).await.expect("text");
                assert_eq!(text, read);
            }
        }
    }
}
