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

use super::addresses::{Addresses, Lookup};
use super::breaker::{Fault, Pass, RequestIdentity};
use super::buffers::Buffers;
use super::connection::{Connection, Io};
use super::health::Health;
use super::http_client::HttpPool;
use super::idle::IdleConnections;
use super::splice::Pipes;
use super::tls::Connector;
use primitives::lifecycle::Tasks;

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
enum Way {
    Ip(SocketAddr),
    Name(Addresses),
}

/// What all destinations share.
#[derive(Clone)]
pub struct UpstreamContext {
    /// Makes TLS connections.
    pub tls: Connector,
    /// Looks names up.
    pub lookup: Lookup,
    /// Runs what goes on beside the requests.
    pub tasks: Tasks,
}

/// One upstream server.
pub struct Destination {
    id: Arc<str>,
    host: String,
    way: Way,
    tls: Option<Connector>,
    idle: IdleConnections,
    buffers: Buffers,
    pipes: Pipes,
    http_pool: HttpPool,
    in_flight: AtomicUsize,
    health: Health,
    /// Error of the last probe; `None` where it succeeded.
    probe_error: ArcSwapOption<String>,
}

impl Destination {
    /// The server named by scheme, host and port of `address`.
    pub fn new(id: Arc<str>, address: &Url, context: &UpstreamContext, health: Health) -> Option<Self> {
        let (host, port) = (address.host()?, address.port_or_known_default()?);
        let way = match &host {
            Host::Domain(name) => Way::Name(Addresses::new((*name).to_owned(), port, Arc::clone(&context.lookup))),
            Host::Ipv4(ip) => Way::Ip((IpAddr::V4(*ip), port).into()),
            Host::Ipv6(ip) => Way::Ip((IpAddr::V6(*ip), port).into()),
        };
        Some(Self {
            id,
            host: host.to_string(),
            way,
            tls: (address.scheme() == "https").then(|| context.tls.clone()),
            idle: IdleConnections::new(context.tasks.clone()),
            buffers: Buffers::default(),
            pipes: Pipes::default(),
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
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// What bodies from it pass through that nobody here reads.
    pub(super) fn pipes(&self) -> &Pipes {
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
    pub fn health(&self) -> &Health {
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
    pub fn enter(self: &Arc<Self>, request: RequestIdentity, now: Instant) -> Option<InFlight> {
        self.health.enter(now).map(|pass| self.entered(request, pass))
    }

    /// Lets `request` go there whatever its health is.
    pub fn enter_anyway(self: &Arc<Self>, request: RequestIdentity) -> InFlight {
        self.entered(request, Pass::Free)
    }

    fn entered(self: &Arc<Self>, request: RequestIdentity, pass: Pass) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { destination: Arc::clone(self), request, pass }
    }

    /// An idle connection that still looks alive, or a new one within `limit`.
    pub async fn connection(self: &Arc<Self>, limit: Duration) -> Result<Connection, ConnectError> {
        match self.idle.take() {
            Some(io) => Ok(Connection::new(io, Arc::clone(self), true)),
            None => self.new_connection(limit).await,
        }
    }

    /// A new connection within `limit`, TLS included.
    pub async fn new_connection(self: &Arc<Self>, limit: Duration) -> Result<Connection, ConnectError> {
        let io = self.open(limit).await?;
        Ok(Connection::new(io, Arc::clone(self), false))
    }

    /// A new byte stream to it within `limit`, TLS included.
    pub(super) async fn open(&self, limit: Duration) -> Result<Io, ConnectError> {
        timeout(limit, Box::pin(self.connect(limit))).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn connect(&self, limit: Duration) -> Result<Io, ConnectError> {
        let mut refused = None;
        for address in self.addresses(limit).await?.iter() {
            match TcpStream::connect(*address).await {
                Ok(stream) => return self.secure(stream).await,
                Err(error) => refused = Some(error),
            }
        }
        Err(ConnectError::Refused(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
    }

    async fn secure(&self, stream: TcpStream) -> Result<Io, ConnectError> {
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        match &self.tls {
            None => Ok(Io::Plain(stream)),
            Some(connector) => {
                let secured = connector.connect(&self.host, stream).await.map_err(ConnectError::Tls)?;
                Ok(Io::Tls(Box::new(secured)))
            }
        }
    }

    /// The addresses of the name: the last known ones while a lookup takes long or fails; the first may take `limit`.
    pub async fn addresses(&self, limit: Duration) -> Result<Arc<[SocketAddr]>, ConnectError> {
        match &self.way {
            Way::Ip(address) => Ok(Arc::new([*address])),
            Way::Name(addresses) => addresses.get(limit).await,
        }
    }

    /// Keeps a connection whose last exchange ended cleanly for the next request.
    pub(super) fn keep(&self, io: Io) {
        self.idle.keep(io);
    }
}

/// A request under way, counted until it is dropped; whoever sends it says how it went. Dropped before that, it says
/// nothing of the destination: the client left.
pub struct InFlight {
    destination: Arc<Destination>,
    request: RequestIdentity,
    /// `Free` too once there was a verdict.
    pass: Pass,
}

impl InFlight {
    /// The id of the destination.
    pub fn destination(&self) -> &Arc<str> {
        &self.destination.id
    }

    /// The destination answered.
    pub fn answered(&mut self, now: Instant) {
        self.pass = Pass::Free;
        self.destination.health.succeeded(now);
    }

    /// There was no answer, or one that tells of the destination's failure.
    pub fn failed(&mut self, fault: Fault, now: Instant) {
        let pass = std::mem::replace(&mut self.pass, Pass::Free);
        self.destination.health.failed(pass, fault, self.request, now);
    }

    /// The answer broke off after its head.
    pub fn broke_off(&self, now: Instant) {
        self.destination.health.broke_off(now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.destination.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.destination.health.abandoned(self.pass);
    }
}
