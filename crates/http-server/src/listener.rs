//! Listening sockets, TLS, and limits that hold before a request is read.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pingora::listeners::tls::{Acceptor, TlsSettings};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::connection_counts::{ConnectionCounts, ConnectionPermit};
use super::connection_limits::ConnectionLimits;
use super::socket::ClientSocket;
use super::workers::{STUCK_AFTER, WorkerActivity, WorkerAssignment, Workers};
use super::{Handler, http1, http2, tls};
use crate::settings::{ListenerSettings, Settings};
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;

/// Bytes that may wait in the kernel for a client's window to open. Without this bound the kernel takes megabytes.
pub const MAX_UNSENT_BYTES: usize = 128 * 1024;
/// Connections that may wait to be accepted: as many as the system allows.
const BACKLOG: i32 = 65_535;
/// Pause after a connection could not be accepted: the reason, most likely open files, would be the same at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks at the workers.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);

/// Reason why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}{}", hint(.source, *.address))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Error of the system.
        source: io::Error,
    },
    /// The system gives no more threads.
    #[error("the threads that serve clients cannot be started: {0}")]
    Workers(io::Error),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::CertificateError),
}

/// Returns the likely reason why an address cannot be listened on, as the end of a message; empty where none is known.
fn hint(error: &io::Error, address: SocketAddr) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another process using it?",
        io::ErrorKind::AddrNotAvailable => "; no network interface of this machine has the address",
        io::ErrorKind::PermissionDenied if (1..1024).contains(&address.port()) => {
            "; ports below 1024 need a right of their own (CAP_NET_BIND_SERVICE)"
        }
        _ => "",
    }
}

/// Opens a socket that listens on `address`; returns it and the address with the port that it got. Fails where the
/// address is taken, not this machine's, or not allowed.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    // tokio takes over sockets only in this mode.
    listener.set_nonblocking(true).map_err(failed)?;
    let socket = SockRef::from(&listener);
    // Again, since the standard library listens with a short queue.
    socket.listen(BACKLOG).map_err(failed)?;
    // Accepted sockets take this over from the listening one.
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES as u32).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Starts accepting on every listener; returns the addresses that were bound, in the order of the settings. Needs a
/// tokio runtime. Fails where an address cannot be listened on or a certificate cannot be used.
pub fn start<H: Handler>(
    server: &Settings,
    handler: &Arc<H>,
    workers: &Arc<Workers>,
    metrics: &Arc<Metrics>,
    tasks: &BackgroundTasks,
) -> Result<Vec<SocketAddr>, ListenError> {
    // One for all listeners: the limit is on the process.
    let counts = ConnectionCounts::new(server.connections.clone());
    let mut addresses = Vec::new();
    for listener in &server.listeners {
        let (socket, address) = bind(listener.address)?;
        let socket =
            tokio::net::TcpListener::from_std(socket).map_err(|source| ListenError::Bind { address, source })?;
        let acceptor = ConnectionAcceptor {
            handler: Arc::clone(handler),
            tls: tls_acceptor(listener)?,
            h2c: listener.h2c,
            counts: Arc::clone(&counts),
            limits: Arc::new(server.limits),
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        };
        tasks.spawn(accept(Arc::new(acceptor), socket, Arc::clone(workers)));
        addresses.push(address);
    }
    tasks.spawn(watch_workers(Arc::clone(workers), Arc::clone(metrics), tasks.clone()));
    Ok(addresses)
}

fn tls_acceptor(listener: &ListenerSettings) -> Result<Option<Acceptor>, ListenError> {
    if listener.certificates.is_empty() {
        return Ok(None);
    }
    let resolver = tls::resolver(&listener.certificates)?;
    let mut settings = TlsSettings::intermediate("", "").expect("no file is read where a resolver is set");
    settings.set_cert_resolver(resolver);
    // By ALPN (RFC 7301): `h2`, else HTTP/1.1.
    settings.enable_h2();
    Ok(Some(settings.build()))
}

/// Names in the log, once each time, the workers that are stuck.
async fn watch_workers(workers: Arc<Workers>, metrics: Arc<Metrics>, tasks: BackgroundTasks) {
    let mut ticks = tokio::time::interval(WATCHDOG_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Vec<usize> = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tasks.stopping() => return,
        }
        let stuck = workers.stuck(STUCK_AFTER);
        for worker in stuck.iter().filter(|worker| !known.contains(&worker.index)) {
            metrics.worker_stuck();
            let (index, connections, serving) = (worker.index, worker.connections, worker.serving.as_str());
            tracing::error!(
                worker = index,
                connections,
                "worker {index} is stuck and serves none of its {connections} connections; it is in: {serving}; \
                 restart the process, and report this as a bug"
            );
        }
        for index in known.iter().filter(|index| !stuck.iter().any(|worker| worker.index == **index)) {
            tracing::warn!(worker = index, "worker {index} goes on");
        }
        known = stuck.into_iter().map(|worker| worker.index).collect();
    }
}

/// Serves the sockets that one listener accepts, with the limits that hold before a request is read.
struct ConnectionAcceptor<H> {
    handler: Arc<H>,
    tls: Option<Acceptor>,
    h2c: bool,
    counts: Arc<ConnectionCounts>,
    limits: Arc<ConnectionLimits>,
    metrics: Arc<Metrics>,
    tasks: BackgroundTasks,
}

