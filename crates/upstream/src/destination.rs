//! One upstream server: its addresses, idle connections, health and the requests under way to it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use super::buffer_pool::BufferPool;
use super::circuit_breaker::{BreakerPermit, FailureKind, RequestIdentity};
use super::connection::{UpstreamConnection, UpstreamStream};
use super::health::DestinationHealth;
use super::http_client::HttpPool;
use super::idle_connections::IdleConnections;
use super::resolver::{CachedAddresses, Resolver};
use super::settings::UpstreamHttpVersion;
use super::splice::SplicePipes;
use super::tls::UpstreamTlsConnector;
use primitives::lifecycle::BackgroundTasks;

/// Failure to make a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name could not be resolved or has no address.
    #[error("the name does not resolve")]
    Resolve(#[source] Arc<io::Error>),
    /// The system refused the connection or has no route to the server, or the connection failed before it was usable.
    #[error("the connection is refused")]
    Refused(#[source] io::Error),
    /// Resolution, connect and handshake together took longer than the limit.
    #[error("connecting takes longer than allowed")]
    Timeout,
    /// The certificate is not valid for the host, or the handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// Address of a server: fixed, or a name to be resolved.
enum DestinationAddress {
    Ip(SocketAddr),
    Name(CachedAddresses),
}

/// Parts that all destinations share.
#[derive(Clone)]
pub struct UpstreamContext {
    /// Connector for `https` servers.
    pub tls: UpstreamTlsConnector,
    /// Resolver of names.
    pub resolver: Resolver,
    /// Tasks that watch idle connections.
    pub tasks: BackgroundTasks,
}

/// One upstream server.
pub struct Destination {
    id: Arc<str>,
    host: String,
    address: DestinationAddress,
    tls: Option<UpstreamTlsConnector>,
    http_version: UpstreamHttpVersion,
    idle: IdleConnections,
    buffers: BufferPool,
    pipes: SplicePipes,
    http_pool: HttpPool,
    in_flight: AtomicUsize,
    health: DestinationHealth,
    /// Error of the last probe; `None` where it succeeded or there was none.
    probe_error: ArcSwapOption<String>,
}

impl Destination {
    /// Creates the server that scheme, host and port of `address` name. Returns `None` where the host is missing or no
    /// port is known.
    pub fn new(
        id: Arc<str>,
        address: &Url,
        http_version: UpstreamHttpVersion,
        context: &UpstreamContext,
        health: DestinationHealth,
    ) -> Option<Self> {
        let (host, port) = (address.host()?, address.port_or_known_default()?);
        let way = match &host {
            Host::Domain(name) => {
                DestinationAddress::Name(CachedAddresses::new((*name).to_owned(), port, Arc::clone(&context.resolver)))
            }
            Host::Ipv4(ip) => DestinationAddress::Ip((IpAddr::V4(*ip), port).into()),
            Host::Ipv6(ip) => DestinationAddress::Ip((IpAddr::V6(*ip), port).into()),
        };
        Some(Self {
            id,
            host: host.to_string(),
            address: way,
            tls: (address.scheme() == "https").then(|| context.tls.clone()),
            http_version,
            idle: IdleConnections::new(context.tasks.clone()),
            buffers: BufferPool::default(),
            pipes: SplicePipes::default(),
            http_pool: HttpPool::default(),
            in_flight: AtomicUsize::new(0),
            health,
            probe_error: ArcSwapOption::empty(),
        })
    }

    /// Returns the id in the YAML.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Returns true if connections to it use TLS (scheme `https`).
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the HTTP version of requests of plain routes.
    pub fn http_version(&self) -> UpstreamHttpVersion {
        self.http_version
    }

    /// Returns the host, which is also the name that its certificate must carry.
    pub fn host(&self) -> String {
        self.host.clone()
    }

    /// Returns the pool of buffers that response bodies are read into.
    pub(super) fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    /// Returns the pipes through which response bodies are spliced.
    pub(super) fn pipes(&self) -> &SplicePipes {
        &self.pipes
    }

    /// Returns the pool of idle connections for requests of plain routes.
    pub(super) fn http_pool(&self) -> &HttpPool {
        &self.http_pool
    }

    /// Returns the number of requests under way.
    pub fn in_flight(&self) -> usize {
        // Load balancing compares the numbers and needs no order with other memory.
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns its health: circuit breaker, active and passive check.
    pub fn health(&self) -> &DestinationHealth {
        &self.health
    }

    /// Records the outcome of a probe; `None` means that it succeeded.
    pub(super) fn note_probe(&self, error: Option<String>) {
        // Probes of a healthy server, the usual case, write nothing.
        if error.is_some() || self.probe_error.load().is_some() {
            self.probe_error.store(error.map(Arc::new));
        }
    }

    /// Returns the error of the last probe; `None` where it succeeded or there was none.
    pub fn probe_error(&self) -> Option<Arc<String>> {
        self.probe_error.load_full()
    }

    /// Admits `request` at `now` and counts it until the guard is dropped. Returns `None` where breaker or health
    /// checks refuse it.
    pub fn enter(self: &Arc<Self>, request: RequestIdentity, now: Instant) -> Option<InFlightRequest> {
        self.health.enter(request, now).map(|pass| self.start_request(request, pass))
    }

    /// Admits `request` whatever the health says, for `HealthyOrPanic`. It is never the breaker's trial.
    pub fn enter_unconditionally(self: &Arc<Self>, request: RequestIdentity) -> InFlightRequest {
        self.start_request(request, BreakerPermit::Normal)
    }

    fn start_request(self: &Arc<Self>, request: RequestIdentity, pass: BreakerPermit) -> InFlightRequest {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlightRequest { destination: Arc::clone(self), request, pass }
    }

    /// Returns an idle connection that is still open, or makes a new one within `limit`, TLS included.
    pub async fn connection(self: &Arc<Self>, limit: Duration) -> Result<UpstreamConnection, ConnectError> {
        match self.idle.take() {
            Some(io) => Ok(UpstreamConnection::new(io, Arc::clone(self), true)),
            None => self.new_connection(limit).await,
        }
    }

    /// Makes a new connection within `limit`, TLS included.
    pub async fn new_connection(self: &Arc<Self>, limit: Duration) -> Result<UpstreamConnection, ConnectError> {
        let io = self.open(limit, UpstreamHttpVersion::Http1).await?;
        Ok(UpstreamConnection::new(io, Arc::clone(self), false))
    }

    /// Opens a new byte stream for `version` within `limit`, TLS included.
    pub(super) async fn open(
        &self,
        limit: Duration,
        version: UpstreamHttpVersion,
    ) -> Result<UpstreamStream, ConnectError> {
        // Boxed: most requests find an idle connection, and their futures should not hold room for a handshake.
        timeout(limit, Box::pin(self.connect(limit, version))).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn connect(&self, limit: Duration, version: UpstreamHttpVersion) -> Result<UpstreamStream, ConnectError> {
        // Addresses are tried in order; the error of the last one is reported.
        let mut refused = None;
        for address in self.addresses(limit).await?.iter() {
            match TcpStream::connect(*address).await {
                Ok(stream) => return self.secure(stream, version).await,
                Err(error) => refused = Some(error),
            }
        }
        // An empty list is already an error of the resolver; the fallback only satisfies the type.
        Err(ConnectError::Refused(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
    }

    async fn secure(&self, stream: TcpStream, version: UpstreamHttpVersion) -> Result<UpstreamStream, ConnectError> {
        // A request head is one small write: Nagle's algorithm could hold it back until the last segment is
        // acknowledged.
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        match &self.tls {
            None => Ok(UpstreamStream::Plain(stream)),
            Some(connector) => {
                let secured = connector.connect(&self.host, stream, version).await.map_err(ConnectError::Tls)?;
                // Boxed: the TLS state is much larger than a plain socket, and would make every stream as large.
                Ok(UpstreamStream::Tls(Box::new(secured)))
            }
        }
    }

    /// Returns the addresses of the server. The first lookup may take `limit`; later, the last known addresses are
    /// returned at once while a new lookup runs or fails.
    pub async fn addresses(&self, limit: Duration) -> Result<Arc<[SocketAddr]>, ConnectError> {
        match &self.address {
            DestinationAddress::Ip(address) => Ok(Arc::new([*address])),
            DestinationAddress::Name(addresses) => addresses.get(limit).await,
        }
    }

    /// Keeps a connection whose last exchange ended cleanly, for the next request on this thread.
    pub(super) fn keep(&self, io: UpstreamStream) {
        self.idle.keep(io);
    }
}

/// A request under way to a destination, counted until the guard is dropped. The sender reports the outcome with
/// [`InFlightRequest::answered`] or [`InFlightRequest::failed`]; a drop before that says nothing about the destination,
/// because the client left.
pub struct InFlightRequest {
    destination: Arc<Destination>,
    request: RequestIdentity,
    /// Permit of the circuit breaker; `Normal` once an outcome was reported.
    pass: BreakerPermit,
}

impl InFlightRequest {
    /// Returns the id of the destination.
    pub fn destination(&self) -> &Arc<str> {
        &self.destination.id
    }

    /// Reports at `now` that the destination answered: closes its breaker.
    pub fn answered(&mut self, now: Instant) {
        // The trial is decided: dropping the guard must not end another request's trial.
        self.pass = BreakerPermit::Normal;
        self.destination.health.succeeded(now);
    }

    /// Reports at `now` that no response came, or one that shows the destination's own failure. May open the breaker.
    pub fn failed(&mut self, fault: FailureKind, now: Instant) {
        // Taken out, so that the permit decides a trial once only.
        let pass = std::mem::replace(&mut self.pass, BreakerPermit::Normal);
        self.destination.health.failed(pass, fault, self.request, now);
    }

    /// Reports at `now` that the response body broke off after its head. Counts for the passive check only.
    pub fn broke_off(&self, now: Instant) {
        self.destination.health.broke_off(self.request, now);
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.destination.in_flight.fetch_sub(1, Ordering::Relaxed);
        // Without an outcome a trial would stay under way for ever, and nobody else could be one.
        self.destination.health.abandoned(self.pass);
    }
}
