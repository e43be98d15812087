//! Listening sockets, TLS, and limits that hold before a request is read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use ipnet::IpNet;
use tokio::time::{MissedTickBehavior, timeout};

use super::bind::{AcceptedSocket, BoundAddress, ListeningSocket, UnixSocketError, bind_all};
use super::connection_counts::{ClientPermit, ConnectionCounts, ConnectionPermit, ConnectionRefusal};
use super::connection_guard::ConnectionGuard;
use super::connection_info::ResponseRules;
use super::connection_limits::ConnectionLimits;
use super::http2::stalled_streams::StalledStreams;
use super::listen_sockets::ListenSockets;
use super::proxy_protocol;
use super::socket::ClientSocket;
use super::tls_server::TlsServer;
use super::tls_watch;
use super::workers::{STUCK_AFTER, Workers};
use super::{Handler, http1, http2, tls};
use crate::acme_challenges::AcmeChallenges;
use crate::settings::Settings;
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;

/// Bytes that may wait in the kernel for a client's window to open. Without this bound the kernel takes megabytes.
pub const MAX_UNSENT_BYTES: usize = 128 * 1024;
/// Connections that may wait to be accepted: as many as the system allows.
pub const BACKLOG: i32 = 65_535;
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
    /// A host name has no address.
    #[error("cannot listen on {name}: the name cannot be resolved: {source}")]
    Resolve {
        /// The name.
        name: String,
        /// Error of the resolver.
        source: io::Error,
    },
    /// A Unix socket cannot be made.
    #[error(transparent)]
    UnixSocket(#[from] UnixSocketError),
    /// The runtime cannot watch a socket.
    #[error("cannot listen on {address}: {source}")]
    Watch {
        /// Address of the socket.
        address: BoundAddress,
        /// Error of the system.
        source: io::Error,
    },
    /// A passed descriptor is no socket that listens.
    #[error("the descriptor `{name}` that was passed to the process is no socket that listens: {source}")]
    Inherited {
        /// Its name.
        name: String,
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

/// Starts accepting on every listener, on sockets of `sockets`; returns the addresses, in the order of the settings.
/// Needs a tokio runtime. Fails where an address cannot be listened on or a certificate cannot be used.
pub fn start<H: Handler>(
    server: &Settings,
    sockets: &ListenSockets,
    handler: &Arc<H>,
    challenges: &AcmeChallenges,
    workers: &Arc<Workers>,
    metrics: &Arc<Metrics>,
    tasks: &BackgroundTasks,
) -> Result<Vec<BoundAddress>, ListenError> {
    // One for all listeners: the limit is on the process.
    let counts = ConnectionCounts::new(server.connections);
    let limits = Arc::new(server.limits);
    let stalled_streams = StalledStreams::new(server.stalled_streams, metrics);
    let (mut addresses, mut watched) = (Vec::new(), Vec::new());
    for (number, listener) in server.listeners.iter().enumerate() {
        let tls = listener.tls.as_ref().map(|tls| TlsServer::new(tls, challenges)).transpose()?.map(Arc::new);
        watched.extend(tls.clone().map(|tls| (number, tls)));
        let acceptor = Arc::new(ConnectionAcceptor {
            handler: Arc::clone(handler),
            tls,
            h2c: listener.h2c,
            proxy_sources: listener.proxy_sources.clone(),
            rules: Arc::new(ResponseRules::new(listener)),
            counts: Arc::clone(&counts),
            limits: Arc::clone(&limits),
            stalled_streams: Arc::clone(&stalled_streams),
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        });
        for bound in bind_all(listener, sockets)? {
            let address = bound.address.clone();
            let failed = |source| ListenError::Watch { address: address.clone(), source };
            let (socket, registration) = bound.listen().map_err(failed)?;
            let (acceptor, workers) = (Arc::clone(&acceptor), Arc::clone(workers));
            tasks.spawn(async move {
                accept(acceptor, socket, workers).await;
                drop(registration);
            });
            addresses.push(address);
        }
    }
    if !watched.is_empty() {
        tasks.spawn(tls_watch::watch(watched, Arc::clone(metrics), tasks.clone()));
    }
    tasks.spawn(watch_workers(Arc::clone(workers), Arc::clone(metrics), tasks.clone()));
    Ok(addresses)
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
    tls: Option<Arc<TlsServer>>,
    h2c: bool,
    proxy_sources: Option<Vec<IpNet>>,
    rules: Arc<ResponseRules>,
    counts: Arc<ConnectionCounts>,
    limits: Arc<ConnectionLimits>,
    stalled_streams: Arc<StalledStreams>,
    metrics: Arc<Metrics>,
    tasks: BackgroundTasks,
}

/// Takes connections until shutdown, each to the worker that has the fewest.
async fn accept<H: Handler>(acceptor: Arc<ConnectionAcceptor<H>>, listener: ListeningSocket, workers: Arc<Workers>) {
    loop {
        let accepted = tokio::select! {
            // Shutdown first: under load a connection is always ready to be accepted.
            biased;
            () = acceptor.tasks.stopping() => break,
            // What waits to be accepted is for the other process.
            () = acceptor.tasks.handed_over() => return,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = accepted.map(|socket| acceptor.admit(socket, &workers)) {
            tracing::warn!(%error, "a connection cannot be accepted; is the limit of open files (ulimit -n) reached?");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    // Clients see those that the system has completed as connected: closing the socket would reset them.
    for _ in 0..BACKLOG {
        let queued = tokio::task::unconstrained(listener.accept()).now_or_never();
        let Some(Ok(socket)) = queued else { return };
        acceptor.admit(socket, &workers);
    }
}

impl<H: Handler> ConnectionAcceptor<H> {
    /// Hands a connection to a worker, or closes it where a limit of connections is reached.
    fn admit(self: &Arc<Self>, socket: AcceptedSocket, workers: &Workers) {
        let Ok(permits) = self.permits(&socket).inspect_err(|refusal| self.refuse(*refusal)) else { return };
        let guard = ConnectionGuard::new(permits, workers.assign(socket.peer()), &self.tasks, &self.metrics);
        let (acceptor, guard) = (Arc::clone(self), Arc::new(guard));
        let (runtime, serving) = (guard.assignment().runtime().clone(), Arc::clone(&guard));
        runtime.spawn(guard.activity().track(async move { acceptor.serve(socket, serving).await }));
    }

    /// Counts a new connection: among all, and among those of its client, unless that is to be named by a header of the
    /// PROXY protocol.
    fn permits(&self, socket: &AcceptedSocket) -> Result<(ConnectionPermit, Option<ClientPermit>), ConnectionRefusal> {
        let permit = self.counts.admit()?;
        let client = match (socket, &self.proxy_sources) {
            (AcceptedSocket::Tcp(..), None) => self.client_permit(socket.peer())?,
            // Other ends of Unix sockets have no addresses.
            (AcceptedSocket::Tcp(..), Some(_)) | (AcceptedSocket::Unix(_), _) => None,
        };
        Ok((permit, client))
    }

    /// Counts a connection of `client`; `None` where that is a proxy.
    fn client_permit(&self, client: IpAddr) -> Result<Option<ClientPermit>, ConnectionRefusal> {
        let is_counted = !self.handler.is_proxy(client);
        is_counted.then(|| self.counts.admit_client(client)).transpose()
    }

    /// Notes that a connection is closed without a response, which would need a request to be read: the limits bound
    /// exactly such work.
    fn refuse(&self, refusal: ConnectionRefusal) {
        self.metrics.connection_refused(refusal.as_str());
    }

    async fn serve(&self, socket: AcceptedSocket, guard: Arc<ConnectionGuard>) {
        let Some(mut socket) = self.open(socket, &guard).await else { return };
        match socket.take_revalidation() {
            None => self.serve_requests(socket, &guard).await,
            // Boxed, because every connection would else have room for it.
            Some(revalidation) => {
                let revoked = guard.revoked().clone();
                let requests = Box::pin(self.serve_requests(socket, &guard));
                tokio::select! {
                    () = requests => {}
                    () = Box::pin(revalidation.wait_for_end(&revoked)) => {}
                }
            }
        }
    }

    async fn serve_requests(&self, socket: ClientSocket, guard: &Arc<ConnectionGuard>) {
        let http2 = if socket.negotiated_http2() {
            Some(socket)
        } else {
            http1::serve(&self.handler, socket, self.h2c, &self.limits, guard).await
        };
        if let Some(socket) = http2 {
            // Boxed, because every HTTP/1.1 connection would else have room for the state of HTTP/2.
            Box::pin(http2::serve(&self.handler, socket, &self.limits, &self.stalled_streams, guard)).await;
        }
    }

    /// Reads what comes before the first request: the header of the PROXY protocol and the TLS handshake, where the
    /// listener has them. `None` where one fails or takes too long, which the client sees.
    async fn open(&self, socket: AcceptedSocket, guard: &ConnectionGuard) -> Option<ClientSocket> {
        let peer = socket.peer();
        let stream = socket.into_stream();
        let stream = stream.inspect_err(|error| tracing::warn!(%error, "a connection cannot be served")).ok()?;
        let mut socket = ClientSocket::new(stream, peer, &self.rules).ok()?;
        if let Some(sources) = &self.proxy_sources {
            Box::pin(self.read_proxy_header(&mut socket, sources, guard)).await?;
        }
        let Some(tls) = &self.tls else { return Some(socket) };
        let handshake = Box::pin(timeout(self.limits.head, socket.accept_tls(tls))).await;
        // At debug level: any client that distrusts the certificate, and any port scan, makes one.
        let socket = handshake.ok()?.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()?;
        // An ACME server has seen what it came for (RFC 8737 §3).
        (!socket.is_acme_challenge()).then_some(socket)
    }

    /// Takes the client's address from the header of the PROXY protocol, and counts it; `None` where there is no good one,
    /// or where the client has too many connections.
    async fn read_proxy_header(
        &self,
        socket: &mut ClientSocket,
        sources: &[IpNet],
        guard: &ConnectionGuard,
    ) -> Option<()> {
        let peer = socket.info().peer;
        match proxy_protocol::read_header(socket, sources, self.limits.head).await {
            Ok(None) => {}
            Ok(Some(client)) => {
                socket.set_peer(client);
                guard.activity().set_peer(client);
                let permit = self.client_permit(client).inspect_err(|refusal| self.refuse(*refusal)).ok()?;
                if let Some(permit) = permit {
                    guard.set_client(permit);
                }
            }
            Err(error) => {
                self.metrics.listeners().proxy_header_refused(error.label());
                // At debug level: anybody who can connect can cause it.
                tracing::debug!(client = %peer, "a connection of {peer} is closed: {error}");
                return None;
            }
        }
        Some(())
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
