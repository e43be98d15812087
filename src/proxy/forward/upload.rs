//! The body of a request on its way from the client to a server.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::mpsc::{self, OwnedPermit, Sender};
use tokio::time::{Instant, sleep_until};

use crate::proxy::failure::ProxyFailure;
use http_server::{Downstream, DownstreamError};
use upstream::http_client::{BodyPart, RequestBody, SendError};
use upstream::settings::UpstreamTimeouts;

/// Bytes of a body that are kept, so that it can be sent once more.
const MAX_KEPT: usize = 64 * 1024;
/// Time that a client which waits for leave to send its body waits for the server's (RFC 9110 §10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// The body on its way.
pub struct RequestBodyUpload<'a> {
    length: Option<u64>,
    limit: Option<u64>,
    read: u64,
    /// There is one.
    exists: bool,
    is_over: bool,
    /// The client waits for leave to send.
    is_held: bool,
    /// Everything that was read, while it is little and may be needed once more.
    kept: Option<BytesMut>,
    /// Everything that was sent before, to a connection that was lost.
    again: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// Takes those out of the trailers that may not go up.
    trailer_filter: Box<dyn Fn(HeaderMap) -> HeaderMap + Send + Sync + 'a>,
    feed: BodyChannel,
}

/// State of the channel to the server.
enum BodyChannel {
    /// Nothing is to be sent, or nobody takes it.
    Ended,
    /// The server has not taken the last part yet.
    Full(Sender<BodyPart>),
    /// The server takes the next part.
    Ready(OwnedPermit<BodyPart>),
}

/// Reason why no answer came.
pub enum UploadError {
    /// The client left, or a time limit passed.
    Failure(ProxyFailure),
    /// The exchange with the server failed.
    Exchange(SendError),
}

impl From<ProxyFailure> for UploadError {
    fn from(failure: ProxyFailure) -> Self {
        Self::Failure(failure)
    }
}

impl From<DownstreamError> for UploadError {
    fn from(error: DownstreamError) -> Self {
        Self::Failure(error.into())
    }
}

impl<'a> RequestBodyUpload<'a> {
    /// The body of the request of `downstream`, of `limit` bytes at most; its trailers pass through `trailer_filter`.
    pub fn new(
        downstream: &impl Downstream,
        limit: Option<u64>,
        trailer_filter: impl Fn(HeaderMap) -> HeaderMap + Send + Sync + 'a,
    ) -> Self {
        let length = downstream.request().headers.get(header::CONTENT_LENGTH);
        Self {
            length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
            limit,
            read: 0,
            exists: !downstream.has_read_body(),
            is_over: downstream.has_read_body(),
            is_held: downstream.awaits_continue(),
            kept: None,
            again: None,
            trailers: None,
            trailer_filter: Box::new(trailer_filter),
            feed: BodyChannel::Ended,
        }
    }

    /// True where the request has a body.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// True once the client's body was read to its end.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// True while the body can be sent from its beginning.
    pub fn can_begin_again(&self) -> bool {
        self.read == 0 || self.kept.is_some()
    }

    /// True where the rest of it will not be read.
    pub fn is_unwanted(&self) -> bool {
        !self.is_over && (self.is_held || matches!(self.feed, BodyChannel::Ended))
    }

    /// True while the client is waited for, and not the server.
    pub fn awaits_client(&self) -> bool {
        !self.is_over && self.again.is_none() && matches!(self.feed, BodyChannel::Ready(_))
    }

    /// The body for a request, from its beginning. `may_repeat`: the connection may turn out to be lost.
    pub fn begin(&mut self, may_repeat: bool) -> RequestBody {
        if !self.exists {
            return RequestBody::empty();
        }
        let (feeder, body) = RequestBody::channel(self.length);
        self.feed = BodyChannel::Full(feeder);
        match &self.kept {
            Some(kept) => self.again = Some(kept.clone().freeze()).filter(|kept| !kept.is_empty()),
            None => self.kept = (may_repeat && self.read == 0).then(BytesMut::new),
        }
        body
    }

