//! A player over HTTP/1.1 without a session of Pingora: for GET and HEAD of objects, and for the modules' paths. A
//! session costs 140 KB and a copy of them per request, more than everything else that a small or a paused answer needs. RFC 9112.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::time::timeout;
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::failure::Failure;
use super::listener::UNSENT;
use super::player::{Player, SMALL_PIECE};
use super::request_body::{self, Unread};
use super::socket::Socket;

/// Bytes of further requests that are kept while an answer is under way.
const MAX_AHEAD: usize = 64 * 1024;

/// One request and its answer.
pub struct Direct<'a> {
    socket: &'a mut Socket,
    /// What the client has sent beyond this request.
    ahead: &'a mut BytesMut,
    request: RequestHeader,
    raw: Bytes,
    write_timeout: Duration,
    keep_alive: bool,
    half_closed: bool,
    /// The request's body, until it is read.
    unread: Option<Unread>,
    answer: Answer,
    /// The answer's head until something follows it: both leave in one write.
    head: Vec<u8>,
    sent: usize,
}

/// How far the answer is.
enum Answer {
    None,
    /// Begun, with so many bytes to come, or chunked.
    Begun(StatusCode, Option<u64>),
}

impl<'a> Direct<'a> {
    /// The request `request`, read from `socket` as `raw`; `ahead` is what came behind it.
    pub fn new(
        socket: &'a mut Socket,
        ahead: &'a mut BytesMut,
        request: RequestHeader,
        raw: Bytes,
        keep_alive: bool,
        write_timeout: Duration,
    ) -> Self {
        let unread = Unread::of(&request.headers);
        let (half_closed, answer, head) = (false, Answer::None, Vec::new());
        Self { socket, ahead, request, raw, write_timeout, keep_alive, half_closed, unread, answer, head, sent: 0 }
    }

