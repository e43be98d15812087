//! One HTTP/2 stream: a request and its response (RFC 9113 §8).

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use super::ClientConnection;
use super::stalled_streams::{StalledStream, StalledStreamRequest};
use crate::DRAIN_TIMEOUT;
use crate::connection_info::ConnectionInfo;
use crate::connection_limits::DataRateMeter;
use crate::downstream::{BodyReadiness, Downstream, DownstreamError};
use crate::http1::date;
use http_semantics::headers::expects_continue;

/// One request and its response.
pub struct Http2Exchange {
    request: Parts,
    request_body: RecvStream,
    body_meter: DataRateMeter,
    body_read: u64,
    trailers: Option<HeaderMap>,
    awaits_continue: bool,
    respond: SendResponse<Bytes>,
    client: ClientConnection,
    status: Option<StatusCode>,
    /// The response's head until something follows it: a response without a body is one frame.
    head: Option<Response<()>>,
    /// The response's body, once the head is sent.
    body: Option<SendStream<Bytes>>,
    /// Bytes of the body to come, where they are known.
    left: Option<u64>,
    is_ended: bool,
    sent: u64,
    write_meter: DataRateMeter,
    /// The stream's place among those that are stalled, while it is.
    stalled: Option<StalledStream>,
}

impl Http2Exchange {
    /// Makes the exchange of a stream of `client`.
    pub fn new(request: Parts, body: RecvStream, respond: SendResponse<Bytes>, client: ClientConnection) -> Self {
        let awaits_continue = !body.is_end_stream() && expects_continue(&request.headers);
        let write_meter = DataRateMeter::new(client.sent.load(Ordering::Relaxed));
        Self {
            request,
            request_body: body,
            body_meter: DataRateMeter::default(),
            body_read: 0,
            trailers: None,
            awaits_continue,
            respond,
            client,
            status: None,
            head: None,
            body: None,
            left: None,
            is_ended: false,
            sent: 0,
            write_meter,
            stalled: None,
        }
    }

    /// Sends the head where it was not sent yet; `end`: nothing follows.
    fn send_head(&mut self, end: bool) -> Result<(), DownstreamError> {
        if let Some(head) = self.head.take() {
            let body = self.respond.send_response(head, end).map_err(|_| DownstreamError::Closed)?;
            self.body = Some(body);
        }
        Ok(())
    }

    /// Waits for room in the flow-control windows of stream and connection (RFC 9113 §5.2), of which `wanted` bytes are
    /// reserved. Where streams that wait keep too much in memory, it may resolve before there is room; this one keeps
    /// `kept` bytes.
    async fn room(&mut self, wanted: usize, kept: usize) -> Result<BodyReadiness, DownstreamError> {
        let (limits, sent) = (&self.client.limits, &self.client.sent);
        let body = self.body.as_mut().ok_or(DownstreamError::Misused)?;
        body.reserve_capacity(wanted);
        if body.capacity() > 0 {
            self.stalled = None;
            return Ok(BodyReadiness::Ready);
        }
        let stalled = self.stalled.get_or_insert_with(|| self.client.stalled_streams.enter(kept));
        let left = limits.write.saturating_sub(stalled.waited());
        // One time for all: it resolves at each change, which may leave nothing.
        let room = async {
            while body.capacity() == 0 {
                poll_fn(|cx| body.poll_capacity(cx)).await.transpose().ok().flatten()?;
            }
            Some(())
        };
        let moved = || sent.load(Ordering::Relaxed);
        let waited = tokio::select! {
            biased;
            waited = self.write_meter.wait(limits.response_rate, left, moved, room) => waited,
            request = stalled.request() => match request {
                StalledStreamRequest::Release => return Ok(BodyReadiness::MemoryIsShort),
                StalledStreamRequest::End => None,
            },
        };
        self.stalled = None;
        match waited {
            Some(Some(())) => Ok(BodyReadiness::Ready),
            Some(None) => Err(DownstreamError::Closed),
            None => Err(DownstreamError::Stalled),
        }
    }

    /// Waits for room in the flow-control windows. Returns the bytes that can be sent, at least 1 and at most `wanted`.
    async fn capacity(&mut self, wanted: usize) -> Result<usize, DownstreamError> {
        // The piece that is to be sent cannot be released.
        while self.room(wanted, wanted).await? != BodyReadiness::Ready {}
        let granted = self.body.as_ref().map_or(0, SendStream::capacity).min(wanted);
        self.client.sent.fetch_add(granted as u64, Ordering::Relaxed);
        Ok(granted)
    }

    fn data(&mut self, bytes: Bytes, end: bool) -> Result<(), DownstreamError> {
        let body = self.body.as_mut().ok_or(DownstreamError::Misused)?;
        body.send_data(bytes, end).map_err(|_| DownstreamError::Closed)
    }
}

impl Downstream for Http2Exchange {
    fn request(&self) -> &Parts {
        &self.request
    }

    fn connection(&self) -> &ConnectionInfo {
        &self.client.info
    }

    fn status(&self) -> Option<StatusCode> {
        self.status
    }

    fn body_sent(&self) -> u64 {
        self.sent
    }

    /// Does nothing: the connection has other streams.
    fn close_after(&mut self) {}

