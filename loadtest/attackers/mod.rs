//! Clients that attack a server, each kind for itself, from many addresses of loopback: they take what they can, and come
//! again when they are cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

mod floods;
mod frames;
mod idle;
mod slow;
mod starters;

pub use idle::open_idle;
pub use starters::{Started, start_players};

/// Addresses that attackers come from.
const ADDRESSES: usize = 200;
/// Time until one that was cut comes again.
const PAUSE: Duration = Duration::from_millis(100);

/// Whom they attack, and what they know.
#[derive(Clone)]
pub struct Victim {
    pub address: SocketAddr,
    /// Of an object that is large enough never to be read to its end.
    pub path: Arc<str>,
    pub token: Arc<str>,
}

/// What the attackers met with.
#[derive(Default)]
pub struct Counts {
    connections: AtomicU64,
    ended: AtomicU64,
}

/// Attackers at work, until this is dropped.
pub struct Attackers {
    counts: Arc<Counts>,
    runtime: Option<Runtime>,
}

impl Attackers {
    /// Starts all kinds, on a thread of their own: `scale` times 600 slow ones, and one flood of each kind without pause.
    pub fn start(victim: &Victim, scale: f64) -> Result<Self> {
        let runtime = thread("attackers")?;
        let counts = Arc::<Counts>::default();
        let slow = ((200.0 * scale).ceil() as usize).max(1);
        let mut number = 0;
        let mut spawn = |many: usize, kind: Kind| {
            for _ in 0..many {
                number += 1;
                runtime.spawn(attack(victim.clone(), kind, number, Arc::clone(&counts)));
            }
        };
        for kind in [Kind::Head, Kind::Body, Kind::Read] {
            spawn(slow, kind);
        }
        spawn(1, Kind::Pipelining);
        for flood in floods::ALL {
            spawn(1, Kind::Flood(flood));
        }
        Ok(Self { counts, runtime: Some(runtime) })
    }

    /// Returns the connections that they made, and of these those that the server ended.
    pub fn connections(&self) -> [u64; 2] {
        [&self.counts.connections, &self.counts.ended].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        // Whatever they do now: they wait for nothing that must be seen.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A kind of attack.
#[derive(Clone, Copy)]
enum Kind {
    /// A head that never ends.
    Head,
    /// A body that never ends.
    Body,
    /// An answer that is hardly read.
    Read,
    /// Hundreds of requests at once.
    Pipelining,
    /// Frames of HTTP/2.
    Flood(floods::Flood),
}

/// One attacker, which comes again and again.
async fn attack(victim: Victim, kind: Kind, number: usize, counts: Arc<Counts>) {
    loop {
        if let Ok(stream) = connect(victim.address, number, matches!(kind, Kind::Read)).await {
            counts.connections.fetch_add(1, Ordering::Relaxed);
            // How the server ends it is its own affair.
            let _ended = match kind {
                Kind::Head => slow::head(stream).await,
                Kind::Body => slow::body(stream, &victim).await,
                Kind::Read => slow::read(stream, &victim).await,
                Kind::Pipelining => slow::pipelining(stream, &victim).await,
                Kind::Flood(flood) => floods::flood(stream, &victim, flood).await,
            };
            counts.ended.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Connects from an address of the attacker's own; a slow reader with the least buffer that the system gives.
async fn connect(address: SocketAddr, number: usize, is_slow: bool) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(source(number))?;
    if is_slow {
        socket.set_recv_buffer_size(2048)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn source(number: usize) -> SocketAddr {
    let last = u8::try_from(number % ADDRESSES).unwrap_or_default();
    // 127.0.0.1 is the players'.
    SocketAddr::from((Ipv4Addr::new(127, 0, 1, last.saturating_add(1)), 0))
}

/// A runtime of one thread, so that attackers take a core at most and delay nobody else who is measured.
pub fn thread(name: &str) -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()?)
}
