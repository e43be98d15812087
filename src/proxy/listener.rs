//! Where players connect: sockets, TLS, and limits that hold before a request is read.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::{HttpServerApp as _, HttpServerOptions};
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::settings::{Listener, Server};
use super::socket::Socket;
use super::threads::{self, Threads};
use super::{Gateway, connection, http2, tls};
use crate::lifecycle::Tasks;
use crate::telemetry::metrics::Metrics;

/// Bytes that may wait in the kernel for a player's window to open. Without this bound the kernel takes megabytes, a
/// write then waits until a third of them is taken, and a healthy slow player looks like a stalled one.
pub const UNSENT: usize = 128 * 1024;
/// Connections that may wait to be accepted: as many as the system allows.
const BACKLOG: i32 = 65_535;
/// An HTTP/2 connection without a stream is closed after this long.
const H2_IDLE: Duration = Duration::from_secs(75);
/// After a connection could not be accepted: the reason, most likely open files, would be the same at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; is another process using it?")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no more threads.
    #[error("the threads that serve players cannot be started: {0}")]
    Threads(io::Error),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// Binds `address` and says which port it got.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let socket = SockRef::from(&listener);
    socket.listen(BACKLOG).map_err(failed)?;
    // Accepted sockets take this over from the listening one.
    socket.set_tcp_notsent_lowat(UNSENT as u32).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Starts accepting on every listener; returns the addresses bound, in the order of the settings, and the threads that serve
/// there.
pub fn start(
    server: &Server,
    gateway: impl Fn() -> Gateway,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<(Vec<SocketAddr>, Arc<Threads>), ListenError> {
    let threads = Arc::new(Threads::start(server.threads).map_err(ListenError::Threads)?);
    let limit = Arc::new(Semaphore::new(server.max_connections));
    let shutdown = shutdown(tasks);
    let mut addresses = Vec::new();
    for listener in &server.listeners {
        let (socket, address) = bind(listener.address)?;
        let socket =
            tokio::net::TcpListener::from_std(socket).map_err(|source| ListenError::Bind { address, source })?;
        let door = Door {
            proxy: Arc::new(proxy(server, listener, gateway())),
            gateway: gateway(),
            tls: acceptor(listener)?,
            h2c: listener.h2c,
            limit: Arc::clone(&limit),
            header_timeout: server.header_timeout,
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        tasks.spawn(accept(Arc::new(door), socket, Arc::clone(&threads)));
        addresses.push(address);
    }
    Ok((addresses, threads))
}

/// The beginning of the shutdown, as Pingora is told of it.
fn shutdown(tasks: &Tasks) -> ShutdownWatch {
    let (stop, shutdown) = watch::channel(false);
    let waiting = tasks.clone();
    tasks.spawn(async move {
        waiting.stopping().await;
        // Where nobody is left to be told, nobody needs to be.
        let _ = stop.send(true);
    });
    shutdown
}

fn acceptor(listener: &Listener) -> Result<Option<Acceptor>, ListenError> {
    if listener.certificates.is_empty() {
        return Ok(None);
    }
    let resolver = tls::resolver(&listener.certificates)?;
    let mut settings = TlsSettings::intermediate("", "").expect("no file is read where a resolver is set");
    settings.set_cert_resolver(resolver);
    settings.enable_h2();
    Ok(Some(settings.build()))
}

fn proxy(server: &Server, listener: &Listener, gateway: Gateway) -> HttpProxy<Gateway> {
    let conf = ServerConf { threads: server.threads, ..ServerConf::default() };
    let mut proxy = HttpProxy::new(gateway, Arc::new(conf));
    let mut options = HttpServerOptions::default();
    options.h2c = listener.h2c;
    options.h2_idle_timeout = Some(H2_IDLE);
    proxy.server_options = Some(options);
    proxy.handle_init_modules();
    proxy
}

/// Where players come in, and the limits that Pingora lacks: connections at once, and the time for a TLS handshake and for
/// a whole request header.
struct Door {
    proxy: Arc<HttpProxy<Gateway>>,
    gateway: Gateway,
    tls: Option<Acceptor>,
    h2c: bool,
    limit: Arc<Semaphore>,
    header_timeout: Duration,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    shutdown: ShutdownWatch,
}

/// Takes connections until shutdown, each to the thread that has the fewest.
async fn accept(door: Arc<Door>, listener: tokio::net::TcpListener, threads: Arc<Threads>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = door.tasks.stopping() => break,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = accepted.and_then(|(socket, peer)| door.admit(socket, peer, &threads)) {
            tracing::warn!(%error, "a connection cannot be accepted; is the limit of open files (ulimit -n) reached?");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    door.proxy.http_cleanup().await;
}

impl Door {
    /// Its events are to come to the thread that serves it: this one's runtime never knows of it.
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, threads: &Threads) -> io::Result<()> {
        let Ok(permit) = Arc::clone(&self.limit).try_acquire_owned() else {
            self.metrics.connection_refused();
            return Ok(());
        };
        let socket = socket.into_std()?;
        let place = Place::new(permit, threads.place(), self.tasks.token(), Arc::clone(&self.metrics));
        let (door, runtime) = (Arc::clone(self), place.thread.runtime().clone());
        runtime.spawn(async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => door.serve(socket, peer, Arc::new(place)).await,
                Err(error) => tracing::warn!(%error, "a connection cannot be served"),
            }
        });
        Ok(())
    }

    async fn serve(&self, socket: TcpStream, peer: SocketAddr, place: Arc<Place>) {
        let (limit, shutdown) = (self.header_timeout, &self.shutdown);
        let Some(socket) = self.open(socket, peer).await else { return };
        let http2 = if socket.speaks_http2() {
            Some(socket.into_pingora())
        } else {
            connection::serve(&self.proxy, &self.gateway, socket, self.h2c, limit, shutdown, &place).await
        };
        if let Some(stream) = http2 {
            // What a connection does not come to takes no room in it.
            Box::pin(http2::serve(&self.proxy, stream, limit, shutdown)).await;
        }
    }

    /// The connection, after the TLS handshake; `None` where that fails, which is the client's to see.
    async fn open(&self, socket: TcpStream, peer: SocketAddr) -> Option<Socket> {
        let socket = Socket::new(socket, peer).ok()?;
        let Some(tls) = &self.tls else { return Some(socket) };
        let handshake = Box::pin(timeout(self.header_timeout, socket.secured(tls))).await;
        handshake.ok()?.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
    }
}

/// What a connection takes up: it is counted, and shutdown waits for it, until this is dropped.
pub struct Place {
    metrics: Arc<Metrics>,
    thread: threads::Place,
    _permit: OwnedSemaphorePermit,
    _under_way: TaskTrackerToken,
}

impl Place {
    fn new(
        permit: OwnedSemaphorePermit,
        thread: threads::Place,
        under_way: TaskTrackerToken,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.connections().inc();
        Self { metrics, thread, _permit: permit, _under_way: under_way }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections().dec();
    }
}
