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

use super::admin_connections::{AdminConnection, AdminConnections};
use crate::proxy::settings::AdminSettings;
use http_server::bind::BoundAddress;
use http_server::listen_sockets::{BoundTcpSocket, ListenSockets, SocketRegistration, SocketRole};
use http_server::listener::ListenError;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::router::{self, RouterState};

/// Time for the head of a request, from the connection's beginning or the end of the answer before.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted: the reason, most likely open files, would be the same at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The operator's listener, whose address a reload may change.
pub struct AdminListener {
    sockets: ListenSockets,
    router: Router,
    tasks: BackgroundTasks,
    services: BackgroundTasks,
    open: Option<OpenAdmin>,
}

/// An admin address that is served.
struct OpenAdmin {
    settings: AdminSettings,
    address: SocketAddr,
    is_supervised: bool,
    /// Cancelled where a reload takes the address away.
    end: CancellationToken,
}

/// Step to the admin address of other settings.
pub enum AdminChange {
    /// It stays; these are its settings.
    Keep(AdminSettings),
    /// It is this one, on this socket.
    Open(AdminSettings, TcpListener, SocketAddr, SocketRegistration),
    /// There is none.
    Close,
}

impl AdminListener {
    /// Opens the address of `admin`, where there is one, and serves until the end of `services`, or until another process
    /// has taken over from `tasks`. Fails where it cannot be listened on.
    pub fn start(
        admin: Option<&AdminSettings>,
        sockets: &ListenSockets,
        shared: RouterState,
        (tasks, services): (&BackgroundTasks, &BackgroundTasks),
    ) -> Result<Self, ListenError> {
        let (sockets, router) = (sockets.clone(), router::admin(shared, admin_page::routes()));
        let mut listener = Self { sockets, router, tasks: tasks.clone(), services: services.clone(), open: None };
        let change = listener.prepare(admin)?;
        listener.install(change);
        Ok(listener)
    }

    /// Returns its address, where it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.open.as_ref().map(|open| open.address)
    }

    /// Binds the address of `admin`, if it is another one; fails where that cannot be listened on. Nothing is served there,
    /// or closed, before [`AdminListener::install`].
    pub fn prepare(&self, admin: Option<&AdminSettings>) -> Result<AdminChange, ListenError> {
        let is_same = |open: &OpenAdmin, new: &AdminSettings| {
            // As at a start: the name of a passed socket decides alone.
            let by_name = open.is_supervised && new.socket.is_some();
            open.settings.socket == new.socket && (by_name || open.settings.address == new.address)
        };
        match (&self.open, admin) {
            (Some(open), Some(new)) if is_same(open, new) => Ok(AdminChange::Keep(new.clone())),
            (Some(open), _) if open.is_supervised => Err(ListenError::Supervised(BoundAddress::Tcp(open.address))),
            (_, None) => Ok(AdminChange::Close),
            (_, Some(new)) => {
                let BoundTcpSocket { listener, address, registration } =
                    self.sockets.open(SocketRole::Admin, new.address, new.socket.as_deref())?;
                let listener = TcpListener::from_std(listener);
                let listener = listener.map_err(|source| ListenError::Bind { address, source })?;
                Ok(AdminChange::Open(new.clone(), listener, address, registration))
            }
        }
    }

    /// Takes the step. Requests under way at an address that is taken away are answered.
    pub fn install(&mut self, change: AdminChange) {
        match change {
            AdminChange::Keep(settings) => {
                if let Some(open) = &mut self.open {
                    open.settings = settings;
                }
            }
            AdminChange::Close => self.close(),
            AdminChange::Open(settings, listener, address, registration) => {
                self.close();
                self.open = Some(self.serve(settings, address, (listener, registration)));
            }
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.end.cancel();
        }
    }

    fn serve(
        &self,
        settings: AdminSettings,
        address: SocketAddr,
        socket: (TcpListener, SocketRegistration),
    ) -> OpenAdmin {
        let (is_supervised, end) = (socket.1.is_supervised(), CancellationToken::new());
        let (tasks, services, router, closing) =
            (self.tasks.clone(), self.services.clone(), self.router.clone(), end.clone());
        self.services.spawn(async move {
            let end = async move {
                tokio::select! {
                    () = services.stopping() => {}
                    () = tasks.handed_over() => {}
                    () = closing.cancelled() => {}
                }
            };
            accept(socket, router, end).await;
        });
        OpenAdmin { settings, address, is_supervised, end }
    }
}

/// Serves connections until `end`, and then lets the requests under way end.
async fn accept(
    (listener, registration): (TcpListener, SocketRegistration),
    router: Router,
    end: impl Future<Output = ()>,
) {
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
    drop((listener, registration));
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
