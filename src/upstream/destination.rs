//! One upstream server: its addresses, its idle connections, what is under way to it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use thread_local::ThreadLocal;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use super::breaker::{Fault, Pass};
use super::buffers::Buffers;
use super::connection::{Connection, Io};
use super::health::Health;
use super::http_client::HttpPool;
use super::splice::Pipes;
use super::tls::Connector;

/// Idle connections kept for each thread.
const MAX_IDLE: usize = 256;
/// An idle connection is not used again after this long: most servers close theirs at 60 s or later.
const MAX_IDLE_TIME: Duration = Duration::from_secs(55);
/// A resolved name is believed this long; after that the old addresses serve until the new ones are there.
const RESOLVED_FOR: Duration = Duration::from_secs(10);

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name does not resolve")]
    Resolve(#[source] io::Error),
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

struct Resolved {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

struct Idle {
    io: Io,
    since: Instant,
}

/// One upstream server.
pub struct Destination {
    id: Arc<str>,
    host: Host<String>,
    port: u16,
    tls: Option<Connector>,
    resolved: ArcSwapOption<Resolved>,
    /// Each thread has its own: the system tells of a connection's events to the one that made it.
    idle: ThreadLocal<Mutex<Vec<Idle>>>,
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
    pub fn new(id: Arc<str>, address: &Url, tls: &Connector, health: Health) -> Option<Self> {
        let host = match address.host()? {
            Host::Domain(name) => Host::Domain(name.to_owned()),
            Host::Ipv4(ip) => Host::Ipv4(ip),
            Host::Ipv6(ip) => Host::Ipv6(ip),
        };
        Some(Self {
            id,
            host,
            port: address.port_or_known_default()?,
            tls: (address.scheme() == "https").then(|| tls.clone()),
            resolved: ArcSwapOption::empty(),
            idle: ThreadLocal::new(),
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
        self.host.to_string()
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

    /// Lets a request go there at `now`, where its health allows it.
    pub fn enter(self: &Arc<Self>, now: Instant) -> Option<InFlight> {
        self.health.enter(now).map(|pass| self.entered(pass))
    }

    /// Lets a request go there whatever its health is.
    pub fn enter_anyway(self: &Arc<Self>) -> InFlight {
        self.entered(Pass::Free)
    }

    fn entered(self: &Arc<Self>, pass: Pass) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { destination: Arc::clone(self), pass }
    }

    /// An idle connection that still looks alive, or a new one within `limit`.
    pub async fn connection(self: &Arc<Self>, limit: Duration) -> Result<Connection, ConnectError> {
        match self.take_idle() {
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
        timeout(limit, Box::pin(self.connect())).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn connect(&self) -> Result<Io, ConnectError> {
        let mut refused = None;
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
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
                let secured = connector.connect(&self.host.to_string(), stream).await.map_err(ConnectError::Tls)?;
                Ok(Io::Tls(Box::new(secured)))
            }
        }
    }

    /// The addresses of the name now; the last known ones while it does not resolve.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let name = match &self.host {
            Host::Ipv4(ip) => return Ok(vec![(IpAddr::V4(*ip), self.port).into()]),
            Host::Ipv6(ip) => return Ok(vec![(IpAddr::V6(*ip), self.port).into()]),
            Host::Domain(name) => name,
        };
        let known = self.resolved.load_full();
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return Ok(known.addresses.clone());
        }
        let until = Instant::now() + RESOLVED_FOR;
        match tokio::net::lookup_host((name.as_str(), self.port)).await {
            Ok(found) => {
                let addresses: Vec<_> = found.collect();
                self.resolved.store(Some(Arc::new(Resolved { addresses: addresses.clone(), until })));
                Ok(addresses)
            }
            Err(error) => known.map(|old| old.addresses.clone()).ok_or(ConnectError::Resolve(error)),
        }
    }

    fn take_idle(&self) -> Option<Io> {
        let mut idle = self.idle.get_or_default().lock();
        while let Some(candidate) = idle.pop() {
            if candidate.since.elapsed() > MAX_IDLE_TIME {
                idle.clear();
                return None;
            }
            if candidate.io.is_quiet() {
                return Some(candidate.io);
            }
        }
        None
    }

    /// Keeps a connection whose last exchange ended cleanly for the next request.
    pub(super) fn keep(&self, io: Io) {
        let mut idle = self.idle.get_or_default().lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { io, since: Instant::now() });
        }
    }
}

/// A request under way, counted until it is dropped; whoever sends it says how it went. Dropped before that, it says
/// nothing of the destination: the client left.
pub struct InFlight {
    destination: Arc<Destination>,
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
        self.destination.health.failed(pass, fault, now);
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
