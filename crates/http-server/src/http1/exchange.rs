//! One HTTP/1.1 request and its response (RFC 9112). Our own because a paused response must hold no more than a piece
//! of its body, and because in the clear bodies go from socket to socket.

use std::future::pending;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version, header};
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::request_body::{BodyStep, RequestBodyDecoder};
use super::response_head::{date, status_line, write_fields};
use crate::DRAIN_TIMEOUT;
use crate::connection_guard::ConnectionGuard;
use crate::connection_info::ConnectionInfo;
use crate::connection_limits::{ConnectionLimits, DataRateMeter};
use crate::downstream::{Downstream, DownstreamError, SMALL_PIECE};
use crate::listener::MAX_UNSENT_BYTES;
use crate::socket::{ClientSocket, HEAD_BUFFER, RewoundSocket};
use crate::write_deadline::WriteDeadline;

/// Time that a client which sends no more may wait for a response that has not begun.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of further requests that are kept while a response is under way.
const MAX_READ_AHEAD: usize = 64 * 1024;

/// One request and its response.
pub struct Http1Exchange<'a> {
    socket: &'a mut ClientSocket,
    request: Parts,
    body: RequestBodyDecoder,
    body_meter: DataRateMeter,
    body_read: u64,
    limits: &'a ConnectionLimits,
    connection: &'a ConnectionGuard,
    keep_alive: bool,
    /// A write failed or was given up: no byte may follow it.
    is_broken: bool,
    answer: ResponseState,
    /// Bytes before the next piece of the body, the response's head first: they leave in one write with it.
    pending: Vec<u8>,
    sent: u64,
}

/// Outcome of watching the client.
#[derive(PartialEq, Eq)]
enum ClientCloseState {
    /// It is gone.
    Gone,
    /// It sends no more.
    HalfClosed,
}

/// Progress of the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    None,
    Begun(StatusCode, ResponseFraming),
}

/// End of the response's body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseFraming {
    /// After so many more bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection: for HTTP/1.0, and for other protocols.
    UntilClose,
    /// Behind us.
    Ended,
}

impl<'a> Http1Exchange<'a> {
    /// Makes the exchange of `request`, whose head was read from `socket`; `keep_alive`: the client wants to go on.
    pub fn new(
        socket: &'a mut ClientSocket,
        request: Parts,
        keep_alive: bool,
        limits: &'a ConnectionLimits,
        connection: &'a ConnectionGuard,
    ) -> Self {
        Self {
            socket,
            body: RequestBodyDecoder::from_headers(&request.headers),
            body_meter: DataRateMeter::default(),
            body_read: 0,
            request,
            limits,
            connection,
            keep_alive,
            is_broken: false,
            answer: ResponseState::None,
            pending: Vec::new(),
            sent: 0,
        }
    }

    /// Returns true where bytes are missing on the connection, so that nothing may follow on it.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Returns true where the connection can take another request: the response is whole, and both sides want to.
    pub fn is_reusable(&self) -> bool {
        let is_whole =
            matches!(self.answer, ResponseState::Begun(_, ResponseFraming::Length(0) | ResponseFraming::Ended));
        self.keep_alive && !self.is_broken && self.body.is_over() && is_whole
    }

    /// Sends everything pending, then `bytes`, then `tail`.
    async fn send(&mut self, bytes: &[u8], tail: &[u8]) -> Result<(), DownstreamError> {
        if self.is_broken {
            return Err(DownstreamError::Closed);
        }
        // Broken until all is written, also where this future is dropped in the middle.
        self.is_broken = true;
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && tail.is_empty() {
            self.socket.write_all(&mut &bytes[..], self.limits).await?;
        } else {
            let mut all = Buf::chain(&pending[..], bytes).chain(tail);
            self.socket.write_all(&mut all, self.limits).await?;
        }
        self.is_broken = false;
        Ok(())
    }

    /// Returns the framing of the response that begins with `status` and `headers` (RFC 9112 §6.3).
    fn framing(&self, status: StatusCode, headers: &HeaderMap) -> ResponseFraming {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return ResponseFraming::UntilClose;
        }
        // No content, whatever the headers say (RFC 9110 §6.4.1).
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || self.request.method == Method::HEAD {
            return ResponseFraming::Length(0);
        }
        let length = || headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        match length() {
            Some(length) => ResponseFraming::Length(length),
            None if self.request.version == Version::HTTP_11 => ResponseFraming::Chunked,
            // HTTP/1.0 has no chunks (RFC 9112 §6.1).
            None => ResponseFraming::UntilClose,
        }
    }

    /// Reads ahead until the client has half-closed or gone. Can be dropped and called again.
    async fn watch(&mut self) -> ClientCloseState {
        while !self.socket.is_half_closed && self.socket.read_ahead.len() < MAX_READ_AHEAD {
            // Most clients send nothing more: no buffer waits for it.
            let read = match self.socket.read_ahead.is_empty() {
                true => self.socket.first_read().await,
                false => self.socket.read_more(HEAD_BUFFER).await,
            };
            if read.is_err() {
                return ClientCloseState::Gone;
            }
        }
        if !self.socket.is_half_closed {
            // It has sent more than is read: what becomes of it will be seen when its answer is written.
            pending::<()>().await;
        }
        ClientCloseState::HalfClosed
    }
}

