//! Connections of one listening socket: accepted, held to the limits that come before a request, and opened by its rules.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::bind::{AcceptedSocket, BoundAddress, ListeningSocket, UnixSocketError};
use super::connection_counts::{ClientPermit, ConnectionCounts, ConnectionPermit, ConnectionRefusal};
use super::connection_guard::ConnectionGuard;
use super::connection_info::ResponseRules;
use super::connection_limits::ConnectionLimits;
use super::http2::stalled_streams::StalledStreams;
use super::listen_sockets::SocketRegistration;
use super::proxy_protocol;
use super::socket::ClientSocket;
use super::tls_server::TlsServer;
use super::workers::Workers;
use super::{Handler, http1, http2, tls};
use crate::settings::ListenerSettings;
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;

/// Bytes that may wait in the kernel for a client's window to open. Without this bound the kernel takes megabytes.
pub const MAX_UNSENT_BYTES: usize = 128 * 1024;
/// Connections that may wait to be accepted: as many as the system allows.
pub const BACKLOG: i32 = 65_535;
/// Pause after a connection could not be accepted: the reason, most likely open files, would be the same at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// The process listens on the address already, as part of another one.
    #[error(
        "cannot listen on {address} while {other} is open, on which the configuration in force listens; close that first, \
         by a reload of its own, or restart"
    )]
    Included {
        /// The address asked for.
        address: SocketAddr,
        /// The address that is open.
        other: SocketAddr,
    },
    /// A supervisor goes on listening on an address that a reload would take away.
    #[error(
        "cannot stop listening on {0}: the supervisor that has passed the socket goes on listening there, and clients \
         would wait for ever; take the socket out of its configuration and restart"
    )]
    Supervised(BoundAddress),
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

/// Services that the acceptors of all listeners share.
pub(crate) struct AcceptorServices<H> {
    pub handler: Arc<H>,
    pub workers: Arc<Workers>,
    /// One for all listeners: the limit is on the process.
    pub counts: Arc<ConnectionCounts>,
    /// One likewise.
    pub stalled_streams: Arc<StalledStreams>,
    pub metrics: Arc<Metrics>,
}

/// Serves the connections that one socket accepts, with the limits that hold before a request is read.
pub(crate) struct ConnectionAcceptor<H> {
    pub services: Arc<AcceptorServices<H>>,
    /// Rules of the socket's listener.
    pub listener: Arc<ListenerSettings>,
    pub tls: Option<Arc<TlsServer>>,
    pub rules: Arc<ResponseRules>,
    pub limits: Arc<ConnectionLimits>,
    /// Tasks of the connections that are served by these rules: they end with the address or with the rules.
    pub tasks: BackgroundTasks,
}

/// A socket that accepts connections, and what serves them.
pub(crate) struct OpenSocket<H> {
    pub address: BoundAddress,
    /// Replaced by a reload: a connection keeps the one that has accepted it.
    pub acceptor: ArcSwap<ConnectionAcceptor<H>>,
    /// Tasks of this address, which a reload may take away.
    pub tasks: BackgroundTasks,
    /// Entry among the sockets that are handed over; `None` once it accepts no more.
    pub registration: Mutex<Option<SocketRegistration>>,
    /// Cancelled once it is closed.
    pub closed: CancellationToken,
}

impl<H> OpenSocket<H> {
    /// Returns true where a supervisor has passed it, which goes on listening when this process closes it.
    pub fn is_supervised(&self) -> bool {
        self.registration.lock().as_ref().is_some_and(SocketRegistration::is_supervised)
    }
}

