//! The body of a request on its way from the client to a server.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::http::headers::strip_hop_by_hop;
use crate::proxy::failure::Failure;
use crate::proxy::server::{Downstream, DownstreamError};
use crate::upstream::http_client::{BodyPart, RequestBody};
use crate::upstream::settings::Timeouts;

/// Bytes of a body that are kept, so that it can be sent once more.
const MAX_KEPT: usize = 64 * 1024;
/// Time that a client which waits for leave to send its body waits for the server's (RFC 9110 §10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// The body on its way.
pub struct Upload {
    length: Option<u64>,
    limit: Option<u64>,
    read: u64,
    /// There is one.
    exists: bool,
    is_over: bool,
    /// The client waits for leave to send.
    is_held: bool,
    /// Everything that was sent, while it is little.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    /// Where it goes on, until its end or until nobody takes it.
    feeder: Option<mpsc::Sender<BodyPart>>,
    /// Pieces that were sent before, to a connection that was lost.
    again: std::vec::IntoIter<Bytes>,
}

/// Reason why no answer came.
pub enum Trouble {
    /// Of the client, or of time.
    Failure(Failure),
    /// Of the exchange with the server.
    Exchange(hyper::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<DownstreamError> for Trouble {
    fn from(error: DownstreamError) -> Self {
        Self::Failure(error.into())
    }
}

impl Upload {
    /// The body of the request of `downstream`, of `limit` bytes at most.
    pub fn new(downstream: &impl Downstream, limit: Option<u64>) -> Self {
        let length = downstream.request().headers.get(header::CONTENT_LENGTH);
        Self {
            length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
            limit,
            read: 0,
            exists: !downstream.has_read_body(),
            is_over: downstream.has_read_body(),
            is_held: downstream.awaits_continue(),
            kept: Some(Vec::new()),
            kept_bytes: 0,
            trailers: None,
            feeder: None,
            again: Vec::new().into_iter(),
        }
    }

    /// Whether the request has a body.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Whether the client's body was read to its end.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the body can be sent from its beginning.
    pub fn can_begin_again(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether the server takes no more of it.
    pub fn is_refused(&self) -> bool {
        !self.is_over && self.feeder.is_none()
    }

    /// The body for a request, from its beginning.
    pub fn begin(&mut self) -> RequestBody {
        if !self.exists {
            return RequestBody::empty();
        }
        let (feeder, body) = RequestBody::channel(self.length);
        self.feeder = Some(feeder);
        self.again = self.kept.clone().unwrap_or_default().into_iter();
        body
    }

    /// Feeds the body until the answer's head is there. The time for it begins anew with each piece that goes up.
    pub async fn until_answered(
        &mut self,
        downstream: &mut impl Downstream,
        mut exchange: Pin<Box<impl Future<Output = hyper::Result<Response<Incoming>>> + Send>>,
        mut interim: mpsc::Receiver<Response<()>>,
        timeouts: &Timeouts,
    ) -> Result<Response<Incoming>, Trouble> {
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
                    return answer.map_err(Trouble::Exchange);
                }
                Some(answer) = interim.recv() => {
                    overdue = Instant::now() + timeouts.first_byte;
                    self.pass_on(downstream, &answer).await?;
                }
                () = sleep_until(hold), if self.is_held => self.is_held = false,
                advanced = self.advance(downstream) => {
                    advanced?;
                    overdue = Instant::now() + timeouts.first_byte;
                }
                () = sleep_until(overdue) => return Err(Failure::GatewayTimeout.into()),
            }
        }
    }

    async fn pass_on(&mut self, downstream: &mut impl Downstream, answer: &Response<()>) -> Result<(), Trouble> {
        // Leave to send is said to the client when its body is read.
        self.is_held &= answer.status() != StatusCode::CONTINUE;
        if answer.status() != StatusCode::CONTINUE {
            let mut headers = answer.headers().clone();
            strip_hop_by_hop(&mut headers);
            downstream.inform(answer.status(), &headers).await?;
        }
        Ok(())
    }

    /// Does what is next for the body; where nothing is, waits for the client to leave, which is an error. Can be dropped and
    /// called again.
    pub async fn advance(&mut self, downstream: &mut impl Downstream) -> Result<(), Failure> {
        if self.is_held {
            return std::future::pending().await;
        }
        let Some(feeder) = &self.feeder else {
            downstream.closed().await;
            return Err(Failure::ClientLeft);
        };
        let Ok(room) = feeder.reserve().await else {
            // The server has answered, or is gone, and wants no more of it.
            self.feeder = None;
            return Ok(());
        };
        if let Some(bytes) = self.again.next() {
            room.send(BodyPart::Data(bytes));
        } else if self.is_over {
            room.send(self.trailers.clone().map_or(BodyPart::End, BodyPart::Trailers));
            self.feeder = None;
        } else if let Some(bytes) = downstream.read_body().await? {
            self.read += bytes.len() as u64;
            if self.limit.is_some_and(|limit| self.read > limit) {
                return Err(Failure::BodyTooLarge);
            }
            room.send(BodyPart::Data(bytes.clone()));
            self.keep(bytes);
        } else {
            self.is_over = true;
            self.trailers = downstream.take_trailers();
        }
        Ok(())
    }

    fn keep(&mut self, bytes: Bytes) {
        self.kept_bytes += bytes.len();
        if self.kept_bytes > MAX_KEPT {
            self.kept = None;
        } else if let Some(kept) = &mut self.kept {
            kept.push(bytes);
        }
    }
}
