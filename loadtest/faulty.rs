//! A way to the origin that breaks: a relay that does to answers, at random, what stores and networks do. There are two
//! of them, and at any time one is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use primitives::clock::monotonic_now;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// For so long one of the two is the faulty one; then the other.
const TURN: Duration = Duration::from_secs(5);
/// Of the faulty one's answers, one in so many is as it should be.
const GOOD: u64 = 2;
const HEAD: usize = 16 * 1024;

/// What is done to one answer.
#[derive(Clone, Copy)]
enum Fault {
    /// So much of it, then the end in order.
    Cut,
    /// So much of it, then a reset.
    Reset,
    /// So much of it, then silence.
    Stall,
    /// A length below that of the part it says it is.
    Short,
    /// Another part than the one asked for.
    WrongRange,
    /// All of it, with pauses.
    Slow,
    /// A refusal in its place.
    Refusal(&'static str),
}

const FAULTS: [Fault; 15] = [
    Fault::Cut,
    Fault::Cut,
    Fault::Cut,
    Fault::Cut,
    Fault::Reset,
    Fault::Reset,
    Fault::Reset,
    Fault::Stall,
    Fault::Stall,
    Fault::Slow,
    Fault::Short,
    Fault::WrongRange,
    Fault::Refusal(
        "503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 35\r\n\r\n<Error><Code>SlowDown</Code></Error>",
    ),
    Fault::Refusal("500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
    Fault::Refusal("302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
];

/// Both relays; they stop with the runtime.
pub struct Faulty {
    /// Where they listen.
    pub addresses: [SocketAddr; 2],
    /// Faults so far.
    pub faults: Arc<AtomicU64>,
}

impl Faulty {
    /// Starts both before `origin`.
    pub async fn start(origin: SocketAddr, tasks: &mut JoinSet<()>) -> Result<Self> {
        let (begun, faults) = (monotonic_now(), Arc::new(AtomicU64::new(0)));
        let mut addresses = Vec::new();
        for number in 0..2 {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            addresses.push(listener.local_addr()?);
            let relay = Relay { origin, begun, number, faults: Arc::clone(&faults) };
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    let relay = relay.clone();
                    connections.spawn(async move {
                        // That connections break is what it is for.
                        let _broken = relay.converse(client).await;
                    });
                    while connections.try_join_next().is_some() {}
                }
            });
        }
        Ok(Self { addresses: [addresses[0], addresses[1]], faults })
    }
}

#[derive(Clone)]
struct Relay {
    origin: SocketAddr,
    begun: Instant,
    number: u64,
    faults: Arc<AtomicU64>,
}

impl Relay {
    fn fault(&self) -> Option<Fault> {
        let turn = self.begun.elapsed().as_secs() / TURN.as_secs();
        if turn % 2 != self.number || rand::random_range(0..GOOD) == 0 {
            return None;
        }
        self.faults.fetch_add(1, Ordering::Relaxed);
        Some(FAULTS[rand::random_range(0..FAULTS.len())])
    }

    async fn converse(&self, mut client: TcpStream) -> Result<()> {
        let mut origin = TcpStream::connect(self.origin).await?;
        client.set_nodelay(true)?;
        origin.set_nodelay(true)?;
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        loop {
            let request = head(&mut client, &mut asked).await?;
            let fault = self.fault();
            if let Some(Fault::Refusal(answer)) = fault {
                client.write_all(b"HTTP/1.1 ").await?;
                client.write_all(answer.as_bytes()).await?;
                continue;
            }
            origin.write_all(&request).await?;
            let mut answer = Answer::read(&mut origin, &mut answered).await?;
            if request.starts_with(b"HEAD") {
                answer.length = 0;
            }
            let end = answer.spoil(fault);
            client.write_all(&answer.head).await?;
            answer.pass(&mut origin, &mut answered, &mut client, fault).await?;
            match end {
                After::Next => {}
                After::Close => return Ok(()),
                After::Reset => {
                    client.set_zero_linger()?;
                    return Ok(());
                }
                After::Silence => {
                    while client.read(&mut [0; 64]).await? > 0 {}
                    return Ok(());
                }
            }
        }
    }
}

/// What becomes of the connection after an answer.
enum After {
    Next,
    Close,
    Reset,
    Silence,
}

struct Answer {
    head: Vec<u8>,
    /// How much of the body is passed on.
    length: usize,
}

impl Answer {
    async fn read(origin: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Self> {
        let head = head(origin, buffer).await?;
        let text = String::from_utf8_lossy(&head);
        let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(Ok(0), str::parse).context("the origin's Content-Length")?;
        Ok(Self { head, length })
    }

    fn spoil(&mut self, fault: Option<Fault>) -> After {
        match fault {
            None | Some(Fault::Slow | Fault::Refusal(_)) => After::Next,
            Some(Fault::Cut) => self.up_to_somewhere(After::Close),
            Some(Fault::Reset) => self.up_to_somewhere(After::Reset),
            Some(Fault::Stall) => self.up_to_somewhere(After::Silence),
            Some(Fault::Short) => {
                let half = self.length / 2;
                self.replace(&format!("Content-Length: {}", self.length), &format!("Content-Length: {half}"));
                self.length = half;
                // A whole answer cannot be seen to be short: it is merely a smaller object.
                if self.head.starts_with(b"HTTP/1.1 206") { After::Close } else { self.up_to_nothing() }
            }
            Some(Fault::WrongRange) => {
                self.replace("Content-Range: bytes ", "Content-Range: bytes 1");
                After::Next
            }
        }
    }

    fn up_to_somewhere(&mut self, after: After) -> After {
        self.length = rand::random_range(0..=self.length.saturating_sub(1));
        after
    }

    /// No answer at all.
    fn up_to_nothing(&mut self) -> After {
        (self.head, self.length) = (Vec::new(), 0);
        After::Close
    }

    fn replace(&mut self, from: &str, to: &str) {
        self.head = String::from_utf8_lossy(&self.head).replacen(from, to, 1).into_bytes();
    }

    async fn pass(
        &mut self,
        origin: &mut TcpStream,
        buffer: &mut Vec<u8>,
        client: &mut TcpStream,
        fault: Option<Fault>,
    ) -> Result<()> {
        let mut left = self.length;
        while left > 0 {
            if buffer.is_empty() {
                buffer.reserve(64 * 1024);
                anyhow::ensure!(origin.read_buf(buffer).await? > 0, "the origin closed");
            }
            let length = left.min(buffer.len());
            client.write_all(&buffer[..length]).await?;
            buffer.drain(..length);
            left -= length;
            if matches!(fault, Some(Fault::Slow)) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

/// A head, up to its empty line; what follows stays in `buffer`.
pub async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Vec<u8>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(buffer.drain(..end + 4).collect());
        }
        anyhow::ensure!(buffer.len() < HEAD && stream.read_buf(buffer).await? > 0, "no head");
    }
}
