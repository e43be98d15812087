//! One HTTP/2 connection of a client (RFC 9113), over the h2 library. Each stream is answered by a task of its own, on
//! the worker of the connection.

mod exchange;
mod frame_budget;
mod frame_guard;
mod frame_scanner;
mod request_check;
pub mod stalled_streams;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

use self::exchange::Http2Exchange;
use self::frame_guard::FrameGuard;
use self::stalled_streams::StalledStreams;
use super::Handler;
use super::connection_guard::ConnectionGuard;
use super::connection_info::ConnectionInfo;
use super::connection_limits::ConnectionLimits;
use super::listener::MAX_UNSENT_BYTES;
use super::socket::{ClientSocket, RewoundSocket};
use super::write_deadline::WriteDeadline;

/// Time for what is left of a connection that is told to go (RFC 9113 §6.8) and has no streams.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Most streams that the library resets because of a client's mistakes (CVE-2025-8671), or refuses because they are too
/// many at once, before it ends the connection. A client that does not know the limit yet opens 100 at once.
const MAX_ERROR_RESETS: usize = 256;
/// Label of floods that the library ends by itself: CONTINUATION frames, small DATA frames, mistakes.
const LIBRARY_FLOOD: &str = "other";

/// The client's side of a connection, the same for all its streams.
#[derive(Clone)]
pub struct ClientConnection {
    info: ConnectionInfo,
    limits: Arc<ConnectionLimits>,
    /// Bytes of bodies that the client has made room for, on all streams: a client that is slow on one of them only
    /// has others to read.
    sent: Arc<AtomicU64>,
    /// Those of all connections.
    stalled_streams: Arc<StalledStreams>,
}

/// Serves `socket` to its end. The preface and the first request must be there within the limit for heads; a connection
/// without streams is kept for as long as one of HTTP/1.1 between two requests.
pub async fn serve<H: Handler>(
    handler: &Arc<H>,
    mut socket: ClientSocket,
    limits: &Arc<ConnectionLimits>,
    stalled_streams: &Arc<StalledStreams>,
    guard: &Arc<ConnectionGuard>,
) {
    let client = ClientConnection {
        info: socket.info().clone(),
        limits: Arc::clone(limits),
        sent: Arc::default(),
        stalled_streams: Arc::clone(stalled_streams),
    };
    let stream = WriteDeadline::new(RewoundSocket::borrowed(&mut socket), limits);
    let (stream, mut flood) = FrameGuard::new(stream);
    let Ok(Ok(connection)) = timeout(limits.head, builder(limits).handshake(stream)).await else { return };
    let mut connection = ServedConnection { connection, patience: limits.head, is_told: false };
    let streams = TaskTracker::new();
    // Waiting for it to be empty is all that this asks for: tasks are taken all the same.
    streams.close();
    let mut closing = pin!(guard.closing());
    let mut left = limits.requests.unwrap_or(u64::MAX);
    // A reset frees its stream before its task has ended, so that a client which resets all its streams would else have
    // any number of tasks.
    let most_tasks = 2 * limits.streams as usize;
    loop {
        let patience = connection.patience;
        let idle = async {
            streams.wait().await;
            tokio::time::sleep(patience).await;
        };
        tokio::select! {
            // Floods and the end first: a busy connection always has a request ready.
            biased;
            Ok(kind) = &mut flood => {
                guard.http2_flood(kind.as_str());
                connection.end_at_once().await;
                break;
            }
            () = &mut closing, if !connection.is_told => connection.tell(),
            accepted = connection.connection.accept() => match accepted {
                Some(Ok((_, mut respond))) if guard.is_revoked() => respond.send_reset(Reason::REFUSED_STREAM),
                // Tasks of streams that were reset take a while to see it.
                Some(Ok((_, mut respond))) if streams.len() >= most_tasks => respond.send_reset(Reason::REFUSED_STREAM),
                Some(Ok((request, respond))) => {
                    streams.spawn(stream_task(Arc::clone(handler), request, respond, client.clone(), Arc::clone(guard)));
                    left = left.saturating_sub(1);
                    match connection.is_told {
                        false if left == 0 => connection.tell(),
                        false => connection.patience = limits.idle,
                        true => {}
                    }
                }
                Some(Err(error)) if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) => {
                    guard.http2_flood(LIBRARY_FLOOD);
                    break;
                }
                // The connection is broken, and the client was told why if it can hear; streams learn it by themselves.
                Some(Err(_)) | None => break,
            },
            () = idle => match connection.is_told {
                true => break,
                false => connection.tell(),
            },
        }
    }
    drop(connection);
    // The client still says what it has read of the last streams, or goes on with its flood: closed on bytes that nobody has
    // read, the connection would be reset, and the GOAWAY lost.
    socket.close().await;
}

fn builder(limits: &ConnectionLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        // For each stream: beyond this, h2 grants no more capacity to a stream that the client does not read.
        .max_send_buffer_size(2 * MAX_UNSENT_BYTES);
    builder
}

/// A connection of the library, and how it is to end.
struct ServedConnection<T> {
    connection: Connection<T, Bytes>,
    /// Time for which it is kept without streams.
    patience: Duration,
    /// The client was told to open no more streams.
    is_told: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> ServedConnection<T> {
    /// Tells the client by GOAWAY to open no more streams, so that one whose request crosses it knows that the request
    /// was not taken (RFC 9113 §6.8). Those under way go on.
    fn tell(&mut self) {
        self.connection.graceful_shutdown();
        (self.patience, self.is_told) = (CLOSE_TIME, true);
    }

    /// Ends the connection because of a flood. The GOAWAY goes out, and nothing more is read; streams under way learn it
    /// by themselves.
    async fn end_at_once(&mut self) {
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        let _ = timeout(CLOSE_TIME, async { while self.connection.accept().await.is_some() {} }).await;
    }
}

/// Answers the request of one stream.
fn stream_task<H: Handler>(
    handler: Arc<H>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    client: ClientConnection,
    guard: Arc<ConnectionGuard>,
) -> impl Future<Output = ()> + Send + 'static {
    let activity = Arc::new(guard.stream_activity());
    let watched = Arc::clone(&activity);
    watched.track(async move {
        let (mut parts, body) = request.into_parts();
        match request_check::check(&mut parts, client.limits.header_lines) {
            Ok(()) => {
                handler.strip_credentials(&mut parts);
                activity.set_request(&parts);
                let mut exchange = Http2Exchange::new(parts, body, respond, client);
                let admitted = handler.handle(&mut exchange).await;
                debug_assert!(admitted.is_none(), "a stream is no connection to take over");
            }
            Err(fault) => {
                let mut exchange = Http2Exchange::new(parts, body, respond, client);
                handler.refuse(&mut exchange, fault).await;
            }
        }
        // The connection counts as open for as long as one of its streams is answered.
        drop(guard);
    })
}