impl<H: Handler> OpenSocket<H> {
    /// Takes connections until shutdown or until the address is taken away, each to the worker that has the fewest.
    pub async fn accept(self: Arc<Self>, listener: ListeningSocket) {
        // In this order: the socket is dropped first.
        let (_closed, listener) = (self.closed.clone().drop_guard(), listener);
        loop {
            let accepted = tokio::select! {
                // Shutdown first: under load a connection is always ready to be accepted.
                biased;
                () = self.tasks.stopping() => break,
                // What waits to be accepted is for the other process.
                () = self.tasks.handed_over() => return drop(self.registration.lock().take()),
                accepted = listener.accept() => accepted,
            };
            if let Err(error) = accepted.map(|socket| self.admit(socket)) {
                tracing::warn!(%error, "a connection cannot be accepted; is the limit of open files (ulimit -n) reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // First: the descriptor that is kept to be handed over would let more clients connect.
        drop(self.registration.lock().take());
        // Clients see those that the system has completed as connected: closing the socket would reset them.
        for _ in 0..BACKLOG {
            let queued = tokio::task::unconstrained(listener.accept()).now_or_never();
            let Some(Ok(socket)) = queued else { return };
            self.admit(socket);
        }
    }

    fn admit(&self, socket: AcceptedSocket) {
        // Whoever changes the rules next leaves this connection those that it came under.
        self.acceptor.load_full().admit(socket);
    }
}

impl<H: Handler> ConnectionAcceptor<H> {
    /// Hands a connection to a worker, or closes it where a limit of connections is reached.
    fn admit(self: Arc<Self>, socket: AcceptedSocket) {
        let Ok(permits) = self.permits(&socket).inspect_err(|refusal| self.refuse(*refusal)) else { return };
        let assignment = self.services.workers.assign(socket.peer());
        let guard = ConnectionGuard::new(permits, assignment, &self.tasks, &self.services.metrics);
        let guard = Arc::new(guard);
        let (runtime, serving) = (guard.assignment().runtime().clone(), Arc::clone(&guard));
        runtime.spawn(guard.activity().track(async move { self.serve(socket, serving).await }));
    }

    /// Counts a new connection: among all, and among those of its client, unless that is to be named by a header of the
    /// PROXY protocol.
    fn permits(&self, socket: &AcceptedSocket) -> Result<(ConnectionPermit, Option<ClientPermit>), ConnectionRefusal> {
        let permit = self.services.counts.admit()?;
        let client = match (socket, &self.listener.proxy_sources) {
            (AcceptedSocket::Tcp(..), None) => self.client_permit(socket.peer())?,
            // Other ends of Unix sockets have no addresses.
            (AcceptedSocket::Tcp(..), Some(_)) | (AcceptedSocket::Unix(_), _) => None,
        };
        Ok((permit, client))
    }

    /// Counts a connection of `client`; `None` where that is a proxy.
    fn client_permit(&self, client: IpAddr) -> Result<Option<ClientPermit>, ConnectionRefusal> {
        let is_counted = !self.services.handler.is_proxy(client);
        is_counted.then(|| self.services.counts.admit_client(client)).transpose()
    }

    /// Notes that a connection is closed without a response, which would need a request to be read: the limits bound
    /// exactly such work.
    fn refuse(&self, refusal: ConnectionRefusal) {
        self.services.metrics.connection_refused(refusal.as_str());
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
            http1::serve(&self.services.handler, socket, self.listener.h2c, &self.limits, guard).await
        };
        if let Some(socket) = http2 {
            // Boxed, because every HTTP/1.1 connection would else have room for the state of HTTP/2.
            let (limits, services) = (&self.limits, &self.services);
            Box::pin(http2::serve(&services.handler, socket, limits, &services.stalled_streams, guard)).await;
        }
    }

    /// Reads what comes before the first request: the header of the PROXY protocol and the TLS handshake, where the
    /// listener has them. `None` where one fails or takes too long, which the client sees.
    async fn open(&self, socket: AcceptedSocket, guard: &ConnectionGuard) -> Option<ClientSocket> {
        let peer = socket.peer();
        let stream = socket.into_stream();
        let stream = stream.inspect_err(|error| tracing::warn!(%error, "a connection cannot be served")).ok()?;
        let mut socket = ClientSocket::new(stream, peer, &self.rules).ok()?;
        if let Some(sources) = &self.listener.proxy_sources {
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
                self.services.metrics.listeners().proxy_header_refused(error.label());
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