    async fn write_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), DownstreamError> {
        // Interim responses come before the final one (RFC 9110 §15.2).
        if self.status.is_some() {
            return Ok(());
        }
        let mut interim = Response::new(());
        (*interim.status_mut(), *interim.headers_mut()) = (status, headers.clone());
        self.respond.send_informational(interim).map_err(|_| DownstreamError::Closed)
    }

    async fn write_head(&mut self, status: StatusCode, mut headers: HeaderMap) -> Result<(), DownstreamError> {
        if self.status.is_some() || status.is_informational() {
            return Err(DownstreamError::Misused);
        }
        // A server with a clock sends `Date` (RFC 9110 §6.6.1).
        if let (false, Ok(date)) = (headers.contains_key(header::DATE), HeaderValue::from_str(&date())) {
            headers.insert(header::DATE, date);
        }
        if let Some(hsts) = self.client.info.missing_hsts(&headers) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        // 204, 304 and responses to HEAD have no content, whatever their headers say (RFC 9110 §6.4.1).
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = || headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        self.left = if bodiless || self.request.method == Method::HEAD { Some(0) } else { length() };
        let mut head = Response::new(());
        (*head.status_mut(), *head.headers_mut()) = (status, headers);
        (self.head, self.status) = (Some(head), Some(status));
        Ok(())
    }

    /// Copies the bytes, because the windows may not have room for them yet.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), DownstreamError> {
        self.write_owned(Bytes::copy_from_slice(bytes)).await
    }

    fn buffers_writes(&self) -> bool {
        true
    }

    async fn body_readiness(&mut self, kept: usize) -> Result<BodyReadiness, DownstreamError> {
        // The end of a body needs no room.
        if self.left.is_none_or(|left| left == 0) {
            return Ok(BodyReadiness::Ready);
        }
        self.send_head(false)?;
        let readiness = self.room(1, kept).await;
        // Windows are for bytes that are there: those of other streams may be sooner.
        if let Some(body) = &mut self.body {
            body.reserve_capacity(0);
        }
        readiness
    }

    async fn write_owned(&mut self, mut bytes: Bytes) -> Result<(), DownstreamError> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes.len() as u64).ok_or(DownstreamError::Misused)?;
        }
        self.send_head(false)?;
        while !bytes.is_empty() {
            let capacity = self.capacity(bytes.len()).await?;
            let piece = bytes.split_to(capacity);
            self.sent += piece.len() as u64;
            self.data(piece, false)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), DownstreamError> {
        self.send_head(false)
    }

    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), DownstreamError> {
        if self.left.is_some_and(|left| left > 0) || self.status.is_none() {
            return Err(DownstreamError::Misused);
        }
        self.is_ended = true;
        if let Some(trailers) = trailers.filter(|_| self.request.method != Method::HEAD) {
            self.send_head(false)?;
            let body = self.body.as_mut().ok_or(DownstreamError::Misused)?;
            return body.send_trailers(trailers).map_err(|_| DownstreamError::Closed);
        }
        if self.head.is_some() { self.send_head(true) } else { self.data(Bytes::new(), true) }
    }

    async fn abort(&mut self) {
        if !self.is_ended {
            self.is_ended = true;
            // The head goes first, so that the client learns the status.
            let _ = self.send_head(false);
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn has_read_body(&self) -> bool {
        self.request_body.is_end_stream()
    }

    fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>, DownstreamError> {
        if std::mem::take(&mut self.awaits_continue) {
            self.write_interim(StatusCode::CONTINUE, &HeaderMap::new()).await?;
        }
        let (body, limits, so_far) = (&mut self.request_body, &self.client.limits, self.body_read);
        let next = poll_fn(|cx| body.poll_data(cx));
        let piece = match self.body_meter.wait(limits.body_rate, limits.body, || so_far, next).await {
            Some(piece) => piece.transpose().map_err(|_| DownstreamError::Closed)?,
            None => return Err(DownstreamError::Stalled),
        };
        if let Some(piece) = &piece {
            self.body_read += piece.len() as u64;
            // It is on its way to the handler: the client may send as much again.
            let _ = body.flow_control().release_capacity(piece.len());
        } else if let Ok(Ok(trailers)) = timeout(limits.body, poll_fn(|cx| body.poll_trailers(cx))).await {
            self.trailers = trailers;
        }
        Ok(piece)
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    async fn drain(&mut self) {
        // A client that waits for 100 and gets a final response need not send the body (RFC 9110 §10.1.1).
        if !self.awaits_continue {
            let rest = async { while let Ok(Some(_)) = self.read_body().await {} };
            let _ = timeout(DRAIN_TIMEOUT, rest).await;
        }
    }

    /// Resolves at a reset or at the end of the connection. Bytes of a request's body do not count: they stay in the
    /// stream's window.
    async fn closed(&mut self) {
        let _ = match &mut self.body {
            Some(body) => poll_fn(|cx| body.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
    }

    fn tunnel(&mut self) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send> {
        None::<DuplexStream>
    }
}

impl Drop for Http2Exchange {
    fn drop(&mut self) {
        // A response that was left without an end must not look whole to the client.
        if !self.is_ended {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}
