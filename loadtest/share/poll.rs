//! The document's clients: a host that posts JSON, listeners that poll.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Beats, Heard, Relay};
use primitives::clock::monotonic_now;

/// Frames of a chunk, and frames per second.
const FRAMES: usize = 4096;
const RATE: usize = 44_100;
/// How often a listener asks for audio; every fifth time it looks at the metadata too.
const POLL: Duration = Duration::from_millis(100);
/// What stands before a number in a chunk, and before its samples.
const NUMBER: &[u8] = b"\"sequenceNumber\":";
const DATA: &[u8] = b"\"data\":\"";

/// What all of the document's clients share.
#[derive(Clone)]
pub struct Document {
    relay: Relay,
    /// The samples of every chunk in Base64.
    data: Arc<str>,
    end: Instant,
}

impl Document {
    /// Clients of `relay` until `end`.
    pub fn new(relay: Relay, end: Instant) -> Self {
        let sample = |number: usize| ((number as f32) * 0.37).sin().to_le_bytes();
        let samples: Vec<u8> = (0..FRAMES * 2).flat_map(sample).collect();
        Self { relay, data: STANDARD.encode(samples).into(), end }
    }

    /// A host: 10.77 chunks a second.
    pub async fn host(self, id: u32, share: f64) -> Result<Heard> {
        let (mut heard, mut client) = (Heard::default(), Client::connect(&self.relay).await?);
        let period = Duration::from_secs_f64(FRAMES as f64 / RATE as f64);
        let (mut beats, mut number) = (Beats::new(period, share, self.end), 0_u64);
        while beats.beat().await {
            let body = format!(
                "{{\"data\":\"{}\",\"sampleRate\":{RATE},\"channels\":2,\"timestamp\":{number},\"sequenceNumber\":{number}}}",
                self.data
            );
            heard.delays.push(client.post(&format!("{id:06}/audio"), &body).await?);
            heard.answers += 1;
            // Every 557 ms: twice a second is the most that a host may.
            if number.is_multiple_of(6) {
                let song = format!("{{\"title\":\"Song {id}\",\"artist\":\"Artist\",\"elapsedSeconds\":{number}}}");
                heard.delays.push(client.post(&format!("{id:06}/metadata"), &song).await?);
                heard.answers += 1;
            }
            number += 1;
        }
        Ok(heard)
    }

    /// A listener: polls ten times a second, and looks at the metadata twice.
    pub async fn listener(self, id: u32, share: f64) -> Result<Heard> {
        let (mut heard, mut client) = (Heard::default(), Client::connect(&self.relay).await?);
        let (mut beats, mut since, mut number) = (Beats::new(POLL, share, self.end), -1_i64, 0_u32);
        while beats.beat().await {
            let delay = client.get(&format!("{id:06}/audio?since={since}")).await?;
            heard.delays.push(delay);
            heard.answers += 1;
            since = self.check(client.body(), since, &mut heard)?;
            if number.is_multiple_of(5) {
                heard.delays.push(client.get(&format!("{id:06}/metadata?thumb=0")).await?);
                heard.answers += 1;
            }
            number += 1;
        }
        ensure!(since >= 0, "a listener heard nothing");
        Ok(heard)
    }

    /// Looks at each chunk of a poll; the number of the last one.
    fn check(&self, body: &[u8], since: i64, heard: &mut Heard) -> Result<i64> {
        let mut last = since;
        for start in memchr::memmem::find_iter(body, DATA) {
            let (data, rest) = body[start + DATA.len()..].split_at_checked(self.data.len()).context("a short chunk")?;
            heard.wrong += u64::from(data != self.data.as_bytes());
            heard.bytes += (FRAMES * 8) as u64;
            let at = memchr::memmem::find(rest, NUMBER).context("a chunk without a number")?;
            let digits = rest[at + NUMBER.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
            heard.gaps += u64::from(last >= 0 && number != last + 1);
            last = number;
        }
        Ok(last)
    }
}

/// Begins the session `id`.
pub async fn start(relay: &Relay, id: u32) -> Result<()> {
    let mut client = Client::connect(relay).await?;
    client.post("start", &format!("{{\"sessionId\":\"{id:06}\"}}")).await.context("starting a session")?;
    Ok(())
}

/// A keep-alive connection.
struct Client {
    stream: TcpStream,
    token: Arc<str>,
    buffer: Vec<u8>,
    body: std::ops::Range<usize>,
}

impl Client {
    async fn connect(relay: &Relay) -> Result<Self> {
        let stream = TcpStream::connect(relay.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, token: Arc::clone(&relay.token), buffer: vec![0; 64 * 1024], body: 0..0 })
    }

    async fn get(&mut self, path: &str) -> Result<Duration> {
        let token = Arc::clone(&self.token);
        self.ask(&format!(
            "GET /api/share/{path} HTTP/1.1\r\nHost: relay.example\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
        .await
    }

    async fn post(&mut self, path: &str, body: &str) -> Result<Duration> {
        let (token, length) = (Arc::clone(&self.token), body.len());
        self.ask(&format!(
            "POST /api/share/{path} HTTP/1.1\r\nHost: relay.example\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    fn body(&self) -> &[u8] {
        &self.buffer[self.body.clone()]
    }

    /// Sends a request and reads its answer, which must be a success.
    async fn ask(&mut self, request: &str) -> Result<Duration> {
        let began = monotonic_now();
        self.stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.more(filled).await?;
            if let Some(end) = memchr::memmem::find(&self.buffer[..filled], b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(filled < 16 * 1024, "a head without an end");
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("a head that is no text")?;
        let status = text.get(9..12).unwrap_or_default();
        if !status.starts_with('2') && status != "304" {
            bail!("{} was answered by {status}", request.lines().next().unwrap_or_default());
        }
        let length = text
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let end = head + length.unwrap_or(0_usize);
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while filled < end {
            filled += self.more(filled).await?;
        }
        self.body = head..end;
        Ok(began.elapsed())
    }

    async fn more(&mut self, filled: usize) -> Result<usize> {
        let read = self.stream.read(&mut self.buffer[filled..]).await?;
        ensure!(read > 0, "the connection was closed");
        Ok(read)
    }
}
