//! The operator's listener. Whoever can connect needs no token for that, so that connections are bounded in number and in
//! the time that a request may take to arrive: open files are for players.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::StartError;
use super::admin_connections::{AdminConnection, AdminConnections};
use crate::proxy::settings::AdminSettings;
use http_server::listen_sockets::{BoundTcpSocket, ListenSockets, SocketRole};
use http_server::listener::ListenError;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::router::{self, RouterState};

/// Time for the head of a request, from the connection's beginning or the end of the answer before.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted: the reason, most likely open files, would be the same at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the operator's side until the end of `services`, or until another process has taken over from `tasks`.
pub fn serve_admin(
    admin: Option<&AdminSettings>,
    sockets: &ListenSockets,
    shared: RouterState,
    (tasks, services): (&BackgroundTasks, &BackgroundTasks),
) -> Result<Option<SocketAddr>, StartError> {
    let Some(admin) = admin else { return Ok(None) };
    let BoundTcpSocket { listener, address, registration } =
        sockets.open(SocketRole::Admin, admin.address, admin.socket.as_deref())?;
    let failed = |source| ListenError::Bind { address, source };
    let socket = TcpListener::from_std(listener).map_err(failed)?;
    let (tasks, stopping) = (tasks.clone(), services.clone());
    services.spawn(async move {
        let end = async move {
            tokio::select! {
                () = stopping.stopping() => {}
                () = tasks.handed_over() => {}
            }
        };
        accept(socket, router::admin(shared), end).await;
        drop(registration);
    });
    Ok(Some(address))
}

/// Serves connections until `end`, and then lets the requests under way end.
async fn accept(listener: TcpListener, router: Router, end: impl Future<Output = ()>) {
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    let places = AdminConnections::default();
    let mut end = pin!(end);
    loop {
        let next = async {
            let (stream, peer) = listener.accept().await?;
            std::io::Result::Ok((stream, peer, places.admit(peer.ip()).await))
        };
        let accepted = tokio::select! {
            biased;
            () = &mut end => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                connections.spawn(serve_connection(stream, peer, router.clone(), stop.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stop.cancel();
    connections.close();
    connections.wait().await;
}

/// Serves one connection, until its place is given to another one; after `stop` it ends with the request under way.
async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    place: AdminConnection,
) {
    let own = place.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let answered = own.clone();
        let (router, arrival) = (router.clone(), answered.begin_request(request.body().is_end_stream()));
        async move {
            let mut request = request.map(|body| guarded(body, arrival));
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = router.oneshot(request).await;
            answer.map(|answer| answer.map(|body| guarded(body, answered.begin_answer())))
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let mut serving = pin!(server.serve_connection(TokioIo::new(stream), service));
    // An error is the client's: it left, or its request is overdue.
    tokio::select! {
        _ = &mut serving => {}
        () = place.evicted() => {}
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// Returns `body` with `guard`, which is dropped with it: when the last piece was taken, or nobody wants it.
fn guarded<B, G>(body: B, guard: G) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    G: Send + Sync + 'static,
{
    Body::new(body.map_frame(move |frame| {
        let _held = &guard;
        frame
    }))
}
