//! One upstream server: its addresses, its idle connections, what is under way to it.

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
use super::splice::SplicePipes;
use super::tls::UpstreamTlsConnector;
use primitives::lifecycle::BackgroundTasks;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name does not resolve")]
    Resolve(#[source] Arc<io::Error>),
    /// Nobody listens, or the way is closed.
    #[error("the connection is refused")]
    Refused(#[source] io::Error),
    /// No answer in time.
    #[error("connecting takes longer than allowed")]
    Timeout,
    /// The certificate or the handshake is wrong.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// Where connections go.
enum DestinationAddress {
    Ip(SocketAddr),
    Name(CachedAddresses),
}

/// What all destinations share.
#[derive(Clone)]
pub struct UpstreamContext {
    /// Makes TLS connections.
    pub tls: UpstreamTlsConnector,
    /// Looks names up.
    pub resolver: Resolver,
    /// Runs what goes on beside the requests.
    pub tasks: BackgroundTasks,
}

/// One upstream server.
pub struct Destination {
    id: Arc<str>,
    host: String,
    address: DestinationAddress,
    tls: Option<UpstreamTlsConnector>,
    idle: IdleConnections,
    buffers: BufferPool,
    pipes: SplicePipes,
    http_pool: HttpPool,
    in_flight: AtomicUsize,
    health: DestinationHealth,
    /// Error of the last probe; `None` where it succeeded.
    probe_error: ArcSwapOption<String>,
}

impl Destination {
    /// The server named by scheme, host and port of `address`.
    pub fn new(id: Arc<str>, address: &Url, context: &UpstreamContext, health: DestinationHealth) -> Option<Self> {
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
            idle: IdleConnections::new(context.tasks.clone()),
            buffers: BufferPool::default(),
            pipes: SplicePipes::default(),
            http_pool: HttpPool::default(),
            in_flight: AtomicUsize::new(0),
            health,
            probe_error: ArcSwapOption::empty(),
        })
    }

    /// Its id in the YAML.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The name that its certificate must carry.
    pub fn host(&self) -> String {
        self.host.clone()
    }

    /// What bodies from it are read into.
    pub(super) fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    /// What bodies from it pass through that nobody here reads.
    pub(super) fn pipes(&self) -> &SplicePipes {
        &self.pipes
    }

    /// Idle connections for requests of plain routes.
    pub(super) fn http_pool(&self) -> &HttpPool {
        &self.http_pool
    }

    /// Requests under way to it.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it may be used.
    pub fn health(&self) -> &DestinationHealth {
        &self.health
    }

    /// Notes how the last probe ended.
    pub(super) fn note_probe(&self, error: Option<String>) {
        if error.is_some() || self.probe_error.load().is_some() {
            self.probe_error.store(error.map(Arc::new));
        }
    }

    /// Error of the last probe; `None` where it succeeded.
    pub fn probe_error(&self) -> Option<Arc<String>> {
        self.probe_error.load_full()
    }

    /// Lets `request` go there at `now`, where its health allows it.
    pub fn enter(self: &Arc<Self>, request: RequestIdentity, now: Instant) -> Option<InFlightRequest> {
        self.health.enter(request, now).map(|pass| self.start_request(request, pass))
    }

    /// Lets `request` go there whatever its health is.
    pub fn enter_unconditionally(self: &Arc<Self>, request: RequestIdentity) -> InFlightRequest {
        self.start_request(request, BreakerPermit::Normal)
    }

    fn start_request(self: &Arc<Self>, request: RequestIdentity, pass: BreakerPermit) -> InFlightRequest {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlightRequest { destination: Arc::clone(self), request, pass }
    }

    /// An idle connection that still looks alive, or a new one within `limit`.
    pub async fn connection(self: &Arc<Self>, limit: Duration) -> Result<UpstreamConnection, ConnectError> {
        match self.idle.take() {
            Some(io) => Ok(UpstreamConnection::new(io, Arc::clone(self), true)),
            None => self.new_connection(limit).await,
        }
    }

    /// A new connection within `limit`, TLS included.
    pub async fn new_connection(self: &Arc<Self>, limit: Duration) -> Result<UpstreamConnection, ConnectError> {
        let io = self.open(limit).await?;
        Ok(UpstreamConnection::new(io, Arc::clone(self), false))
    }

    /// A new byte stream to it within `limit`, TLS included.
    pub(super) async fn open(&self, limit: Duration) -> Result<UpstreamStream, ConnectError> {
        timeout(limit, Box::pin(self.connect(limit))).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn connect(&self, limit: Duration) -> Result<UpstreamStream, ConnectError> {
        let mut refused = None;
        for address in self.addresses(limit).await?.iter() {
            match TcpStream::connect(*address).await {
                Ok(stream) => return self.secure(stream).await,
                Err(error) => refused = Some(error),
            }
        }
        Err(ConnectError::Refused(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
    }

    async fn secure(&self, stream: TcpStream) -> Result<UpstreamStream, ConnectError> {
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        match &self.tls {
            None => Ok(UpstreamStream::Plain(stream)),
            Some(connector) => {
                let secured = connector.connect(&self.host, stream).await.map_err(ConnectError::Tls)?;
                Ok(UpstreamStream::Tls(Box::new(secured)))
            }
        }
    }

    /// The addresses of the name: the last known ones while a lookup takes long or fails; the first may take `limit`.
    pub async fn addresses(&self, limit: Duration) -> Result<Arc<[SocketAddr]>, ConnectError> {
        match &self.address {
            DestinationAddress::Ip(address) => Ok(Arc::new([*address])),
            DestinationAddress::Name(addresses) => addresses.get(limit).await,
        }
    }

    /// Keeps a connection whose last exchange ended cleanly for the next request.
    pub(super) fn keep(&self, io: UpstreamStream) {
        self.idle.keep(io);
    }
}

/// A request under way, counted until it is dropped; whoever sends it says how it went. Dropped before that, it says
/// nothing of the destination: the client left.
pub struct InFlightRequest {
    destination: Arc<Destination>,
    request: RequestIdentity,
    /// `Free` too once there was a verdict.
    pass: BreakerPermit,
}

impl InFlightRequest {
    /// The id of the destination.
    pub fn destination(&self) -> &Arc<str> {
        &self.destination.id
    }

    /// The destination answered.
    pub fn answered(&mut self, now: Instant) {
        self.pass = BreakerPermit::Normal;
        self.destination.health.succeeded(now);
    }

    /// There was no answer, or one that tells of the destination's failure.
    pub fn failed(&mut self, fault: FailureKind, now: Instant) {
        let pass = std::mem::replace(&mut self.pass, BreakerPermit::Normal);
        self.destination.health.failed(pass, fault, self.request, now);
    }

    /// The answer broke off after its head.
    pub fn broke_off(&self, now: Instant) {
        self.destination.health.broke_off(self.request, now);
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.destination.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.destination.health.abandoned(self.pass);
    }
}