    /// Feeds the body until the answer's head is there. The time for it runs while the server is waited for, and begins anew
    /// with each part that it takes.
    pub async fn until_answered(
        &mut self,
        downstream: &mut impl Downstream,
        mut exchange: Pin<Box<impl Future<Output = Result<Response<Incoming>, SendError>> + Send>>,
        mut interim: mpsc::Receiver<Response<()>>,
        timeouts: &UpstreamTimeouts,
    ) -> Result<Response<Incoming>, UploadError> {
        let hold = Instant::now() + CONTINUE_WAIT;
        let mut overdue = Instant::now() + timeouts.first_byte;
        loop {
            tokio::select! {
                biased;
                answer = &mut exchange => {
                    // Those that came with it are not behind it.
                    while let Ok(answer) = interim.try_recv() {
                        self.pass_on(downstream, &answer).await?;
                    }
                    return answer.map_err(UploadError::Exchange);
                }
                Some(answer) = interim.recv() => {
                    overdue = Instant::now() + timeouts.first_byte;
                    self.pass_on(downstream, &answer).await?;
                }
                () = sleep_until(hold), if self.is_held => self.is_held = false,
                () = sleep_until(overdue), if !self.awaits_client() => return Err(ProxyFailure::GatewayTimeout.into()),
                advanced = self.advance(downstream) => {
                    advanced?;
                    overdue = Instant::now() + timeouts.first_byte;
                }
            }
        }
    }

    /// Of an interim answer only the links of a 103 are of use to the client (RFC 8297 §2).
    async fn pass_on(&mut self, downstream: &mut impl Downstream, answer: &Response<()>) -> Result<(), UploadError> {
        if answer.status() == StatusCode::CONTINUE {
            // The client is told when its body is read.
            self.is_held = false;
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        for link in answer.headers().get_all(header::LINK) {
            headers.append(header::LINK, link.clone());
        }
        Ok(downstream.write_interim(answer.status(), &headers).await?)
    }

    /// Takes the next step of the body; where there is none, waits for the client to leave, which is an error. Can be dropped
    /// and called again.
    pub async fn advance(&mut self, downstream: &mut impl Downstream) -> Result<(), ProxyFailure> {
        if self.is_held {
            return std::future::pending().await;
        }
        match &mut self.feed {
            BodyChannel::Ended => {
                downstream.closed_with_grace().await;
                Err(ProxyFailure::ClientLeft)
            }
            BodyChannel::Full(sender) => {
                self.feed = match sender.clone().reserve_owned().await {
                    Ok(permit) => BodyChannel::Ready(permit),
                    // The server has answered, or has all that it was to get, or is gone.
                    Err(_) => BodyChannel::Ended,
                };
                Ok(())
            }
            BodyChannel::Ready(_) => {
                let part = self.next_part(downstream).await?;
                let is_last = !matches!(part, BodyPart::Data(_));
                if let BodyChannel::Ready(permit) = std::mem::replace(&mut self.feed, BodyChannel::Ended) {
                    let sender = permit.send(part);
                    self.feed = if is_last { BodyChannel::Ended } else { BodyChannel::Full(sender) };
                }
                Ok(())
            }
        }
    }

    async fn next_part(&mut self, downstream: &mut impl Downstream) -> Result<BodyPart, ProxyFailure> {
        if let Some(bytes) = self.again.take() {
            return Ok(BodyPart::Data(bytes));
        }
        if !self.is_over {
            if let Some(bytes) = downstream.read_body().await? {
                // Of a body with a length, nothing more is to be seen of its end.
                self.is_over = downstream.has_read_body();
                self.read += bytes.len() as u64;
                if self.limit.is_some_and(|limit| self.read > limit) {
                    return Err(ProxyFailure::BodyTooLarge);
                }
                self.keep(&bytes);
                return Ok(BodyPart::Data(bytes));
            }
            self.is_over = true;
        }
        if self.trailers.is_none() {
            self.trailers = downstream.take_trailers().map(&self.trailer_filter).filter(|all| !all.is_empty());
        }
        Ok(self.trailers.clone().map_or(BodyPart::End, BodyPart::Trailers))
    }

    fn keep(&mut self, bytes: &Bytes) {
        // Copied: a piece may be a small part of a large buffer.
        match &mut self.kept {
            Some(kept) if kept.len() + bytes.len() <= MAX_KEPT => kept.extend_from_slice(bytes),
            _ => self.kept = None,
        }
    }
}
