//! Players that have just come: each makes a connection of its own, and waits for its first byte.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use super::Victim;
use primitives::clock::monotonic_now;

/// Time between two of them.
const PACE: Duration = Duration::from_millis(50);
/// Bytes that each asks for.
const RANGE: usize = 64 * 1024;
/// Longest time of one.
const LIMIT: Duration = Duration::from_secs(10);

/// What they met with.
#[derive(Default)]
pub struct Started {
    /// Times from connecting to the first byte of the answer.
    pub first_bytes: Vec<Duration>,
    pub errors: Vec<String>,
}

/// Starts one after the other until `end`.
pub async fn start_players(victim: Victim, end: Instant) -> Started {
    let (mut started, mut pace) = (Started::default(), interval(PACE));
    while monotonic_now() < end {
        pace.tick().await;
        match timeout(LIMIT, one(&victim)).await.context("no whole answer in time").and_then(|done| done) {
            Ok(first_byte) => started.first_bytes.push(first_byte),
            Err(error) => started.errors.push(format!("{error:#}")),
        }
    }
    started
}

async fn one(victim: &Victim) -> Result<Duration> {
    let begun = monotonic_now();
    let mut stream = TcpStream::connect(victim.address).await?;
    let Victim { path, token, .. } = victim;
    let first = rand::random_range(0..1000) * RANGE;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: media.example\r\nAuthorization: Bearer {token}\r\n\
         Range: bytes={first}-{}\r\nConnection: close\r\n\r\n",
        first + RANGE - 1
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(2 * RANGE);
    ensure!(stream.read_buf(&mut answer).await? > 0, "closed before an answer");
    let first_byte = begun.elapsed();
    stream.read_to_end(&mut answer).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 206") && answer.len() > RANGE, "only {} bytes", answer.len());
    Ok(first_byte)
}
