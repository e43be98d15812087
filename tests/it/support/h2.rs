//! HTTP/2 frame by frame, so that a test sees how each stream ends and can let go of one.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::eventually::in_time;
use super::heard::{Ending, Heard};

/// One connection.
pub struct H2 {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A stream whose answer has begun.
pub struct Stream {
    /// Its body.
    pub body: RecvStream,
    answer: Heard,
    head_only: bool,
}

impl H2 {
    /// Without TLS, by prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gate accepts");
        Self::over(stream).await.expect("the gate speaks HTTP/2")
    }

    /// Over a connection that is there.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, h2::Error> {
        // A stream that nobody reads must not hold up the others.
        let mut builder = h2::client::Builder::new();
        let (send, connection) = builder.initial_connection_window_size(1 << 20).handshake(stream).await?;
        Ok(Self { send, connection: tokio::spawn(connection) })
    }

    /// Streams at once that the gate allows, as far as it has said.
    pub fn most_streams(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Sends a request without body.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> ResponseFuture {
        self.begin(method, path, headers, true).await.0
    }

    /// Sends the head of a request, and with `end` its end; else the body is the caller's to send.
    pub async fn begin(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = format!("http://gate{path}");
        let request = headers.iter().fold(Request::builder().method(method).uri(uri), |r, (n, v)| r.header(*n, *v));
        let mut send = self.send.clone().ready().await.expect("the connection is open");
        send.send_request(request.body(()).expect("a request"), end).expect("it can be sent")
    }

    /// The status of a GET from this host, as `:authority` names it.
    pub async fn status_from(&self, host: &str, path: &str) -> u16 {
        let request = Request::get(format!("http://{host}{path}")).body(()).expect("a request");
        let mut send = self.send.clone().ready().await.expect("the connection is open");
        let (answer, _) = send.send_request(request, true).expect("it can be sent");
        head(answer, false).await.expect("a head").finish().await.status
    }

    /// GET, as far as its head.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        let answer = self.send(Method::GET, path, headers).await;
        head(answer, false).await.unwrap_or_else(|error| panic!("GET {path}: no head: {error}"))
    }

    /// GET, heard to its end.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Heard {
        let answer = self.send(Method::GET, path, headers).await;
        match head(answer, false).await {
            Ok(stream) => stream.finish().await,
            // A reset close behind the head: what the library has not handed out by then, it drops.
            Err(error) if error.is_reset() => {
                let end = Ending::Broken(format!("before its head was read: {error}"));
                Heard { status: 0, headers: http::HeaderMap::new(), body: Vec::new(), end }
            }
            Err(error) => panic!("GET {path}: no head: {error}"),
        }
    }

    /// Any method, heard to its end.
    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Heard {
        let head_only = method == Method::HEAD;
        let answer = self.send(method, path, headers).await;
        head(answer, head_only).await.expect("a head").finish().await
    }

    /// Why the connection ended.
    pub async fn ended(&mut self) -> Result<(), h2::Error> {
        in_time("the connection ends", &mut self.connection).await.expect("its task does not panic")
    }
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn head(answer: ResponseFuture, head_only: bool) -> Result<Stream, h2::Error> {
    let (head, body) = in_time("a head", answer).await?.into_parts();
    let answer = Heard { status: head.status.as_u16(), headers: head.headers, body: Vec::new(), end: Ending::Whole };
    Ok(Stream { body, answer, head_only })
}

impl Stream {
    /// The next bytes; `None` at the clean end.
    pub async fn more(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let bytes = self.body.data().await?;
        if let Ok(bytes) = &bytes {
            self.body.flow_control().release_capacity(bytes.len()).expect("what came can be released");
        }
        Some(bytes)
    }

    /// The answer as far as it has come.
    pub fn answer(&self) -> &Heard {
        &self.answer
    }

    /// Takes until at least `length` bytes are there, or until it ends: then says how.
    pub async fn up_to(&mut self, length: usize) -> Option<Ending> {
        let hearing = async {
            while self.answer.body.len() < length {
                match self.more().await {
                    Some(Ok(bytes)) => self.answer.body.extend_from_slice(&bytes),
                    other => return Some(self.ending(other.and_then(Result::err))),
                }
            }
            None
        };
        in_time("the bytes of a stream come, or its end", hearing).await
    }

    /// Takes at least `length` bytes.
    pub async fn take(&mut self, length: usize) -> &[u8] {
        assert_eq!(self.up_to(length).await, None, "before {length} bytes");
        &self.answer.body
    }

    /// Hears the rest.
    pub async fn finish(mut self) -> Heard {
        let end = self.up_to(usize::MAX).await;
        self.answer.end = end.expect("no answer is that long");
        self.answer
    }

    fn ending(&self, error: Option<h2::Error>) -> Ending {
        let there = self.answer.body.len();
        match (error, self.answer.announced()) {
            (None, Some(length)) if length != there && !self.head_only => {
                Ending::Wrong(format!("a clean end after {there} of {length} bytes"))
            }
            (None, _) => Ending::Whole,
            // Only a reset of this very stream by the gate; a broken connection would cost all its streams.
            (Some(error), _) if error.is_reset() && error.is_remote() && error.reason() != Some(Reason::NO_ERROR) => {
                Ending::Broken(error.to_string())
            }
            (Some(error), _) => Ending::Wrong(error.to_string()),
        }
    }
}
