//! Radio: a thousand listeners of one station of 128 kbit/s, over HTTP/1.1: CPU, memory, and whether any of them runs dry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::faulty;
use crate::load::{Group, Tally};
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section};
use crate::servers::{Server, Target, admin_token};
use primitives::clock::monotonic_now;

const LISTENERS: usize = 1000;
/// Bytes of a second of the station, and frames of it that leave together.
const BYTES_PER_SECOND: f64 = 16_000.0;
const FRAMES: usize = 4;
/// Bytes of a frame of MPEG-1 layer III at 128 kbit/s and 44.1 kHz.
const FRAME_BYTES: usize = 417;
/// What is measured unless said otherwise.
const TIME: Duration = Duration::from_secs(60);
/// Until everybody has had the burst and plays.
const LEAD: Duration = Duration::from_secs(5);

/// Nothing that could be kept up by itself: `--profile` has no station.
pub fn load(_: &Target) -> Vec<Group> {
    Vec::new()
}

pub fn measure(_: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let listeners = ((LISTENERS as f64 * bench.scale) as usize).max(1);
    let server = bench.yard.relaying(&bench.origin)?;
    let time = bench.asked_window.unwrap_or(TIME);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let heard = runtime.block_on(listen(&server, listeners, time))?;
    tally.requests += listeners as u64;
    let row =
        |figure: &str, value, budget| Row::alone(format!("radio, {listeners} listeners: {figure}"), value, budget);
    Ok(vec![
        row("cores", heard.cores, Budget::Value(0.1)),
        row("memory of a listener, KiB", heard.kib, Budget::Value(16.0)),
        row("connections to the station", heard.connections as f64, Budget::Value(1.0)),
        row("that had less than was played", heard.dry as f64, Budget::Value(0.0)),
    ])
}

struct Heard {
    cores: f64,
    kib: f64,
    connections: usize,
    dry: usize,
}

async fn listen(server: &Server, listeners: usize, time: Duration) -> Result<Heard> {
    let station = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (address, own) = (server.target.address, station.local_addr()?);
    let mut playing = JoinSet::new();
    let plays = Arc::<AtomicUsize>::default();
    playing.spawn(broadcast(station, Arc::clone(&plays)));
    let id = add(address, own).await?;
    let before_listeners = plays.load(Ordering::Relaxed);
    // One first: what a station costs is not its listeners'.
    let mut first = open(address, &id, &server.target).await?;
    let mut buffer = vec![0; 64 << 10];
    ensure!(first.read(&mut buffer).await? > 0, "the first listener hears nothing");
    let memory = server.process.resident_kib()?;
    let end = monotonic_now() + LEAD + time;
    let mut hearing = JoinSet::new();
    for _ in 0..listeners {
        let mut stream = open(address, &id, &server.target).await?;
        hearing.spawn(async move {
            let (mut heard, mut buffer) = (0_usize, vec![0; 16 << 10]);
            while let Ok(read) = tokio::time::timeout_at(end.into(), stream.read(&mut buffer)).await {
                match read {
                    Ok(read) if read > 0 => heard += read,
                    Ok(_) | Err(_) => break,
                }
            }
            heard
        });
    }
    tokio::time::sleep(LEAD).await;
    let before = server.process.cpu_seconds()?;
    tokio::time::sleep(time.mul_f64(0.9)).await;
    let cores = (server.process.cpu_seconds()? - before) / time.mul_f64(0.9).as_secs_f64();
    let kib = (server.process.resident_kib()? - memory) / listeners as f64;
    let least = (BYTES_PER_SECOND * time.mul_f64(0.9).as_secs_f64()) as usize;
    let heard = hearing.join_all().await;
    let connections = plays.load(Ordering::Relaxed) - before_listeners;
    Ok(Heard { cores, kib, connections, dry: heard.iter().filter(|heard| **heard < least).count() })
}

/// The station: each connection gets frames at the pace at which they play.
async fn broadcast(station: TcpListener, plays: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = station.accept().await {
        plays.fetch_add(1, Ordering::Relaxed);
        connections.spawn(async move {
            let mut frames = [0x55; FRAMES * FRAME_BYTES];
            for frame in frames.chunks_exact_mut(FRAME_BYTES) {
                frame[..4].copy_from_slice(&[0xFF, 0xFB, 0x90, 0x00]);
            }
            let mut pace = interval(Duration::from_secs_f64(frames.len() as f64 / BYTES_PER_SECOND));
            if faulty::head(&mut stream, &mut Vec::new()).await.is_err() {
                return;
            }
            let head = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n";
            let mut sent = stream.write_all(head).await;
            while sent.is_ok() {
                pace.tick().await;
                sent = stream.write_all(&frames).await;
            }
        });
    }
}

/// Adds the station; returns its id.
async fn add(address: SocketAddr, station: SocketAddr) -> Result<String> {
    let body = format!("{{\"name\":\"Load\",\"url\":\"http://{station}/live.mp3\"}}");
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST /api/v1/radio/streams HTTP/1.1\r\nHost: media.example\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        admin_token()?,
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    ensure!(text.starts_with("HTTP/1.1 201"), "the station was not added: {text}");
    let id = text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    Ok(id.context("the station has no id")?.to_owned())
}

/// Opens the station's sound, up to its first bytes.
async fn open(address: SocketAddr, id: &str, target: &Target) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "GET /api/v1/radio/{id}/live HTTP/1.1\r\nHost: media.example\r\nAuthorization: Bearer {}\r\n\r\n",
        target.token()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    ensure!(&status == b"HTTP/1.1 200", "a listener was refused: {}", String::from_utf8_lossy(&status));
    Ok(stream)
}