impl Downstream for Http1Exchange<'_> {
    fn request(&self) -> &Parts {
        &self.request
    }

    fn connection(&self) -> &ConnectionInfo {
        self.socket.info()
    }

    fn status(&self) -> Option<StatusCode> {
        match self.answer {
            ResponseState::None => None,
            ResponseState::Begun(status, _) => Some(status),
        }
    }

    fn body_sent(&self) -> u64 {
        self.sent
    }

    /// Returns as much as the system takes before it makes a write wait. Twice that for a client that is seen to keep
    /// up: most of it is on its way while the rest is written. At first less: a client that has only filled its window
    /// may be about to pause. The system is asked only where that decides anything.
    fn writable_bytes(&self) -> usize {
        let unsent = match self.answer {
            ResponseState::Begun(_, ResponseFraming::Length(left)) if left <= SMALL_PIECE as u64 => return SMALL_PIECE,
            _ if self.sent == 0 => 0,
            _ => self.socket.unsent().unwrap_or(MAX_UNSENT_BYTES),
        };
        let known = self.socket.has_taken_answers || self.sent >= 4 * MAX_UNSENT_BYTES as u64;
        match (known, MAX_UNSENT_BYTES.saturating_sub(unsent)) {
            (true, MAX_UNSENT_BYTES) => 2 * MAX_UNSENT_BYTES,
            // In steps, for buffers to be used again.
            (true, room) => (room / SMALL_PIECE).max(1) * SMALL_PIECE,
            (false, room) => (room / SMALL_PIECE).clamp(1, MAX_UNSENT_BYTES / 2 / SMALL_PIECE) * SMALL_PIECE,
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        let counted = matches!(self.answer, ResponseState::Begun(_, ResponseFraming::Length(_)));
        // Only a body of known length is sent without framing, and only after what is pending.
        self.socket.plain().filter(|_| counted && self.pending.is_empty() && !self.is_broken)
    }

    fn wrote_to_socket(&mut self, count: usize) {
        if let ResponseState::Begun(_, ResponseFraming::Length(left)) = &mut self.answer {
            *left = left.saturating_sub(count as u64);
        }
        self.sent += count as u64;
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    async fn write_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), DownstreamError> {
        // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
        if self.request.version != Version::HTTP_11 || self.answer != ResponseState::None {
            return Ok(());
        }
        status_line(&mut self.pending, status);
        write_fields(&mut self.pending, headers);
        self.send(b"", b"").await
    }

    async fn write_head(&mut self, status: StatusCode, headers: HeaderMap) -> Result<(), DownstreamError> {
        if self.answer != ResponseState::None {
            return Err(DownstreamError::Misused);
        }
        let framing = self.framing(status, &headers);
        self.answer = ResponseState::Begun(status, framing);
        // The end of the connection is the end of such a body. The drain is asked for here, because it may have begun while
        // the answer was made.
        self.keep_alive &= framing != ResponseFraming::UntilClose && !self.connection.is_draining();
        let wire = &mut self.pending;
        // Enough for most heads, which are then allocated once.
        wire.reserve(512);
        status_line(wire, status);
        // A server with a clock sends `Date` (RFC 9110 §6.6.1).
        if !headers.contains_key(header::DATE) {
            wire.extend_from_slice(b"Date: ");
            wire.extend_from_slice(date().as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        if let Some(hsts) = self.socket.info().missing_hsts(&headers) {
            wire.extend_from_slice(b"Strict-Transport-Security: ");
            wire.extend_from_slice(hsts.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        if framing == ResponseFraming::Chunked {
            wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        wire.extend_from_slice(match (status, self.keep_alive) {
            (StatusCode::SWITCHING_PROTOCOLS, _) => b"Connection: Upgrade\r\n",
            // HTTP/1.0 clients go on only where this says so; for HTTP/1.1 it is the default (RFC 9112 §9.3).
            (_, true) => b"Connection: keep-alive\r\n",
            (_, false) => b"Connection: close\r\n",
        });
        write_fields(wire, &headers);
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), DownstreamError> {
        match &mut self.answer {
            // An empty chunk would be the last one.
            ResponseState::Begun(..) if bytes.is_empty() => return Ok(()),
            ResponseState::Begun(_, ResponseFraming::Length(left)) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(DownstreamError::Misused)?;
                self.send(bytes, b"").await
            }
            ResponseState::Begun(_, ResponseFraming::Chunked) => {
                self.pending.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                self.send(bytes, b"\r\n").await
            }
            ResponseState::Begun(_, ResponseFraming::UntilClose) => self.send(bytes, b"").await,
            ResponseState::None | ResponseState::Begun(_, ResponseFraming::Ended) => Err(DownstreamError::Misused),
        }?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    async fn write_owned(&mut self, bytes: Bytes) -> Result<(), DownstreamError> {
        self.write(&bytes).await
    }

    async fn flush(&mut self) -> Result<(), DownstreamError> {
        if self.pending.is_empty() { Ok(()) } else { self.send(b"", b"").await }
    }

    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), DownstreamError> {
        let ResponseState::Begun(status, framing) = self.answer else { return Err(DownstreamError::Misused) };
        match framing {
            ResponseFraming::Chunked => {
                self.pending.extend_from_slice(b"0\r\n");
                write_fields(&mut self.pending, &trailers.unwrap_or_default());
            }
            ResponseFraming::Length(1..) => return Err(DownstreamError::Misused),
            ResponseFraming::Length(0) | ResponseFraming::UntilClose | ResponseFraming::Ended => {}
        }
        self.answer = ResponseState::Begun(status, ResponseFraming::Ended);
        self.flush().await
    }

    async fn abort(&mut self) {
        // Chunked or short of its length, the response is visibly not whole once the connection is closed; else only a
        // reset tells.
        self.keep_alive = false;
        if !self.pending.is_empty() {
            // A head that nothing followed is still news; a client that it does not reach is gone.
            let _ = self.send(b"", b"").await;
        }
        if matches!(self.answer, ResponseState::Begun(_, ResponseFraming::UntilClose)) {
            self.socket.reset_on_close();
            self.is_broken = true;
        }
    }

    fn has_read_body(&self) -> bool {
        self.body.is_over()
    }

    fn awaits_continue(&self) -> bool {
        self.body.awaits_continue()
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>, DownstreamError> {
        if self.body.awaits_continue() {
            self.body.continued();
            // No 100 is needed for a client that sends already (RFC 9110 §10.1.1).
            if self.socket.read_ahead.is_empty() {
                self.write_interim(StatusCode::CONTINUE, &HeaderMap::new()).await?;
            }
        }
        loop {
            match self.body.next(&mut self.socket.read_ahead) {
                Ok(BodyStep::Data(bytes)) => return Ok(Some(bytes)),
                Ok(BodyStep::End) => return Ok(None),
                Ok(BodyStep::NeedsMore(room)) => {
                    let (limits, so_far) = (self.limits, self.body_read);
                    let more = self.socket.read_more(room);
                    match self.body_meter.wait(limits.body_rate, limits.body, || so_far, more).await {
                        Some(Ok(read @ 1..)) => self.body_read += read as u64,
                        Some(_) => return Err(DownstreamError::Closed),
                        None => return Err(DownstreamError::Stalled),
                    }
                }
                Err(_) => {
                    // Where the next request begins cannot be known any more.
                    self.keep_alive = false;
                    return Err(DownstreamError::MalformedBody("a chunk of the request's body is malformed"));
                }
            }
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.body.take_trailers()
    }

    async fn drain(&mut self) {
        // A client that waits for leave to send does not send any more.
        if !self.body.is_over() && !self.body.awaits_continue() {
            let rest = async { while let Ok(Some(_)) = self.read_body().await {} };
            // One that takes longer loses the answer with the connection.
            let _ = timeout(DRAIN_TIMEOUT, rest).await;
        }
    }

    async fn closed(&mut self) {
        if self.watch().await == ClientCloseState::HalfClosed {
            // A client may half-close after its request and still read the response.
            pending::<()>().await;
        }
    }

    async fn closed_with_grace(&mut self) {
        if self.watch().await == ClientCloseState::HalfClosed {
            tokio::time::sleep(HALF_CLOSED_TIMEOUT).await;
        }
    }

    async fn closed_or_half_closed(&mut self) {
        self.watch().await;
    }

    fn tunnel(&mut self) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send> {
        Some(WriteDeadline::new(RewoundSocket::borrowed(self.socket), self.limits))
    }
}