/// Takes connections until shutdown, each to the worker that has the fewest.
async fn accept<H: Handler>(
    acceptor: Arc<ConnectionAcceptor<H>>,
    listener: tokio::net::TcpListener,
    workers: Arc<Workers>,
) {
    loop {
        let accepted = tokio::select! {
            // Shutdown first: under load a connection is always ready to be accepted.
            biased;
            () = acceptor.tasks.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = accepted.and_then(|(socket, peer)| acceptor.admit(socket, peer, &workers)) {
            tracing::warn!(%error, "a connection cannot be accepted; is the limit of open files (ulimit -n) reached?");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

impl<H: Handler> ConnectionAcceptor<H> {
    /// Hands a connection to a worker, or closes it where a limit of connections is reached. Fails where the socket
    /// cannot be taken out of this runtime.
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, workers: &Workers) -> io::Result<()> {
        let permit = match self.counts.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(refusal) => {
                // Closed without a response, which would need a request to be read: the limit bounds exactly such work.
                self.metrics.connection_refused(refusal.as_str());
                return Ok(());
            }
        };
        // The socket's events must come to the worker that serves it, so this runtime gives it up.
        let socket = socket.into_std()?;
        let guard = ConnectionGuard::new(permit, workers.assign(peer.ip()), &self.tasks, &self.metrics);
        let (acceptor, guard) = (Arc::clone(self), Arc::new(guard));
        let (runtime, serving) = (guard.assignment.runtime().clone(), Arc::clone(&guard));
        runtime.spawn(guard.activity().track(async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => acceptor.serve(socket, peer, serving).await,
                Err(error) => tracing::warn!(%error, "a connection cannot be served"),
            }
        }));
        Ok(())
    }

    async fn serve(&self, socket: TcpStream, peer: SocketAddr, guard: Arc<ConnectionGuard>) {
        let Some(socket) = self.open(socket, peer).await else { return };
        let http2 = if socket.negotiated_http2() {
            Some(socket)
        } else {
            http1::serve(&self.handler, socket, self.h2c, &self.limits, &guard).await
        };
        if let Some(socket) = http2 {
            // Boxed, because every HTTP/1.1 connection would else have room for the state of HTTP/2.
            Box::pin(http2::serve(&self.handler, socket, &self.limits, &guard)).await;
        }
    }

    /// Completes the TLS handshake, where the listener has TLS. `None` where it fails or takes too long, which the
    /// client sees.
    async fn open(&self, socket: TcpStream, peer: SocketAddr) -> Option<ClientSocket> {
        let socket = ClientSocket::new(socket, peer).ok()?;
        let Some(tls) = &self.tls else { return Some(socket) };
        let handshake = Box::pin(timeout(self.limits.head, socket.accept_tls(tls))).await;
        // At debug level: any client that distrusts the certificate, and any port scan, makes one.
        handshake.ok()?.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
    }
}

/// An open connection: it is counted, and shutdown waits for it, until this is dropped.
pub struct ConnectionGuard {
    metrics: Arc<Metrics>,
    tasks: BackgroundTasks,
    assignment: WorkerAssignment,
    _permit: ConnectionPermit,
    _under_way: TaskTrackerToken,
}

impl ConnectionGuard {
    fn new(permit: ConnectionPermit, seat: WorkerAssignment, tasks: &BackgroundTasks, metrics: &Arc<Metrics>) -> Self {
        metrics.connections().inc();
        let (metrics, tasks, token) = (Arc::clone(metrics), tasks.clone(), tasks.token());
        Self { metrics, tasks, assignment: seat, _permit: permit, _under_way: token }
    }

    /// Returns the connection's own activity.
    pub fn activity(&self) -> &WorkerActivity {
        self.assignment.activity()
    }

    /// Makes the activity of one of its streams.
    pub fn stream_activity(&self) -> WorkerActivity {
        self.assignment.stream_activity()
    }

    /// Counts an HTTP/2 connection that is ended because of its frames of this kind, one of a closed set.
    pub fn http2_flood(&self, kind: &str) {
        self.metrics.http2_flood(kind);
    }

    /// Returns true where shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.tasks.is_stopping()
    }

    /// Resolves when shutdown begins.
    pub async fn stopping(&self) {
        self.tasks.stopping().await;
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.connections().dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_of_the_reason_that_the_system_gives() {
        // errno(3) of Linux.
        let [no_right, in_use, not_ours, too_many_files] = [13, 98, 99, 24];
        for (address, error, hint) in [
            ("127.0.0.1:8080", in_use, "is another process using it?"),
            ("0.0.0.0:80", in_use, "is another process using it?"),
            ("192.0.2.1:80", not_ours, "no network interface of this machine has the address"),
            ("[2001:db8::1]:8080", not_ours, "no network interface of this machine has the address"),
            ("0.0.0.0:80", no_right, "ports below 1024 need a right of their own (CAP_NET_BIND_SERVICE)"),
            ("[::]:1023", no_right, "ports below 1024 need a right of their own (CAP_NET_BIND_SERVICE)"),
            // Something else forbids it, such as a security module.
            ("0.0.0.0:1024", no_right, ""),
            ("0.0.0.0:0", no_right, ""),
            ("0.0.0.0:80", too_many_files, ""),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            let source = io::Error::from_raw_os_error(error);
            let beginning = format!("cannot listen on {address}: {source}");
            let text = ListenError::Bind { address, source }.to_string();
            let rest = text.strip_prefix(&beginning).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(rest.trim_start_matches("; "), hint, "{address}");
        }
    }
}