    /// Whether the connection can take another request: the answer is whole, and both sides want to.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive
            && !self.half_closed
            && self.unread.is_none()
            && matches!(self.answer, Answer::Begun(_, Some(0)))
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let head = std::mem::take(&mut self.head);
        let sending = async {
            if head.is_empty() {
                self.socket.write_all(bytes).await?;
            } else {
                self.socket.write_all_buf(&mut Buf::chain(&head[..], bytes)).await?;
            }
            self.socket.flush().await
        };
        match timeout(self.write_timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Failure::ClientLeft),
            Err(_) => Err(Failure::ClientStalled),
        }
    }

    /// The length of the body that follows `head`; `None`: chunked.
    fn body_length(&self, head: &ResponseHeader) -> Option<u64> {
        let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || self.request.method == Method::HEAD {
            return Some(0);
        }
        head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

impl Player for Direct<'_> {
    fn request(&self) -> &RequestHeader {
        &self.request
    }

    fn raw_head(&self) -> Option<Bytes> {
        Some(self.raw.clone())
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.socket.peer())
    }

    fn is_tls(&self) -> bool {
        self.socket.is_tls()
    }

    fn answered_with(&self) -> Option<StatusCode> {
        match self.answer {
            Answer::None => None,
            Answer::Begun(status, _) => Some(status),
        }
    }

    fn sent(&self) -> usize {
        self.sent
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// As much as the system takes before it makes a write wait. Twice that for a client that is seen to keep up: most of it
    /// is on its way while the rest is written. At first less: a client that has only filled its window may be about to
    /// pause. The system is asked only where that decides anything.
    fn room(&self) -> usize {
        let unsent = match self.answer {
            Answer::Begun(_, Some(left)) if left <= SMALL_PIECE as u64 => return SMALL_PIECE,
            _ if self.sent == 0 => 0,
            _ => self.socket.unsent().unwrap_or(UNSENT),
        };
        let known = self.socket.has_taken_answers || self.sent >= 4 * UNSENT;
        match (known, UNSENT.saturating_sub(unsent)) {
            (true, UNSENT) => 2 * UNSENT,
            // In steps, for buffers to be used again.
            (true, room) => (room / SMALL_PIECE).max(1) * SMALL_PIECE,
            (false, room) => (room / SMALL_PIECE).clamp(1, UNSENT / 2 / SMALL_PIECE) * SMALL_PIECE,
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        let counted = matches!(self.answer, Answer::Begun(_, Some(_)));
        self.socket.plain().filter(|_| counted && self.head.is_empty())
    }

    fn passed(&mut self, count: usize) {
        if let Answer::Begun(_, Some(left)) = &mut self.answer {
            *left = left.saturating_sub(count as u64);
        }
        self.sent += count;
    }

    async fn write_head(&mut self, head: ResponseHeader) -> Result<()> {
        let length = self.body_length(&head);
        let mut wire = Vec::with_capacity(512);
        wire.extend_from_slice(b"HTTP/1.1 ");
        wire.extend_from_slice(head.status.as_str().as_bytes());
        wire.extend_from_slice(b" ");
        wire.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes());
        wire.extend_from_slice(b"\r\nDate: ");
        wire.extend_from_slice(date().as_bytes());
        if length.is_none() {
            wire.extend_from_slice(b"\r\nTransfer-Encoding: chunked");
        }
        let connection: &[u8] = if self.keep_alive { b"keep-alive" } else { b"close" };
        wire.extend_from_slice(b"\r\nConnection: ");
        wire.extend_from_slice(connection);
        wire.extend_from_slice(b"\r\n");
        head.header_to_h1_wire(&mut wire);
        wire.extend_from_slice(b"\r\n");
        self.answer = Answer::Begun(head.status, length);
        self.head = wire;
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.answer {
            Answer::Begun(_, Some(left)) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(Failure::Internal)?;
                self.send(bytes).await
            }
            Answer::Begun(_, None) => {
                self.head.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                self.send(bytes).await?;
                self.head.extend_from_slice(b"\r\n");
                Ok(())
            }
            Answer::None => Err(Failure::Internal),
        }?;
        self.sent += bytes.len();
        Ok(())
    }

    async fn write_kept(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.write(&bytes).await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.head.is_empty() { Ok(()) } else { self.send(b"").await }
    }

    async fn end(&mut self) -> Result<()> {
        if let Answer::Begun(_, length @ None) = &mut self.answer {
            *length = Some(0);
            self.head.extend_from_slice(b"0\r\n\r\n");
        }
        if self.head.is_empty() {
            return Ok(());
        }
        self.send(b"").await.map_err(|_| gone())
    }

    fn has_read_body(&mut self) -> bool {
        self.unread.is_none()
    }

    async fn read_piece(&mut self) -> Result<Option<Bytes>, Failure> {
        if let Some(unread) = self.unread.as_mut().filter(|unread| unread.waits()) {
            unread.awaited();
            if self.ahead.is_empty() {
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
        }
        let Some(unread) = &mut self.unread else { return Ok(None) };
        let piece = request_body::piece(self.socket, self.ahead, unread).await;
        if unread.is_over() {
            self.unread = None;
        }
        piece
    }

    async fn drain(&mut self) {
        // Who waits for leave to send does not send any more.
        if let Some(unread) = self.unread.as_mut().filter(|unread| !unread.waits()) {
            request_body::drain(self.socket, self.ahead, unread).await;
        }
    }

    async fn abort(&mut self) {
        // Chunked or short of its length, the answer is visibly not whole once the connection is closed.
        self.keep_alive = false;
        if !self.head.is_empty() {
            // A head that nothing followed is still news; whom it does not reach is gone.
            let _ = self.send(b"").await;
        }
    }

    async fn left(&mut self) {
        loop {
            if self.half_closed || self.ahead.len() >= MAX_AHEAD {
                std::future::pending::<()>().await;
            }
            match self.socket.read_buf(self.ahead).await {
                Ok(0) => self.half_closed = true,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    async fn hung_up(&mut self) {
        while !self.half_closed && self.ahead.len() < MAX_AHEAD {
            match self.socket.read_buf(self.ahead).await {
                Ok(0) => self.half_closed = true,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        if !self.half_closed {
            std::future::pending::<()>().await;
        }
    }
}

/// The time as a `Date` header names it. Formatting costs less than keeping a cached one in step.
#[expect(clippy::disallowed_methods, reason = "the time of the answer, which no test moves")]
fn date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

fn gone() -> Box<Error> {
    Error::because(ErrorType::WriteError, "writing the answer", io::Error::from(io::ErrorKind::BrokenPipe))
}
