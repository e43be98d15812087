//! One HTTP/2 connection of a client (RFC 9113), over the h2 library. Each stream is answered by a task of its own, on
//! the worker of the connection.

mod exchange;
mod request_check;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use pingora::time::timeout;
use tokio_util::task::TaskTracker;

use self::exchange::Http2Exchange;
use super::connection_info::ConnectionInfo;
use super::listener::{ConnectionGuard, MAX_UNSENT_BYTES};
use super::socket::{ClientSocket, RewoundSocket};
use super::write_deadline::WriteDeadline;
use super::{ConnectionTimeouts, Handler, MAX_HEAD};

/// Most streams of a connection at once; RFC 9113 §6.5.2 recommends no fewer.
const MAX_STREAMS: u32 = 100;
/// Most tasks of a connection at once. A reset frees its stream before its task has ended, so that a client which
/// resets all its streams would else have any number of tasks.
const MAX_TASKS: usize = 2 * MAX_STREAMS as usize;
/// Time for what is left of a connection that is told to go (RFC 9113 §6.8) and has no streams.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// The client's side of a connection, the same for all its streams.
#[derive(Clone)]
pub struct ClientConnection {
    info: ConnectionInfo,
    limits: ConnectionTimeouts,
}

/// Serves `socket` to its end. The preface and the first request must be there within the limit for heads; a connection
/// without streams is kept for as long as one of HTTP/1.1 between two requests.
pub async fn serve<H: Handler>(
    handler: &Arc<H>,
    mut socket: ClientSocket,
    limits: ConnectionTimeouts,
    guard: &Arc<ConnectionGuard>,
) {
    let client = ClientConnection { info: socket.info().clone(), limits };
    let stream = WriteDeadline::new(RewoundSocket::borrowed(&mut socket), limits.write);
    let mut builder = Builder::new();
    builder
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(MAX_STREAMS)
        // For each stream: beyond this, h2 grants no more capacity to a stream that the client does not read.
        .max_send_buffer_size(2 * MAX_UNSENT_BYTES);
    let Ok(Ok(mut connection)) = timeout(limits.head, builder.handshake::<_, Bytes>(stream)).await else { return };
    let streams = TaskTracker::new();
    // Waiting for it to be empty is all that this asks for: tasks are taken all the same.
    streams.close();
    let mut closing = pin!(guard.closing());
    let (mut patience, mut is_told) = (limits.head, false);
    loop {
        let idle = async {
            streams.wait().await;
            tokio::time::sleep(patience).await;
        };
        tokio::select! {
            // The end first: a busy connection always has a request ready.
            biased;
            () = &mut closing, if !is_told => {
                connection.graceful_shutdown();
                (patience, is_told) = (CLOSE_TIME, true);
            }
            accepted = connection.accept() => match accepted {
                // Tasks of streams that were reset take a while to see it.
                Some(Ok((_, mut respond))) if streams.len() >= MAX_TASKS => respond.send_reset(Reason::REFUSED_STREAM),
                Some(Ok((request, respond))) => {
                    if !is_told {
                        patience = limits.idle;
                    }
                    streams.spawn(stream_task(Arc::clone(handler), request, respond, client.clone(), Arc::clone(guard)));
                }
                // The connection is broken; its streams learn it by themselves.
                Some(Err(_)) => return,
                None => break,
            },
            () = idle => {
                if is_told {
                    return;
                }
                // By GOAWAY, so that a client whose request crosses it knows that the request was not taken (RFC 9113
                // §6.8).
                connection.graceful_shutdown();
                (patience, is_told) = (CLOSE_TIME, true);
            }
        }
    }
    drop(connection);
    // The client still says what it has read of the last streams.
    socket.close().await;
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
        match request_check::check(&mut parts) {
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
