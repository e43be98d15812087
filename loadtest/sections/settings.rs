//! Playback settings on two nodes with one Redis and PostgreSQL: how soon a change that one window makes is heard in the user's
//! other windows, at the same node and at the other.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use crate::load::Tally;
use crate::report::{Budget, Row, percentile};
use crate::sections::positions::{postgres, redis};
use crate::sections::{Bench, Section};
use crate::servers::token_of;
use primitives::clock::monotonic_now;

const USERS: usize = 100;
/// Windows of a user at each of the two nodes.
const WINDOWS: usize = 5;
/// Time between two changes of a user.
const PACE: Duration = Duration::from_secs(1);
/// What is measured unless said otherwise. The class `standard` allows a user 100 requests in it.
const TIME: Duration = Duration::from_secs(30);
/// Longest wait for a change; one that takes longer is lost.
const DEADLINE: Duration = Duration::from_secs(5);

/// A change as a window hears it: the node, and the speed.
type Heard = (usize, String, Instant);

pub fn measure(_: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let folder = bench.yard.folder().join("settings");
    fs::create_dir_all(&folder)?;
    let (_redis, redis) = redis(&folder)?;
    let (_postgres, postgres) = postgres(&folder)?;
    let node = |name| bench.yard.playing(&bench.origin, name, &postgres, &redis);
    let nodes = [node("first.yaml")?, node("second.yaml")?];
    let (users, time) = (((USERS as f64 * bench.scale) as usize).max(1), bench.asked_window.unwrap_or(TIME));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut heard = runtime.block_on(change_and_hear(nodes.each_ref().map(|node| node.target.address), users, time))?;
    tally.requests += (heard[0].len() / WINDOWS) as u64;
    let mut rows = Vec::new();
    for (where_heard, times) in ["at the same node", "at the other node"].into_iter().zip(&mut heard) {
        ensure!(!times.is_empty(), "nothing was heard");
        let name = format!("settings, {} windows: a change is heard {where_heard}", users * WINDOWS * 2);
        rows.push(Row::alone(format!("{name}, p50, ms"), percentile(times, 0.5), Budget::None));
        rows.push(Row::alone(format!("{name}, p99, ms"), percentile(times, 0.99), Budget::Value(200.0)));
    }
    Ok(rows)
}

/// Returns the times between a change and its being heard, at the node of the change and at the other.
async fn change_and_hear(nodes: [SocketAddr; 2], users: usize, time: Duration) -> Result<[Vec<Duration>; 2]> {
    let (mut changing, mut windows) = (JoinSet::new(), JoinSet::new());
    for user in 0..users {
        let token = token_of(&format!("user-{user}"))?;
        let (told, mut hears) = mpsc::unbounded_channel();
        for (node, address) in nodes.into_iter().enumerate() {
            for _ in 0..WINDOWS {
                open(address, &token, (node, told.clone()), &mut windows).await?;
            }
        }
        changing.spawn(async move {
            let result = change(nodes[0], &token, user, time, &mut hears).await;
            // The windows stay until here.
            drop(told);
            result
        });
    }
    let mut all = [Vec::new(), Vec::new()];
    while let Some(times) = changing.join_next().await {
        for (all, times) in all.iter_mut().zip(times??) {
            all.extend(times);
        }
    }
    Ok(all)
}

/// Changes a user's speed again and again, and waits each time until all windows have heard it.
async fn change(
    node: SocketAddr,
    token: &str,
    user: usize,
    time: Duration,
    hears: &mut UnboundedReceiver<Heard>,
) -> Result<[Vec<Duration>; 2]> {
    let mut stream = BufReader::new(TcpStream::connect(node).await?);
    let mut times = [Vec::new(), Vec::new()];
    let start = monotonic_now();
    // Users begin one after another.
    let mut pace = interval_at((start + PACE.mul_f64(user as f64 / USERS as f64)).into(), PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1.. {
        pace.tick().await;
        if start.elapsed() > time {
            break;
        }
        let speed = format!("{:.2}", 0.5 + f64::from(number % 2 * 50 + 1 + number % 49) / 100.0);
        let wanted = speed.trim_end_matches('0').to_owned();
        let sent = monotonic_now();
        put(&mut stream, token, &speed).await?;
        for _ in 0..WINDOWS * 2 {
            let (at, when) = loop {
                let heard = timeout(DEADLINE, hears.recv()).await.context("a change was not heard in 5 s")?;
                let (at, speed, when) = heard.context("the windows are closed")?;
                if speed == wanted {
                    break (at, when);
                }
            };
            times[at].push(when.duration_since(sent));
        }
    }
    Ok(times)
}

async fn put(stream: &mut BufReader<TcpStream>, token: &str, speed: &str) -> Result<()> {
    let body = format!("{{\"speed\":{speed}}}");
    let head = format!(
        "PUT /api/v1/playback/speed HTTP/1.1\r\nHost: media.example\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).await?;
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line).await? > 0, "the connection was closed");
        if line.starts_with("HTTP/1.1 ") {
            ensure!(line.starts_with("HTTP/1.1 200"), "a change was refused: {line}");
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(())
}

/// Opens a window, up to the settings that it is told at first, and tells what it hears then.
async fn open(
    address: SocketAddr,
    token: &str,
    (node, told): (usize, UnboundedSender<Heard>),
    windows: &mut JoinSet<()>,
) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let head =
        format!("GET /api/v1/playback/events HTTP/1.1\r\nHost: media.example\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next_line().await?.unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        bail!("a window was refused: {status}");
    }
    while !lines.next_line().await?.context("the stream ended")?.contains("\"speed\":") {}
    windows.spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let when = monotonic_now();
            let Some((_, rest)) = line.split_once("\"speed\":") else { continue };
            let speed = rest.split([',', '}']).next().unwrap_or_default().to_owned();
            if line.contains("\"semitones\":") && told.send((node, speed, when)).is_err() {
                break;
            }
        }
    });
    Ok(())
}
