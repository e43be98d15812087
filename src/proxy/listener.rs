//! Where players connect: sockets, TLS, and limits that hold before a request is read.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use pingora::apps::{HttpServerOptions, ServerApp};
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use socket2::SockRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::settings::{Listener, Server};
use super::{Gateway, connection, http2, tls};
use crate::lifecycle::Tasks;
use crate::telemetry::metrics::Metrics;

/// Request heads are read into a buffer of their own, so that an idle connection holds none here.
const PLAIN_READ_BUFFER: usize = 0;
/// Write buffer: a response head leaves in one write, with a body of some hundred bytes. Every connection holds it.
const WRITE_BUFFER: usize = 1024;
/// Bytes that may wait in the kernel for a player's window to open. Without this bound the kernel takes megabytes, a
/// write then waits until a third of them is taken, and a healthy slow player looks like a stalled one.
pub const UNSENT: usize = 128 * 1024;
/// An HTTP/2 connection without a stream is closed after this long.
const H2_IDLE: Duration = Duration::from_secs(75);

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
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// Binds `address` and says which port it got.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // Accepted sockets take this over from the listening one.
    SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT as u32).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Starts accepting on every listener; returns the addresses bound, in the order of the settings.
pub fn start(
    server: &Server,
    gateway: impl Fn() -> Gateway,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Vec<SocketAddr>, ListenError> {
    let limit = Arc::new(Semaphore::new(server.max_connections));
    let mut addresses = Vec::new();
    for listener in &server.listeners {
        let (socket, address) = bind(listener.address)?;
        let endpoint = endpoint(listener, address)?;
        let mut fds = Fds::new();
        fds.add(address.to_string(), socket.into_raw_fd());
        let app = Guarded {
            proxy: Arc::new(proxy(server, listener, gateway())),
            gateway: gateway(),
            h2c: listener.h2c,
            limit: Arc::clone(&limit),
            header_timeout: server.header_timeout,
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        };
        let mut service = Service::new("players".to_owned(), app);
        service.add_listener(endpoint);
        accept(service, Arc::new(Mutex::new(fds)), tasks);
        addresses.push(address);
    }
    Ok(addresses)
}

fn accept(mut service: Service<Guarded>, fds: ListenFds, tasks: &Tasks) {
    let (stop, shutdown) = watch::channel(false);
    let waiting = tasks.clone();
    tasks.spawn(async move {
        let serve = service.start_service(Some(fds), shutdown, 1);
        tokio::pin!(serve);
        tokio::select! {
            () = &mut serve => return,
            () = waiting.stopping() => {}
        }
        // The receivers live in the service; when it has ended nobody is left to be told.
        let _ = stop.send(true);
        serve.await;
    });
}

fn endpoint(listener: &Listener, address: SocketAddr) -> Result<ListenerConfig, ListenError> {
    let config = ListenerConfig::tcp(address.to_string());
    if listener.certificates.is_empty() {
        return Ok(config.l4_buffer(L4BufferSettings::new(PLAIN_READ_BUFFER, WRITE_BUFFER)));
    }
    let resolver = tls::resolver(&listener.certificates)?;
    let mut settings = TlsSettings::intermediate("", "").expect("no file is read where a resolver is set");
    settings.set_cert_resolver(resolver);
    settings.enable_h2();
    Ok(config.tls(settings))
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

/// The proxy behind the limits that Pingora lacks: connections at once, and the time for a whole request header.
struct Guarded {
    proxy: Arc<HttpProxy<Gateway>>,
    gateway: Gateway,
    h2c: bool,
    limit: Arc<Semaphore>,
    header_timeout: Duration,
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

impl Guarded {
    async fn serve(&self, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Ok(permit) = Arc::clone(&self.limit).try_acquire_owned() else {
            self.metrics.connection_refused();
            return None;
        };
        let place = Arc::new(Place::new(permit, self.tasks.token(), Arc::clone(&self.metrics)));
        let limit = self.header_timeout;
        let http2 = if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            Some(stream)
        } else {
            connection::serve(&self.proxy, &self.gateway, stream, self.h2c, limit, shutdown, &place).await
        };
        if let Some(stream) = http2 {
            // What a connection does not come to takes no room in it.
            Box::pin(http2::serve(&self.proxy, stream, limit, shutdown)).await;
        }
        None
    }
}

// Written out, see `ProxyHttp` of `Gateway`.
impl ServerApp for Guarded {
    fn process_new<'a, 'b, 'f>(
        self: &'a Arc<Self>,
        stream: Stream,
        shutdown: &'b ShutdownWatch,
    ) -> BoxFuture<'f, Option<Stream>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        served(self, stream, shutdown)
    }

    fn cleanup<'a, 'f>(&'a self) -> BoxFuture<'f, ()>
    where
        'a: 'f,
        Self: 'f,
    {
        cleaned(self)
    }
}

fn served<'a>(app: &'a Guarded, stream: Stream, shutdown: &'a ShutdownWatch) -> BoxFuture<'a, Option<Stream>> {
    Box::pin(app.serve(stream, shutdown))
}

fn cleaned(app: &Guarded) -> BoxFuture<'_, ()> {
    Box::pin(async { app.proxy.cleanup().await })
}

/// What a connection takes up: it is counted, and shutdown waits for it, until this is dropped.
pub struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
    _under_way: TaskTrackerToken,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, under_way: TaskTrackerToken, metrics: Arc<Metrics>) -> Self {
        metrics.connections().inc();
        Self { metrics, _permit: permit, _under_way: under_way }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections().dec();
    }
}
